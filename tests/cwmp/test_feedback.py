"""Error feedback against the obvious formula, and what it refuses without forgetting anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cwmp import (
    CostWeighted,
    Dense,
    ErrorFeedback,
    LayerSelection,
    PriceSelector,
    RandomK,
    Selection,
    SelectionCosts,
    TopK,
)
from cwmp.feedback import as_received
from profiler.errors import BudgetError, InputError, LayerMismatchError, UpdateError

SHAPES = {"conv": (4, 3, 2), "bias": (4,), "head": (5, 6)}
COSTS = SelectionCosts.linear(SHAPES, {"conv": 1.0, "bias": 5.0, "head": 2.0}, {"head": 3.0})


def _update(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return {
        name: (scale * numbers.laplace(size=shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def _dense_of(selection: Selection) -> dict[str, np.ndarray]:
    whole = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for layer in selection.layers:
        whole[layer.name].reshape(-1)[layer.indices] = layer.values
    return whole


def _equal(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[n], right[n]) for n in left)


@given(
    seed=st.integers(0, 2**32 - 1),
    shares=st.lists(st.floats(0.12, 1.0), min_size=1, max_size=6),
    exponents=st.sampled_from([(2, 1), (1, 1), (1, 0)]),
)
def test_it_is_the_formula(seed: int, shares: list[float], exponents: tuple[int, int]) -> None:
    selector = CostWeighted(COSTS, *exponents)
    feedback = ErrorFeedback(selector)
    residual = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for number, share in enumerate(shares):
        update = _update(seed + number)
        residual = {name: residual[name] + update[name] for name in SHAPES}
        expected = selector.select(residual, share * COSTS.dense_j)
        sent = _dense_of(expected)
        residual = {name: residual[name] - sent[name] for name in SHAPES}

        got = feedback.select(update, share * COSTS.dense_j)

        assert _equal(_dense_of(got), sent)
        assert (got.energy_j, got.captured, got.bound) == (
            expected.energy_j,
            expected.captured,
            expected.bound,
        )
        assert _equal(feedback.state_dict(), residual)


@pytest.mark.parametrize("rule", [TopK, CostWeighted, RandomK])
def test_sent_and_waiting_add_up_to_all_updates(rule: type) -> None:
    feedback = ErrorFeedback(rule(COSTS))
    draws = np.random.default_rng(1)
    balance = {name: np.zeros(shape, np.float64) for name, shape in SHAPES.items()}
    largest = 0.0
    for seed in range(60):
        update = _update(seed, scale=10.0 ** (seed % 5 - 2))
        sent = _dense_of(feedback.select(update, 0.3 * COSTS.dense_j, generator=draws))
        for name in SHAPES:
            balance[name] += update[name].astype(np.float64) - sent[name]
        waiting = feedback.state_dict()
        largest = max(
            largest, *(float(np.abs(x).max()) for x in (*update.values(), *sent.values()))
        )
        for name in SHAPES:
            assert np.abs(balance[name] - waiting[name]).max() <= 60 * 2.0**-24 * largest
    assert feedback.residual_norm > 0


def test_what_was_sent_waits_as_exactly_zero_and_the_norm_is_that_of_the_rest() -> None:
    feedback = ErrorFeedback(TopK(COSTS))
    selection = feedback.select(_update(3), 0.4 * COSTS.dense_j)
    waiting = feedback.state_dict()
    for layer in selection.layers:
        assert not waiting[layer.name].reshape(-1)[layer.indices].any()
    assert feedback.residual_norm == pytest.approx(np.sqrt(selection.total - selection.captured))


def test_dense_sends_all_and_keeps_its_values_though_the_residual_is_zeroed() -> None:
    feedback = ErrorFeedback(Dense(COSTS))
    update = _update(4)
    before = {name: array.copy() for name, array in update.items()}
    assert _equal(_dense_of(feedback.select(update, COSTS.dense_j)), before)
    assert _equal(update, before)
    assert feedback.residual_norm == 0


def test_what_a_short_value_type_loses_waits() -> None:
    feedback = ErrorFeedback(CostWeighted(COSTS), sent_values=as_received("float16"))
    update = _update(5)
    selection = feedback.select(update, 0.5 * COSTS.dense_j)
    waiting = feedback.state_dict()
    lost = 0
    for layer in selection.layers:
        arrived = layer.values.astype(np.float16).astype(np.float32)
        rest = waiting[layer.name].reshape(-1)[layer.indices]
        assert np.array_equal(rest, layer.values - arrived)
        lost += np.count_nonzero(rest)
    assert lost > 0
    assert as_received("float32") is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_are_taken_in_every_float_type(dtype: torch.dtype) -> None:
    feedback = ErrorFeedback(TopK(COSTS))
    tensors = {
        name: torch.from_numpy(array).to(dtype).requires_grad_()
        for name, array in _update(6).items()
    }
    selection = feedback.select(tensors, 0.2 * COSTS.dense_j)
    waiting, sent = feedback.state_dict(), _dense_of(selection)
    for name, tensor in tensors.items():
        assert waiting[name].dtype == np.float32
        assert np.array_equal(waiting[name] + sent[name], tensor.detach().float().numpy())


def _with(update: dict[str, np.ndarray], name: str, value: float) -> dict[str, np.ndarray]:
    update[name].reshape(-1)[1] = value
    return update


REFUSED = {
    "NaN": (_with(_update(1), "head", np.nan), 20.0, UpdateError),
    "infinity": (_with(_update(1), "bias", -np.inf), 20.0, UpdateError),
    "beyond float32": (
        {n: np.full(s, 1e300) for n, s in SHAPES.items()},
        20.0,
        UpdateError,
    ),
    "a layer less": (
        {n: a for n, a in _update(1).items() if n != "bias"},
        20.0,
        LayerMismatchError,
    ),
    "a layer more": (_update(1) | {"x": np.ones(2)}, 20.0, LayerMismatchError),
    "a shape that broadcasts": (
        _update(1) | {"head": np.ones((1, 6), np.float32)},
        20.0,
        LayerMismatchError,
    ),
    "integers": ({n: np.ones(s, int) for n, s in SHAPES.items()}, 20.0, UpdateError),
    "a budget too small": (_update(1), 0.1, BudgetError),
    "a budget above dense": (_update(1), 1e9, BudgetError),
}


@pytest.mark.parametrize("first", [True, False], ids=["first round", "later"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_update_leaves_the_residual_as_it_was(case: str, first: bool) -> None:
    update, budget_j, error = REFUSED[case]
    feedback = ErrorFeedback(CostWeighted(COSTS))
    if not first:
        feedback.select(_update(0), 20.0)
    before = feedback.state_dict()
    with pytest.raises(error) as caught:
        feedback.select(update, budget_j)
    assert "\n" not in str(caught.value)
    assert _equal(feedback.state_dict(), before)


def test_a_value_that_no_receiver_can_read_is_refused_before_anything_is_forgotten() -> None:
    feedback = ErrorFeedback(CostWeighted(COSTS), sent_values=as_received("float16"))
    feedback.select(_update(0), 20.0)
    before = feedback.state_dict()
    with pytest.raises(UpdateError, match="beyond float16"):
        feedback.select(_with(_update(1), "conv", 1e6), 20.0)
    assert _equal(feedback.state_dict(), before)


@pytest.mark.parametrize("wrong", [np.zeros(1), np.full(1000, np.nan)])
def test_a_hook_of_another_length_or_with_nan_is_refused(wrong: np.ndarray) -> None:
    def hook(layer: LayerSelection) -> np.ndarray:
        return np.resize(wrong, layer.values.size + (wrong.size == 1))

    feedback = ErrorFeedback(TopK(COSTS), sent_values=hook)
    with pytest.raises(UpdateError, match="finite values"):
        feedback.select(_update(0), 20.0)
    assert feedback.state_dict() == {}


def test_a_sender_goes_on_from_its_saved_state() -> None:
    one, other = ErrorFeedback(CostWeighted(COSTS)), ErrorFeedback(CostWeighted(COSTS))
    one.select(_update(0), 20.0)
    saved = one.state_dict()
    other.load_state_dict(dict(reversed(saved.items())))
    saved["conv"][:] = 9.0
    for seed in (1, 2):
        selections = [x.select(_update(seed), 20.0) for x in (one, other)]
        assert _equal(*(_dense_of(selection) for selection in selections))
    one.load_state_dict({})
    assert one.residual_norm == 0
    other.reset()
    assert other.state_dict() == {}


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"conv": np.zeros((4, 3, 2))}, LayerMismatchError),
        (_update(0) | {"x": np.zeros(1)}, LayerMismatchError),
        (_update(0) | {"bias": np.zeros((2, 2))}, LayerMismatchError),
        (_with(_update(0), "conv", np.nan), UpdateError),
        (_update(0) | {"bias": np.full(4, 1e300)}, UpdateError),
        (_update(0) | {"bias": np.zeros(4, dtype="U3")}, UpdateError),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state: dict[str, Any], error: type) -> None:
    feedback = ErrorFeedback(CostWeighted(COSTS))
    feedback.select(_update(0), 20.0)
    before = feedback.state_dict()
    with pytest.raises(error):
        feedback.load_state_dict(state)
    assert _equal(feedback.state_dict(), before)


def test_it_shows_what_it_is_made_of() -> None:
    feedback = ErrorFeedback(TopK(COSTS))
    assert repr(feedback).startswith("ErrorFeedback(selector=")
    assert "check=True" in repr(feedback)


def test_a_rule_that_spends_no_budget_is_refused() -> None:
    with pytest.raises(InputError, match="PriceSelector spends no budget"):
        ErrorFeedback(PriceSelector(COSTS))  # type: ignore[arg-type]
