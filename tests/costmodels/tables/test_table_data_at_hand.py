"""The example specs on the data that others recorded; skipped where those files are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from costmodels.samples import Samples
from costmodels.tables import TableSpec, read_samples
from profiler.errors import InputError

ROOT = Path(__file__).parents[3]
ENERGY = ROOT.parent / "shared" / "data" / "energy"
HOSTS = {
    "broadwell": "broadwell-ep-2025-05-05T11-01-26",
    "raptor": "raptorlake-2025-04-28T17-09-49",
}
FORWARD, BACKWARD = ("for", "forward"), ("back", "backward")


def at_hand(path: str) -> Path:
    found = ENERGY / path
    if not found.exists():
        pytest.skip(f"shared/data/energy/{path} is not beside this checkout")
    return found


def example(name: str) -> TableSpec:
    return TableSpec.load(ROOT / "examples" / "tables" / f"{name}.toml")


def layers(host: str, layer: str) -> Path:
    return at_hand(f"cpu_layers_rapl/src/out/{HOSTS[host]}/{layer}.csv")


def counts(samples: Samples) -> dict[str, int]:
    found: dict[str, int] = {}
    for finding in samples.findings:
        found[finding.action] = found.get(finding.action, 0) + finding.rows
    return found


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("column", [FORWARD, BACKWARD], ids=lambda column: column[1])
def test_convolutions_on_both_processors_are_whole(host: str, column: tuple[str, str]) -> None:
    path = layers(host, "conv")
    samples = read_samples(path, example(f"cpu-conv-{column[1]}"))
    frame = pd.read_csv(path)
    assert len(samples) == 1000
    assert not samples.findings
    np.testing.assert_allclose(samples.energy_j, frame[f"{column[0]}_energy"] * 1e-6, rtol=1e-15)
    side = (frame["side_len"] - frame["k_size"]) // frame["stride"] + 1
    macs = (
        frame["batch_size"] * frame["in_chan"] * frame["out_chan"] * (side * frame["k_size"]) ** 2
    )
    np.testing.assert_array_equal(samples.features["macs"], macs)
    assert samples.group.tolist() == frame["k_size"].astype(str).tolist()


def test_five_wraps_are_repaired_to_a_plausible_power() -> None:
    wraps = 0
    for layer in ("conv", "linear", "pool"):
        path = layers("broadwell", layer)
        samples = read_samples(path, example(f"cpu-{layer}-forward"))
        assert len(samples) == 1000
        assert set(counts(samples)) <= {"repaired"}
        frame = pd.read_csv(path)
        negative = (frame["for_energy"] < 0).to_numpy()
        assert counts(samples).get("repaired", 0) == negative.sum()
        wraps += negative.sum()
        power_w = samples.energy_j[negative] / (frame["for_time"][negative] * 1e-6)
        assert ((power_w > 25) & (power_w < 60)).all()
    assert wraps == 5


def test_without_the_wrap_size_the_five_rows_go() -> None:
    for layer, negative in (("linear", 1), ("pool", 4)):
        spec = example(f"cpu-{layer}-forward")
        unaware = spec.model_copy(
            update={"energy": spec.energy.model_copy(update={"wrap_size": None})}
        )
        samples = read_samples(layers("broadwell", layer), unaware)
        assert counts(samples) == {"dropped": negative}
        assert len(samples) == 1000 - negative


@pytest.mark.parametrize(("direction", "zeros"), [("forward", 7), ("backward", 1)])
def test_windows_shorter_than_the_counter_go(direction: str, zeros: int) -> None:
    samples = read_samples(layers("raptor", "linear"), example(f"cpu-linear-{direction}"))
    assert counts(samples) == {"dropped": zeros}
    assert "energies of zero" in samples.findings[0].what


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("timed", [True, False])
def test_pooling_has_no_backward_energies(host: str, timed: bool) -> None:
    spec = example("cpu-pool-forward")
    time = {"time": "back_time"} if timed else {"time": None, "time_unit": None}
    energy = spec.energy.model_copy(update={"column": "back_energy", "wrap_size": None, **time})
    with pytest.raises(InputError, match=r"none of 1000 rows is usable; .*'back_energy'"):
        read_samples(layers(host, "pool"), spec.model_copy(update={"energy": energy}))


def test_the_edge_boards_convolutions() -> None:
    path = at_hand("edge_board_conv/data/dataset/conv2d.txt")
    samples = read_samples(path, example("edge-conv"))
    assert len(samples) == 999
    failed = samples.findings[0]
    assert (failed.rows, failed.action, failed.examples) == (1, "dropped", (780,))
    frame = pd.read_csv(path, sep=" ")
    frame = frame[frame["data"] != "0"]
    np.testing.assert_allclose(samples.energy_j, frame["all_energy"], rtol=1e-15)
    by_power = frame["mean_power"] * frame["time"] / frame["forward_num"]
    assert np.median(np.abs(np.log(by_power / samples.energy_j))) < 0.05
    shape = frame["data"].str.split(",", expand=True).astype(float)
    macs = shape[5] * shape[6] * shape[7] * shape[1] / shape[18] * shape[10] * shape[11]
    np.testing.assert_array_equal(samples.features["macs"], macs)
    # The sizes that were written down are those that the formula gives.
    given = example("edge-conv")
    computed = {name: value for name, value in given.shape.items() if not name.startswith("out_h")}
    computed = {name: value for name, value in computed.items() if name != "out_width"}
    again = read_samples(path, given.model_copy(update={"shape": computed}))
    pd.testing.assert_frame_equal(samples.features, again.features)


@pytest.mark.parametrize(
    ("gpu", "rows"), [("a40", 453), ("p100", 270), ("rtx6000", 410), ("v100", 476)]
)
def test_power_times_time_of_gpus(gpu: str, rows: int) -> None:
    folder = "gpu_epochs/examples/research_reproducibility/zeus_nsdi23/trace"
    path = at_hand(f"{folder}/summary_power_{gpu}.csv")
    samples = read_samples(path, example("gpu-epochs"))
    frame = pd.read_csv(path)
    assert len(samples) == rows
    assert not samples.findings
    np.testing.assert_allclose(samples.energy_j, frame["average_power"] * frame["time_per_epoch"])
    assert samples.kind.tolist() == frame["network"].tolist()


def test_the_energies_of_several_gpus_are_summed() -> None:
    path = at_hand("gpu_epochs/tests/profile_data") / "A40+resnet18+gpu0,1,2,3.csv"
    content: dict[str, Any] = {
        "version": 1,
        "energy": {
            "columns": [f"gpu{number}_energy" for number in range(4)], "unit": "J",
            "time": "elapsed_time", "time_unit": "s",
        },
        "features": {"seconds": {"column": "elapsed_time", "unit": "J/s"}},
        "groupings": {"window": "window_name"},
    }  # fmt: skip
    samples = read_samples(path, TableSpec.from_dict(content))
    frame = pd.read_csv(path)
    np.testing.assert_allclose(samples.energy_j, frame.filter(like="_energy").sum(axis=1))
    # The columns of one GPU are read by a spec of one.
    with pytest.raises(InputError, match="'gpu1_energy', which the table does not have"):
        read_samples(path.with_name("A40+resnet18+gpu0.csv"), TableSpec.from_dict(content))


@pytest.mark.parametrize("network", ["vgg", "svgg"])
def test_the_footer_of_a_boards_rails_is_found_and_its_clock_refused(network: str) -> None:
    path = at_hand(f"orin_rails/results_test/power/{network}/cifar10/test/power.csv")
    content: dict[str, Any] = {
        "version": 1,
        "energy": {"column": "GPU+SOC", "unit": "mJ"},
        "features": {"cpu": {"column": "CPU+CV", "unit": "J/mW"}},
        "groupings": {"level": {"feature": "cpu", "bins": 4}},
    }
    samples = read_samples(path, TableSpec.from_dict(content))
    lines = path.read_text().splitlines()
    assert len(samples) == len(lines) - 2
    assert [(f.rows, f.examples) for f in samples.findings] == [(1, (len(lines),))]
    assert "footer" in samples.findings[0].what
    content["energy"] = {
        "power": "GPU+SOC", "power_unit": "mW", "time": "time", "time_unit": "s",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"'time' grows over .* it is a clock"):
        read_samples(path, TableSpec.from_dict(content))
