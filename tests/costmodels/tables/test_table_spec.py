"""The spec file: what it takes, and the one sentence that it refuses anything else with."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import costmodels.tables.spec
from costmodels.tables import TableSpec
from profiler.errors import FileFormatError, InputError, InputFileError

EXAMPLES = Path(__file__).parents[3] / "examples" / "tables"
PLAIN: dict[str, Any] = {
    "version": 1,
    "kind": "conv2d",
    "energy": {"column": "e", "unit": "uJ"},
    "shape": {"in_channels": "c", "out_channels": 3, "size": "s", "kernel": "k"},
    "groupings": {"kernel": "k", "size": {"feature": "macs", "bins": 4}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """`PLAIN` with the key at *path* set, or taken out where *value* is None."""
    content = copy.deepcopy(PLAIN)
    *parents, last = path.split("/")
    inner = content
    for parent in parents:
        inner = inner.setdefault(parent, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return content


def test_the_documented_spec_is_one() -> None:
    text = (costmodels.tables.spec.__doc__ or "").split("::\n", 1)[1]
    spec = TableSpec.from_dict(tomllib.loads(text))
    assert spec.energy.wrap_windows == 100
    assert list(spec.groupings) == ["kernel", "size"]
    assert spec.features["macs"].scale == 0.5


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_load_and_say_where_the_data_come_from(path: Path) -> None:
    spec = TableSpec.load(path)
    assert "licence" in spec.source or "Apache" in spec.source
    assert "github.com/" in path.read_text()
    assert spec.groupings


def test_there_is_an_example_of_every_sort() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.toml")} >= {
        "cpu-conv-backward", "cpu-conv-forward", "cpu-linear-backward", "cpu-linear-forward",
        "cpu-pool-forward", "edge-conv", "gpu-epochs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("enegry", {}, "unknown key 'enegry'; did you mean 'energy'?"),
        ("energy/colum", "e", "energy: unknown key 'colum'; did you mean 'column'?"),
        ("file/seperator", ",", "file: unknown key 'seperator'; did you mean 'separator'?"),
        ("rows/dorp", [], "rows: unknown key 'dorp'; did you mean 'drop'?"),
        ("groupings/size/bin", 3, "unknown key 'bin'; did you mean 'bins'?"),
        ("device", {"colunm": "x"}, "unknown key 'colunm'; did you mean 'column'?"),
        ("shape/in_chanels", "c", "unknown field 'in_chanels'; did you mean 'in_channels'?"),
        ("kind", "conv2", "'conv2' has no shape formula; did you mean 'conv2d'?"),
        ("kind", {"column": "k", "shapes": {"x": "lineer"}}, "did you mean 'linear'?"),
        ("kind", None, "needs a kind"),
        ("dtype", "flaot32", "dtype 'flaot32' is unknown; did you mean 'float32'?"),
        ("version", 2, "version 2 of a table spec is not known"),
        ("version", None, "version: is missing"),
        ("energy", None, "energy: is missing"),
        ("energy/unit", None, "give the unit of the energy column"),
        ("energy/unit", "joule", "energy.unit"),
        ("energy/column", None, "one of column, columns and power"),
        ("energy/power", "p", "one of column, columns and power"),
        ("energy/power_unit", "W", "without power"),
        ("energy/time", "t", "time and time_unit go together"),
        ("energy", {"power": "p", "power_unit": "W"}, "power needs"),
        ("energy/wrap_size", -1.0, "energy.wrap_size"),
        ("energy/wrap_size", float("inf"), "energy.wrap_size"),
        ("energy/calls", 0.0, "energy.calls"),
        ("energy/cumulative", "yes", "energy.cumulative"),
        ("features/macs", {"unit": "W"}, "in joules, such as J/MAC, not 'W'"),
        ("groupings/size/bins", 1, "groupings.size"),
        ("shape", None, "give [shape], [features] or both"),
    ],
)
def test_a_fault_is_one_sentence(path: str, value: Any, words: str) -> None:
    content = changed(path, value)
    with pytest.raises(InputError) as caught:
        TableSpec.from_dict(content)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_spec_cannot_be_changed() -> None:
    spec = TableSpec.from_dict(PLAIN)
    with pytest.raises(ValidationError):
        spec.dtype = "int8"  # type: ignore[misc]


def test_a_faulty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    with pytest.raises(InputFileError, match=r"spec\.toml"):
        TableSpec.load(path)
    path.write_text("version = 1\nversion = 1\n")
    with pytest.raises(FileFormatError, match=r"spec\.toml is not valid TOML"):
        TableSpec.load(path)
    path.write_bytes(b"source = '\xff'\n")
    with pytest.raises(FileFormatError, match=r"spec\.toml is not valid TOML"):
        TableSpec.load(path)
    path.write_text("version = 1\n[energi]\n")
    with pytest.raises(FileFormatError, match=r"spec\.toml: unknown key 'energi'; did you mean"):
        TableSpec.load(path)
