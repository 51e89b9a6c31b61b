"""The edge board's files: sizes follow the links, and networks follow from convolutions."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from profiler.errors import FileFormatError, InputFileError

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("CWMP_SHARED_DATA", ROOT.parent / "shared" / "data"))
BOARD = SHARED / "energy" / "edge_board_conv"
needs_board = pytest.mark.skipif(not BOARD.is_dir(), reason="the edge board's files are not here")


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("edge_networks")
    for name in ("edge_networks", "edge_additivity"):
        sys.modules.pop(name, None)


def _conv(size: int, out: int, channels: int, outputs: int, kernel: int, stride: int) -> str:
    pad = kernel // 2
    return (
        f"1,{channels},{size},{size},1,{outputs},{out},{out},{channels},{outputs},"
        f"{kernel},{kernel},{stride},{stride},{pad},{pad},1,1,1"
    )


def _folder(tmp_path: Path, links: str | None = None) -> Path:
    """A block with a shortcut: its convolution is recorded at 4 where it reads 8 pixels."""
    layers = [_conv(8, 4, 3, 6, 3, 2), _conv(4, 4, 6, 6, 3, 1), _conv(4, 2, 3, 6, 1, 2)]
    parameters = ",".join([_conv(8, 8, 3, 3, 1, 1), *layers, "1,24,2", "1,96,1,10"])
    rows = [[0] * 6 for _ in range(6)]
    for layer, sources in {0: [0], 1: [0], 2: [1], 3: [0], 4: [2, 3], 5: [4]}.items():
        for source in sources:
            rows[layer][source] = 1
    links = links or ",".join(str(v) for row in rows for v in row)
    folder = tmp_path / "data" / "dataset"
    folder.mkdir(parents=True)
    for number in (1, 2, 3):
        (folder / f"random_testset_{number}.txt").write_text(
            "name layer_parameters layer_link layer_id all_energy\n"
            f"ResNet3 {parameters} {links} 1,1,1,1,24,21 0.{number}\n"
        )
    return tmp_path


def test_a_shortcut_reads_what_the_links_say(edge: ModuleType, tmp_path: Path) -> None:
    (network,) = edge.read_networks(_folder(tmp_path))
    assert network.family == "ResNet"
    assert network.energy_j == pytest.approx(0.2)
    shortcut, added = network.layers[3], network.layers[4]
    assert (shortcut.height, shortcut.out_height) == (8, 4)
    assert shortcut.macs == 4 * 4 * 6 * 3
    assert (added.out_channels, added.out_height) == (6, 4)
    assert network.resized == 2  # the shortcut and the sum, recorded at a quarter
    assert network.layers[5].weight_bytes == 4 * 96 * 10


def test_links_as_a_triangle_say_the_same(edge: ModuleType, tmp_path: Path) -> None:
    links = np.array([[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0],
                      [1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0]])  # fmt: skip
    half = ",".join(str(v) for v in links[np.tril_indices(6)])
    (network,) = edge.read_networks(_folder(tmp_path, half))
    assert network.layers[3].out_height == 4


def test_links_of_no_shape_and_absent_files_are_named(edge: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="ResNet3 has 2 links for 6 layers"):
        edge.read_networks(_folder(tmp_path, "1,0"))
    with pytest.raises(InputFileError, match=r"conv2d\.txt"):
        edge.read_convolutions(tmp_path)


@needs_board
def test_all_files_parse_and_sizes_are_possible(edge: ModuleType) -> None:
    layers, above, total = edge.read_convolutions(BOARD)
    assert len(layers) == 999
    assert (total > above).all()
    networks = edge.read_networks(BOARD)
    assert len(networks) == len({network.name for network in networks}) == 17
    listed = edge.listed_networks(BOARD)
    assert len(listed) == 22
    assert set(listed) == {network.name for network in networks}
    macs = {n.name: sum(a.macs for a in n.layers) for n in networks}
    # the published MACs of these architectures: sizes are the real ones
    assert macs["VGG16"] == pytest.approx(15.47e9, rel=0.01)
    assert macs["MobileNetV1"] == pytest.approx(0.569e9, rel=0.01)
    assert macs["MobileNetV2"] == pytest.approx(0.301e9, rel=0.01)
    assert macs["ResNet18"] == pytest.approx(1.82e9, rel=0.03)
    for network in networks:
        assert all(min(a.out_height, a.out_width) >= 1 for a in network.layers)
        # the pass along the links confirms what was recorded, but for the shortcuts' networks
        expected = network.name in ("ResNet18", "ResNet50", "InceptionV1")
        assert (network.resized > 0) == expected


@needs_board
def test_networks_follow_from_convolutions_within_a_tenth(edge: ModuleType) -> None:
    additivity = importlib.import_module("edge_additivity")
    figures = additivity.report(BOARD)
    scores = figures["additivity"]["scores"]
    assert scores["median_ape"]["value"] <= additivity.TARGET
    assert figures["median_ape_of_22_listed"] <= additivity.TARGET
    assert figures["additivity"]["without_overhead"]["median_ape"]["value"] > 0.3
