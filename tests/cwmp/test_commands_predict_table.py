"""``cwmp predict MODEL --table TABLE``, driven as a user drives it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from table_calls import FIT, PREDICT, Call, called_in, refused, table

from costmodels import EnergyModel, TableSpec, features_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SCHEMA = GOLDEN.parents[1] / "docs" / "schemas" / "estimates.v1.schema.json"


@pytest.fixture
def cwmp(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    return called_in(tmp_path, capsys, monkeypatch)


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
