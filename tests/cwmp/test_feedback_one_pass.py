"""Error feedback in the selector's own pass: the formula, whatever the pass runs into."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp import CostWeighted, ErrorFeedback, SelectionCosts, TopK
from cwmp.selectors import search
from cwmp.selectors.reference import ReferenceCostWeighted, ReferenceTopK
from profiler.errors import BudgetError, UpdateError

SHAPES = {"a": (7,), "b": (90, 300), "c": (40_000,)}
RULES = [(TopK, ReferenceTopK), (CostWeighted, ReferenceCostWeighted)]


def _costs(fixed: float = 0.0) -> SelectionCosts:
    return SelectionCosts.linear(
        SHAPES, {"a": 1.0, "b": 3.0, "c": 0.5}, dict.fromkeys(SHAPES, fixed), message_j=fixed
    )


def _update(seed: int, kind: type = np.float32, scale: float = 1.0) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return {n: (scale * numbers.standard_normal(s)).astype(kind) for n, s in SHAPES.items()}


def _by_hand(rule, rounds: list[dict[str, np.ndarray]], budget_j: float):
    """(selection, residual) of each round, from the formula and the slow rule."""
    residual = {name: np.zeros(shape, dtype=np.float32) for name, shape in SHAPES.items()}
    for update in rounds:
        for name, values in update.items():
            residual[name] += values
        selection = rule.select(residual, budget_j)
        kept = {x.name: (x.indices.copy(), x.values.copy()) for x in selection.layers}
        for layer in selection.layers:
            residual[layer.name].reshape(-1)[layer.indices] = 0
        yield kept, {name: values.copy() for name, values in residual.items()}


def _agrees(feedback: ErrorFeedback, slow, rounds, budget_j: float) -> None:
    for update, (kept, residual) in zip(rounds, _by_hand(slow, rounds, budget_j), strict=True):
        before = {name: values.copy() for name, values in update.items()}
        selection = feedback.select(update, budget_j)
        assert [x.name for x in selection.layers] == list(kept)
        for layer in selection.layers:
            np.testing.assert_array_equal(layer.indices, kept[layer.name][0])
            np.testing.assert_array_equal(layer.values, kept[layer.name][1])
        for name, values in feedback.state_dict().items():
            np.testing.assert_array_equal(values, residual[name])
        for name, values in update.items():
            np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize(("fast", "slow"), RULES)
@given(
    seed=st.integers(0, 2**31),
    share=st.floats(0.001, 0.5),
    kind=st.sampled_from([np.float32, np.float16]),
    threads=st.integers(1, 3),
    check=st.booleans(),
)
@settings(max_examples=8)
def test_rounds_follow_the_formula(fast, slow, seed, share, kind, threads, check) -> None:
    costs = _costs()
    rounds = [_update(seed + number, kind) for number in range(4)]
    feedback = ErrorFeedback(fast(costs, threads=threads), check=check)
    _agrees(feedback, slow(costs), rounds, share * costs.dense_j)


@pytest.mark.parametrize("wrong", ["too high", "too low", "a tie that is none"])
def test_an_update_is_added_once_however_often_it_is_read(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = search.bracket

    def misled(*arguments):
        guess = honest(*arguments)
        return {
            "too high": replace(guess, low=3 * guess.high, high=4 * guess.high, expected=1),
            "too low": replace(guess, low=guess.low / 8, high=guess.low / 4),
            "a tie that is none": replace(guess, tied=1.25 * guess.low),
        }[wrong]

    monkeypatch.setattr(search, "bracket", misled)
    costs = _costs()
    rounds = [_update(number) for number in range(3)]
    _agrees(ErrorFeedback(TopK(costs)), ReferenceTopK(costs), rounds, 0.02 * costs.dense_j)


def test_a_rule_with_fixed_charges_adds_once_too() -> None:
    costs = _costs(fixed=50.0)
    feedback = ErrorFeedback(CostWeighted(costs))
    total = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for number in range(5):
        update = _update(number)
        selection = feedback.select(update, 0.05 * costs.dense_j)
        for name, values in update.items():
            total[name] += values
        for layer in selection.layers:
            total[layer.name].reshape(-1)[layer.indices] -= layer.values
        for name, waiting in feedback.state_dict().items():
            np.testing.assert_allclose(waiting, total[name], atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_update_is_refused_before_it_is_added(bad: float) -> None:
    costs = _costs()
    feedback = ErrorFeedback(CostWeighted(costs))
    for number in range(2):
        feedback.select(_update(number), 0.05 * costs.dense_j)
    before = feedback.state_dict()
    update = _update(2)
    update["c"][-1] = bad
    with pytest.raises(UpdateError, match="'c' holds NaN or inf in 1 of 40000"):
        feedback.select(update, 0.05 * costs.dense_j)
    for name, values in feedback.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def test_without_the_check_a_bad_update_costs_the_residual_and_says_so() -> None:
    costs = _costs()
    feedback = ErrorFeedback(CostWeighted(costs), check=False)
    for number in range(2):
        feedback.select(_update(number), 0.05 * costs.dense_j)
    update = _update(2)
    update["c"][-1] = np.nan
    with pytest.raises(UpdateError, match="residual is lost"):
        feedback.select(update, 0.05 * costs.dense_j)
    assert feedback.state_dict() == {}
    assert feedback.residual_norm == 0


def test_what_is_refused_before_it_is_read_costs_nothing_even_without_the_check() -> None:
    costs = _costs()
    feedback = ErrorFeedback(CostWeighted(costs), check=False)
    feedback.select(_update(0), 0.05 * costs.dense_j)
    before = feedback.state_dict()
    whole = {name: values.astype(np.int32) for name, values in _update(1).items()}
    with pytest.raises(UpdateError, match="holds int32"):
        feedback.select(whole, 0.05 * costs.dense_j)
    for name, values in feedback.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def test_a_sum_beyond_float32_is_refused_and_changes_nothing() -> None:
    costs = _costs()
    feedback = ErrorFeedback(TopK(costs))
    huge = {name: np.full(shape, 3e38, dtype=np.float32) for name, shape in SHAPES.items()}
    feedback.select(huge, 0.05 * costs.dense_j)
    before = feedback.state_dict()
    with pytest.raises(UpdateError, match="NaN or inf"):
        feedback.select(huge, 0.05 * costs.dense_j)
    for name, values in feedback.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def test_a_budget_that_opens_no_layer_with_entries_changes_nothing() -> None:
    shapes = {"cheap": (4,), "dear": (4,)}
    costs = SelectionCosts.linear(shapes, {"cheap": 1.0, "dear": 1.0}, {"cheap": 0.0, "dear": 9.0})
    feedback = ErrorFeedback(TopK(costs))
    zeros = {name: np.zeros(4, dtype=np.float32) for name in shapes}
    feedback.select(zeros, 5.0)
    update = {**zeros, "dear": np.ones(4, dtype=np.float32)}
    with pytest.raises(BudgetError, match="opens no layer in which the update has an entry"):
        feedback.select(update, 5.0)
    assert feedback.residual_norm == 0
