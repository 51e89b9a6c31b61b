"""``cwmp fit TABLE --columns SPEC``, driven as a user drives it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from table_calls import FIT, PRICES, SPEC, Call, called_in, refused, table

from costmodels import EnergyModel

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def cwmp(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    return called_in(tmp_path, capsys, monkeypatch)


def test_fit_prints_findings_prices_tests_and_intervals(cwmp: Call) -> None:
    rows = table()
    dirty = pd.concat([rows, rows.tail(2), rows.head(1).assign(energy=0.0)])
    dirty.to_csv("table.csv", index=False)
    done = cwmp(*FIT)
    assert (done.code, done.err) == (0, "wrote model.json\n")
    assert "a simulated board: 120 rows are fitted" in done.flat
    assert "2 rows that repeat an earlier one exactly dropped 122, 123" in done.flat
    for word in ("conv", "any other (pooled)", "pJ/MAC", "nJ/byte", "uJ/call", "prices alone"):
        assert word in done.flat
    for word in ("MAPE", "median error", "bias of the sum", "R2 of log", "Spearman", "held worst"):
        assert word in done.flat
    assert "12 left-out groups of 'network', where 90 % needs 9 and 95 % needs 19" in done.flat
    assert "4 groups of 'size' left out; intervals are calibrated by 'network'" in done.flat
    model = EnergyModel.load("model.json")
    assert model.rows == 120
    for kind in model.kinds:
        prices = {price.feature: price for price in kind.prices}
        for name, true in zip(("macs", "bytes", "calls"), PRICES[kind.kind], strict=True):
            assert 0.8 * prices[name].low <= true <= 1.25 * prices[name].high


def test_fit_is_the_library_s_fit_and_json_is_the_file(cwmp: Call) -> None:
    done = cwmp(*FIT, "--json", "--seed", "3")
    written = json.loads(Path("model.json").read_text())
    assert written.pop("checksum")
    assert json.loads(done.out) == written
    assert (done.code, done.err, written["seed"]) == (0, "", 3)


def test_the_estimator_is_what_was_asked_for(cwmp: Call) -> None:
    cwmp(*FIT, "--estimator", "hybrid")
    assert all(kind.correction for kind in EnergyModel.load("model.json").kinds)
    assert "as asked for" in cwmp(*FIT, "--estimator", "hybrid", "--force").flat
    cwmp(*FIT, "--estimator", "nnls", "--force")
    assert not any(kind.correction for kind in EnergyModel.load("model.json").kinds)


def test_the_picture_is_drawn_and_what_would_stop_it_is_said_before(cwmp: Call) -> None:
    refused(cwmp(*FIT, "--picture", "fit.jpg"), ".png or .svg")
    refused(cwmp(*FIT, "--picture", "no/fit.png"), "is not a folder")
    refused(cwmp(*FIT[:-1], "m.svg", "--picture", "m.svg"), "both the model and the picture")
    done = cwmp(*FIT, "--picture", "fit.svg")
    assert done.err == "wrote model.json and fit.svg\n"
    drawn = Path("fit.svg").read_text()
    assert drawn.count("<svg") == 1
    before = Path("model.json").read_bytes()
    kept = cwmp(*FIT, "--force", "--picture", "table.csv")
    assert (kept.code, Path("model.json").read_bytes()) == (2, before)


def test_progress_is_a_line_on_a_terminal_and_nothing_elsewhere(
    cwmp: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cwmp.commands.fit_table import show_progress

    with show_progress(quiet=False) as progress:
        assert progress is None

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress(quiet=True) as progress:
        assert progress is None
    with show_progress(quiet=False) as progress:
        assert progress is not None
        progress("leaving out by network: part 1 of 12")
    assert stream.getvalue().count("\n") <= 1


BAD_FITS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "no file": (lambda: Path("table.csv").unlink(), ("cannot read", "table.csv")),
    "empty file": (lambda: _write(""), ("table.csv is empty",)),
    "no rows": (lambda: _write("network,op,macs,bytes,energy\n"), ("a header and no rows",)),
    "all NaN": (lambda: _save(table().assign(energy=np.nan)), ("none of 120 rows is usable",)),
    "all negative": (
        lambda: _save(table().assign(energy=-table()["energy"])),
        ("none of 120 rows is usable", "120 negative energies", "energy.wrap_size"),
    ),
    "mixed units": (
        lambda: _save(_alternating(1000.0)),
        ("units",),
    ),
    "another unit in the cells": (
        lambda: _save(table().assign(energy=table()["energy"].map("{:.6f} J".format))),
        ("the spec says mJ",),
    ),
    "constant features": (
        lambda: _save(table().assign(macs=0.0, bytes=0.0)),
        ("macs",),
    ),
    "unknown column": (
        lambda: _respec('column = "energy"', 'column = "enrgy"'),
        ("'enrgy'", "did you mean 'energy'"),
    ),
    "unknown key": (
        lambda: _respec('unit = "mJ"', 'unitt = "mJ"'),
        ("spec.toml", "unknown key 'unitt'", "did you mean 'unit'"),
    ),
    "newer spec": (lambda: _respec("version = 1", "version = 2"), ("version 2", "reads version 1")),
    "no TOML": (lambda: _respec("version = 1", "version ="), ("spec.toml is not valid TOML",)),
}


def _write(text: str) -> None:
    Path("table.csv").write_text(text)


def _save(frame: pd.DataFrame) -> None:
    frame.to_csv("table.csv", index=False)


def _respec(old: str, new: str) -> None:
    assert old in SPEC
    Path("spec.toml").write_text(SPEC.replace(old, new))


def _alternating(factor: float) -> pd.DataFrame:
    frame = table()
    frame.loc[::3, "energy"] /= factor
    return frame


@pytest.mark.parametrize("case", BAD_FITS)
def test_bad_input_is_one_line_and_nothing_is_written(cwmp: Call, case: str) -> None:
    spoil, words = BAD_FITS[case]
    spoil()
    refused(cwmp(*FIT, "--picture", "fit.png"), *words)


def test_some_bad_rows_are_dropped_counted_and_named(cwmp: Call) -> None:
    rows = table()
    rows.loc[0, "energy"], rows.loc[1, "energy"], rows.loc[2, "macs"] = np.nan, -5.0, -1.0
    _save(rows)
    done = cwmp(*FIT)
    assert done.code == 0
    assert "117 rows are fitted" in done.flat
    assert done.flat.count("dropped") == 3
    assert "nothing was dropped" not in done.flat


def test_one_group_is_fitted_untested_and_says_so(cwmp: Call) -> None:
    _respec('size = { feature = "macs", bins = 4 }', "")
    _save(table().assign(network="only"))
    done = cwmp(*FIT)
    assert done.code == 0
    assert "untested: one group of 'network' only" in done.flat
    assert "uncalibrated" in done.flat
    model = EnergyModel.load("model.json")
    assert not model.calibrations[1].pooled.calibrated
    assert model.calibrations[1].pooled.above_log >= np.log(10)
    refused_picture = cwmp(*FIT[:-1], "m2.json", "--picture", "fit.png")
    assert refused_picture.code == 2
    assert "untested" in refused_picture.err
    assert not Path("m2.json").exists()


def test_constant_features_leave_the_price_of_a_call(cwmp: Call) -> None:
    _respec('size = { feature = "macs", bins = 4 }', "")
    _save(table().assign(macs=7.0, bytes=0.0))
    done = cwmp(*FIT)
    assert done.code == 0
    assert "rows in all of which feature 'macs' is 7: left out" in done.flat
    model = EnergyModel.load("model.json")
    assert model.features == ("calls",)
    asked = pd.DataFrame({"calls": [1.0, 1.0], "macs": [7.0, 8.0], "bytes": [0.0, 0.0]})
    assert model.predict(asked).outside.tolist() == ["", "macs"]


def test_a_table_that_tells_no_kinds_apart_has_one_set_of_prices(cwmp: Call) -> None:
    _respec('kind = { column = "op" }', "")
    done = cwmp(*FIT)
    assert done.code == 0
    for word in ("all rows calls", "all rows, outside /"):
        assert word in done.flat
    assert "pooled" not in done.flat
    assert "never seen" not in done.flat


def test_a_table_without_columns_and_several_tables_are_told_what_to_do(cwmp: Call) -> None:
    refused(cwmp("fit", "table.csv", "-o", "m.json"), "not a trace", "--columns SPEC.toml")
    refused(cwmp(*FIT, "table.csv"), "one table at a time")
    refused(cwmp("fit", "table.csv", "-o", "m.json", "--picture", "a.png"), "--columns SPEC.toml")
    trace = GOLDEN / "trace-v1.csv"
    refused(cwmp("fit", trace, "--columns", "spec.toml", "-o", "m.json"), "trace")
    refused(cwmp("fit", trace, "--estimator", "nnls", "-o", "m.json"), "go with a table")


WHOLES = """
[whole]
rows = ["op == total"]
of = "network"
"""


def test_whole_models_are_held_against_the_sums_of_their_layers(cwmp: Call) -> None:
    rows = table()
    sums = rows.groupby("network", sort=False)["energy"].sum()
    whole = pd.DataFrame({"network": sums.index, "op": "total", "energy": 1.25 * sums.to_numpy()})
    _save(pd.concat([rows, whole]))
    Path("spec.toml").write_text(SPEC + WHOLES)
    done = cwmp(*FIT, "--estimator", "nnls")
    assert "120 rows are fitted" in done.flat
    assert "12 rows of whole models (set aside" in done.flat
    found = EnergyModel.load("model.json").additivity
    assert found is not None
    assert found.terms[0].value == pytest.approx(1.25, rel=0.05)
    printed = done.out[done.out.index("whole models from") : done.out.index("intervals of a")]
    cells = {line.split()[0]: line for line in printed.splitlines() if line.count("]") == 3}
    ways = {"plain": found.unscaled, "scaled": found.without_overhead}
    if set(found.chosen) != {"layers"}:
        ways["overhead"] = found.scores
    assert ("overhead" in cells) == ("overhead" in ways)
    for name, scores in ways.items():
        assert scores.mape.value is not None
        assert scores.bias.value is not None
        assert f" {100 * scores.mape.value:.3g} % [" in cells[name]
        assert f" {100 * scores.bias.value:.3g} % [" in cells[name]
        assert cells[name].count("]") == 3  # no cell is broken over two lines
    assert found.unscaled.bias.value == pytest.approx(-0.2, abs=0.03)
    assert f"{found.terms[0].value:.3g} times the sum of its layers" in " ".join(printed.split())
