"""Gradients within a budget, in the loops of torch.optim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cwmp import CostWeighted, ErrorFeedback, RandomK, SelectionCosts, TopK
from cwmp.fl.data import load_data
from cwmp.fl.models import build_model
from cwmp.integrations.optim import as_stored, sparsify_gradients
from profiler.errors import BudgetError, InputError, LayerMismatchError, UpdateError

SHAPES = {"0.weight": (3, 2, 3, 3), "0.bias": (3,), "2.weight": (4, 3), "2.bias": (4,)}
COSTS = SelectionCosts.linear(SHAPES, {n: 1.0 + i for i, n in enumerate(SHAPES)})
BUDGET_J = 0.3 * COSTS.dense_j


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _model(dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 4)).to(dtype)
    numbers = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=numbers).to(dtype)
    return model


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.detach().clone() for name, p in model.named_parameters()}


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(np.asarray(one[n]), np.asarray(other[n])) for n in one | other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_keep_the_selection_and_nothing_else(dtype: torch.dtype) -> None:
    model = _model(dtype)
    before = _gradients(model)
    expected = CostWeighted(COSTS).select(before, BUDGET_J)
    selection = sparsify_gradients(model, CostWeighted(COSTS), BUDGET_J)
    assert [x.indices.tolist() for x in selection.layers] == [
        x.indices.tolist() for x in expected.layers
    ]
    kept = {layer.name: layer.indices for layer in selection.layers}
    for name, gradient in _gradients(model).items():
        mask = torch.zeros(gradient.numel(), dtype=torch.bool)
        mask[torch.from_numpy(np.array(kept.get(name, [])))] = True
        assert gradient.dtype == dtype
        assert torch.equal(gradient, before[name] * mask.view(gradient.shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_with_feedback_nothing_is_lost_whatever_the_type(dtype: torch.dtype) -> None:
    model = _model(dtype)
    feedback = ErrorFeedback(CostWeighted(COSTS), sent_values=as_stored(model))
    given = {n: np.zeros(s) for n, s in SHAPES.items()}
    kept = {n: np.zeros(s) for n, s in SHAPES.items()}
    for seed in range(20):
        for (name, p), other in zip(
            model.named_parameters(), _model(dtype, seed).parameters(), strict=True
        ):
            p.grad = other.grad
            given[name] += p.grad.double().numpy()
        sparsify_gradients(model.named_parameters(), feedback, BUDGET_J)
        for name, gradient in _gradients(model).items():
            kept[name] += gradient.double().numpy()
    for name, waiting in feedback.state_dict().items():
        assert np.abs(given[name] - kept[name] - waiting).max() < 1e-4
        assert np.abs(kept[name]).max() > 0


def test_a_channels_last_gradient_is_kept_entry_for_entry() -> None:
    plain, other = _model(), _model()
    other[0].weight.grad = other[0].weight.grad.to(memory_format=torch.channels_last)
    for model in (plain, other):
        sparsify_gradients(model, TopK(COSTS), BUDGET_J)
    assert _equal(_gradients(plain), _gradients(other))


def test_a_parameter_without_gradient_is_skipped_until_its_residual_is_selected() -> None:
    model = _model()
    feedback = ErrorFeedback(TopK(COSTS))
    model[2].bias.grad = None
    sparsify_gradients(model, feedback, BUDGET_J)
    assert model[2].bias.grad is None
    feedback.load_state_dict(feedback.state_dict() | {"2.bias": np.array([0, 99.0, 0, 0])})
    sparsify_gradients(model, feedback, BUDGET_J)
    assert model[2].bias.grad.tolist() == [0, 99, 0, 0]


def test_frozen_parameters_are_left_alone() -> None:
    model = _model()
    model[0].requires_grad_(False)
    before = _gradients(model)
    costs = SelectionCosts(COSTS.layers[2:])
    sparsify_gradients(model, RandomK(costs), 8.0, generator=np.random.default_rng(0))
    after = _gradients(model)
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert after["2.weight"].count_nonzero() < 12


def _sparse(model: nn.Module) -> None:
    weight = model.get_parameter("2.weight")
    weight.grad = weight.grad.to_sparse()


def _nan(model: nn.Module) -> None:
    model.get_parameter("0.bias").grad[1] = torch.nan


def _huge(model: nn.Module) -> None:
    """What waits and what comes add up to more than float16 holds."""
    model.get_parameter("0.bias").grad[1] = 60_000


@pytest.mark.parametrize(
    ("spoil", "dtype", "budget_j", "error", "says"),
    [
        (_sparse, torch.float32, BUDGET_J, UpdateError, "'2.weight' is sparse"),
        (_nan, torch.float32, BUDGET_J, UpdateError, "NaN or inf"),
        (_huge, torch.float16, BUDGET_J, UpdateError, "'0.bias'"),
        (None, torch.float32, 0.01, BudgetError, "opens no layer"),
        (None, torch.float32, -1.0, BudgetError, "positive"),
    ],
)
def test_what_is_refused_leaves_gradients_and_residual_as_they_were(
    spoil: Any, dtype: torch.dtype, budget_j: float, error: type, says: str
) -> None:
    model = _model(dtype)
    feedback = ErrorFeedback(TopK(COSTS), sent_values=as_stored(model))
    feedback.load_state_dict({n: np.full(s, 50_000.0) for n, s in SHAPES.items()})
    if spoil:
        spoil(model)
    before = {n: p.grad.to_dense().clone() for n, p in model.named_parameters()}
    waiting = feedback.state_dict()
    with pytest.raises(error, match=says):
        sparsify_gradients(model, feedback, budget_j)
    after = {n: p.grad.to_dense() for n, p in model.named_parameters()}
    assert all(torch.equal(before[n].nan_to_num(7), after[n].nan_to_num(7)) for n in before)
    assert _equal(feedback.state_dict(), waiting)


def test_costs_of_another_model_are_refused() -> None:
    with pytest.raises(LayerMismatchError, match=r"0\.weight"):
        sparsify_gradients(_model(), TopK(SelectionCosts(COSTS.layers[1:])), BUDGET_J)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda model: model.parameters(),
        lambda model: [torch.zeros(2, 3)],  # a pair of rows is no pair of name and tensor
        lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        lambda model: dict(model.named_parameters()),
        lambda model: [("0.weight", None)],
        lambda model: [(1, model[0].weight)],
        lambda model: torch.tensor(1.0),
    ],
)
def test_parameters_without_names_are_refused(wrong: Any) -> None:
    model = _model()
    before = _gradients(model)
    with pytest.raises(InputError, match=r"module or module\.named_parameters\(\)"):
        sparsify_gradients(wrong(model), TopK(COSTS), BUDGET_J)
    with pytest.raises(InputError, match="without names"):
        as_stored(wrong(model))
    assert _equal(_gradients(model), before)


def test_rounding_to_short_gradients_may_not_be_forgotten() -> None:
    with pytest.raises(InputError, match="as_stored"):
        sparsify_gradients(_model(torch.bfloat16), ErrorFeedback(TopK(COSTS)), BUDGET_J)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_a_loop_learns_on_a_tenth_of_the_joules(make: type[torch.optim.Optimizer]) -> None:
    data = load_data("digits")
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    model = build_model("mlp", (1, 8, 8), 10, seed=1)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    costs = SelectionCosts.linear(shapes, dict.fromkeys(shapes, 1.0))
    feedback = ErrorFeedback(CostWeighted(costs))
    optimizer = make(model.parameters(), lr=0.1 if make is torch.optim.SGD else 0.003)
    losses = []
    for step in range(40):
        rows = torch.arange(64 * step, 64 * step + 64) % len(x)
        optimizer.zero_grad()
        loss = cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        selection = sparsify_gradients(model, feedback, 0.1 * costs.dense_j)
        assert selection.energy_j <= 0.1 * costs.dense_j
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.3 * losses[0]
