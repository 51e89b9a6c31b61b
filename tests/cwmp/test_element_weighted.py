"""Selection with a cost for every entry: the reference's prefix, bit for bit, and its bound."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from element_cases import SIZES, VALUES, check_same, costs_of, kept, update_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp import ElementCosts, ElementWeighted, SelectionCosts, TopK, fractional_knapsack_bound
from cwmp.selectors.element_reference import ReferenceElementWeighted
from profiler.errors import BudgetError, InputError, LayerMismatchError, UpdateError


@pytest.mark.parametrize("values", VALUES)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=4),
    kind=st.sampled_from(["any", "near each other", "few", "equal", "one entry is dear"]),
    wide=st.booleans(),
    share=st.floats(0.0005, 1.0),
    threads=st.integers(1, 3),
)
@settings(max_examples=10)
def test_the_prefix_is_the_reference_s(values, seed, sizes, kind, wide, share, threads) -> None:
    numbers = np.random.default_rng(seed)
    costs = costs_of(numbers, sizes, kind, wide, message_j=float(numbers.choice([0.0, 3e-6])))
    update = update_of(numbers, costs, values)
    budget_j = max(share * costs.dense_j, costs.cheapest_j)
    for p, q in ((2, 1), (1, 1), (1, 0)):
        check_same(costs, update, budget_j, p, q, threads)


@given(
    quanta=st.lists(st.integers(1, 2**16 - 1), min_size=1, max_size=12),
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=12),
    share=st.floats(0, 2),
    message_j=st.sampled_from([0.0, 1e-6]),
)
def test_any_budget_on_a_few_entries(quanta, values, share, message_j) -> None:
    costs = ElementCosts({"a": np.array(quanta, dtype=np.uint16)}, 1e-9, message_j)
    update = {"a": np.array(values[: len(quanta)], dtype=np.float32)}
    selection = check_same(costs, update, share * costs.dense_j, threads=1)
    if selection is not None and selection.layers:
        paid = int(costs.quanta["a"][selection.layers[0].indices].sum(dtype=np.int64))
        assert selection.energy_j == costs.energy_j(paid)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("wide", [False, True])
def test_shorter_types_are_read_as_they_are(kind: str, wide: bool) -> None:
    numbers = np.random.default_rng(5)
    costs = costs_of(numbers, [33, 5000, 40_000], "any", wide)
    for values in ("normal", "three values", "subnormal", "negative zeros"):
        update = {
            name: torch.from_numpy(array).to(getattr(torch, kind))
            for name, array in update_of(numbers, costs, values).items()
        }
        for share in (0.03, 0.4):
            check_same(costs, update, share * costs.dense_j)


def test_layers_of_different_types_and_widths() -> None:
    numbers = np.random.default_rng(6)
    quanta = {
        "a": numbers.integers(1, 2**16, (300, 10)).astype(np.uint16),
        "b": numbers.integers(1, 2**20, 50_000).astype(np.uint32),
        "c": numbers.integers(1, 2**16, 7).astype(np.uint16),
    }
    costs = ElementCosts(quanta, 1e-9)
    update = {
        "c": numbers.standard_normal(7).astype(np.float32),
        "a": numbers.standard_normal((10, 300)).astype(np.float16).T,
        "b": torch.from_numpy(numbers.standard_normal(50_000)).bfloat16(),
    }
    selection = check_same(costs, update, 0.1 * costs.dense_j)
    assert selection is not None
    assert {x.name: x.values.dtype.name for x in selection.layers} == {
        "a": "float16",
        "b": "float32",
        "c": "float32",
    }


@pytest.mark.parametrize("exponents", [(2, 1), (1, 1), (1, 0), (2, 0.5), (1.5, 2)])
def test_float64_and_other_exponents_go_to_the_reference(exponents) -> None:
    numbers = np.random.default_rng(7)
    costs = costs_of(numbers, [200, 17], "any")
    update = {name: numbers.standard_normal(x.size) for name, x in costs.quanta.items()}
    check_same(costs, update, 0.2 * costs.dense_j, *exponents)
    narrow = {name: array.astype(np.float32) for name, array in update.items()}
    check_same(costs, narrow, 0.2 * costs.dense_j, *exponents)


@pytest.mark.parametrize("values", ["normal", "a grid", "all equal", "three values"])
def test_equal_costs_give_top_k_s_set(values: str) -> None:
    numbers = np.random.default_rng(8)
    costs = costs_of(numbers, [17, 30_000, 70_000], "equal")
    update = update_of(numbers, costs, values)
    shapes = {name: array.shape for name, array in costs.quanta.items()}
    layers = SelectionCosts.linear(shapes, dict.fromkeys(shapes, 7e-9))
    for share in (0.003, 0.1, 0.7):
        budget_j = (int(share * 100_017) + 0.5) * 7e-9
        top = TopK(layers).select(update, budget_j)
        for p, q in ((2, 1), (1, 1), (1, 0)):
            assert kept(ElementWeighted(costs, p, q).select(update, budget_j)) == kept(top)


@given(
    quanta=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    sizes=st.lists(st.integers(-9, 9), min_size=8, max_size=8),
    share=st.floats(0, 1),
)
def test_no_subset_within_the_budget_is_above_the_bound(quanta, sizes, share) -> None:
    costs = ElementCosts({"a": np.array(quanta, dtype=np.uint16)}, 0.5)
    update = {"a": np.array(sizes[: len(quanta)], dtype=np.float32)}
    budget_j = max(share * costs.dense_j, costs.cheapest_j)
    for p, objective in ((2, np.square), (1, np.abs)):
        gains = objective(update["a"].astype(np.float64))
        try:
            selection = ElementWeighted(costs, p, 1).select(update, budget_j)
        except BudgetError:
            continue
        subsets = [
            list(x) for k in range(len(quanta) + 1) for x in combinations(range(len(quanta)), k)
        ]
        paid = np.array([0.5 * costs.quanta["a"][x].sum() for x in subsets])
        best = max(gains[x].sum() for x, j in zip(subsets, paid, strict=True) if j <= budget_j)
        reached = selection.captured if p == 2 else selection.reached
        assert selection.bound is not None and reached is not None
        assert reached <= best <= selection.bound
        affordable = gains[0.5 * costs.quanta["a"] <= budget_j]
        assert best - reached <= (affordable.max() if affordable.size else 0.0)


def test_the_bound_is_the_closed_form_s() -> None:
    numbers = np.random.default_rng(9)
    costs = costs_of(numbers, [30_000], "any")
    update = update_of(numbers, costs, "laplace")
    budget_j = 0.05 * costs.dense_j
    selection = ElementWeighted(costs).select(update, budget_j)
    entry_j = costs.quanta["layer0"] * costs.quantum_j
    squares = np.square(update["layer0"], dtype=np.float64)
    bound, price = fractional_knapsack_bound(squares, entry_j, budget_j)
    assert selection.bound == pytest.approx(bound, rel=1e-9)
    assert selection.price == pytest.approx(price, rel=1e-9)
    assert selection.certificate is not None and selection.certificate > 0.9999


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 15, 16, 40_000, 69_999])
def test_what_is_not_finite_is_refused(bad: float, place: int) -> None:
    numbers = np.random.default_rng(10)
    costs = costs_of(numbers, [33, 70_000], "any")
    update = update_of(numbers, costs, "normal")
    update["layer1"][place] = bad
    for p, q in ((2, 1), (1, 0)):
        with pytest.raises(UpdateError, match="'layer1' holds NaN or inf in 1 of 70000"):
            ElementWeighted(costs, p, q).select(update, 0.01 * costs.dense_j)


def test_an_update_of_other_layers_is_refused() -> None:
    costs = costs_of(np.random.default_rng(11), [4, 9], "any")
    rule = ElementWeighted(costs)
    ones = {name: np.ones(x.shape, dtype=np.float32) for name, x in costs.quanta.items()}
    with pytest.raises(LayerMismatchError, match="lacks layer 'layer1'"):
        rule.select({"layer0": ones["layer0"]}, costs.dense_j)
    with pytest.raises(LayerMismatchError, match="has shape"):
        rule.select(ones | {"layer1": np.ones((3, 3), dtype=np.float32)}, costs.dense_j)


def test_a_budget_for_nothing_but_zeros_is_infeasible() -> None:
    costs = ElementCosts({"a": np.array([1, 9], dtype=np.uint16)}, 1.0)
    update = {"a": np.array([0.0, 5.0], dtype=np.float32)}
    for rule in (ElementWeighted(costs), ReferenceElementWeighted(costs)):
        with pytest.raises(BudgetError, match="pays for no entry of the update"):
            rule.select(update, 8.0)
        assert rule.select(update, 9.0).captured == 25.0


@pytest.mark.parametrize(("p", "q"), [(0, 1), (-1, 1), (1, -1), (np.nan, 1), (1, np.inf)])
def test_exponents_that_cannot_rank_are_refused(p: float, q: float) -> None:
    with pytest.raises(InputError, match="needs p > 0 and q >= 0"):
        ElementWeighted(costs_of(np.random.default_rng(0), [4], "any"), p, q)


def test_names_and_parameters() -> None:
    costs = costs_of(np.random.default_rng(0), [4], "any")
    assert ElementWeighted(costs).name == "elements"
    assert ElementWeighted(costs, 1, 1).name == ReferenceElementWeighted(costs, 1, 1).name
    assert repr(ElementWeighted(costs, threads=2)) == "ElementWeighted(p=2, q=1, threads=2)"
