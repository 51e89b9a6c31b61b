from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from cwmp.studies.inference import bootstrap_mean, holm, least_p, too_few, wilcoxon_p
from profiler.errors import InputError

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def _slow_holm(p_values: list[float]) -> list[float]:
    """The definition: reject in order, stop at the first that does not pass, for every alpha."""
    m = len(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])

    def rejected(alpha: float) -> set[int]:
        out: set[int] = set()
        for step, i in enumerate(order):
            if p_values[i] * (m - step) > alpha:
                break
            out.add(i)
        return out

    levels = sorted({min(1.0, p_values[i] * (m - s)) for s, i in enumerate(order)} | {1.0})
    return [next((a for a in levels if i in rejected(a)), 1.0) for i in range(m)]


@given(P_VALUES)
def test_holm_is_the_least_alpha_that_rejects(p_values: list[float]) -> None:
    np.testing.assert_allclose(holm(p_values), _slow_holm(p_values))


@given(P_VALUES)
def test_holm_keeps_the_order_and_never_helps(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(c >= p for c, p in zip(corrected, p_values, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
    assert max(corrected) <= 1


def _slow_wilcoxon(differences: np.ndarray) -> float:
    """Every choice of signs, one by one."""
    values = differences[differences != 0]
    if not values.size:
        return 1.0
    ranks = rankdata(np.abs(values))
    seen = ranks[values > 0].sum()
    centre = ranks.sum() / 2
    sums = [ranks @ np.array(signs) for signs in product((0, 1), repeat=len(ranks))]
    return float(np.mean(np.abs(np.array(sums) - centre) >= abs(seen - centre) - 1e-9))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_wilcoxon_counts_every_choice_of_signs(differences: list[int]) -> None:
    values = np.array(differences, dtype=float)
    assert wilcoxon_p(values) == pytest.approx(_slow_wilcoxon(values))


@pytest.mark.parametrize("n", [5, 10, 20, 40])
def test_wilcoxon_without_ties_is_scipys_exact_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)
    assert wilcoxon_p(values) == pytest.approx(wilcoxon(values, method="exact").pvalue)


def test_accuracies_that_floats_hold_inexactly_are_tied() -> None:
    """Differences of k / 360, as exact fractions give them and as floats do."""
    ours, theirs = [111, 230, 299, 17, 340, 52], [110, 231, 297, 15, 337, 49]
    exact = wilcoxon_p(np.array(ours, float) - np.array(theirs, float))
    floats = np.array([a / 360 - b / 360 for a, b in zip(ours, theirs, strict=True)])
    assert len(set(np.abs(floats))) > 3  # what are 1, 1, 2, 2, 3, 3 of 360
    assert wilcoxon_p(floats) == exact


def test_five_pairs_never_pass_and_ten_do_in_25_tests() -> None:
    assert wilcoxon_p(np.arange(1.0, 6.0)) == least_p(5) == 0.0625
    assert wilcoxon_p(np.arange(1.0, 11.0)) == least_p(10)
    assert too_few(10, 25) is None
    said = too_few(10, 26)
    assert said is not None
    assert "11 seeds could" in said
    assert too_few(5, 1) is not None
    assert too_few(6, 1) is None
    assert too_few(5, 0) is None


def test_what_cannot_be_tested_is_refused() -> None:
    assert wilcoxon_p([0.0, 0.0]) == 1.0
    with pytest.raises(InputError, match="finite"):
        wilcoxon_p([1.0, float("nan")])
    with pytest.raises(InputError, match="at least one"):
        bootstrap_mean([])


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    """400 samples of 20 from a skewed distribution with mean 1."""
    generator = np.random.default_rng(7)
    samples = generator.gamma(2.0, 0.5, (400, 20))
    found = [bootstrap_mean(sample, draws=1000) for sample in samples]
    covered = np.mean(
        [f.low is not None and f.high is not None and f.low <= 1 <= f.high for f in found]
    )
    assert 0.87 <= covered <= 0.98


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_the_interval_lies_among_the_differences(values: list[float]) -> None:
    found = bootstrap_mean(values, draws=200)
    assert found.low is not None
    assert found.high is not None
    assert min(values) - 1e-12 <= found.low <= found.high <= max(values) + 1e-12
    assert found == bootstrap_mean(values, draws=200)


def test_one_pair_has_no_interval_and_equal_ones_have_a_point() -> None:
    assert bootstrap_mean([0.5]).low is None
    equal = bootstrap_mean([0.25] * 4)
    assert (equal.low, equal.high) == (0.25, 0.25)
    nearly = np.array([111 / 360, 230 / 360, 17 / 360]) - np.array([110, 229, 16]) / 360
    assert np.ptp(nearly) > 0
    found = bootstrap_mean(nearly)
    assert found.low == found.high == pytest.approx(1 / 360)
