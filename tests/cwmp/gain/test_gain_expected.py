"""Expected captures against the table of the methods, Monte Carlo and the real selectors."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from cwmp.gain.curves import ExpectedCurves
from cwmp.gain.expected import capture, score_capture
from cwmp.gain.tails import Gaussian, Laplace
from cwmp.selectors import CostWeighted, TopK
from cwmp.selectors.costs import LayerPrice, SelectionCosts


def _halves(ratio: float, n: int = 10**6) -> SelectionCosts:
    return SelectionCosts.linear({"a": (n,), "b": (n,)}, {"a": 1.0, "b": ratio})


TABLE = [(1.2, 0.424, 0.424, 0.426), (3, 0.424, 0.436, 0.472), (10, 0.423, 0.511, 0.582)]
"""Captured at 5 % of 2 M Laplace entries, half at cost r: Top-K, |g| / c, g^2 / c, one draw."""


@pytest.mark.parametrize("row", TABLE)
def test_the_published_table_of_one_draw(row: tuple[float, ...]) -> None:
    costs = _halves(row[0])
    for (p, q), drawn in zip([(1, 0), (1, 1), (2, 1)], row[1:], strict=True):
        found = score_capture(costs, Laplace(), 0.05 * costs.dense_j, p, q)
        assert found == pytest.approx(drawn, abs=0.0015)  # rounding, and the draw's own error


@pytest.mark.parametrize("tail", [Laplace(), Gaussian()])
def test_two_million_entries_sorted(tail: Laplace | Gaussian) -> None:
    generator = np.random.default_rng(0)
    size = 2_000_000
    draw = generator.laplace if isinstance(tail, Laplace) else generator.normal
    squares = draw(size=size) ** 2
    entry_j = np.repeat([1.0, 4.0], size // 2)
    costs = _halves(4.0)
    for p, q in [(1, 0), (1, 1), (2, 1)]:
        order = np.argsort(-(squares ** (p / 2)) / entry_j**q)
        spent_j = np.cumsum(entry_j[order])
        for share in (0.01, 0.2):
            budget_j = share * costs.dense_j
            fits = np.searchsorted(spent_j, budget_j, side="right")
            sorted_out = squares[order[:fits]].sum() / squares.sum()
            found = score_capture(costs, tail, budget_j, p, q)
            assert found == pytest.approx(sorted_out, rel=0.006)


def _captured(costs: SelectionCosts, share: float, tail=Laplace()) -> float:  # noqa: B008
    return capture(ExpectedCurves.of(costs, tail), share * costs.dense_j).gain


def test_equal_costs_gain_exactly_nothing_and_so_does_a_budget_for_everything() -> None:
    for tail in (Laplace(), Gaussian()):
        for share in (0.001, 0.05, 0.7, 1.0):
            assert _captured(_halves(1.0), share, tail) == 1
        assert _captured(_halves(10.0), 1.0, tail) == 1


def test_the_gain_grows_with_the_spread_and_falls_with_the_budget() -> None:
    grid = [[_captured(_halves(r), s) for s in (0.01, 0.05, 0.2, 0.6)] for r in (1.5, 3, 10, 50)]
    assert (np.diff(grid, axis=0) > 0).all()
    assert (np.diff(grid, axis=1) < 0).all()


@given(st.integers(1, 300), st.floats(1e-4, 0.999), st.floats(0, 500))
@settings(max_examples=80, deadline=None)
def test_expected_joules_of_a_line_are_exact(n: int, share: float, fixed: float) -> None:
    """Against the sum over the binomial distribution of the kept entries."""
    costs = SelectionCosts.linear({"a": (n,)}, {"a": 2.0}, {"a": fixed})
    curves = ExpectedCurves.of(costs, Laplace())
    spent_j, opened = curves.spend(Laplace().quantile(np.array([share])), np.zeros(1))
    k = np.arange(n + 1)
    exact = float(binom.pmf(k, n, share) @ costs.tables[0])
    assert opened[0] == pytest.approx(1 - (1 - share) ** n, rel=1e-9)
    assert spent_j[0] == pytest.approx(exact, rel=1e-6)


def test_a_layer_that_is_as_cheap_whole_is_kept_whole() -> None:
    layer = LayerPrice("a", (1000,), (1,), (5.0,), (1.0,), dense_j=100.0)
    curves = ExpectedCurves.of(SelectionCosts((layer,)), Laplace())
    few, many = (Laplace().quantile(np.array([share])) for share in (0.05, 0.3))
    assert curves.captured(few, np.zeros(1))[0] < 0.5 * 2000
    assert curves.captured(many, np.zeros(1))[0] == pytest.approx(2000)
    assert curves.spend(many, np.zeros(1))[0][0] == pytest.approx(100)


def _uneven(seed: int) -> SelectionCosts:
    """Thirty layers of 10 to 30,000 entries, c spread by a factor e^0.8, fixed costs of 500 c."""
    numbers = np.random.default_rng(seed)
    shapes = {f"layer{i}": (int(10 ** numbers.uniform(1, 4.5)),) for i in range(30)}
    return SelectionCosts.linear(
        shapes,
        {name: float(np.exp(numbers.normal(0, 0.8))) for name in shapes},
        {name: float(500 * np.exp(numbers.normal(0, 0.3))) for name in shapes},
        message_j=1000.0,
    )


@pytest.mark.parametrize("tail", [Laplace(), Gaussian()])
@pytest.mark.parametrize(("share", "rough"), [(0.02, 0.0), (0.1, 0.06), (0.2, 0.03), (0.5, 0.01)])
def test_fixed_costs_against_the_selectors(tail, share: float, rough: float) -> None:
    """CWMP within 2 %; Top-K as far as it is not at the mercy of the layers it happens to open."""
    costs = _uneven(5)
    budget_j = share * costs.dense_j
    generator = np.random.default_rng(1)
    draw = generator.laplace if isinstance(tail, Laplace) else generator.normal
    drawn = []
    for _ in range(2):
        update = {layer.name: draw(size=layer.shape) for layer in costs.layers}
        weighted = CostWeighted(costs).select(update, budget_j)
        assert weighted.bound is not None
        top = TopK(costs).select(update, budget_j)
        drawn.append(
            [x / weighted.total for x in (weighted.captured, top.captured, weighted.bound)]
        )
    found = capture(ExpectedCurves.of(costs, tail), budget_j)
    by_weight, by_size, bound = np.mean(drawn, axis=0)
    assert found.weighted / found.total == pytest.approx(by_weight, rel=0.02)
    assert found.bound / found.total == pytest.approx(bound, rel=0.02)
    assert found.top / found.total == pytest.approx(by_size, rel=rough, abs=0.005)
    assert found.weighted <= found.bound <= found.total * (1 + 1e-9)


@given(st.integers(0, 2**32), st.floats(0.001, 1))
@settings(max_examples=25, deadline=None)
def test_it_never_captures_more_than_the_bound_nor_less_than_top_k(seed: int, share: float) -> None:
    costs = _uneven(seed)
    budget_j = costs.cheapest_j + share * (costs.dense_j - costs.cheapest_j)
    found = capture(ExpectedCurves.of(costs, Laplace()), budget_j)
    assert found.top <= found.weighted <= found.bound
    assert found.gain >= 1
    sizes = [prod(layer.shape) for layer in costs.layers]
    assert (found.top_kept <= np.array(sizes)).all()
