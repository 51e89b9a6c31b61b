"""``cwmp fit TABLE --columns`` and ``cwmp predict --table``, driven as a user drives them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from costmodels import EnergyModel, TableSpec, features_of
from cwmp.cli import cli
from profiler.console import run

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SCHEMA = GOLDEN.parents[1] / "docs" / "schemas" / "estimates.v1.schema.json"
SPEC = """
version = 1
source = "a simulated board"
kind = { column = "op" }
[energy]
column = "energy"
unit = "mJ"
[features]
macs = { unit = "J/MAC" }
bytes = { unit = "J/byte" }
[groupings]
network = "network"
size = { feature = "macs", bins = 4 }
"""
PRICES = {"conv": (2e-11, 3e-9, 1e-5), "linear": (6e-11, 1e-9, 4e-6)}


def table(networks: int = 12, rows: int = 10, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    m = networks * rows
    macs = (10 ** generator.uniform(6, 9, m)).round()
    moved = (10 ** generator.uniform(4, 7, m)).round()
    op = np.where(np.arange(m) % 2 == 0, "conv", "linear")
    prices = np.array([PRICES[name] for name in op])
    joules = (prices * np.column_stack([macs, moved, np.ones(m)])).sum(axis=1)
    joules *= np.exp(0.05 * generator.normal(size=m))
    network = [f"net{number}" for number in np.repeat(np.arange(networks), rows)]
    return pd.DataFrame(
        {"network": network, "op": op, "macs": macs, "bytes": moved, "energy": 1e3 * joules}
    )


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def flat(self) -> str:
        return " ".join(self.out.split())


Call = Callable[..., Outcome]


@pytest.fixture
def cwmp(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    """``cwmp ...`` in a folder with a table and its spec, on an 80-column terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    table().to_csv("table.csv", index=False)
    Path("spec.toml").write_text(SPEC)

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as left:
            run(cli, [str(argument) for argument in arguments])
        caught = capsys.readouterr()
        if "--json" not in arguments:
            assert max(map(len, caught.out.splitlines()), default=0) <= 80
        return Outcome(int(str(left.value.code)), caught.out, caught.err)

    return call


FIT = ("fit", "table.csv", "--columns", "spec.toml", "-o", "model.json")
PREDICT = ("predict", "model.json", "--table", "new.csv", "--columns", "spec.toml", "-o")


def refused(outcome: Outcome, *words: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that names the thing, nothing written."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("cwmp: ")
    for word in words:
        assert word in outcome.err
    written = {path.name for path in Path().iterdir()}
    assert written <= {"table.csv", "spec.toml", "new.csv", "other.csv"}


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
    assert "uncalibrated: 4 left-out groups of 'size'" in done.flat
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


def test_predictions_through_the_file_are_the_model_s_bit_for_bit(cwmp: Call) -> None:
    cwmp(*FIT)
    new = table(2, 10, seed=9).drop(columns=["energy", "network"])
    new.loc[0, "macs"], new.loc[1, "op"] = 1e13, "attention"
    new.to_csv("new.csv", index=False)
    asked = features_of("new.csv", TableSpec.load("spec.toml"))
    found = EnergyModel.load("model.json").predict(asked.frame, asked.kind).frame()
    done = cwmp(*PREDICT, "p.csv")
    assert (done.code, done.err) == (0, "wrote p.csv\n")
    outside = int((found["outside"] != "").sum())
    assert found["outside"][0] == "macs"
    assert f"{outside} of 20 rows lie outside what the model was fitted to, in macs (" in done.flat
    assert "1 rows of kind 'attention', which no measurement supports" in done.flat
    assert "if each is at the same end of its 95 % interval" in done.flat
    cwmp(*PREDICT, "p.parquet")
    cwmp(*PREDICT, "p.json")
    content = json.loads(Path("p.json").read_text())
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(content)
    for read in (
        pd.read_csv("p.csv", keep_default_na=False, engine="python"),
        pd.read_parquet("p.parquet"),
        pd.DataFrame(content["rows"]),
    ):
        assert read["line"].tolist() == list(range(2, 22))
        assert read["kind"].tolist() == new["op"].tolist()
        for name in found:
            assert read[name].tolist() == found[name].tolist(), name
    wide = found["high_j"] / found["low_j"]
    assert wide[1] > 10 * wide[2:].max()
    assert not found["calibrated"][1]


def test_predict_counts_rows_that_cannot_be_asked_about(cwmp: Call) -> None:
    cwmp(*FIT)
    new = table(2, 3).drop(columns=["energy", "network"])
    new.loc[2, "macs"] = np.nan
    new.to_csv("new.csv", index=False)
    done = cwmp(*PREDICT, "p.csv", "--json")
    told = json.loads(done.out)
    assert (told["rows"], told["output"]) == (5, "p.csv")
    assert told["findings"] == [
        "1 rows whose feature 'macs' is missing or negative: dropped (line 4)"
    ]
    assert pd.read_csv("p.csv")["line"].tolist() == [2, 3, 5, 6, 7]
    assert cwmp(*PREDICT, "p.csv").code == 2
    assert cwmp(*PREDICT, "p.csv", "--force").code == 0


def test_the_wrong_combination_is_named(cwmp: Call) -> None:
    cost_model, energy_model = GOLDEN / "costmodel-v1.json", GOLDEN / "energymodel-v1.json"
    given = ("--table", "table.csv", "--columns", "spec.toml")
    refused(cwmp("predict", cost_model, *given, "-o", "p.csv"), "not fitted to a table", "--model")
    refused(cwmp("predict", cost_model, "-o", "p.csv"), "--model")
    refused(cwmp("predict", energy_model, "-o", "p.csv"), "--table TABLE and --columns")
    refused(
        cwmp("predict", energy_model, *given, "--model", "lenet", "-o", "p.csv"), "and no --model"
    )
    refused(cwmp("predict", energy_model, *given, "-o", "p.xlsx"), ".csv, .parquet or .json")
    Path("new.csv").write_text("op\nconv\n")
    asked = ("--table", "new.csv", "--columns", "spec.toml")
    refused(cwmp("predict", energy_model, *asked, "-o", "p.csv"), "'macs'")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("simulated board", "my board", "edited or damaged"),
        ('"version": 1', '"version": 9', "version 9"),
        ('"checksum"', '"chksum"', "checksum"),
    ],
)
def test_an_edited_or_newer_model_is_refused(cwmp: Call, old: str, new: str, word: str) -> None:
    text = (GOLDEN / "energymodel-v1.json").read_text()
    Path("new.csv").write_text(text.replace(old, new, 1))
    given = ("--table", "table.csv", "--columns", "spec.toml", "-o", "p.csv")
    refused(cwmp("predict", "new.csv", *given), word)
