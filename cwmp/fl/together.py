"""Several clients of a small model trained in one go: `torch.func.vmap` over their weights.

For models whose steps are all overhead (a perceptron of some thousand weights) a hundred clients
cost little more a step than one. Convolutions do not gain, and models with running statistics or
dropout cannot be stacked: `can_train_together` says which are left. The result is that of
`Trainer.train` client by client, up to float32's rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.states import LocalResult, ModelState, batches_of
from cwmp.fl.training import Trainer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MOST_PARAMETERS = 300_000
"""Above this a step computes more than it waits."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one client asks of `Trainer.train`; the arguments are its."""

    state: ModelState
    x: Tensor
    y: Tensor
    generator: np.random.Generator
    lr_factor: float = 1.0


def can_train_together(trainer: Trainer, x: Tensor, y: Tensor) -> bool:
    """Whether the model is small, made of linear layers and what has no state, and stacks.

    Args:
        trainer: of the model.
        x, y: an example or some, on which it is tried.
    """
    import torch
    from torch import nn

    parts = [part for part in trainer.model.modules() if not list(part.children())]
    owners = [part for part in parts if list(part.parameters(recurse=False))]
    simple = (
        all(isinstance(part, nn.Linear) for part in owners)
        and not list(trainer.model.buffers())
        and not any("Dropout" in type(part).__name__ for part in parts)
        and sum(layer.parameters for layer in trainer.layers) <= MOST_PARAMETERS
    )
    if not simple:
        return False
    held = {name: w[None] for name, w in dict(trainer.model.named_parameters()).items()}
    try:
        _stacked_gradients(trainer)(held, x[None, :1], y[None, :1], torch.ones(1, 1))
    except Exception:  # whatever torch says of code that it cannot stack
        return False
    return True


def train_together(trainer: Trainer, requests: Sequence[Request]) -> list[LocalResult]:
    """Local SGD of every request at once; one result each, in their order.

    Lanes stand in order of falling length, so that those that have finished are left out of
    the steps that remain.

    Raises:
        InputError: the model cannot be trained on these examples.
    """
    import torch

    plans = [_plan(request, trainer) for request in requests]
    order = sorted(range(len(plans)), key=lambda lane: -len(plans[lane]))
    lanes = [requests[lane] for lane in order]
    steps = [plans[lane] for lane in order]
    weights = {
        layer.name: torch.from_numpy(
            np.stack([request.state.parameters[layer.name] for request in lanes])
        )
        for layer in trainer.layers
    }
    before = {name: stacked.clone() for name, stacked in weights.items()}
    losses = _descend(trainer, lanes, steps, weights)
    results: list[LocalResult | None] = [None] * len(requests)
    change = {name: (weights[name] - before[name]).numpy() for name in weights}
    for place, lane in enumerate(order):
        results[lane] = LocalResult(
            delta={name: stacked[place] for name, stacked in change.items()},
            buffers={},
            batches=tuple(len(step) for step in steps[place]),
            loss=float(np.mean(losses[place])),
        )
    return [result for result in results if result is not None]


def _plan(request: Request, trainer: Trainer) -> list[NDArray[np.int64]]:
    """The examples of each step, drawn as `Trainer.train` draws them."""
    request.generator.integers(2**63)  # the seed of what a model draws itself
    steps = []
    for _ in range(trainer.plan.epochs):
        order = request.generator.permutation(len(request.y))
        steps += [order[part] for part in batches_of(len(order), trainer.plan.batch_size)]
    return steps


def _descend(
    trainer: Trainer,
    lanes: Sequence[Request],
    steps: Sequence[Sequence[NDArray[np.int64]]],
    weights: Mapping[str, Tensor],
) -> list[list[float]]:
    """Take every step in place; the loss of each, by lane."""
    import torch

    plan = trainer.plan
    x, y = torch.cat([lane.x for lane in lanes]), torch.cat([lane.y for lane in lanes])
    starts = np.cumsum([0, *(len(lane.y) for lane in lanes)])[:-1]
    rates = torch.tensor([plan.lr * lane.lr_factor for lane in lanes])
    velocity = {name: torch.zeros_like(w) for name, w in weights.items()} if plan.momentum else None
    losses: list[list[float]] = [[] for _ in lanes]
    gradients = _stacked_gradients(trainer)
    for number in range(max(len(lane) for lane in steps)):
        active = sum(len(lane) > number for lane in steps)
        chosen = [steps[lane][number] + starts[lane] for lane in range(active)]
        index, share = _padded(chosen)
        held = {name: w[:active] for name, w in weights.items()}
        found, loss = gradients(held, x[index], y[index], share)
        for lane, value in enumerate(loss.tolist()):
            losses[lane].append(value)
        with torch.no_grad():
            _step(held, found, velocity, rates[:active], plan.momentum, plan.weight_decay)
    return losses


def _stacked_gradients(trainer: Trainer) -> Callable[..., tuple[dict[str, Tensor], Tensor]]:
    """(weights, x, y, shares), all by lane -> (gradients, losses) by lane."""
    from torch.func import functional_call, grad_and_value, vmap
    from torch.nn import functional

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor, share: Tensor) -> Tensor:
        scores = functional_call(trainer.model, weights, (x,))
        return (functional.cross_entropy(scores, y, reduction="none") * share).sum()

    stacked: Callable[..., tuple[dict[str, Tensor], Tensor]] = vmap(grad_and_value(loss))
    return stacked


def _padded(chosen: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Indices of equal length, and each example's share of its lane's mean; 0 for padding."""
    import torch

    width = max(part.size for part in chosen)
    index = np.zeros((len(chosen), width), dtype=np.int64)
    share = np.zeros((len(chosen), width), dtype=np.float32)
    for lane, part in enumerate(chosen):
        index[lane, : part.size] = part
        share[lane, : part.size] = 1 / part.size
    return torch.from_numpy(index), torch.from_numpy(share)


def _step(
    weights: Mapping[str, torch.Tensor],
    gradients: Mapping[str, torch.Tensor],
    velocity: Mapping[str, torch.Tensor] | None,
    rates: Tensor,
    momentum: float,
    decay: float,
) -> None:
    """v <- m v + (g + d w); w <- w - lr v, lane by lane."""
    for name, held in weights.items():
        step = gradients[name]
        if decay:
            step = step.add(held, alpha=decay)
        if velocity is not None:
            step = velocity[name][: len(held)].mul_(momentum).add_(step)
        held.sub_(step * rates.view(-1, *(1,) * (held.ndim - 1)))
