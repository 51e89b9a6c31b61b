"""The rules on the kernels select what the slow ones do, entry by entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins.distributions import DISTRIBUTIONS

from cwmp.kernels import sample
from cwmp.selection import Selection
from cwmp.selectors import CostWeighted, TopK, fixed_charge, search
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.reference import ReferenceCostWeighted, ReferenceTopK
from profiler.errors import BudgetError, UpdateError

SIZES = [1, 2, 15, 16, 17, 33, 1000, 4097, 40_000, 70_001]


def _kept(selection: Selection) -> list[tuple[str, str, bytes, bytes]]:
    return [
        (x.name, x.form, x.indices.astype(np.int64).tobytes(), x.values.tobytes())
        for x in selection.layers
    ]


def _costs(sizes: list[int], numbers: np.random.Generator, fixed: bool) -> SelectionCosts:
    names = [f"layer{number}" for number in range(len(sizes))]
    return SelectionCosts.linear(
        {name: (size,) for name, size in zip(names, sizes, strict=True)},
        {name: float(numbers.choice([1.0, 1.0, 0.3, 7.0])) for name in names},
        {name: float(numbers.choice([0.0, 20.0])) for name in names} if fixed else None,
        message_j=float(numbers.choice([0.0, 3.0])),
    )


def _same(fast, slow, update, budget_j: float) -> None:
    try:
        expected = slow.select(update, budget_j)
    except BudgetError as error:
        with pytest.raises(BudgetError) as raised:
            fast.select(update, budget_j)
        assert str(raised.value) == str(error)
        return
    selection = fast.select(update, budget_j)
    assert _kept(selection) == _kept(expected)
    assert selection.energy_j == expected.energy_j <= budget_j
    assert selection.captured == pytest.approx(expected.captured, rel=1e-12)
    assert selection.total == pytest.approx(expected.total, rel=1e-12)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=5),
    share=st.floats(0.0005, 1.0),
    threads=st.integers(1, 3),
    fixed=st.booleans(),
)
@settings(max_examples=12)
def test_a_prefix_is_the_reference_s(distribution, seed, sizes, share, threads, fixed) -> None:
    numbers = np.random.default_rng(seed)
    costs = _costs(sizes, numbers, fixed)
    draw = DISTRIBUTIONS[distribution]
    update = {x.name: draw(numbers, x.parameters).astype(np.float32) for x in costs.layers}
    budget_j = max(share * costs.dense_j, costs.cheapest_j)
    _same(TopK(costs, threads=threads), ReferenceTopK(costs), update, budget_j)
    for p, q in ((1, 1), (3, 0.5)):
        fast = CostWeighted(costs, p, q, threads=threads)
        _same(fast, ReferenceCostWeighted(costs, p, q), update, budget_j)
    if not fixed:
        fast = CostWeighted(costs, threads=threads)
        _same(fast, ReferenceCostWeighted(costs), update, budget_j)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("distribution", ["normal", "three values", "subnormal", "negative zeros"])
def test_shorter_types_are_read_as_they_are(kind: str, distribution: str) -> None:
    numbers = np.random.default_rng(5)
    costs = _costs([33, 5000, 40_000], numbers, fixed=False)
    update = {
        x.name: torch.from_numpy(
            DISTRIBUTIONS[distribution](numbers, x.parameters).astype(np.float32)
        ).to(getattr(torch, kind))
        for x in costs.layers
    }
    _same(TopK(costs), ReferenceTopK(costs), update, 0.03 * costs.dense_j)
    _same(CostWeighted(costs), ReferenceCostWeighted(costs), update, 0.2 * costs.dense_j)


@pytest.mark.parametrize("wrong", ["too high", "too low", "nothing known", "a tie that is none"])
@pytest.mark.parametrize("distribution", ["normal", "all equal", "a grid"])
def test_a_sample_that_misleads_costs_time_alone(
    wrong: str, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way in which the bracket can miss the end of the budget."""
    honest = sample.bracket
    calls = []

    def misled(*arguments):
        guess = honest(*arguments)
        calls.append(guess)
        return {
            "too high": replace(guess, low=2 * guess.high, high=4 * guess.high, expected=1),
            "too low": replace(guess, low=guess.low / 8, high=guess.low / 4),
            "nothing known": sample.Bracket(0.0, np.inf, 1),
            "a tie that is none": replace(guess, tied=guess.low * 1.25),
        }[wrong]

    monkeypatch.setattr(search, "bracket", misled)
    numbers = np.random.default_rng(11)
    costs = _costs([17, 30_000, 70_000], numbers, fixed=False)
    update = {
        x.name: DISTRIBUTIONS[distribution](numbers, x.parameters).astype(np.float32)
        for x in costs.layers
    }
    for share in (0.001, 0.05, 0.6):
        _same(TopK(costs), ReferenceTopK(costs), update, share * costs.dense_j)
    assert len(calls) == 3


@pytest.mark.parametrize("distribution", ["normal", "heavy tailed", "one outlier", "a grid"])
@pytest.mark.parametrize("share", [0.004, 0.1, 0.7])
def test_a_large_update_is_chosen_from_as_if_it_were_ranked_whole(
    distribution: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fixed charges: the pass above thresholds against the one that keeps everything."""
    numbers = np.random.default_rng(9)
    layers = tuple(
        LayerPrice(f"layer{number}", (size,), (1,), (400.0,), (1.0,), 400.0 + 0.3 * size, 0.15)
        for number, size in enumerate((90_000, 60_000, 5_000, 300, 10))
    )
    costs = SelectionCosts(layers, 1000.0)
    draw = DISTRIBUTIONS[distribution]
    update = {x.name: draw(numbers, x.parameters).astype(np.float32) for x in layers}
    budget_j = max(share * costs.dense_j, costs.cheapest_j)
    large = CostWeighted(costs).select(update, budget_j)
    monkeypatch.setattr(fixed_charge, "_SMALL", 10**9)
    whole = CostWeighted(costs).select(update, budget_j)
    assert large.energy_j <= budget_j
    assert large.captured >= whole.captured * (1 - 1e-6)
    assert whole.captured <= large.bound <= whole.bound * (1 + 1e-6)


def test_the_number_of_threads_changes_nothing() -> None:
    numbers = np.random.default_rng(3)
    costs = _costs([100, 90_000, 70_000, 5], numbers, fixed=True)
    update = {x.name: numbers.standard_normal(x.shape).astype(np.float32) for x in costs.layers}
    selections = [
        CostWeighted(costs, threads=threads).select(update, 0.1 * costs.dense_j)
        for threads in (1, 2, 3, 5)
    ]
    assert len({selection.captured for selection in selections}) == 1
    assert len({selection.total for selection in selections}) == 1
    assert all(_kept(selection) == _kept(selections[0]) for selection in selections)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 16_384, -1])
def test_what_is_not_finite_is_refused_wherever_it_stands(bad: float, place: int) -> None:
    costs = SelectionCosts.linear({"a": (3,), "b": (50_001,)}, {"a": 1.0, "b": 2.0})
    values = np.random.default_rng(0).standard_normal(50_001).astype(np.float32)
    values[place] = bad
    update = {"a": np.ones(3, dtype=np.float32), "b": values}
    for selector in (TopK(costs), CostWeighted(costs)):
        with pytest.raises(UpdateError, match="'b' holds NaN or inf in 1 of 50001 entries"):
            selector.select(update, 50.0)


def test_an_update_is_read_where_it_lies_and_not_changed() -> None:
    numbers = np.random.default_rng(1)
    costs = SelectionCosts.linear({"w": (300, 200)}, {"w": 1.0})
    whole = numbers.standard_normal((600, 200)).astype(np.float32)
    before = whole.copy()
    rows = {"w": whole[::2]}  # not contiguous
    turned = {"w": np.asfortranarray(whole[::2])}
    contiguous = {"w": whole[::2].copy()}
    selections = [CostWeighted(costs).select(x, 500.0) for x in (rows, turned, contiguous)]
    assert (whole == before).all()
    assert len({str(_kept(selection)) for selection in selections}) == 1


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.01, 0.9))
@settings(max_examples=30)
def test_the_score_of_the_paper_is_certified_for_the_sum_of_magnitudes(seed, share) -> None:
    numbers = np.random.default_rng(seed)
    costs = _costs([3, 40, 200], numbers, fixed=False)
    update = {x.name: numbers.standard_normal(x.shape).astype(np.float32) for x in costs.layers}
    budget_j = max(share * costs.dense_j, costs.cheapest_j)
    selection = CostWeighted(costs, 1, 1).select(update, budget_j)
    kept = sum(float(np.abs(x.values).astype(np.float64).sum()) for x in selection.layers)
    values = np.concatenate([np.abs(x).astype(np.float64) for x in update.values()])
    cost = np.repeat([x.marginal_j for x in costs.layers], [x.parameters for x in costs.layers])
    order = np.argsort(-values / cost)
    spent = np.cumsum(cost[order]) + costs.message_j
    fits = spent <= budget_j
    part = np.clip((budget_j - spent + cost[order]) / cost[order], 0, 1)
    limit = float((values[order] * np.where(fits, 1, part)).sum())
    assert selection.reached == pytest.approx(kept, rel=1e-12)
    assert selection.bound >= limit * (1 - 1e-9)
    assert selection.reached <= selection.bound * (1 + 1e-12)
    most = float(values.max() / cost.min() * cost.max())
    assert selection.bound - selection.reached <= most  # at most one entry short
