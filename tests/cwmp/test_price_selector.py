"""Price mode against every subset of small problems, its comparison, caps and errors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.selection import Selection
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.priced import PriceSelector
from profiler.errors import InputError, UpdateError

joules = st.floats(0.01, 10)
prices = st.just(0.0) | st.floats(0.01, 100)
weights = st.floats(0.1, 10)


@st.composite
def small_problems(draw: st.DrawFn):
    """At most 8 entries in two layers, with fixed costs, bytes and dense forms or without."""
    layers = tuple(
        LayerPrice(
            f"layer{number}",
            (draw(st.integers(1, 4)),),
            (1,),
            (draw(st.just(0.0) | joules),),
            (draw(joules),),
            dense_j=draw(st.none() | joules),
            byte_j=draw(st.just(0.0) | st.floats(0.001, 0.1)),
        )
        for number in range(draw(st.integers(1, 2)))
    )
    values = st.floats(-9, 9, width=16)
    kind = draw(st.sampled_from([np.float32, np.float64]))  # on the kernels, or the slow way
    update = {
        layer.name: np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype=kind)
        for layer in layers
        for n in layer.shape
    }
    return SelectionCosts(layers, draw(st.just(0.0) | joules)), update


def _subsets(costs: SelectionCosts, update) -> tuple[np.ndarray, np.ndarray]:
    """Captured g^2 and joules of each of the 2^n subsets."""
    squares = np.concatenate([update[layer.name].astype(np.float64) ** 2 for layer in costs.layers])
    kept = np.array(list(product([0, 1], repeat=squares.size)), dtype=np.int64)
    starts = np.cumsum([0, *[layer.parameters for layer in costs.layers]])
    spent = np.zeros(len(kept))
    for layer, start, end in zip(costs.layers, starts, starts[1:], strict=False):
        spent = spent + layer.energy_j(kept[:, start:end].sum(axis=1))
    return kept @ squares, np.where(kept.any(axis=1), costs.message_j + spent, 0.0)


def _kept(selection: Selection) -> dict[str, list[int]]:
    return {layer.name: layer.indices.tolist() for layer in selection.layers}


@given(small_problems(), prices, weights)
@settings(max_examples=150, deadline=None)
def test_no_subset_is_worth_more_and_none_captures_more_for_its_joules(
    problem, price: float, weight: float
) -> None:
    costs, update = problem
    selection = PriceSelector(costs).keep(update, price, weight=weight)
    captured, spent = _subsets(costs, update)
    worth = weight**2 * captured - price * spent
    own = weight**2 * selection.captured - price * selection.energy_j
    assert own >= worth.max() - 1e-9 * (1 + weight**2 * selection.total)
    affordable = captured[spent <= selection.energy_j * (1 - 1e-9)]
    # an exact tie in worth may round either way: it buys at most what the joules are priced at
    assert selection.captured >= affordable.max(initial=0.0) - 1e-9 * (1 + selection.total)
    assert selection.bound == selection.captured
    assert selection.budget_j == selection.energy_j
    assert selection.certificate == 1.0


@given(small_problems(), weights)
@settings(max_examples=100, deadline=None)
def test_the_spend_curve_is_what_keeping_spends(problem, weight: float) -> None:
    costs, update = problem
    selector = PriceSelector(costs)
    asked = (0.0, *np.geomspace(0.003, 300, 11))
    curve_j = selector.spend_j(update, asked, weight=weight)
    kept = [selector.keep(update, price, weight=weight) for price in asked]
    assert curve_j == pytest.approx([selection.energy_j for selection in kept], rel=1e-12)
    falls = np.diff(curve_j)
    assert (falls[np.array(asked[:-1]) > 0] <= 1e-9 * (1 + max(curve_j))).all()


def test_linear_costs_are_one_strict_comparison_an_entry() -> None:
    numbers = np.random.default_rng(0)
    costs = SelectionCosts.linear({"a": (400,), "b": (20, 30)}, {"a": 2e-9, "b": 3e-8})
    update = {"a": numbers.normal(size=400), "b": numbers.normal(size=(20, 30))}
    selection = PriceSelector(costs).keep(update, 1e7, weight=0.5)
    limits = {"a": np.sqrt(1e7 * 2e-9) / 0.5, "b": np.sqrt(1e7 * 3e-8) / 0.5}
    for layer in selection.layers:
        flat = update[layer.name].ravel()
        assert layer.indices.tolist() == np.flatnonzero(np.abs(flat) > limits[layer.name]).tolist()
        assert (layer.values == flat[layer.indices]).all()
    assert 0 < selection.entries < 1000


def test_an_entry_that_is_worth_exactly_its_price_stays() -> None:
    costs = SelectionCosts.linear({"a": (3,)}, {"a": 1.0})
    update = {"a": np.array([2.0, -2.0, np.nextafter(2.0, 3.0)])}
    assert _kept(PriceSelector(costs).keep(update, 4.0)) == {"a": [2]}


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_squares_that_underflow_are_still_told_apart(kind: type) -> None:
    tiny = np.finfo(kind).smallest_subnormal
    costs = SelectionCosts.linear({"a": (3,)}, {"a": 1.0})
    update = {"a": np.array([tiny, 3 * tiny, 5 * tiny], dtype=kind)}
    price = (2 * float(tiny)) ** 2
    if price == 0:  # below float64 itself: the price is then as good as 0
        assert PriceSelector(costs).keep(update, price).entries == 3
    else:
        assert _kept(PriceSelector(costs).keep(update, price)) == {"a": [1, 2]}


@pytest.mark.parametrize("fixed_j", [0.0, 5.0])
def test_a_price_of_zero_keeps_all_that_is_not_zero(fixed_j: float) -> None:
    costs = SelectionCosts.linear({"a": (4,)}, {"a": 1.0}, {"a": fixed_j}, message_j=7.0)
    update = {"a": np.array([1e-200, 0.0, -1e140, -0.0])}
    selection = PriceSelector(costs).keep(update, 0.0)
    assert _kept(selection) == {"a": [0, 2]}
    assert selection.energy_j == 7.0 + fixed_j + 2.0
    assert selection.captured == selection.total


def test_prices_and_weights_beyond_the_floats_keep_nothing() -> None:
    for fixed_j in (0.0, 1.0):
        costs = SelectionCosts.linear({"a": (2,)}, {"a": 1.0}, {"a": fixed_j})
        selection = PriceSelector(costs).keep({"a": np.ones(2)}, 1e300, weight=1e-200)
        assert (selection.entries, selection.energy_j, selection.bound) == (0, 0.0, 0.0)


def test_nothing_is_sent_where_the_whole_is_not_worth_the_message() -> None:
    costs = SelectionCosts.linear({"a": (2,)}, {"a": 1.0}, message_j=10.0)
    update = {"a": np.array([3.0, 2.0])}  # 13 g^2 for 12 J
    assert PriceSelector(costs).keep(update, 1.0).energy_j == 12.0
    refused = PriceSelector(costs).keep(update, 1.1)
    assert (refused.layers, refused.energy_j, refused.captured) == ((), 0.0, 0.0)
    assert refused.total == 13.0
    assert PriceSelector(costs).spend_j(update, (1.0, 1.1)) == (12.0, 0.0)


def test_a_weight_is_a_lower_price() -> None:
    numbers = np.random.default_rng(1)
    update = {"a": numbers.laplace(size=500)}
    for fixed_j in (0.0, 3.0):
        selector = PriceSelector(SelectionCosts.linear({"a": (500,)}, {"a": 1.0}, {"a": fixed_j}))
        heavy = selector.keep(update, 1.0, weight=2.0)
        assert _kept(heavy) == _kept(selector.keep(update, 0.25))
        assert heavy.price == 1.0


@given(small_problems(), st.floats(0, 1), weights)
@settings(max_examples=100, deadline=None)
def test_a_cap_holds_and_its_price_is_the_higher_one(problem, share: float, weight: float) -> None:
    costs, update = problem
    selector = PriceSelector(costs)
    free = selector.keep(update, 0.01, weight=weight)
    cap_j = share * free.energy_j
    capped = selector.keep(update, 0.01, weight=weight, cap_j=cap_j)
    assert capped.energy_j <= cap_j * (1 + 1e-12)
    captured, spent = _subsets(costs, update)
    assert capped.bound >= captured[spent <= cap_j].max() * (1 - 1e-12) - 1e-300
    if capped.price is not None:
        assert capped.price >= 0.01
    if share == 1:
        assert capped.captured == free.captured


def test_a_cap_that_buys_nothing_sends_nothing() -> None:
    costs = SelectionCosts.linear({"a": (2,)}, {"a": 1.0})
    for cap_j in (0.0, 0.5):
        selection = PriceSelector(costs).keep({"a": np.ones(2)}, 0.1, cap_j=cap_j)
        assert (selection.entries, selection.budget_j, selection.price) == (0, cap_j, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"price": -1.0}, "price is -1"),
        ({"price": float("nan")}, "price is nan"),
        ({"price": float("inf")}, "price is inf"),
        ({"price": 1.0, "weight": 0.0}, "weight is 0"),
        ({"price": 1.0, "weight": float("nan")}, "weight is nan"),
        ({"price": 1.0, "cap_j": -1.0}, "cap is -1"),
        ({"price": 1.0, "cap_j": float("nan")}, "cap is nan"),
    ],
)
def test_what_cannot_be_a_price_is_refused(arguments, words: str) -> None:
    costs = SelectionCosts.linear({"a": (2,)}, {"a": 1.0})
    with pytest.raises(InputError, match=words):
        PriceSelector(costs).keep({"a": np.ones(2)}, **arguments)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_spend_curve_needs_a_price(kind: type) -> None:
    costs = SelectionCosts.linear({"a": (2,)}, {"a": 1.0})
    with pytest.raises(InputError, match="no prices"):
        PriceSelector(costs).spend_j({"a": np.ones(2, dtype=kind)}, [])


def _large(seed: int, linear: bool) -> tuple[SelectionCosts, dict[str, np.ndarray]]:
    numbers = np.random.default_rng(seed)
    layers = tuple(
        LayerPrice(f"layer{number}", (size,), (1,), (fixed,), (float(np.exp(number - 1)),), **form)
        for number, size in enumerate((7, 900, 20_000))
        for fixed, form in [(0.0, {}) if linear else (30.0, {"dense_j": 9e3, "byte_j": 0.01})]
    )
    update = {x.name: numbers.laplace(size=x.shape).astype(np.float32) for x in layers}
    return SelectionCosts(layers, 0.0 if linear else 5.0), update


@pytest.mark.parametrize("linear", [True, False])
@given(
    seed=st.integers(0, 2**32 - 1),
    ladder=st.lists(st.floats(1e-3, 30) | st.just(0.0), min_size=1, max_size=4),
    weight=weights,
)
@settings(max_examples=25)
def test_the_kernels_keep_what_the_slow_way_keeps(linear, seed, ladder, weight) -> None:
    costs, update = _large(seed, linear)
    exact = {name: array.astype(np.float64) for name, array in update.items()}
    selector = PriceSelector(costs)
    for price in ladder:
        fast = selector.keep(update, price, weight=weight)
        slow = selector.keep(exact, price, weight=weight)
        assert [(x.name, x.form) for x in fast.layers] == [(x.name, x.form) for x in slow.layers]
        for one, other in zip(fast.layers, slow.layers, strict=True):
            np.testing.assert_array_equal(one.indices, other.indices)
            np.testing.assert_array_equal(one.values, other.values)
        assert fast.energy_j == slow.energy_j == fast.budget_j
        assert fast.captured == pytest.approx(slow.captured, rel=1e-12) == fast.bound
    spent = selector.spend_j(update, ladder, weight=weight)
    assert spent == selector.spend_j(exact, ladder, weight=weight)


@pytest.mark.parametrize("linear", [True, False])
def test_the_kernels_refuse_what_is_not_finite(linear: bool) -> None:
    costs, update = _large(0, linear)
    update["layer2"][17] = np.nan
    with pytest.raises(UpdateError, match="'layer2' holds NaN or inf in 1 of 20000"):
        PriceSelector(costs).keep(update, 1.0)
