"""What the hook's state refuses, before any process is started; and the exchange alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cwmp import Budget, LayerPrice, SelectionCosts, TopK
from cwmp.integrations.ddp import CwmpState, cwmp_hook
from cwmp.integrations.exchange import Outcome, exchange
from profiler.errors import (
    BudgetError,
    CwmpError,
    InputError,
    LayerMismatchError,
    PayloadError,
    UpdateError,
)

SHAPES = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (2, 4), "1.bias": (2,)}
COSTS = SelectionCosts.linear(SHAPES, dict.fromkeys(SHAPES, 1e-9), message_j=1e-9)
CPU = torch.device("cpu")


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process only."""
    dist.init_process_group("gloo", f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _without(name: str) -> SelectionCosts:
    return SelectionCosts(tuple(layer for layer in COSTS.layers if layer.name != name))


@pytest.mark.parametrize(
    ("costs", "options", "error", "says"),
    [
        (_without("1.bias"), {}, LayerMismatchError, "'1.bias' of shape .2,. has no price"),
        (
            SelectionCosts(
                (*_without("1.bias").layers, LayerPrice("1.bias", (3,), (1,), (0,), (1,)))
            ),
            {},
            LayerMismatchError,
            "a price for shape .3,.",
        ),
        (COSTS, {"budget": "0.1 nJ"}, BudgetError, "opens no layer"),
        (COSTS, {"budget": "1 J"}, BudgetError, "above the dense cost"),
        (COSTS, {"start_after": -1}, InputError, "start_after is -1"),
        (COSTS, {"value_type": "int3"}, InputError, "'int3'"),
        (COSTS, {"rule": "topk"}, InputError, "'topk': .* class cwmp.TopK"),
        (COSTS, {"rule": TopK(COSTS)}, InputError, "of type TopK"),
        (COSTS, {"budget": -1e-9}, BudgetError, "positive"),
        (COSTS, {"budget": float("nan")}, BudgetError, "positive"),
        (COSTS, {"budget": None}, BudgetError, "of type NoneType"),
        (COSTS, {"budget": True}, BudgetError, "of type bool"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(
    costs: SelectionCosts, options: dict, error: type, says: str
) -> None:
    with pytest.raises(error, match=says):
        CwmpState(_model(), costs, **({"budget": "50%"} | options))


@pytest.mark.parametrize("budget", ["6 nJ", 6e-9, np.float64(6e-9), Budget(6e-9)])
def test_a_budget_in_joules_is_text_a_number_or_a_budget(budget: Any) -> None:
    assert CwmpState(_model(), COSTS, budget).budget_j == pytest.approx(6e-9)


def test_frozen_layers_need_no_price_and_pay_nothing() -> None:
    model = _model()
    model[0].requires_grad_(False)
    state = CwmpState(model, COSTS, Budget(0.5, relative=True), TopK)
    assert [layer.name for layer in state.costs.layers] == ["1.weight", "1.bias"]
    assert state.budget_j == pytest.approx(0.5 * 11e-9)
    assert "budget='50%'" in repr(state)


def test_a_parameter_of_another_model_is_named_by_its_shape() -> None:
    state = CwmpState(_model(), COSTS, "50%")
    with pytest.raises(LayerMismatchError, match=r"shape \(4, 3\) that the state's model lacks"):
        state.names_of(list(_model().parameters()))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"residual": {"other": np.zeros(3)}}, LayerMismatchError),
        ({"residual": {"1.bias": np.zeros(3)}}, LayerMismatchError),
        ({"residual": {"1.bias": np.array([np.nan, 0])}}, UpdateError),
    ],
)
def test_a_state_of_another_model_is_not_loaded(change: dict, error: type) -> None:
    state = CwmpState(_model(), COSTS, "50%")
    state.load_state_dict(state.state_dict() | {"residual": {"1.bias": np.ones(2)}, "rounds": 7})
    with pytest.raises(error):
        state.load_state_dict(state.state_dict() | change)
    with pytest.raises(InputError, match="lacks 'residual'"):
        state.load_state_dict({"rounds": 1, "bytes_sent": 0, "energy_j": 0.0})
    assert state.rounds == 7
    assert state.residual_norm == pytest.approx(np.sqrt(2))


@pytest.mark.usefixtures("alone")
def test_a_checkpoint_is_read_without_unpickling(tmp_path: Path) -> None:
    model = _model()
    state, _ = _after_a_step(model)
    torch.save({"model": model.state_dict(), "cwmp": state.state_dict()}, tmp_path / "rank0.pt")
    saved = torch.load(tmp_path / "rank0.pt", weights_only=True)["cwmp"]
    assert all(isinstance(residual, Tensor) for residual in saved["residual"].values())
    arrays = {name: residual.numpy() for name, residual in saved["residual"].items()}
    for residual in (saved["residual"], arrays):
        other = CwmpState(_model(), COSTS, "50%")
        other.load_state_dict(saved | {"residual": residual})
        assert other.residual_norm == state.residual_norm > 0
        assert (other.rounds, other.bytes_sent) == (1, state.bytes_sent)
        assert other.energy_j == state.energy_j > 0


@pytest.mark.usefixtures("alone")
def test_a_saved_state_is_a_copy() -> None:
    state, ddp = _after_a_step(_model())
    saved = state.state_dict()
    kept = {name: residual.clone() for name, residual in saved["residual"].items()}
    ddp(torch.ones(8, 3)).square().sum().backward()
    assert state.residual_norm > 0
    assert all(torch.equal(kept[name], saved["residual"][name]) for name in SHAPES)
    assert any(
        not torch.equal(kept[name], residual)
        for name, residual in state.state_dict()["residual"].items()
    )


@pytest.mark.usefixtures("alone")
def test_after_nan_a_new_model_and_wrapper_go_on_from_a_checkpoint() -> None:
    model = _model()
    state, ddp = _after_a_step(model)
    saved, weights = state.state_dict(), model.state_dict()
    with pytest.raises(UpdateError, match="NaN"):
        ddp(torch.full((8, 3), torch.nan)).square().sum().backward()
    model = _model()  # the old wrapper's hooks are still on the old parameters
    model.load_state_dict(weights)
    other = CwmpState(model, COSTS, "50%")
    other.load_state_dict(saved)
    again = nn.parallel.DistributedDataParallel(model)
    again.register_comm_hook(other, cwmp_hook)
    again(torch.ones(8, 3)).square().sum().backward()
    assert other.rounds == 2
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def _after_a_step(model: nn.Module) -> tuple[CwmpState, nn.Module]:
    """The state after one backward pass, and the wrapped model."""
    ddp = nn.parallel.DistributedDataParallel(model)
    state = CwmpState(model, COSTS, "50%")
    ddp.register_comm_hook(state, cwmp_hook)
    ddp(torch.linspace(-1, 1, 24).view(8, 3)).square().sum().backward()
    return state, ddp


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_one_process_sends_its_own_selection(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = _model().to(dtype)
    ddp = nn.parallel.DistributedDataParallel(model)
    state = CwmpState(ddp, COSTS, "50%")
    ddp.register_comm_hook(state, cwmp_hook)
    ddp(torch.randn(8, 3, dtype=dtype)).square().sum().backward()
    kept = sum(int(p.grad.count_nonzero()) for p in model.parameters())
    assert kept == 12
    assert state.energy_j == pytest.approx(13e-9)
    assert state.residual_norm > 0


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("content", [b"", b"a payload"])
def test_a_rank_hears_itself(content: bytes) -> None:
    assert exchange(Outcome(content), 100, None, CPU) == [Outcome(content)]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "outcome", [Outcome(bytes(101)), Outcome(bytes(1001), 1), Outcome(b"x", -1), Outcome(b"", 256)]
)
def test_no_rank_makes_another_allocate_more_than_the_model(outcome: Outcome) -> None:
    with pytest.raises(PayloadError, match="rank 0 announces"):
        exchange(outcome, 100, None, CPU)


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (BudgetError("too small"), "BudgetError: rank 3: too small"),
        (UpdateError("two\nlines"), "UpdateError: rank 3: two lines"),
        (MemoryError("all of it"), "InputError: rank 3: MemoryError: all of it"),
        (UpdateError("ä" * 2000), None),
    ],
)
def test_an_error_travels_as_its_class_and_text(error: Exception, seen: str | None) -> None:
    outcome = Outcome.of_error(error)
    assert outcome.status > 0 and len(outcome.content) <= 1000
    raised = outcome.error("rank 3")
    assert isinstance(raised, CwmpError)
    assert seen is None or f"{type(raised).__name__}: {raised}" == seen
    assert isinstance(Outcome(b"?", 77).error("rank 3"), InputError)
