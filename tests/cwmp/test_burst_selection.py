"""Costs by memory burst: against every subset, against MILP, and against the slow reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

import cwmp.selectors.bursts as module
from cwmp.selectors.burst_costs import BurstCosts, BurstPrice, linear_bursts
from cwmp.selectors.burst_reference import at_price, minimise_burst_dual
from cwmp.selectors.bursts import BurstWeighted
from profiler.errors import BudgetError, InputError, LayerMismatchError, UpdateError

joules = st.floats(0.01, 10)
entries = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-40]), st.floats(-9, 9, width=16))


@st.composite
def problems(draw: st.DrawFn, *, most: int, layers: int):
    prices = tuple(
        BurstPrice(
            f"layer{number}",
            (draw(st.integers(1, most)),),
            opening_j=draw(st.just(0.0) | joules),
            burst_j=draw(st.just(0.0) | joules),
            entry_j=draw(joules),
            burst_entries=draw(st.integers(1, 5)),
        )
        for number in range(draw(st.integers(1, layers)))
    )
    costs = BurstCosts(prices, draw(st.just(0.0) | joules))
    dtype = draw(st.sampled_from([np.float32, np.float64, np.float16]))
    update = {
        layer.name: np.array(
            draw(st.lists(entries, min_size=layer.parameters, max_size=layer.parameters)),
            dtype=dtype,
        )
        for layer in prices
    }
    share = draw(st.floats(0, 1))
    budget_j = costs.cheapest_j + share * (costs.dense_j - costs.cheapest_j)
    return costs, update, min(budget_j, costs.dense_j)


def _spent(costs: BurstCosts, kept: dict[str, np.ndarray]) -> float:
    bursts = [
        np.unique(kept.get(layer.name, np.empty(0)) // layer.burst_entries).size
        for layer in costs.layers
    ]
    return costs.energy_j(
        bursts, [kept[x.name].size if x.name in kept else 0 for x in costs.layers]
    )


def _every_subset(update, costs: BurstCosts, budget_j: float) -> float:
    """The most that any of the 2^n subsets within the budget captures."""
    squares = np.concatenate([update[x.name].astype(np.float64) ** 2 for x in costs.layers])
    kept = np.array(list(product([False, True], repeat=squares.size)))
    spent = np.full(len(kept), costs.message_j)
    start = 0
    for layer in costs.layers:
        part = kept[:, start : start + layer.parameters]
        starts = np.arange(0, layer.parameters, layer.burst_entries)
        touched = np.logical_or.reduceat(part, starts, axis=1).sum(axis=1)
        cost = layer.opening_j + layer.burst_j * touched + layer.entry_j * part.sum(axis=1)
        spent += np.where(part.any(axis=1), cost, 0.0)
        start += layer.parameters
    spent[~kept.any(axis=1)] = 0.0
    return float((kept @ squares)[spent <= budget_j].max())


@given(problems(most=5, layers=2))
@settings(max_examples=200, deadline=None)
def test_sound_within_budget_and_bounded_on_every_subset(problem) -> None:
    costs, update, budget_j = problem
    best = _every_subset(update, costs, budget_j)
    try:
        selection = BurstWeighted(costs).select(update, budget_j)
    except BudgetError:
        assert best == 0
        return
    kept = {layer.name: layer.indices for layer in selection.layers}
    for layer in selection.layers:
        assert (np.diff(layer.indices) > 0).all()
        assert (layer.values == update[layer.name][layer.indices]).all()
        assert layer.values.dtype == update[layer.name].dtype
        assert (layer.values != 0).all()
    assert selection.energy_j == _spent(costs, kept) <= budget_j == selection.budget_j
    squares = sum(float((x.values.astype(np.float64) ** 2).sum()) for x in selection.layers)
    assert selection.captured == pytest.approx(squares, rel=1e-12)
    assert selection.captured <= best * (1 + 1e-12)
    assert selection.bound >= best * (1 - 1e-12)


@given(problems(most=60, layers=3), st.floats(0, 20))
@settings(max_examples=40, deadline=None)
def test_never_less_than_the_reference_and_the_bound_is_the_duals(problem, price: float) -> None:
    costs, update, budget_j = problem
    assume(any(array.any() for array in update.values()))
    dual, reference = minimise_burst_dual(update, costs, budget_j)
    assert reference.energy_j <= budget_j
    try:
        selection = BurstWeighted(costs).select(update, budget_j)
    except BudgetError:
        assert reference.captured == 0
        return
    assert selection.energy_j <= budget_j
    assert reference.captured * (1 - 1e-12) <= selection.captured <= dual * (1 + 1e-9)
    assert selection.bound <= dual * (1 + 1e-9)
    anywhere = price * (budget_j - costs.message_j) + at_price(update, costs, price).worth
    assert selection.bound <= anywhere * (1 + 1e-9)
    spendable_j = budget_j - costs.message_j
    whole = [layer.energy_j(layer.bursts, layer.parameters) for layer in costs.layers]
    if max(whole) <= spendable_j:  # nothing was cut off
        assert selection.bound == pytest.approx(dual, rel=1e-6)


def _optimum(update, costs: BurstCosts, budget_j: float) -> float:
    """max sum g^2 x  s.t.  joules <= B,  x_i <= y_burst(i) <= z_layer; all binary."""
    names = [layer.name for layer in costs.layers]
    squares = np.concatenate([update[name].astype(float) ** 2 for name in names])
    n, burst_of, layer_of_burst, entry_j = squares.size, [], [], []
    for number, layer in enumerate(costs.layers):
        first = len(layer_of_burst)
        burst_of += [first + i // layer.burst_entries for i in range(layer.parameters)]
        layer_of_burst += [number] * layer.bursts
        entry_j += [layer.entry_j] * layer.parameters
    bursts, layers = len(layer_of_burst), len(names)
    burst_j = [costs.layers[number].burst_j for number in layer_of_burst]
    cost = np.concatenate((entry_j, burst_j, [layer.opening_j for layer in costs.layers]))
    rows = np.zeros((n + bursts, n + bursts + layers))
    rows[np.arange(n + bursts), np.arange(n + bursts)] = 1
    rows[np.arange(n), n + np.array(burst_of)] = -1
    rows[n + np.arange(bursts), n + bursts + np.array(layer_of_burst)] = -1
    found = milp(
        np.concatenate((-squares / squares.max(), np.zeros(bursts + layers))),
        constraints=[
            LinearConstraint(cost[None] / (budget_j - costs.message_j), ub=1.0),
            LinearConstraint(rows, ub=0.0),
        ],
        integrality=np.ones(n + bursts + layers),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 1e-6, "time_limit": 10},
    )
    assert found.status == 0, found.message
    return float(squares[found.x[:n] > 0.5].sum())


def test_close_to_the_optimum_of_milp() -> None:
    """30 cases: 60 to 120 Laplace entries in 3 layers, bursts of 8, all costs log-normal."""
    numbers = np.random.default_rng(1)
    short, gap = [], []
    for _ in range(30):
        shapes = {name: (int(numbers.integers(20, 41)),) for name in "abc"}
        entry, burst, opening = (
            {name: float(scale * np.exp(numbers.normal(0, 0.7))) for name in shapes}
            for scale in (1.0, 4.0, 10.0)
        )
        costs = linear_bursts(shapes, entry, burst, opening, burst_entries=8, message_j=1.0)
        update = {name: numbers.laplace(size=shape) for name, shape in shapes.items()}
        budget_j = max(numbers.uniform(0.1, 0.6) * costs.dense_j, costs.cheapest_j)
        selection = BurstWeighted(costs).select(update, budget_j)
        best = _optimum(update, costs, budget_j)
        assert selection.captured <= best * (1 + 1e-5)
        assert selection.bound >= best * (1 - 1e-5)
        short.append(max(0.0, 1 - selection.captured / best))
        gap.append(1 - selection.certificate)
    report = f"short {np.quantile(short, [0.5, 0.9, 1])}, gap {np.quantile(gap, [0.5, 0.9, 1])}"

    assert np.median(short) < 0.005, report
    assert max(short) < 0.05, report


def _large() -> tuple[BurstCosts, dict[str, np.ndarray]]:
    numbers = np.random.default_rng(3)
    shapes = {"a": (300, 101), "b": (7001,), "c": (17,), "d": (40, 40)}
    costs = linear_bursts(
        shapes,
        {"a": 1.0, "b": 2.0, "c": 1.0, "d": 0.5},
        {"a": 6.0, "b": 1.0, "c": 9.0, "d": 0.0},
        {"a": 50.0, "b": 300.0, "c": 5.0, "d": 0.0},
    )
    update = {
        name: numbers.laplace(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
    return costs, update


@pytest.mark.parametrize("share", [0.01, 0.1, 0.6])
@pytest.mark.parametrize("lower", [0.85, 40.0])
def test_a_sampled_price_finds_what_looking_at_everything_does(monkeypatch, share, lower) -> None:
    """Also where the sample misleads it: the first guess is then far too high."""
    costs, update = _large()
    budget_j = share * costs.dense_j
    whole = BurstWeighted(costs).select(update, budget_j)
    monkeypatch.setattr(module, "_SMALL", 0)
    monkeypatch.setattr(module, "_SAMPLE", 256)
    monkeypatch.setattr(module, "_LOWER", lower)
    monkeypatch.setattr(module, "_PART", 1000)
    sampled = [BurstWeighted(costs, threads=n).select(update, budget_j) for n in (1, 3)]
    for selection in sampled:
        assert selection.bound == pytest.approx(whole.bound, rel=1e-9)
        assert selection.captured == pytest.approx(whole.captured, rel=1e-4)
        assert selection.energy_j <= budget_j
    for one, two in zip(sampled[0].layers, sampled[1].layers, strict=True):
        np.testing.assert_array_equal(one.indices, two.indices)


def test_neighbours_are_kept_together() -> None:
    """An entry costs a burst of its own, or a little beside one that is kept."""
    costs = linear_bursts({"a": (64,)}, {"a": 1.0}, {"a": 30.0})
    update = np.zeros(64, dtype=np.float32)
    update[[3, 20, 40]] = 2.0
    update[20:36:2] += 1.0
    (layer,) = BurstWeighted(costs).select({"a": update}, 38.0).layers
    assert layer.indices.tolist() == [20, 22, 24, 26, 28, 30]


def test_a_burst_given_up_is_not_taken_back_for_nothing() -> None:
    costs = linear_bursts({"a": (8,)}, {"a": 1.0}, {"a": 1.0}, burst_entries=3)
    update = {"a": np.array([0, 1, 3, 0, 0, 0, 2, 3], dtype=np.float32)}
    selection = BurstWeighted(costs).select(update, 3.125)
    assert selection.layers[0].indices.tolist() == [6, 7]
    assert selection.energy_j == 3.0


def test_without_a_price_for_bursts_it_is_the_knapsack_of_entries() -> None:
    costs = linear_bursts({"a": (50,)}, {"a": 1.0}, {"a": 0.0}, burst_entries=4)
    update = {"a": np.random.default_rng(0).laplace(size=50)}
    (layer,) = BurstWeighted(costs).select(update, 10.0).layers
    assert sorted(layer.indices) == sorted(np.argsort(-np.abs(update["a"]))[:10])


def test_everything_fits_in_the_dense_cost_and_zeros_are_worth_nothing() -> None:
    costs, update = _large()
    selection = BurstWeighted(costs).select(update, costs.dense_j)
    assert selection.captured == pytest.approx(selection.total, rel=1e-12)
    assert selection.certificate == pytest.approx(1.0)
    zeros = {name: np.zeros_like(array) for name, array in update.items()}
    nothing = BurstWeighted(costs).select(zeros, costs.dense_j)
    assert (nothing.layers, nothing.energy_j, nothing.bound) == ((), 0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"b": np.full(7001, np.nan, dtype=np.float32)}, UpdateError),
        ({"b": np.full(7001, np.inf)}, UpdateError),
        ({"b": np.full(7001, 1e200)}, UpdateError),
        ({"b": np.ones(3, dtype=np.float32)}, LayerMismatchError),
        ({"e": np.ones(3, dtype=np.float32)}, LayerMismatchError),
    ],
)
def test_a_bad_update_is_refused(change, error) -> None:
    costs, update = _large()
    with pytest.raises(error, match=f"'{next(iter(change))}'"):
        BurstWeighted(costs).select(update | change, 0.1 * costs.dense_j)


@pytest.mark.parametrize("factor", [0.0, 1e-9, 1.1, np.nan])
def test_a_budget_that_cannot_be_spent_is_refused(factor: float) -> None:
    costs, update = _large()
    with pytest.raises(BudgetError):
        BurstWeighted(costs).select(update, factor * costs.dense_j)


@pytest.mark.parametrize(
    "changes", [{"entry_j": 0.0}, {"burst_j": -1.0}, {"opening_j": np.nan}, {"burst_entries": 0}]
)
def test_costs_check_themselves(changes) -> None:
    whole = {"opening_j": 0.0, "burst_j": 1.0, "entry_j": 1.0} | changes
    with pytest.raises(InputError, match="'w'"):
        BurstPrice("w", (4,), **whole)
