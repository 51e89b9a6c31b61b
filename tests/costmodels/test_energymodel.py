"""The energy model's file: the same model back, and no hand-made one that misleads."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_tables import UNITS, bent, table

from costmodels.energymodel import EnergyModel
from costmodels.tablefit import fit_samples
from profiler.errors import CwmpError, FileFormatError, InputFileError, OutputExistsError

Content = dict[str, Any]


@pytest.fixture(scope="module")
def corrected() -> EnergyModel:
    return fit_samples(bent(0, 8, 12))


@pytest.fixture(scope="module")
def plain() -> EnergyModel:
    return fit_samples(table(0, 20, 4, noise=0.1))


def frame_to_ask() -> pd.DataFrame:
    X = 10 ** np.random.default_rng(0).uniform(3, 9, (60, 3))
    X[:, 2] = 1.0
    X[:2] = 0.0
    return pd.DataFrame(X, columns=list(UNITS))


def content_of(model: EnergyModel) -> Content:
    return model.model_dump(mode="json")


def write(path: Path, content: Any) -> Path:
    """As `save` does, checksum and all, whatever the content is."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signed = {**content, "checksum": digest} if isinstance(content, dict) else content
    path.write_text(json.dumps(signed))
    return path


def check_predictions(model: EnergyModel) -> None:
    for kind in (None, ["conv"] * 60, ["never"] * 60):
        found = model.predict(frame_to_ask(), kind)
        for column in (found.energy_j, found.low_j, found.high_j):
            assert np.isfinite(column).all()
            assert (column > 0).all()
        assert (found.low_j <= found.energy_j).all()
        assert (found.energy_j <= found.high_j).all()


@pytest.mark.parametrize("which", ["plain", "corrected"])
def test_what_is_read_is_what_was_written(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: EnergyModel = request.getfixturevalue(which)
    model.save(tmp_path / "a.json")
    read = EnergyModel.load(tmp_path / "a.json")
    assert read.model_dump() == model.model_dump()
    read.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for kind in (None, ["conv"] * 60, ["never"] * 60):
        pd.testing.assert_frame_equal(
            read.predict(frame_to_ask(), kind).frame(),
            model.predict(frame_to_ask(), kind).frame(),
            check_exact=True,
        )


def test_models_that_were_used_can_be_compared(corrected: EnergyModel) -> None:
    assert corrected == EnergyModel.model_validate(corrected.model_dump())


def test_a_file_is_not_replaced_unasked(plain: EnergyModel, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    plain.save(path)
    with pytest.raises(OutputExistsError, match="exists already"):
        plain.save(path)
    plain.save(path, force=True)


def test_an_edit_is_noticed(plain: EnergyModel, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    plain.save(path)
    path.write_text(path.read_text().replace('"rows": 80', '"rows": 81'))
    with pytest.raises(FileFormatError, match="does not match its checksum"):
        EnergyModel.load(path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", FileFormatError),
        ("[]", FileFormatError),
        ("{}", FileFormatError),
        ("null", FileFormatError),
        ('{"schema_name": "cwmp.costfile", "version": 1}', FileFormatError),
        ('{"schema_name": "cwmp.energymodel", "version": 1}', FileFormatError),
        ('{"schema_name": "cwmp.energymodel", "version": NaN}', FileFormatError),
        ("[" * 100_000, FileFormatError),
        ("1" * 10_000, FileFormatError),
        ("\ud800".encode("utf-8", "surrogatepass"), FileFormatError),
    ],
)
def test_what_is_no_energy_model_is_refused(
    text: str | bytes, error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error) as caught:
        EnergyModel.load(path)
    assert "\n" not in str(caught.value)


def test_a_newer_version_is_named(plain: EnergyModel, tmp_path: Path) -> None:
    path = write(tmp_path / "model.json", {**content_of(plain), "version": 2})
    with pytest.raises(FileFormatError, match="has energy model version 2; this release reads 1"):
        EnergyModel.load(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"absent\.json"):
        EnergyModel.load(tmp_path / "absent.json")


def kind(content: Content) -> Content:
    found: Content = content["kinds"][0]
    return found


def tree(content: Content) -> Content:
    found: Content = kind(content)["correction"]
    return found


def set_price(value: float) -> Callable[[Content], None]:
    return lambda c: kind(c)["prices"][0].update(value=value, low=0.0, high=value)


REFUSED: dict[str, Callable[[Content], Any]] = {
    "prices swapped": lambda c: kind(c)["prices"].reverse(),
    "a price dropped": lambda c: kind(c)["prices"].pop(),
    "a negative price": lambda c: kind(c)["prices"][0].update(value=-1.0),
    "a price outside its interval": lambda c: kind(c)["prices"][0].update(high=0.0),
    "no price at all": lambda c: [p.update(value=0.0, low=0.0) for p in kind(c)["prices"]],
    "a unit changed": lambda c: kind(c)["prices"][0].update(unit="mJ/MAC"),
    "a unit dropped": lambda c: c["units"].pop(),
    "a feature renamed": lambda c: c["features"].__setitem__(0, "flops"),
    "a kind twice": lambda c: c["kinds"].append(kind(c)),
    "a kind for all kinds": lambda c: kind(c).update(kind="*"),
    "pooled prices of a kind": lambda c: c["pooled"].update(kind="conv"),
    "no tests": lambda c: c["tests"].clear(),
    "one calibration": lambda c: c["calibrations"].pop(),
    "calibrations swapped": lambda c: c["calibrations"].reverse(),
    "a level of 50 %": lambda c: c["calibrations"][1].update(level=0.5),
    "a negative width": lambda c: c["calibrations"][1]["pooled"].update(below_log=-1.0),
    "a width of zero": lambda c: c["unseen"].update(above_log=0.0),
    "a lowest energy of zero": lambda c: c.update(lowest_j=0.0),
    "a lowest energy as text": lambda c: c.update(lowest_j="much"),
    "no rows": lambda c: c.update(rows=0),
    "an unknown field": lambda c: c.update(extra=1),
    "a field dropped": lambda c: c.pop("unseen"),
    "a shape nobody has": lambda c: c["shape"].append("stride"),
    "a range dropped": lambda c: kind(c)["prices"][0].pop("feature_low"),
    "trees truncated": lambda c: tree(c).update(trees=tree(c)["trees"][:-400]),
    "trees not base64": lambda c: tree(c).update(trees="not base64!"),
    "trees not ONNX": lambda c: tree(c).update(trees=base64.b64encode(b"x" * 99).decode()),
    "no trees": lambda c: tree(c).update(trees=""),
    "trees in another format": lambda c: tree(c).update(format="pickle"),
    "huge trees": lambda c: tree(c).update(trees="A" * 8 * 2**20),
    "a column of the trees renamed": lambda c: tree(c)["columns"].__setitem__(0, "log flops"),
    "a column of the trees dropped": lambda c: tree(c)["columns"].pop(),
    "a floor dropped": lambda c: tree(c)["floors"].pop(),
    "a side of the box dropped": lambda c: tree(c)["low"].pop(),
    "ratios of columns that are not there": lambda c: tree(c).update(priced=[0, 7]),
    "ratios of a negative column": lambda c: tree(c).update(priced=[-1, 0]),
    "infinity": lambda c: kind(c)["prices"][0].update(feature_high=1e999),
    "not a number": lambda c: tree(c)["floors"].__setitem__(0, float("nan")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_edited_field_under_a_fresh_checksum_is_refused(
    name: str, corrected: EnergyModel, tmp_path: Path
) -> None:
    assert corrected.kinds[0].correction is not None
    content = content_of(corrected)
    REFUSED[name](content)
    with pytest.raises(FileFormatError) as caught:
        EnergyModel.load(write(tmp_path / "model.json", content))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_trees_of_another_model_are_refused(corrected: EnergyModel, tmp_path: Path) -> None:
    other = bent(1, 8, 12)
    renamed = fit_samples(
        type(other)(
            features=other.features.rename(columns={"macs": "flops"}),
            units={"flops": "J/FLOP", "bytes": "J/byte", "calls": "J/call"},
            energy_j=other.energy_j, kind=other.kind, groupings=other.groupings, source="another",
        ),
        estimator="hybrid",
    )  # fmt: skip
    content = content_of(corrected)
    tree(content)["trees"] = tree(content_of(renamed))["trees"]
    with pytest.raises(FileFormatError, match="the trees are of the features"):
        EnergyModel.load(write(tmp_path / "model.json", content))


SURVIVES: dict[str, Callable[[Content], Any]] = {
    "a kind dropped": lambda c: c["kinds"].pop(),
    "a huge price": set_price(1e300),
    "a tiny price": lambda c: [p.update(value=1e-320, low=0.0) for p in kind(c)["prices"]],
    "a huge width": lambda c: c["unseen"].update(above_log=1e300, below_log=1e300),
    "a tiny lowest energy": lambda c: c.update(lowest_j=5e-324),
    "no correction": lambda c: kind(c).update(correction=None),
    "an empty box": lambda c: tree(c).update(low=tree(c)["high"], high=tree(c)["low"]),
    "an endless box": lambda c: tree(c).update(
        low=[-1e308] * len(tree(c)["low"]), high=[1e308] * len(tree(c)["low"])
    ),
    "floors far away": lambda c: tree(c).update(floors=[1e308, -1e308, 0.0]),
    "no ratios but the names of some": lambda c: tree(c).update(priced=[]),
    "a column in ratios twice": lambda c: tree(c).update(priced=[0, 0]),
}


@pytest.mark.parametrize("name", SURVIVES)
def test_an_odd_file_is_refused_or_predicts_finite_joules(
    name: str, corrected: EnergyModel, tmp_path: Path
) -> None:
    content = content_of(corrected)
    SURVIVES[name](content)
    try:
        model = EnergyModel.load(write(tmp_path / "model.json", content))
        check_predictions(model)
    except CwmpError as error:
        assert "\n" not in str(error)


ODD: list[Any] = [None, True, 0, -1, 1, 10**400, 1e308, -1e308, 5e-324, 0.5, "", "*", "conv", "x",
                  [], {}, [1], {"a": 1}, [[]], "A" * 5000, float("nan"), float("inf")]  # fmt: skip


def mutate(content: Any, rng: random.Random) -> Any:
    """One value replaced, dropped, doubled or moved, anywhere in the tree."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(content)
    parent, key = rng.choice(places)
    what = rng.randrange(5)
    value = parent[key]
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(value, float | int) and not isinstance(value, bool):
        parent[key] = value * 10.0 ** rng.choice([-300, -12, -3, 1, 3, 12, 300])
    elif what == 2 and isinstance(value, str) and value:
        at = rng.randrange(len(value))
        parent[key] = value[:at] + rng.choice("Az09+=é") + value[at + 1 :]
    elif what == 3 and isinstance(value, list):
        rng.shuffle(value)
    else:
        parent[key] = copy.deepcopy(rng.choice(ODD))
    return content


def test_500_random_edits_give_one_error_or_a_model_that_predicts(
    corrected: EnergyModel, plain: EnergyModel, tmp_path: Path
) -> None:
    outcomes = {"refused": 0, "read": 0}
    for number in range(500):
        rng = random.Random(number)
        content = content_of(corrected if number % 2 else plain)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            content = mutate(content, rng)
        try:
            model = EnergyModel.load(write(tmp_path / "model.json", content))
        except CwmpError as error:
            assert "\n" not in str(error), number
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        if set(UNITS) <= set(model.features) and not model.shape:
            try:
                check_predictions(model)
            except CwmpError as error:
                assert "\n" not in str(error), number
    assert min(outcomes.values()) > 50
