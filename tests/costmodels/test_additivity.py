"""Wholes from layers: known scales and overheads come back, and chance terms are not paid for."""

from __future__ import annotations

import numpy as np
import pytest

from costmodels.evaluation.additivity import COUNT, LAYERS, Additivity, fit_additivity
from profiler.errors import InputError


def _wholes(
    seed: int, scale: float = 0.8, overhead: float = 0.005, noise: float = 0.03, n: int = 24
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    sums = np.exp(generator.uniform(-1.5, 0.5, n))
    counts = generator.integers(20, 150, n).astype(float)
    whole = (scale * sums + overhead * counts) * np.exp(generator.normal(0, noise, n))
    return sums, counts, whole, [f"family {i // 2}" for i in range(n)]


def test_a_known_scale_and_overhead_are_recovered() -> None:
    sums, counts, whole, groups = _wholes(0, noise=1e-9)
    found = fit_additivity(sums, counts, whole, groups=groups)
    assert [term.name for term in found.terms] == [LAYERS, COUNT]
    assert [term.value for term in found.terms] == pytest.approx([0.8, 0.005], rel=1e-6)
    assert found.scores.mape.value == pytest.approx(0, abs=1e-7)
    assert found.without_overhead.mape.value is not None
    assert found.without_overhead.mape.value > 0.1
    np.testing.assert_allclose(found.predict(sums, counts), whole, rtol=1e-6)
    np.testing.assert_allclose(found.predicted_j, whole, rtol=1e-6)


def test_the_intervals_of_the_terms_hold_in_most_runs() -> None:
    held = []
    for seed in range(25):
        sums, counts, whole, groups = _wholes(seed, noise=0.05)
        found = fit_additivity(sums, counts, whole, groups=groups, seed=seed)
        scale, overhead = found.terms[:2]
        held += [scale.low <= 0.8 <= scale.high, overhead.low <= 0.005 <= overhead.high]
    assert np.mean(held) >= 0.8  # percentile intervals of 12 groups run short of 95 %


def test_a_plain_sum_needs_no_overhead() -> None:
    sums, counts, whole, groups = _wholes(3, scale=1.0, overhead=0.0, noise=0.02)
    found = fit_additivity(sums, counts, whole, groups=groups)
    assert [term.name for term in found.terms] == [LAYERS]
    assert found.unscaled.bias.value == pytest.approx(0, abs=0.02)
    assert found.terms[0].value == pytest.approx(1.0, abs=0.02)


def test_terms_of_pure_chance_are_seldom_chosen() -> None:
    taken = 0
    for seed in range(20):
        sums, counts, whole, groups = _wholes(seed, noise=0.1)
        chance = np.random.default_rng(100 + seed).exponential(1.0, (2, sums.size))
        found = fit_additivity(
            sums, counts, whole, groups=groups, extras={"a": chance[0], "b": chance[1]}
        )
        taken += any(term.name in ("a", "b") for term in found.terms)
    assert taken <= 5


def test_an_extra_that_costs_is_found_and_must_be_given_to_predict() -> None:
    sums, counts, whole, groups = _wholes(5)
    weights = np.random.default_rng(6).exponential(1e8, sums.size)
    whole = whole + 4e-9 * weights
    found = fit_additivity(sums, counts, whole, groups=groups, extras={"bytes": weights})
    assert {term.name: term.value for term in found.terms}["bytes"] == pytest.approx(4e-9, rel=0.1)
    with pytest.raises(InputError, match="'bytes'"):
        found.predict(sums, counts)


def test_a_group_has_no_say_in_its_own_prediction() -> None:
    sums, counts, whole, groups = _wholes(7)
    before = fit_additivity(sums, counts, whole, groups=groups)
    spoilt = whole.copy()
    spoilt[:2] *= 7.0
    after = fit_additivity(sums, counts, spoilt, groups=groups)
    np.testing.assert_allclose(after.predicted_j[:2], before.predicted_j[:2])
    assert not np.allclose(after.predicted_j[2:], before.predicted_j[2:])


def test_the_left_out_predictions_are_those_of_fits_without_the_group() -> None:
    sums, counts, whole, groups = _wholes(8)
    found = fit_additivity(sums, counts, whole, groups=groups)
    assert set(found.chosen) == {f"{LAYERS} + {COUNT}"}
    assert sum(found.chosen.values()) == 12
    out = np.array(groups) == groups[0]
    matrix = np.column_stack([sums, counts]) / whole[:, None]
    prices = np.linalg.lstsq(matrix[~out], np.ones((~out).sum()), rcond=None)[0]
    np.testing.assert_allclose(
        np.array(found.predicted_j)[out], np.column_stack([sums, counts])[out] @ prices
    )


def test_parts_of_a_sum_are_added_and_units_do_not_matter() -> None:
    sums, counts, whole, groups = _wholes(9)
    parts = np.column_stack([0.3 * sums, 0.7 * sums])
    one = fit_additivity(sums, counts, whole, groups=groups)
    two = fit_additivity(parts, counts, whole, groups=groups)
    np.testing.assert_allclose(two.predicted_j, one.predicted_j)
    milli = fit_additivity(1e3 * sums, counts, 1e3 * whole, groups=groups)
    np.testing.assert_allclose(milli.predicted_j, 1e3 * np.array(one.predicted_j))
    assert Additivity.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize(
    "change",
    [
        {"groups": ["a", "b"] * 12},
        {"groups": ["a"] * 23},
        {"whole_j": np.zeros(24)},
        {"counts": np.full(24, -1.0)},
        {"counts": np.ones(23)},
        {"layer_sums_j": np.full(24, np.nan)},
        {"layer_sums_j": np.zeros(24)},
        {"extras": {COUNT: np.ones(24)}},
    ],
)
def test_what_cannot_be_added_up_is_refused(change: dict) -> None:
    sums, counts, whole, groups = _wholes(1)
    given = {"layer_sums_j": sums, "counts": counts, "whole_j": whole, "groups": groups} | change
    with pytest.raises(InputError):
        fit_additivity(
            given.pop("layer_sums_j"), given.pop("counts"), given.pop("whole_j"), **given
        )


@pytest.mark.parametrize("overhead", [0.0, 0.005])
def test_the_verdict_says_which_sums_are_off_by_what(overhead: float) -> None:
    sums, counts, whole, groups = _wholes(3, scale=0.8, overhead=overhead, noise=0.01)
    found = fit_additivity(sums, counts, whole, groups=groups)
    off = [
        f"{100 * scores.median_ape.value:.1f} %"
        for scores in (found.scores, found.without_overhead, found.unscaled)
        if scores.median_ape.value is not None
    ]
    where = "(median) on wholes of unseen groups"
    assert found.verdict == (
        f"scaled sums of layers with an overhead are off by {off[0]} {where}; "
        f"scaled sums alone by {off[1]}, plain sums by {off[2]}"
        if overhead
        else f"scaled sums of layers are off by {off[0]} {where}; plain sums by {off[2]}"
    )
    assert off[0] != off[2]
