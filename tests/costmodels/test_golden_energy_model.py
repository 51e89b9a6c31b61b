"""The energy model's file of version 1 loads and predicts what it predicted when it was written."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from make_golden_table import SPEC, golden_table

from costmodels import EnergyModel, TableSpec, fit_samples, samples_of
from profiler.errors import CwmpError, FileFormatError

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MODEL, ROWS = GOLDEN / "energymodel-v1.json", GOLDEN / "energymodel-v1.csv"
SCHEMA = ROOT / "docs" / "schemas" / "energymodel.v1.schema.json"


def rows() -> pd.DataFrame:
    return pd.read_csv(ROWS, keep_default_na=False)


def test_it_loads_and_predicts_the_stored_numbers() -> None:
    model, stored = EnergyModel.load(MODEL), rows()
    found = model.predict(stored, list(stored["asked_kind"]))
    for name in ("energy_j", "low_j", "high_j"):
        np.testing.assert_allclose(getattr(found, name), stored[name], rtol=1e-12)
    for name in ("calibrated", "priced_as", "corrected", "outside"):
        assert getattr(found, name).tolist() == stored[name].tolist()
    assert {"conv", "linear", "*"} == set(stored["priced_as"])
    assert stored["corrected"].any()
    assert (stored["outside"] != "").any()


def test_the_golden_table_still_gives_the_golden_prices() -> None:
    golden = EnergyModel.load(MODEL)
    fresh = fit_samples(samples_of(golden_table(), TableSpec.from_dict(SPEC)))
    for old, new in zip((golden.pooled, *golden.kinds), (fresh.pooled, *fresh.kinds), strict=True):
        assert old.kind == new.kind
        assert (old.correction is None) == (new.correction is None)
        np.testing.assert_allclose(
            [price.value for price in new.prices], [price.value for price in old.prices], rtol=1e-6
        )


def test_it_satisfies_the_published_schema() -> None:
    rules = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(rules)
    validator = Draft202012Validator(rules)
    content = json.loads(MODEL.read_text())
    assert list(validator.iter_errors(content)) == []
    content["kinds"][0]["prices"][0]["value"] = -1.0
    assert [error.validator for error in validator.iter_errors(content)] == ["minimum"]


def _signed(content: dict[str, Any]) -> str:
    content = {key: value for key, value in content.items() if key != "checksum"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "checksum": hashlib.sha256(canonical.encode()).hexdigest()})


def _trees(change: Callable[[bytes], bytes]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        content = json.loads(text)
        found = next(kind for kind in content["kinds"] if kind["correction"])
        trees = base64.b64decode(found["correction"]["trees"])
        found["correction"]["trees"] = base64.b64encode(change(trees)).decode()
        return _signed(content)

    return edit


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "edited": (lambda text: text.replace("simulated board", "my board"), "checksum"),
    "newer": (lambda text: text.replace('"version": 1', '"version": 2', 1), "version 2"),
    "checksum": (lambda text: text.replace('"checksum": "', '"checksum": "0', 1), "checksum"),
    "cut": (lambda text: text[:-40], "not valid JSON"),
    "foreign": (lambda text: text.replace("cwmp.energymodel", "cwmp.costmodel"), "not an energy"),
    "trees cut": (_trees(lambda trees: trees[: len(trees) // 2]), "refused"),
    "trees empty": (_trees(lambda trees: b""), "refused"),
    "trees of text": (_trees(lambda trees: b"import os; os.abort()"), "refused"),
    "trees pickled": (_trees(lambda trees: b"\x80\x04cos\nsystem\n"), "refused"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_was_changed_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, word = BAD[case]
    path = tmp_path / "model.json"
    path.write_text(change(MODEL.read_text()))
    with pytest.raises(FileFormatError) as caught:
        EnergyModel.load(path)
    assert word in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_each_byte_of_the_trees_that_is_flipped_is_refused_or_harmless(tmp_path: Path) -> None:
    """A valid checksum over other trees: an error of ours, or finite joules of a sane size."""
    stored, path = rows(), tmp_path / "model.json"
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        at, bit = int(generator.integers(0, 2000)), int(generator.integers(0, 8))

        def flip(trees: bytes, at: int = at, bit: int = bit) -> bytes:
            changed = bytearray(trees)
            changed[at % len(changed)] ^= 1 << bit
            return bytes(changed)

        path.write_text(_trees(flip)(MODEL.read_text()))
        try:
            found = EnergyModel.load(path).predict(stored, list(stored["asked_kind"]))
        except CwmpError:
            refused += 1
            continue
        assert np.isfinite(found.energy_j).all()
        assert (found.energy_j > 0).all()
    assert refused > 0
