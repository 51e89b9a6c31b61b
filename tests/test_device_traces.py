"""The recorded traces are what the manifest says, and can be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import device_traces
from costmodels import CellMean, cell_means, costs_from_trace, fit_cost_model
from costmodels.features import Group, group_of
from costmodels.regression import fit_regression
from profiler.errors import FileFormatError, InputError

ENTRIES = device_traces.entries()


def test_every_recorded_file_is_in_the_manifest() -> None:
    files = {
        str(p.relative_to(device_traces.FOLDER)) for p in device_traces.FOLDER.rglob("*.parquet")
    }
    assert files == {entry.file for entry in ENTRIES}
    assert files


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_recorded_trace_is_what_was_recorded_and_gives_costs(entry: device_traces.Entry) -> None:
    trace = device_traces.load(entry.name)
    meta = trace.metadata
    said = (meta.device, meta.meter, meta.origin, meta.model, meta.created_utc)
    assert said == (entry.device, entry.meter, entry.origin, entry.model, entry.recorded_utc)
    assert not {"host_name", "hostname", "user", "user_name"} & set(meta.host)
    if entry.origin == "modelled":
        assert "odelled" in entry.remark
    costs = costs_from_trace(trace)
    assert costs.origin == entry.origin
    assert [layer.name for layer in costs.layers] == [layer.name for layer in meta.layers]
    assert fit_cost_model(trace).find("update") is not None


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_pooled_prices_neither_lose_nor_invent_joules(entry: device_traces.Entry) -> None:
    groups: dict[Group, list[CellMean]] = {}
    for cell in cell_means(device_traces.load(entry.name)):
        if cell.operation != "train" or cell.macs is not None:
            groups.setdefault(group_of(cell.operation, cell.pattern), []).append(cell)
    for group, cells in groups.items():
        fit = fit_regression(group, cells)
        ratio = (fit.design @ fit.prices).sum() / sum(cell.mean_j for cell in cells)
        # multiply-accumulates explain training to a factor of two, the rest to some per cent
        assert ratio == pytest.approx(1, abs=0.1 if group == "train" else 0.02), group


def test_an_altered_file_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    entry = ENTRIES[0]
    copy = tmp_path / entry.file
    copy.parent.mkdir(parents=True)
    copy.write_bytes((device_traces.FOLDER / entry.file).read_bytes() + b"x")
    manifest = json.loads((device_traces.FOLDER / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FileFormatError, match="checksum"):
        device_traces.load(entry.name, tmp_path)
    with pytest.raises(InputError, match="no recorded trace 'other'"):
        device_traces.load("other", tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(FileFormatError, match="version"):
        device_traces.entries(tmp_path)
