"""Differences between cost files, and what can be suspected of one."""

from __future__ import annotations

import json
from math import exp, log
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.cost_files import cost_file, estimate

from costmodels.composition.checks import suspicions, validate
from costmodels.composition.compose import with_link
from costmodels.composition.differences import diff, ratio
from costmodels.composition.link_table import LINKS
from costmodels.composition.merging import merge
from costmodels.composition.mixing import mix
from costmodels.costfile import CostFile, Estimate
from profiler.layers import LayerInfo

PATH = Path(__file__).resolve().parents[1] / "golden" / "costs-v1.json"
GOLDEN = CostFile.load(PATH)
LAYERS = [
    LayerInfo("a", "linear.weight", (32, 64), "float32"),
    LayerInfo("b", "linear.bias", (32,), "float32"),
]
COSTS = cost_file(LAYERS, origin="measured")


def test_a_file_does_not_differ_from_itself() -> None:
    found = diff(GOLDEN, GOLDEN)
    assert found.differing == found.only_a == found.only_b == ()
    assert len(found.changes) == sum(len(x.operations) for x in GOLDEN.layers) + 3 + 4
    for change in found.changes:
        assert change.energy.value == change.slope.value == 1.0


@given(st.floats(0.01, 100))
def test_a_scaled_file_differs_by_the_scale(by: float) -> None:
    scaled = cost_file(LAYERS, entry_j=lambda n: by * 5e-9 * (1 + 4 * (n % 3)), fixed_j=by * 2e-7)
    for change in diff(COSTS, scaled).changes:
        if change.operation != "update":
            assert change.allows_equal
            continue
        assert change.energy.value == pytest.approx(by)
        assert change.slope.value == pytest.approx(by)
        half = (log(1.1) ** 2 + log(1 / 0.9) ** 2) ** 0.5
        assert change.slope.low == pytest.approx(by * exp(-half))
        assert change.slope.high == pytest.approx(by * exp(half))
        assert change.allows_equal == (exp(-half) <= by <= exp(half))


@given(st.floats(0.1, 10), st.floats(1.01, 3), st.floats(1.01, 3))
def test_the_ratio_the_other_way_round_is_the_inverse(value: float, down: float, up: float) -> None:
    one = Estimate(value=1.0, low=1 / down, high=up)
    two = Estimate(value=value, low=value / up, high=value * down)
    there, back = ratio(one, two), ratio(two, one)
    assert back.high is not None and there.high is not None
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)
    assert there.high * back.low == pytest.approx(1)
    assert there.allows_equal == back.allows_equal


def test_a_cost_that_may_be_zero_bounds_the_ratio_on_one_side() -> None:
    unknown = Estimate(value=1.0, low=0.0, high=2.0, below_detection=True, upper_limit=2.0)
    found = ratio(unknown, estimate(100.0))
    assert found.high is None and found.low > 1 and not found.allows_equal
    assert ratio(estimate(100.0), unknown).low == 0


def test_what_only_one_file_prices_is_listed() -> None:
    less = cost_file(LAYERS[:1], train=False, messages=("send",))
    found = diff(COSTS, less)
    assert found.only_b == ()
    assert "b: update, random" in found.only_a
    assert "*: train, batch" in found.only_a
    assert "message: encode, random" in found.only_a
    assert {change.owner for change in found.changes} == {"a", "message"}


def _edited(tmp_path: Path, change: object) -> Path:
    document = json.loads(PATH.read_text())
    change(document)  # type: ignore[operator]
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(document))
    return path


def _piece(document: dict) -> dict:
    return document["layers"][0]["operations"][0]["pieces"][0]


def _fall(document: dict) -> None:
    first = _piece(document)
    cheap = {"value": 1e-15, "low": 1e-16, "high": 1e-14}
    second = {"from_k": 100, "a_j": None, "c_j": cheap}
    document["layers"][0]["operations"][0]["pieces"] = [first, second]


def _drop(document: dict, operation: str) -> None:
    document["message"] = [c for c in document["message"] if c["operation"] != operation]


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        (lambda d: d.update(version=9), "error", "version 9"),
        (lambda d: d.update(schema_name="other"), "error", "not a cost file"),
        (_fall, "error", "energy falls at k = 100"),
        (lambda d: _piece(d)["c_j"].update(value=0.0, low=0.0), "error", "greater than 0"),
        (lambda d: _drop(d, "send"), "error", "no 'send' cost"),
        (lambda d: d["layers"][0]["operations"].pop(), "error", "update, dense"),
        (lambda d: _piece(d)["c_j"].update(high=1.0), "warning", "spans a factor of 5e+07"),
        (lambda d: _piece(d)["c_j"].update(low=1e-20), "warning", "spans a factor of 2e+12"),
        (
            lambda d: _piece(d)["c_j"].update(value=2e-8, low=2e-8, high=2e-8),
            "warning",
            "no width",
        ),
        (
            lambda d: d["provenance"].update(extrapolated={"fc.weight": ["update:lines"]}),
            "warning",
            "extrapolated beyond what was measured (update:lines)",
        ),
        (lambda d: d["provenance"].update(unseen_kinds=["lstm"]), "warning", "lstm"),
        (lambda d: d["provenance"].update(extrapolated=3), None, ""),
        (lambda d: d.update(origin="assumed"), "warning", "assumed"),
        (lambda d: d["message"][0].update(origin="assumed"), "warning", "assumed, not measured"),
        (lambda d: d["layers"][0].update(dtype="float12"), "warning", "float12"),
        (
            lambda d: d["layers"][0]["operations"][0].update(k_max=100),
            "warning",
            "1 of 4 layers, most in conv2.weight (up to k = 100 of 4608)",
        ),
    ],
)
def test_each_fault_is_found_and_nothing_else(
    tmp_path: Path, change: object, severity: str | None, words: str
) -> None:
    found = validate(_edited(tmp_path, change))
    if severity is None:
        assert found == ()
        return
    assert len(found) == 1
    assert found[0].severity == severity
    assert words in found[0].what


def test_a_sound_file_raises_no_suspicion() -> None:
    assert validate(PATH) == ()
    assert suspicions(with_link(GOLDEN, LINKS["wifi-uplink"])) == ()


def test_a_missing_file_is_a_finding_not_a_traceback(tmp_path: Path) -> None:
    found = validate(tmp_path / "none.json")
    assert [s.severity for s in found] == ["error"]
    assert "none.json" in found[0].what


def test_pooled_and_equal_costs_are_told() -> None:
    below = {"below_detection": True, "upper_limit": 1.0}

    def pooled(costs: CostFile) -> CostFile:
        document = costs.model_dump(mode="json")
        for layer in document["layers"]:
            for operation in layer["operations"]:
                operation["pieces"][0]["c_j"].update(below, high=1.0, low=0.0)
        return CostFile.model_validate(document)

    said = [s.what for s in suspicions(pooled(COSTS))]
    assert any("4 of 6 estimates are below detection" in text for text in said)
    flat = suspicions(cost_file(LAYERS, entry_j=lambda n: 1e-9))
    assert [s.what for s in flat] == ["every layer has the same c: weighing by cost gains nothing"]


def test_what_parts_of_a_mix_are_suspected_of_is_kept() -> None:
    told = {"extrapolated": {"a": ["update:lines"]}, "unseen_kinds": ["lstm"]}
    doubtful = CostFile.model_validate({**dict(COSTS), "provenance": told})
    for composed in (mix([(COSTS, 1), (doubtful, 1)]), merge([COSTS, doubtful])):
        assert set(suspicions(composed)) == set(suspicions(doubtful)) - set(suspicions(COSTS))
    nested = mix([(mix([(doubtful, 1)]), 1), (doubtful, 2)])
    assert suspicions(nested) == suspicions(doubtful)


def test_errors_come_first() -> None:
    costs = cost_file(LAYERS, origin="assumed", messages=("encode",))
    found = [s.severity for s in suspicions(costs)]
    assert found == sorted(found)
    assert "error" in found and "warning" in found
