"""Calibrated intervals against a literal reference and their finite-sample promise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.evaluation.conformal import (
    SMALLEST,
    Calibration,
    coverage,
    ends_apart,
    groups_needed,
    half_width,
    left_out_widths,
)
from profiler.errors import InputError


def _literal(residuals: Sequence[Sequence[float]], level: float) -> float | None:
    """Go up the sorted residuals, adding weight by weight, until the level is reached."""
    pairs = sorted((r, 1 / ((len(residuals) + 1) * len(g))) for g in residuals for r in g)
    reached = 0.0
    for size, weight in pairs:
        reached += weight
        if reached >= level - 1e-9:
            return max(size, SMALLEST)
    return None


_GROUPS = st.lists(
    st.lists(st.integers(0, 30).map(lambda i: i / 10), min_size=1, max_size=9),
    min_size=1,
    max_size=30,
)


@given(_GROUPS, st.sampled_from([0.5, 0.8, 0.9, 0.95]))
@settings(max_examples=150, deadline=None)
def test_the_half_width_is_the_literal_one(groups: list[list[float]], level: float) -> None:
    width, calibrated = half_width([np.array(g) for g in groups], level)
    expected = _literal(groups, level)
    assert calibrated == (expected is not None) == (len(groups) >= groups_needed(level))
    if expected is not None:
        assert width == expected


@given(_GROUPS, st.sampled_from([0.5, 0.8, 0.9]))
@settings(max_examples=150, deadline=None)
def test_leaving_each_group_out_at_once_is_leaving_it_out_in_turn(
    groups: list[list[float]], level: float
) -> None:
    sizes = np.concatenate([np.array(g) for g in groups])
    index = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    widths = left_out_widths(sizes, index, level)
    if len(groups) - 1 < groups_needed(level):
        assert widths is None
        return
    assert widths is not None
    turns = [_literal(groups[:g] + groups[g + 1 :], level) for g in range(len(groups))]
    np.testing.assert_array_equal(widths, turns)


@given(_GROUPS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_and_names_of_groups_do_not_matter(groups: list[list[float]], random) -> None:  # type: ignore[no-untyped-def]
    rows = [(value, g, f"k{int(value) % 2}") for g, group in enumerate(groups) for value in group]
    first = Calibration.fit(*zip(*rows, strict=True), level=0.8)
    random.shuffle(rows)
    values, labels, kinds = zip(*rows, strict=True)
    second = Calibration.fit(values, [f"other {99 - label}" for label in labels], kinds, level=0.8)
    assert second.pooled.above_log == pytest.approx(first.pooled.above_log)
    assert set(second.by_kind) == set(first.by_kind)
    for name, width in first.by_kind.items():
        assert second.by_kind[name].above_log == pytest.approx(width.above_log)


@given(_GROUPS)
@settings(max_examples=60, deadline=None)
def test_a_higher_level_is_never_narrower(groups: list[list[float]]) -> None:
    parts = [np.array(g) for g in groups]
    reached = [half_width(parts, level) for level in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)]
    widths = [width for width, calibrated in reached if calibrated]
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    ("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)]
)
def test_groups_needed(level: float, needed: int) -> None:
    assert groups_needed(level) == needed
    residual = np.linspace(0.1, 1.0, needed)
    assert Calibration.fit(residual, range(needed), level=level).pooled.calibrated
    assert not Calibration.fit(residual[1:], range(needed - 1), level=level).pooled.calibrated


def test_a_level_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(InputError):
        groups_needed(1.0)


def test_a_group_of_a_thousand_rows_counts_like_a_group_of_one() -> None:
    residual = np.concatenate([np.linspace(0.1, 1.8, 18), np.full(1000, 9.0)])
    groups = [*range(18), *[18] * 1000]
    assert Calibration.fit(residual, groups).pooled.above_log == pytest.approx(1.8)


def test_one_infinitely_bad_group_widens_nothing_beyond_the_next_worst() -> None:
    residual = np.linspace(0.1, 2.0, 20)
    worse = np.append(residual[:-1], 1e300)
    assert Calibration.fit(worse, range(20)).pooled.above_log == pytest.approx(
        Calibration.fit(residual, range(20)).pooled.above_log
    )


def test_a_group_that_is_too_bad_for_a_level_cannot_be_promised_away() -> None:
    """With exactly 9 groups the 90 % half-width is the worst residual, however bad."""
    assert Calibration.fit([0.1] * 8 + [7.0], range(9)).pooled.above_log == 7.0


@pytest.mark.parametrize("groups", [9, 10, 25])
def test_rows_of_a_new_group_are_covered_as_promised_and_not_much_more(groups: int) -> None:
    """One residual a group: P = ceil(level (G + 1)) / (G + 1) exactly, averaged over all."""
    generator = np.random.default_rng(groups)
    trials = 4000
    hits = 0
    for _ in range(trials):
        residual = generator.standard_normal(groups + 1)
        width = Calibration.fit(residual[:-1], range(groups)).pooled
        hits += bool(-width.below_log <= residual[-1] <= width.above_log)
    expected = np.ceil(0.9 * (groups + 1) - 1e-9) / (groups + 1)
    assert hits / trials == pytest.approx(expected, abs=3 * np.sqrt(0.09 / trials))


def test_ends_apart_cover_as_promised_and_are_narrower_on_skewed_residuals() -> None:
    generator = np.random.default_rng(0)
    assert ends_apart(38, 0.9)
    assert not ends_apart(37, 0.9)
    covered, reach, symmetric = [], [], []
    for _ in range(300):
        shift = generator.exponential(0.3, (61, 1))
        residual = shift + generator.exponential(0.5, (61, 5)) - 0.3
        groups = np.repeat(np.arange(60), 5)
        width = Calibration.fit(residual[:-1].ravel(), groups).pooled
        new = residual[-1]
        covered.append(np.mean((new >= -width.below_log) & (new <= width.above_log)))
        reach.append(width.below_log + width.above_log)
        symmetric.append(2 * half_width(list(np.abs(residual[:-1])), 0.9)[0])
    error = np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= 0.9 - 3 * error
    assert np.mean(covered) <= 0.97
    assert np.mean(reach) < 0.8 * np.mean(symmetric)


def test_noisy_kinds_do_not_widen_quiet_ones() -> None:
    generator = np.random.default_rng(1)
    kind = np.tile(["quiet", "noisy"], 300)
    residual = generator.normal(0, np.where(kind == "quiet", 0.05, 1.0))
    group = np.repeat(np.arange(30), 20)
    found = Calibration.fit(residual, group, kind)
    assert found.width("quiet").above_log < 0.2 < 1.0 < found.width("noisy").above_log
    low, high = found.interval([0.0, 0.0, 0.0], ["quiet", "noisy", "never seen"])
    half = (high - low) / 2
    assert half[0] < half[2] < half[1]
    assert half[2] == pytest.approx((found.pooled.above_log + found.pooled.below_log) / 2)
    np.testing.assert_allclose(found.interval([1.0])[1] - 1.0, found.pooled.above_log)


def test_a_kind_with_too_few_groups_takes_the_pooled_width() -> None:
    residual = np.concatenate([np.full(20, 0.1), np.full(8, 3.0)])
    group = [*range(20), *range(8)]
    found = Calibration.fit(residual, group, ["a"] * 20 + ["rare"] * 8)
    assert set(found.by_kind) == {"a"}
    assert found.width("rare") == found.pooled
    ninth = Calibration.fit(np.append(residual, 3.0), [*group, 8], ["a"] * 20 + ["rare"] * 9)
    assert ninth.width("rare").above_log == 3.0


@pytest.mark.parametrize("skew", [False, True])
@pytest.mark.parametrize("groups", [12, 45])
def test_the_coverage_is_that_of_calibrating_on_the_others(groups: int, skew: bool) -> None:
    generator = np.random.default_rng(groups)
    group = generator.integers(0, groups, 400)
    kind = generator.choice(["a", "b", "rare"], 400, p=[0.6, 0.38, 0.02])
    residual = generator.normal(0, 0.3, 400)
    residual = np.exp(residual) if skew else residual
    found = coverage(residual, group, kind)
    assert found is not None
    hits, record = found
    for name in np.unique(group):
        others, own = group != name, group == name
        calibration = Calibration.fit(residual[others], group[others], kind[others])
        low, high = calibration.interval(-residual[own], kind[own])
        expected = (low <= 0) & (high >= 0)
        np.testing.assert_array_equal(hits[own], expected)
    assert record.row_value == hits.mean()
    assert record.groups == groups


def test_left_out_groups_are_covered_at_the_level() -> None:
    generator = np.random.default_rng(7)
    values = []
    for _ in range(100):
        scale = np.exp(generator.normal(0, 0.5, 30))
        group = np.repeat(np.arange(30), 6)
        found = coverage(generator.normal(0, scale[group]), group)
        assert found is not None
        values.append(found[1].value)
    error = np.std(values) / 10
    assert 0.9 - 3 * error <= np.mean(values) <= 0.95


def test_nine_groups_leave_eight_which_calibrate_nothing() -> None:
    assert coverage(np.linspace(0.1, 1, 9), range(9)) is None
    assert coverage(np.linspace(0.1, 1, 10), range(10)) is not None


def test_one_group_is_a_factor_of_ten_and_uncalibrated() -> None:
    found = Calibration.fit([0.1, 0.2], ["a", "a"])
    assert not found.pooled.calibrated
    assert found.pooled.above_log == pytest.approx(np.log(10))
    assert found.by_kind == {}
    assert Calibration.fit([], []).pooled.groups == 0


@pytest.mark.parametrize(
    ("residual", "group", "kind"),
    [([0.1], ["a", "b"], None), ([np.nan], ["a"], None), ([0.1], ["a"], ["x", "y"])],
)
def test_what_cannot_calibrate_is_refused(residual: list, group: list, kind: list | None) -> None:
    with pytest.raises(InputError):
        Calibration.fit(residual, group, kind)


def test_a_calibration_survives_its_file() -> None:
    found = Calibration.fit(np.linspace(-1, 1, 40), range(40), ["a"] * 20 + ["b"] * 20)
    assert Calibration.model_validate_json(found.model_dump_json()) == found
