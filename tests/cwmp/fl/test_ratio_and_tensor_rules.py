"""PruneFL's ratio, per-tensor Top-K, marginal prefixes and fp16, each against the obvious."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins.given_updates import (
    SHAPES,
    arrived,
    follow,
    linear,
    method_of,
    priced,
    updates,
)

from cwmp.fl.algorithms.cost_weighted import MarginalPrefix
from cwmp.fl.algorithms.dense import with_values
from cwmp.fl.algorithms.prunefl import GainPerCost, best_prefix
from cwmp.fl.algorithms.shares import common_counts
from cwmp.fl.algorithms.topk import TensorTopK, largest
from cwmp.payload import PayloadLayout
from cwmp.selectors import CostWeighted
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import BudgetError, InputError

VALUES = st.lists(st.floats(-8, 8, allow_nan=False, width=32), min_size=1, max_size=5)


@given(VALUES, VALUES, st.floats(0.1, 20), st.floats(0.2, 5))
@settings(max_examples=150, deadline=None)
def test_the_greedy_ratio_is_the_best_of_all_subsets(
    a: list[float], b: list[float], base: float, dear: float
) -> None:
    """sum g^2 / (T0 + sum t) over every subset of up to ten entries, with budget to spare."""
    shapes = {"a": (len(a),), "b": (len(b),)}
    costs = SelectionCosts.linear(shapes, {"a": 1.0, "b": dear}, message_j=base)
    update = {"a": np.array(a, np.float32), "b": np.array(b, np.float32)}
    chosen = GainPerCost(costs).select(update, costs.dense_j)
    gains = [*np.square(update["a"], dtype=float), *np.square(update["b"], dtype=float)]
    joules = [1.0] * len(a) + [dear] * len(b)
    best = max(
        sum(gains[i] for i in subset) / (base + sum(joules[i] for i in subset))
        for size in range(1, len(gains) + 1)
        for subset in combinations(range(len(gains)), size)
    )
    found = chosen.captured / chosen.energy_j if chosen.entries else 0.0
    assert found == pytest.approx(best, rel=1e-9, abs=1e-30)


def test_the_ratio_stops_at_the_budget_where_that_comes_first() -> None:
    costs = SelectionCosts.linear({"w": (50,)}, {"w": 1.0}, message_j=1000.0)
    update = {"w": np.arange(1, 51, dtype=np.float32)}
    rule = GainPerCost(costs)
    assert rule.select(update, costs.dense_j).entries > 20
    held = rule.select(update, 1010.0)
    assert held.layers[0].indices.tolist() == list(range(40, 50))
    assert held.energy_j <= 1010.0


def test_the_best_prefix_of_nothing_is_empty_and_of_equals_the_shortest() -> None:
    assert best_prefix(np.empty(0), np.empty(0), 1.0) == 0
    assert best_prefix(np.array([1.0, 1.0, 1.0]), np.ones(3), 0.0) == 1
    assert best_prefix(np.full(3, 1e-200), np.ones(3), 1.0) == 3  # g^2 would underflow


@pytest.mark.parametrize("share", [0.15, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("costs", [linear(), priced()], ids=["linear", "priced"])
def test_every_tensor_has_the_same_density_and_no_larger_one_fits(costs, share: float) -> None:
    """k_l = ceil(s n_l) for one s; the next density at which a count grows costs too much."""
    budget_j = share * costs.dense_j
    counts = np.array(common_counts(costs, budget_j))
    sizes = np.array([layer.parameters for layer in costs.layers])
    low, high = ((counts - 1) / sizes).max(), (counts / sizes).min()
    assert low < high + 1e-12  # some s gives them all
    assert costs.energy_j(counts) <= budget_j
    grown = np.ceil(np.nextafter(high * (1 + 1e-12), 2) * sizes).astype(int)
    assert (grown > counts).any()
    assert costs.energy_j(np.minimum(grown, sizes)) > budget_j


def test_the_largest_of_each_tensor_are_kept() -> None:
    costs = linear()
    update = updates(1)[0]
    budget_j = 0.3 * costs.dense_j
    counts = common_counts(costs, budget_j)
    kept = TensorTopK(costs).select(update, budget_j)
    for layer, k in zip(kept.layers, counts, strict=True):
        sizes = np.abs(update[layer.name].reshape(-1))
        assert set(layer.indices.tolist()) == set(np.argsort(-sizes, kind="stable")[:k].tolist())


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 30))
def test_ties_go_to_the_lower_index_and_zeros_stay(values: list[int], k: int) -> None:
    magnitudes = np.array(values, dtype=float)
    k = min(k, magnitudes.size)
    slow = sorted(range(magnitudes.size), key=lambda i: (-magnitudes[i], i))[:k]
    expected = sorted(i for i in slow if magnitudes[i] > 0)
    assert largest(magnitudes, k).tolist() == expected


def test_a_budget_below_an_entry_of_each_tensor_is_infeasible() -> None:
    with pytest.raises(BudgetError, match="does not open every layer"):
        TensorTopK(linear()).select(updates(1)[0], 2.0)


def test_marginal_costs_alone_choose_what_the_fixed_charges_would_not() -> None:
    """Without fixed charges the two rules agree; with them the account of them captures more."""
    update = updates(1)[0]
    costs = linear()
    for share in (0.1, 0.4, 0.8):
        alone = MarginalPrefix(costs).select(update, share * costs.dense_j)
        whole = CostWeighted(costs).select(update, share * costs.dense_j)
        assert alone.captured == pytest.approx(whole.captured, rel=1e-9)
    dear = SelectionCosts.linear(
        SHAPES, {"a": 1.0, "a.bias": 1.0, "b": 1.0}, {"a": 1.0, "a.bias": 40.0, "b": 1.0}
    )
    alone = MarginalPrefix(dear).select(update, 60.0)
    whole = CostWeighted(dear).select(update, 60.0)
    assert max(alone.energy_j, whole.energy_j) <= 60.0
    assert whole.captured > 1.2 * alone.captured


def test_fixed_is_another_name_for_the_default() -> None:
    given_updates = updates(2)
    named, default = (
        follow(method_of(text, priced()), given_updates) for text in ("cwmp:fixed", "cwmp")
    )
    assert [u.payload for u in named.uploads] == [u.payload for u in default.uploads]


def test_fp16_takes_half_the_bytes_and_rounds_once() -> None:
    costs = priced()
    whole, half = (method_of(text, costs, 1.0) for text in ("dense", "dense:fp16"))
    update = updates(1)
    (up,), (short,) = (follow(m, update).uploads for m in (whole, half))
    entries = sum(int(np.prod(shape)) for shape in SHAPES.values())
    assert len(up.payload) - len(short.payload) == 2 * entries
    for layer, values in arrived(half, short).items():
        np.testing.assert_array_equal(values, update[0][layer].astype(np.float16))
    assert short.selection.energy_j < up.selection.energy_j
    assert short.selection.energy_j == pytest.approx(with_values("float16", costs).dense_j)


def test_fp16_comes_down_in_fp16_too() -> None:
    method = method_of("dense:fp16", priced(), 1.0)
    assert method.layout.value_type == "float16"
    assert method.layout.layers == PayloadLayout(SHAPES).layers


def test_fp16_fits_where_fp32_does_not() -> None:
    costs = priced()
    share = with_values("float16", costs).dense_j / costs.dense_j
    follow(method_of("dense:fp16", costs, share), updates(1))
    for text, less in (("dense", share), ("dense:fp16", share * 0.99)):
        with pytest.raises(BudgetError, match="infeasible"):
            follow(method_of(text, costs, less), updates(1))


def test_prices_with_other_values_are_those_of_a_cost_file() -> None:
    from stand_ins.cost_files import cost_file

    from cwmp.fl.models import build_model
    from profiler.layers import layers_of

    file = cost_file(layers_of(build_model("mlp", (1, 8, 8))))
    direct = SelectionCosts.from_cost_file(file, value_type="float16")
    mended = with_values("float16", SelectionCosts.from_cost_file(file))
    assert mended.dense_j == pytest.approx(direct.dense_j, rel=1e-12)
    assert mended.cheapest_j == pytest.approx(direct.cheapest_j, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["topk:layer", "dense:fp8", "cwmp:1", "cwmp:free", "prunefl:1", "cwmp-price:1"]
)
def test_other_arguments_are_one_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        method_of(text, priced())
    assert "\n" not in str(caught.value)
    assert text in str(caught.value)
