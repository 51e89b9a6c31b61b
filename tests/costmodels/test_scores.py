"""Figures of merit against plain formulas, exact intervals, and intervals of clustered shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr

from costmodels.evaluation.figures import FIGURES, log_residuals
from costmodels.evaluation.scores import (
    bootstrap,
    clopper_pearson,
    coverage_of,
    group_index,
    korn_graubard,
    score,
)
from profiler.errors import InputError


def _plain(name: str, y: np.ndarray, f: np.ndarray) -> float:
    error = np.abs(f / y - 1)
    if name == "mape":
        return float(error.mean())
    if name == "median_ape":
        return float(np.median(error))
    if name == "bias":
        return float(f.sum() / y.sum() - 1)
    if name == "spearman":
        return float(spearmanr(y, f).statistic)
    if name == "r2":
        return float(1 - np.sum((y - f) ** 2) / np.sum((y - y.mean()) ** 2))
    log = np.log(y)
    return float(1 - np.sum((log - np.log(f)) ** 2) / np.sum((log - log.mean()) ** 2))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("seed", range(5))
def test_a_figure_of_drawn_groups_is_that_of_their_rows_written_out(name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    index = group_index([f"g{g}" for g in generator.integers(0, 7, 60)])[1]
    y = 10.0 ** generator.integers(-3, 2, 60) * generator.integers(1, 4, 60)  # with ties
    f = y * np.exp(generator.normal(0, 0.4, 60).round(1))
    figure = FIGURES[name](y, f, index)
    for _ in range(5):
        counts = generator.integers(0, 4, index.max() + 1).astype(float)
        rows = np.concatenate([np.repeat(i, int(counts[index[i]])) for i in range(60)])
        assert figure(counts) == pytest.approx(_plain(name, y[rows], f[rows]), rel=1e-9, abs=1e-12)
    assert figure(np.ones(index.max() + 1)) == pytest.approx(_plain(name, y, f), rel=1e-9)


def test_the_bootstrap_draws_groups_not_rows() -> None:
    """Rows that repeat their group's one value add nothing to what is known."""
    generator = np.random.default_rng(3)
    y = np.ones(20)
    f = np.exp(generator.normal(0, 0.3, 20))
    one = score(y, f, list(range(20)), seed=1)
    many = score(np.repeat(y, 50), np.repeat(f, 50), np.repeat(np.arange(20), 50).tolist(), seed=1)
    assert many.mape.low == pytest.approx(one.mape.low)
    assert many.mape.high == pytest.approx(one.mape.high)
    assert (many.rows, many.groups) == (1000, 20)


def test_the_interval_of_a_bias_covers_the_truth() -> None:
    """30 groups share an error of their own; the percentile interval is near its level."""
    generator = np.random.default_rng(4)
    covered = 0
    for trial in range(300):
        groups = np.repeat(np.arange(30), 4)
        f = 1.2 + generator.normal(0, 0.3, 30)[groups] + generator.normal(0, 0.1, 120)
        bias = FIGURES["bias"](np.ones(120), np.maximum(f, 0), groups)
        found = bootstrap({"bias": bias}, groups, trial)["bias"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.2 <= found.high
    # percentile intervals of 30 groups are a little short: 93 % is expected, 3 errors below
    assert 0.89 <= covered / 300 <= 0.98


def test_one_group_and_constant_truths_have_no_interval_and_no_r2() -> None:
    alone = score([1.0, 2.0, 4.0], [1.0, 2.0, 3.0], ["a", "a", "a"])
    assert alone.mape.value == pytest.approx(0.25 / 3)
    assert alone.mape.low is None
    constant = score([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], ["a", "b", "c"])
    assert constant.r2.value is None
    assert constant.r2_log.value is None
    assert constant.spearman.value is None
    assert constant.bias.value == pytest.approx(0.0)


def test_rank_figures_of_many_rows_are_exact_and_have_an_interval() -> None:
    generator = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 3000)
    y = np.exp(generator.normal(0, 1, groups.size))
    f = y * np.exp(generator.normal(0, 0.2, 40)[groups] + generator.normal(0, 0.2, groups.size))
    found = score(y, f, groups.tolist())
    assert found.median_ape.value == pytest.approx(_plain("median_ape", y, f))
    assert found.spearman.value == pytest.approx(_plain("spearman", y, f))
    for metric in (found.median_ape, found.spearman):
        assert metric.low is not None
        assert metric.value is not None
        assert metric.high is not None
        assert metric.low < metric.value < metric.high


def test_thousands_of_groups_are_drawn_in_bundles_and_counted_one_by_one() -> None:
    """A mean of 10,000 independent groups: the interval is 1.96 standard errors either side."""
    generator = np.random.default_rng(6)
    f = 1 + generator.uniform(0, 1, 10_000)
    found = score(np.ones(10_000), f, list(range(10_000)))
    assert found.groups == 10_000
    assert found.mape.low is not None
    assert found.mape.high is not None
    half = 1.96 * np.std(f) / 100
    assert (found.mape.high - found.mape.low) / 2 == pytest.approx(half, rel=0.15)


@pytest.mark.parametrize(
    ("truth", "predicted", "groups"),
    [
        ([1.0], [1.0, 2.0], ["a"]),
        ([1.0], [1.0], []),
        ([0.0], [1.0], ["a"]),
        ([1.0], [np.nan], ["a"]),
        ([1.0], [-1.0], ["a"]),
    ],
)
def test_what_cannot_be_scored_is_refused(truth: list, predicted: list, groups: list) -> None:
    with pytest.raises(InputError):
        score(truth, predicted, groups)


def test_a_prediction_of_nothing_is_a_thousandfold_error() -> None:
    np.testing.assert_allclose(log_residuals(np.array([2.0]), np.array([0.0])), [np.log(1000)])


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_clopper_pearson_is_scipys_exact_interval(case: tuple[int, int]) -> None:
    hits, trials = case
    expected = binomtest(hits, trials).proportion_ci(confidence_level=0.9, method="exact")
    np.testing.assert_allclose(
        clopper_pearson(hits, trials, 0.9), (expected.low, expected.high), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(("hits", "trials"), [(2, 1), (-1, 3), (0, 0), (1, np.inf)])
def test_impossible_shares_are_refused(hits: float, trials: float) -> None:
    with pytest.raises(InputError):
        clopper_pearson(hits, trials)


def test_without_clustering_the_interval_is_the_binomial_one() -> None:
    hits = np.array([1.0] * 45 + [0.0] * 5)
    found = korn_graubard(hits, np.ones(50))
    assert found == pytest.approx((0.9, *clopper_pearson(45, 50)), rel=0.03)


def test_the_effective_sample_is_korn_and_graubards() -> None:
    """Worked by hand from the paper's formulas."""
    from scipy.stats import t

    x, n = np.array([8.0, 2.0, 9.0, 5.0]), np.array([10.0, 6.0, 10.0, 12.0])
    p = 24 / 38
    variance = 4 / 3 * np.sum((x - p * n) ** 2) / 38**2
    effective = p * (1 - p) / variance * (t.ppf(0.975, 37) / t.ppf(0.975, 3)) ** 2
    assert effective < 38
    expected = clopper_pearson(p * effective, effective)
    assert korn_graubard(x, n) == pytest.approx((p, *expected))


def test_rows_of_one_group_that_all_agree_count_once() -> None:
    share, low, high = korn_graubard(np.full(9, 100.0), np.full(9, 100.0))
    assert (share, high) == (1.0, 1.0)
    assert low == pytest.approx(clopper_pearson(9, 9)[0])
    assert korn_graubard([5], [5]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("by_group", [False, True])
@pytest.mark.parametrize("groups", [10, 40])
def test_the_interval_covers_the_true_rate_of_beta_binomial_groups(
    groups: int, by_group: bool
) -> None:
    generator = np.random.default_rng(groups)
    rate, trials, covered, naive = 0.8, 400, 0, 0
    sizes = generator.integers(3, 40, groups)
    for _ in range(trials):
        own = generator.beta(8 * rate, 8 * (1 - rate), groups)
        hits = generator.binomial(sizes, own)
        _, low, high = korn_graubard(hits, sizes, by_group=by_group)
        covered += low <= rate <= high
        plain = clopper_pearson(int(hits.sum()), int(sizes.sum()))
        naive += plain[0] <= rate <= plain[1]
    # an exact interval covers at least its level: three binomial errors below, little above
    error = 3 * np.sqrt(0.95 * 0.05 / trials)
    assert 0.95 - error <= covered / trials <= 0.995
    assert naive / trials < 0.88  # what ignoring the groups would have claimed


def test_a_coverage_names_the_worst_group_and_weighs_groups_alike() -> None:
    hits = np.array([True] * 8 + [False, True] + [False] + [False, False])
    groups = ["a"] * 8 + ["b"] * 2 + ["c"] + ["d"] * 2
    found = coverage_of(hits, groups, 0.9)
    assert found.value == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert found.row_value == pytest.approx(9 / 13)
    assert (found.worst_group, found.worst_value, found.worst_rows) == ("d", 0.0, 2)
    assert (found.rows, found.groups) == (13, 4)
    assert found.low <= found.value <= found.high
    assert found.holds == (found.low <= 0.9 <= found.high)
    with pytest.raises(InputError):
        coverage_of(hits, groups[:-1], 0.9)


def test_groups_are_numbered_as_they_appear() -> None:
    names, index = group_index(["b", "a", "b", "c"])
    assert names == ["b", "a", "c"]
    assert index.tolist() == [0, 1, 0, 2]
