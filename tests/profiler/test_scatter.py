"""The noise model of an operation: recovery, what cells lend each other, coverage by simulation."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from profiler.scatter import Scatter, digamma, fit_scatter, looks_larger, trigamma
from profiler.statistics import t_quantile

V0, P2 = 1e-6, 4e-8


@given(st.floats(1e-4, 1e8))
def test_digamma_and_trigamma_are_scipys(x):
    found = float(digamma(np.array([x]))[0]), float(trigamma(np.array([x]))[0])
    assert found[0] == pytest.approx(special.digamma(x), rel=1e-9, abs=1e-9)
    assert found[1] == pytest.approx(special.polygamma(1, x), rel=1e-9)


def _cells(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Calls a block and seconds a call: windows of 1 ms to 10 s around calls of 1 us to 1 s."""
    call_s = 10.0 ** generator.uniform(-6, 0, count)
    window_s = np.maximum(10.0 ** generator.uniform(-3, 1, count), call_s)
    return np.maximum(np.round(window_s / call_s), 1), call_s


def _own_variance(generator: np.random.Generator, true: np.ndarray, degrees: int) -> np.ndarray:
    return true * generator.chisquare(degrees, true.size) / degrees


@pytest.mark.parametrize(("v0", "p2"), [(V0, P2), (V0, 0.0), (0.0, P2)])
def test_both_parts_of_the_noise_are_found(v0, p2):
    generator = np.random.default_rng(3)
    n, t = _cells(generator, 400)
    true = v0 / n**2 + p2 * t**2
    found = fit_scatter(_own_variance(generator, true, 5), np.full(400, 5), n, t)
    # 2000 degrees of freedom know a variance to 3 %, shared by two parts to some more
    assert found.counter_j2 == pytest.approx(v0, rel=0.2, abs=0.002 * V0)
    assert found.power_w2 == pytest.approx(p2, rel=0.2, abs=0.002 * P2)
    assert found.degrees == 2000
    np.testing.assert_allclose(found.variance(n, t), true, rtol=0.2)


def test_windows_of_one_length_need_not_tell_the_parts_apart():
    generator = np.random.default_rng(4)
    n = np.round(10.0 ** generator.uniform(0, 5, 60))
    t = 0.02 / n
    true = (V0 + P2 * 0.02**2) / n**2
    found = fit_scatter(_own_variance(generator, true, 5), np.full(60, 5), n, t)
    np.testing.assert_allclose(found.variance(n, t), true, rtol=0.25)


def test_cells_that_scatter_alike_share_all_their_degrees():
    generator = np.random.default_rng(5)
    shared, runs = 0, 200
    for _ in range(runs):
        n, t = _cells(generator, 12)
        true = V0 / n**2 + P2 * t**2
        found = fit_scatter(_own_variance(generator, true, 5), np.full(12, 5), n, t)
        shared += found.prior_degrees == inf
        if found.prior_degrees == inf:
            variance, degrees = found.moderate(true, np.full(12, 5), found.variance(n, t))
            np.testing.assert_array_equal(degrees, 60)
            np.testing.assert_allclose(variance, found.prior_ratio * found.variance(n, t))
    assert shared > 0.9 * runs  # meant to be 95 in 100; 190 +- 3 of 200


@pytest.mark.parametrize("d0", [3.0, 7.0])
def test_cells_that_scatter_unlike_stand_alone_as_far_as_they_do(d0):
    """Variances around the model by s0^2 d0 / chi^2(d0), as the prior has them."""
    generator = np.random.default_rng(6)
    found = []
    for _ in range(20):
        n, t = _cells(generator, 300)
        true = V0 / n**2 * d0 / generator.chisquare(d0, 300)
        found.append(fit_scatter(_own_variance(generator, true, 5), np.full(300, 5), n, t))
    assert all(scatter.prior_degrees < inf for scatter in found)
    assert np.median([s.prior_degrees for s in found]) == pytest.approx(d0, rel=0.3)
    # the prior's scale times the model's level is the centre that the variances came from
    level = [s.prior_ratio * s.counter_j2 for s in found]
    assert np.median(level) == pytest.approx(V0, rel=0.15)


def test_a_moderated_variance_is_the_prior_and_the_cells_own_by_their_degrees():
    scatter = Scatter(V0, P2, 100.0, 6.0, 0.5)
    variance, degrees = scatter.moderate([3.0, 1.0], [2.0, 200.0], [2.0, 2.0])
    np.testing.assert_allclose(variance, [12 / 8, (6 + 200) / 206])
    np.testing.assert_allclose(degrees, [8.0, 100.0])  # never more than there are in all
    np.testing.assert_allclose(scatter.variance(10.0, 2.0), V0 / 100 + P2 * 4)


@pytest.mark.parametrize(
    ("d0", "ratio", "lent"), [(6.0, 0.5, 2.0), (6.0, 3.0, 6.0), (0.1, 1e-9, 2.0), (inf, 0.9, 1.8)]
)
def test_a_cell_that_knows_nothing_of_itself_is_not_thought_precise(d0, ratio, lent):
    """Unlike cells put the prior's centre far below their mean: no reason to trust a new one."""
    scatter = Scatter(V0, P2, 100.0, d0, ratio)
    variance, degrees = scatter.moderate(0.0, 0.0, 2.0)
    assert variance == pytest.approx(lent)
    assert degrees == min(max(d0, 1.0), 100.0)


@pytest.mark.parametrize("degrees", [1, 5])
def test_a_cell_alone_keeps_its_own_variance(degrees):
    found = fit_scatter([3e-12], [degrees], [1000], [2e-5])
    model = found.variance(1000, 2e-5)
    variance, moderated = found.moderate([3e-12], [degrees], [model])
    assert variance[0] == pytest.approx(3e-12)
    assert moderated[0] == degrees


def _covered(cells: int, degrees: int, draws: int) -> float:
    """How often the moderated 95 % interval of a cell's mean holds the truth."""
    generator = np.random.default_rng([cells, degrees])
    blocks, held, seen = degrees + 1, 0, 0
    while seen < draws:
        n, t = _cells(generator, cells)
        true = V0 / n**2 + P2 * t**2
        costs = generator.normal(0.0, np.sqrt(true), (blocks, cells))
        own = costs.var(axis=0, ddof=1)
        found = fit_scatter(own, np.full(cells, degrees), n, t)
        variance, nu = found.moderate(own, np.full(cells, degrees), found.variance(n, t))
        quantile = np.array([t_quantile(0.975, each) for each in nu])
        held += int((np.abs(costs.mean(axis=0)) <= quantile * np.sqrt(variance / blocks)).sum())
        seen += cells
    return held / seen


@pytest.mark.parametrize(
    ("cells", "degrees"), [(2, 5), (3, 5), (12, 1), (12, 3), (12, 5), (180, 1), (180, 3), (180, 5)]
)
def test_moderated_intervals_cover_the_truth(cells, degrees):
    # 4000 draws: one standard error is 0.35 %, more where the cells of a draw share their fit
    assert 0.935 <= _covered(cells, degrees, 4000) <= 0.965


def test_moderated_intervals_are_narrower_where_a_cell_knows_little_of_itself():
    generator = np.random.default_rng(8)
    n, t = _cells(generator, 40)
    true = V0 / n**2 + P2 * t**2
    own = _own_variance(generator, true, 1)
    found = fit_scatter(own, np.ones(40), n, t)
    variance, nu = found.moderate(own, np.ones(40), found.variance(n, t))
    half = np.array([t_quantile(0.975, each) for each in nu]) * np.sqrt(variance)
    assert np.median(half) < 0.5 * t_quantile(0.975, 1) * np.median(np.sqrt(own))


def test_cells_that_showed_no_scatter_at_all_still_have_a_variance():
    found = fit_scatter(np.zeros(5), np.full(5, 3), np.full(5, 100), np.full(5, 1e-4))
    model = found.variance(np.full(5, 100), np.full(5, 1e-4))
    assert (model > 0).all()
    mixed = fit_scatter([0.0, 1e-10, 0.0, 2e-10], np.full(4, 3), np.full(4, 100), np.full(4, 1e-4))
    assert mixed.counter_j2 + mixed.power_w2 > 0
    variance, degrees = mixed.moderate(
        [0.0, 1e-10, 0.0, 2e-10], np.full(4, 3), mixed.variance(np.full(4, 100), 1e-4)
    )
    assert (variance > 0).all() and (degrees >= 3).all()


scales = st.just(0.0) | st.floats(-30, 6).map(lambda exponent: 10.0**exponent)
rows = st.tuples(
    scales, st.integers(1, 500), st.integers(1, 10**7), st.floats(-8, 2).map(lambda e: 10.0**e)
)


@given(st.lists(rows, min_size=1, max_size=20))
def test_no_variance_is_ever_negative_or_nan(cells):
    s2, d, n, t = (np.array(column, dtype=float) for column in zip(*cells, strict=True))
    found = fit_scatter(s2, d, n, t)
    assert 0 <= found.counter_j2 < inf and 0 <= found.power_w2 < inf
    assert found.prior_degrees > 0 and 0 < found.prior_ratio < inf
    model = found.variance(n, t)
    assert (model > 0).all() and np.isfinite(model).all()
    variance, degrees = found.moderate(s2, d, model)
    assert (variance >= 0).all() and np.isfinite(variance).all()
    assert (degrees > 0).all() and (degrees <= d.sum() + 1e-9).all()
    lent, _ = found.moderate(np.zeros_like(s2), np.zeros_like(d), model)
    assert np.isfinite(lent).all() and (lent > 0).all()


def test_a_ratio_of_variances_is_called_larger_as_often_as_chance_allows():
    from scipy.special import fdtri

    for degrees in (3, 6, 20, 100):
        for others in (15, 60, 1000):
            limit = float(fdtri(degrees, others, 0.95))
            assert looks_larger(1.03 * limit, degrees, others)
            assert not looks_larger(0.97 * limit, degrees, others)
    assert not looks_larger(0.0, 3, 15)
