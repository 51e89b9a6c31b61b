from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.bounds import captured_bound, cost_spread, fractional_knapsack_bound
from cwmp.kernels.dual import Curve, minimise_dual
from cwmp.selectors import CostWeighted
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from profiler.errors import InputError


def _linear(numbers: np.random.Generator, layers: int) -> SelectionCosts:
    names = [f"layer{number}" for number in range(layers)]
    return SelectionCosts.linear(
        {name: (int(numbers.integers(1, 40)),) for name in names},
        {name: float(np.exp(numbers.normal(0, 1.5))) for name in names},
    )


def _laplace(costs: SelectionCosts, numbers: np.random.Generator) -> dict[str, np.ndarray]:
    return {layer.name: numbers.laplace(size=layer.shape) for layer in costs.layers}


@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_with_linear_costs_it_is_the_fractional_knapsack(seed, layers, share) -> None:
    numbers = np.random.default_rng(seed)
    costs = _linear(numbers, layers)
    update = _laplace(costs, numbers)
    budget_j = min(
        costs.cheapest_j * (1 + 1e-9) + share * (costs.dense_j - costs.cheapest_j), costs.dense_j
    )
    bound, price = captured_bound(update, costs, budget_j)
    squares = np.concatenate([array**2 for array in update.values()])
    entry_j = np.concatenate([np.full(x.parameters, x.slope_j[0]) for x in costs.layers])
    exact, exact_price = fractional_knapsack_bound(squares, entry_j, budget_j)
    assert bound == pytest.approx(exact, rel=1e-9)
    if 0.01 < share < 0.9:
        assert price == pytest.approx(exact_price, rel=1e-9)


def test_fractional_knapsack_by_hand() -> None:
    # densities 1, 4, 3: all of the second, two thirds of the third
    assert fractional_knapsack_bound([1, 4, 9], [1, 1, 3], 3) == (4 + 6, 3)
    assert fractional_knapsack_bound([1, 4, 9], [1, 1, 3], 5) == (14, 0)
    assert fractional_knapsack_bound([1, 4, 9], [1, 1, 3], 1) == (4, 1)  # the dear one is dropped


@pytest.mark.parametrize(
    ("squares", "entry_j", "budget_j"),
    [([1], [0], 1), ([1], [np.nan], 1), ([np.nan], [1], 1), ([1], [1], np.nan), ([1, 2], [1], 1)],
)
def test_a_knapsack_that_is_none_is_refused(squares, entry_j, budget_j) -> None:
    with pytest.raises(InputError):
        fractional_knapsack_bound(squares, entry_j, budget_j)


def _curve(gain: list[float], energy_j: list[float]) -> Curve:
    return Curve(np.arange(len(gain) - 1), np.array(gain), np.array(energy_j))


@given(st.integers(0, 2**32), st.floats(0.01, 1), st.floats(1e-6, 1e6))
@settings(max_examples=200, deadline=None)
def test_the_dual_is_least_at_the_price_found_and_above_every_count_that_fits(
    seed, share, price
) -> None:
    numbers = np.random.default_rng(seed)
    curves = [
        _curve(
            [0, *np.cumsum(np.sort(numbers.exponential(size=4))[::-1])],
            [0, *(numbers.exponential() + np.cumsum(numbers.exponential(size=4)))],
        )
        for _ in range(3)
    ]
    budget_j = share * sum(curve.energy_j[-1] for curve in curves)
    point = minimise_dual(curves, 0.0, budget_j)
    anywhere = price * budget_j + sum((c.gain - price * c.energy_j).max() for c in curves)
    assert point.bound <= anywhere * (1 + 1e-9)
    assert sum(c.energy_j[k] for c, k in zip(curves, point.counts, strict=True)) <= budget_j
    grids = np.meshgrid(*[np.arange(5)] * 3)
    spent = sum(c.energy_j[k] for c, k in zip(curves, grids, strict=True))
    gained = sum(c.gain[k] for c, k in zip(curves, grids, strict=True))
    assert point.bound >= gained[spent <= budget_j].max()


def test_the_messages_own_joules_are_not_there_to_spend() -> None:
    shapes, marginal = {"a": (50,), "b": (50,)}, {"a": 1.0, "b": 3.0}
    update = {name: np.random.default_rng(2).laplace(size=50) for name in shapes}
    plain = SelectionCosts.linear(shapes, marginal)
    charged = SelectionCosts.linear(shapes, marginal, message_j=7.0)
    assert captured_bound(update, charged, 27.0) == captured_bound(update, plain, 20.0)


def test_a_fixed_cost_lowers_what_the_bound_allows() -> None:
    shapes, marginal = {"a": (50,), "b": (50,)}, {"a": 1.0, "b": 1.0}
    numbers = np.random.default_rng(2)
    update = {"a": numbers.laplace(size=50), "b": numbers.laplace(size=50)}
    free = SelectionCosts.linear(shapes, marginal)
    charged = SelectionCosts.linear(shapes, marginal, {"a": 5.0, "b": 5.0})
    assert captured_bound(update, charged, 20.0)[0] < 0.95 * captured_bound(update, free, 20.0)[0]


def test_the_bound_at_the_dense_cost_is_everything() -> None:
    costs = _linear(np.random.default_rng(0), 4)
    update = _laplace(costs, np.random.default_rng(1))
    bound, price = captured_bound(update, costs, costs.dense_j)
    assert bound == pytest.approx(sum((array**2).sum() for array in update.values()), rel=1e-12)
    assert price == 0


def test_squares_that_underflow_are_a_bound_of_zero() -> None:
    costs = SelectionCosts.linear({"a": (3,)}, {"a": 1.0})
    selection = CostWeighted(costs).select({"a": np.full(3, 5e-324)}, 1.5)
    assert selection.entries == 1
    assert (selection.captured, selection.bound, selection.certificate) == (0, 0, 1)


def test_cost_spread_by_hand() -> None:
    costs = SelectionCosts(
        (
            LayerPrice("a", (10,), (1,), (20.0,), (2.0,)),
            LayerPrice("b", (30,), (1,), (0.0,), (6.0,)),
        )
    )
    spread = cost_spread(costs)
    assert (spread.lowest_j, spread.median_j, spread.highest_j) == (2, 4, 6)
    assert spread.ratio == 3
    assert spread.weighted_variation == pytest.approx(np.sqrt(0.25 * 9 + 0.75 * 1) / 5)
    assert spread.fixed_entries == 5  # opening a layer: 10 entries of a, none of b
