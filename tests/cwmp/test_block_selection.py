"""Whole blocks: against every subset of them, against MILP, and N of every M."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from cwmp.codec import encode
from cwmp.payload import PayloadLayout
from cwmp.selectors import CostWeighted
from cwmp.selectors.block_shapes import Blocks, Channels, Groups, NofM, Tiles
from cwmp.selectors.blocks import BlockWeighted
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from profiler.errors import BudgetError, InputError

joules = st.floats(0.01, 10)
shapes = st.sampled_from([(), (1,), (5,), (7,), (2, 3), (3, 2, 1), (4, 2)])
divisions = st.sampled_from(
    [
        Channels(0),
        Channels(-1),
        Groups(1),
        Groups(2),
        Groups(3),
        Tiles(2, 2),
        NofM(1, 2),
        NofM(2, 4),
    ]
)


@st.composite
def problems(draw: st.DrawFn):
    layers = tuple(
        LayerPrice(
            f"layer{number}",
            draw(shapes),
            (1,),
            (draw(st.just(0.0) | joules),),
            (draw(joules),),
            dense_j=draw(st.none() | joules),
            byte_j=draw(st.just(0.0) | st.floats(0.001, 0.1)),
        )
        for number in range(draw(st.integers(1, 2)))
    )
    costs = SelectionCosts(layers, draw(st.just(0.0) | joules))
    values = st.sampled_from([0.0, 1.0, -1.0]) | st.floats(-9, 9, width=16)
    update = {
        layer.name: np.array(
            draw(st.lists(values, min_size=layer.parameters, max_size=layer.parameters)),
            dtype=np.float32,
        ).reshape(layer.shape)
        for layer in layers
    }
    blocks = {layer.name: draw(divisions) for layer in layers}
    share = draw(st.floats(0, 1))
    budget_j = costs.cheapest_j + share * (costs.dense_j - costs.cheapest_j)
    return costs, update, blocks, min(budget_j, costs.dense_j)


def _layer_options(price: LayerPrice, labels: np.ndarray, squares: np.ndarray, dense: bool):
    """Joules and gain of every subset of a layer's blocks."""
    for chosen in product([False, True], repeat=int(labels.max()) + 1):
        kept = np.isin(labels, np.flatnonzero(chosen))
        k = int(kept.sum())
        form = price.form(k) if dense else "sparse"
        gain = squares.sum() if form == "dense" else squares[kept].sum()
        yield float(price.form_j(k, form)), float(gain)


def _every_subset(costs, update, blocks: dict[str, Blocks], budget_j: float) -> float:
    sums = [(0.0, 0.0)]
    for price in costs.layers:
        flat = np.abs(update[price.name].astype(np.float64)).reshape(-1)
        labels = blocks[price.name].labels(price.shape, flat)
        options = set(_layer_options(price, labels, flat**2, blocks[price.name].allows_dense))
        sums = [(j + more_j, g + gain) for j, g in sums for more_j, gain in options]
    return max(g for j, g in sums if j == 0 or costs.message_j + j <= budget_j)


@given(problems())
@settings(max_examples=150, deadline=None)
def test_sound_within_budget_and_bounded_on_every_subset(problem) -> None:
    costs, update, blocks, budget_j = problem
    best = _every_subset(costs, update, blocks, budget_j)
    try:
        selection = BlockWeighted(costs, blocks).select(update, budget_j)
    except BudgetError:
        assert best == 0
        return
    spent_j = costs.message_j if selection.layers else 0.0
    for layer in selection.layers:
        price = next(price for price in costs.layers if price.name == layer.name)
        magnitudes = np.abs(update[layer.name].astype(np.float64)).reshape(-1)
        labels = blocks[layer.name].labels(layer.shape, magnitudes)
        spent_j += float(price.form_j(layer.indices.size, layer.form))
        if layer.form == "dense":
            assert blocks[layer.name].allows_dense
            assert layer.indices.size == magnitudes.size
        else:
            kept = np.unique(labels[layer.indices])
            assert kept[0] >= 0
            assert layer.indices.tolist() == np.flatnonzero(np.isin(labels, kept)).tolist()
    assert selection.energy_j == pytest.approx(spent_j, rel=1e-12)
    assert selection.energy_j <= budget_j
    assert selection.captured <= best * (1 + 1e-9)
    assert selection.bound >= best * (1 - 1e-9)


def _optimum(costs: SelectionCosts, update, blocks: Blocks, budget_j: float) -> float:
    """max sum G x  s.t.  sum c n x + sum a y <= B - A,  x_b <= y_layer(b); all binary."""
    gain, cost, layer_of = [], [], []
    for number, price in enumerate(costs.layers):
        squares = update[price.name].reshape(-1).astype(float) ** 2
        labels = blocks.labels(price.shape, np.sqrt(squares))
        gain += np.bincount(labels, weights=squares).tolist()
        cost += (price.slope_j[0] * np.bincount(labels)).tolist()
        layer_of += [number] * (int(labels.max()) + 1)
    count, layers = len(gain), len(costs.layers)
    rows = np.zeros((count, count + layers))
    rows[np.arange(count), np.arange(count)] = 1
    rows[np.arange(count), count + np.array(layer_of)] = -1
    every_j = np.array([*cost, *(price.fixed_j[0] for price in costs.layers)])
    found = milp(
        -np.array([*gain, *np.zeros(layers)]) / max(gain),
        constraints=[
            LinearConstraint(every_j[None] / (budget_j - costs.message_j), ub=1.0),
            LinearConstraint(rows, ub=0.0),
        ],
        integrality=np.ones(count + layers),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 1e-7, "time_limit": 10},
    )
    assert found.status == 0, found.message
    return float(np.array(gain)[found.x[:count] > 0.5].sum())


@pytest.mark.parametrize(("blocks", "worst"), [(Groups(8), 1e-6), (Tiles(3, 5), 0.06)])
def test_close_to_the_optimum_of_milp(blocks: Blocks, worst: float) -> None:
    """30 cases: 4 layers of 256 or of odd shapes; log-normal costs, Laplace updates."""
    numbers = np.random.default_rng(2)
    short = []
    for _ in range(30):
        whole = isinstance(blocks, Groups)
        sides = numbers.integers(5, 16, size=(4, 2))
        names = {f"layer{i}": (16, 16) if whole else tuple(map(int, sides[i])) for i in range(4)}
        entry_j = {name: float(np.exp(numbers.normal())) for name in names}
        fixed_j = {name: float(20 * np.exp(numbers.normal())) for name in names}
        costs = SelectionCosts.linear(names, entry_j, fixed_j, message_j=2.0)
        update = {name: numbers.laplace(size=shape) for name, shape in names.items()}
        budget_j = max(numbers.uniform(0.1, 0.6) * costs.dense_j, costs.cheapest_j)
        selection = BlockWeighted(costs, blocks).select(update, budget_j)
        best = _optimum(costs, update, blocks, budget_j)
        assert selection.captured <= best * (1 + 1e-5)
        assert selection.bound >= best * (1 - 1e-5)
        short.append(max(0.0, 1 - selection.captured / best))
    report = f"shortfall at quantiles 50, 90, 100 %: {np.quantile(short, [0.5, 0.9, 1])}"
    assert np.median(short) < min(worst, 0.005), report
    assert max(short) <= worst, report


def test_blocks_of_one_entry_are_the_plain_problem() -> None:
    numbers = np.random.default_rng(0)
    costs = SelectionCosts.linear(
        {"a": (500,), "b": (40, 10)}, {"a": 1.0, "b": 3.0}, {"a": 20.0, "b": 5.0}
    )
    update = {"a": numbers.laplace(size=500), "b": numbers.laplace(size=(40, 10))}
    one, two = (
        rule.select(update, 0.1 * costs.dense_j)
        for rule in (BlockWeighted(costs, Groups(1)), CostWeighted(costs))
    )
    assert one.captured == pytest.approx(two.captured, rel=1e-6)
    assert one.bound == pytest.approx(two.bound, rel=1e-9)


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_at_most_n_of_every_m_and_those_the_largest(n: int, more: int, seed: int) -> None:
    m = n + more
    numbers = np.random.default_rng(seed)
    update = {"a": numbers.integers(-3, 4, size=int(numbers.integers(1, 40))).astype(np.float32)}
    costs = SelectionCosts((LayerPrice("a", update["a"].shape, (1,), (0.0,), (1.0,), dense_j=3.0),))
    try:
        selection = BlockWeighted(costs, NofM(n, m)).select(update, costs.dense_j)
    except BudgetError:
        return
    for layer in selection.layers:
        assert layer.form == "sparse"
        assert np.bincount(layer.indices // m).max() <= n
        for index in layer.indices:
            group = np.abs(update["a"][index // m * m : index // m * m + m])
            larger = (group > abs(update["a"][index])).sum()
            assert larger < n
    assert selection.energy_j == selection.entries <= 3


def test_whole_rows_take_fewer_bytes_than_declared() -> None:
    numbers = np.random.default_rng(1)
    shape = (200, 100)
    costs = SelectionCosts((LayerPrice("a", shape, (1,), (0.0,), (1e-9,), 1.0, byte_j=1.0),))
    update = {"a": numbers.laplace(size=shape).astype(np.float32)}
    selection = BlockWeighted(costs, Channels(0)).select(update, 0.2 * costs.dense_j)
    payload = encode(selection.layers, PayloadLayout({"a": shape}))
    rows = np.bincount(selection.layers[0].indices // 100, minlength=200)
    assert set(rows.tolist()) == {0, 100}
    assert len(payload) < 0.95 * selection.energy_j


def test_shapes_check_themselves_and_the_layer() -> None:
    for bad in (lambda: Groups(0), lambda: Tiles(0, 2), lambda: NofM(3, 2), lambda: NofM(0, 2)):
        with pytest.raises(InputError):
            bad()
    costs = SelectionCosts.linear({"a": (4,)}, {"a": 1.0})
    with pytest.raises(InputError, match="axis 1"):
        BlockWeighted(costs, Channels(1)).select({"a": np.ones(4)}, 2.0)
    with pytest.raises(BudgetError, match="infeasible"):
        BlockWeighted(costs, Groups(4)).select({"a": np.ones(4)}, 2.0)


def test_labels_of_tiles_and_of_layers_without_a_name() -> None:
    assert Tiles(2, 2).labels((3, 3), np.zeros(9)).tolist() == [0, 0, 1, 0, 0, 1, 2, 2, 3]
    costs = SelectionCosts.linear({"a": (4,), "b": (3,)}, {"a": 1.0, "b": 1.0})
    update = {"a": np.array([3.0, 0.0, 1.0, 1.0]), "b": np.array([0.0, 2.0, 0.0])}
    selection = BlockWeighted(costs, {"a": Groups(2)}).select(update, 3.0)
    assert [(x.name, x.indices.tolist()) for x in selection.layers] == [("a", [0, 1]), ("b", [1])]
