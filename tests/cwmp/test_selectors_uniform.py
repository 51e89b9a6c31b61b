"""The control: where every entry costs the same, cost-weighted selection is Top-K, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.selection import Selection
from cwmp.selectors import CostWeighted, TopK
from cwmp.selectors.costs import SelectionCosts

SIZES = {"a": 37, "b": 400, "c": 1, "d": 162}
TOTAL = sum(SIZES.values())

DISTRIBUTIONS = {
    "laplace": lambda numbers, n: numbers.laplace(size=n),
    "normal": lambda numbers, n: numbers.normal(size=n),
    "heavy tails": lambda numbers, n: np.clip(numbers.standard_cauchy(size=n), -6e4, 6e4),
    "ties": lambda numbers, n: numbers.integers(-3, 4, size=n).astype(float),
    "all equal": lambda numbers, n: np.full(n, -0.5),
    "mostly zeros": lambda numbers, n: numbers.normal(size=n) * (numbers.random(n) < 0.1),
    "signed zeros": lambda numbers, n: numbers.choice([0.0, -0.0, 1.0], size=n),
    "denormals": lambda numbers, n: numbers.integers(-9, 10, size=n) * 6e-8,
    "float32 denormals": lambda numbers, n: numbers.integers(-9, 10, size=n) * 1.4e-45,
    "float64 denormals": lambda numbers, n: numbers.integers(-9, 10, size=n) * 5e-324,
    "one ulp apart": lambda numbers, n: 1 + numbers.integers(0, 50, size=n) * 1.2e-7,
    "all decades": lambda numbers, n: 10.0 ** numbers.uniform(-7, 4, size=n),
    "one spike": lambda numbers, n: np.where(np.arange(n) == 3, 9.0, 1e-6),
}
COSTS_J = (1.0, 0.1, 3e-9, 7.7e-13)


def _update(distribution: str, dtype: str, seed: int) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(seed)
    draw = DISTRIBUTIONS[distribution](numbers, TOTAL).astype(dtype)
    cuts = np.cumsum(list(SIZES.values()))[:-1]
    return dict(zip(SIZES, np.split(draw, cuts), strict=True))


def _costs(cost_j: float, message_j: float = 0.0) -> SelectionCosts:
    shapes = {name: (size,) for name, size in SIZES.items()}
    return SelectionCosts.linear(shapes, dict.fromkeys(SIZES, cost_j), message_j=message_j)


def _positions(selection: Selection) -> list[tuple[str, int]]:
    return [(layer.name, int(i)) for layer in selection.layers for i in layer.indices]


def _largest(update: dict[str, np.ndarray], k: int) -> list[tuple[str, int]]:
    """The k largest magnitudes that are not zero, ties by index: what Top-K is."""
    every = [
        (-abs(float(value)), order, name, index)
        for order, (name, array) in enumerate(update.items())
        for index, value in enumerate(array)
        if value != 0
    ]
    kept = sorted(every, key=lambda entry: (entry[0], entry[1], entry[3]))[:k]
    kept.sort(key=lambda entry: (entry[1], entry[3]))
    return [(name, index) for _, _, name, index in kept]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_uniform_costs_keep_exactly_the_k_largest(distribution: str, dtype: str) -> None:
    for seed, k in enumerate((1, 2, 59, 300, 599, TOTAL)):
        update = _update(distribution, dtype, seed)
        for cost_j in COSTS_J:
            costs = _costs(cost_j)
            budget_j = min((k + 0.5) * cost_j, costs.dense_j)
            expected = _largest(update, k)
            assert _positions(TopK(costs).select(update, budget_j)) == expected
            for exponents in ((2, 1), (1, 1), (1, 0), (0.5, 3)):
                weighted = CostWeighted(costs, *exponents).select(update, budget_j)
                assert _positions(weighted) == expected, (exponents, cost_j, k)


@given(st.floats(1e-15, 1e3), st.floats(0.001, 1), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_uniform_costs_agree_at_any_cost_and_budget(cost_j, fraction, seed) -> None:
    costs = _costs(cost_j, message_j=cost_j)
    update = _update("one ulp apart", "float32", seed)
    budget_j = max(fraction * costs.dense_j, costs.cheapest_j)
    one, two = (rule(costs).select(update, budget_j) for rule in (TopK, CostWeighted))
    assert _positions(one) == _positions(two)
    assert one.energy_j == two.energy_j


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_exponents_1_0_are_top_k_at_any_costs(distribution: str) -> None:
    shapes = {name: (size,) for name, size in SIZES.items()}
    costs = SelectionCosts.linear(
        shapes, {"a": 1e-9, "b": 3e-9, "c": 5e-7, "d": 2e-8}, {"a": 1e-8, "d": 3e-7}
    )
    update = _update(distribution, "float32", 11)
    for fraction in (0.15, 0.4, 0.9):
        budget_j = fraction * costs.dense_j
        one = TopK(costs).select(update, budget_j)
        two = CostWeighted(costs, p=1, q=0).select(update, budget_j)
        assert _positions(one) == _positions(two)


def test_squares_in_float32_would_have_tied_what_magnitudes_tell_apart() -> None:
    """Why |g| is compared, and not g^2 / c."""
    cost_j = 3.61 / 16.01
    neighbours = np.float32(1.9).view(np.int32) + np.arange(TOTAL, dtype=np.int32)
    every = np.random.default_rng(0).permutation(neighbours.view("f4"))
    assert np.unique(every * every / np.float32(cost_j)).size < np.unique(every).size == TOTAL
    update = dict(zip(SIZES, np.split(every, np.cumsum(list(SIZES.values()))[:-1]), strict=True))
    for k in range(1, TOTAL, 7):
        kept = CostWeighted(_costs(cost_j)).select(update, (k + 0.5) * cost_j)
        assert _positions(kept) == _largest(update, k)


def test_a_budget_beyond_all_entries_keeps_those_that_no_sum_can_tell_from_nothing() -> None:
    """With fixed costs and bytes too: 1 + 1e-20 is 1 in float64, and yet the entry is Top-K's."""
    from stand_ins.cost_files import cost_file

    from profiler.layers import LayerInfo

    layers = [LayerInfo(name, "linear.weight", (n,), "float32") for name, n in SIZES.items()]
    costs = SelectionCosts.from_cost_file(
        cost_file(layers, entry_j=lambda number: 1e-8, dense_share=9.0)
    )
    numbers = np.random.default_rng(0)
    update = {
        name: np.where(numbers.random(n) < 0.1, 0, 10.0 ** numbers.uniform(-12, 0, n)).astype("f4")
        for name, n in SIZES.items()
    }
    counts = [np.count_nonzero(array) for array in update.values()]
    budget_j = 1.001 * costs.energy_j(counts)
    spent = CostWeighted(costs).select(update, budget_j)
    assert _positions(spent) == _positions(TopK(costs).select(update, budget_j))
    assert spent.entries == sum(counts)
