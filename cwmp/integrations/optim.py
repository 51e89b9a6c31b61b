"""Gradients within a joule budget for any ``torch.optim`` loop: one call before the step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cwmp.feedback import ErrorFeedback, SentValues
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.base import Selector
from profiler.errors import InputError, UpdateError

Parameters = nn.Module | Iterable[tuple[str, Tensor]]
"""A module, or what its ``named_parameters()`` gives."""

_SHORT = (torch.float16, torch.bfloat16)


def sparsify_gradients(
    parameters: Parameters,
    selector: Selector | ErrorFeedback,
    budget_j: float,
    *,
    generator: np.random.Generator | None = None,
) -> Selection:
    """Keep of all gradients, in place, what *selector* selects; the rest becomes zero.

    Call it between ``loss.backward()`` and ``optimizer.step()``. With an `ErrorFeedback` what
    is not kept waits, and the gradients become what was selected of residual + gradient.

    The selection's ``energy_j`` is what sending it and applying its entries alone costs at a
    receiver. It is not the energy of the ``optimizer.step()`` that follows here, which is dense:
    it reads zeros too, and with momentum, Adam or weight decay it moves their weights.

    Parameters that do not train are left out. One that trains and has no gradient counts as
    zeros; it gets a gradient only if something of its residual is selected. Selection is on the
    CPU; gradients on another device are copied there and back. Whatever is raised, gradients
    and residual are as they were.

    Args:
        parameters: a module or its ``named_parameters()``; names and shapes are those of the
            selector's costs.
        selector: a rule, or an `ErrorFeedback` around one.
        budget_j: joules of this step's selection.
        generator: for rules that draw.

    Returns:
        The selection, e.g. for `cwmp.encode`.

    Raises:
        InputError: *parameters* is neither a module nor pairs of a name and a tensor; or
            gradients are float16 or bfloat16, and an `ErrorFeedback` does not keep what rounding
            to them loses: give it ``sent_values=as_stored(parameters)``.
        UpdateError: a gradient is sparse, holds NaN or inf, or is not of a float type.
        LayerMismatchError, BudgetError: as the selector's.

    >>> from cwmp import ErrorFeedback, SelectionCosts, TopK
    >>> layer = nn.Linear(3, 1, bias=False)
    >>> layer.weight.grad = torch.tensor([[0.5, -2.0, 1.0]])
    >>> feedback = ErrorFeedback(TopK(SelectionCosts.linear({"weight": (1, 3)}, {"weight": 1.0})))
    >>> sparsify_gradients(layer, feedback, budget_j=1.0).entries
    1
    >>> layer.weight.grad.tolist()
    [[0.0, -2.0, 0.0]]
    """
    trained = _trained(parameters)
    _check(trained, selector)
    update: dict[str, Any] = {
        name: np.zeros(tuple(p.shape), np.float32) if p.grad is None else p.grad
        for name, p in trained.items()
    }
    selection = selector.select(update, budget_j, generator=generator)
    kept = {layer.name: layer for layer in selection.layers}
    with torch.no_grad():
        for name, parameter in trained.items():
            _write(parameter, kept.get(name))
    return selection


def as_stored(parameters: Parameters) -> SentValues:
    """The values as gradients of these parameters' types hold them; for `ErrorFeedback`.

    >>> layer = LayerSelection("weight", (1, 1), np.array([0]), np.array([1.001], np.float32))
    >>> as_stored(nn.Linear(1, 1, bias=False, dtype=torch.bfloat16))(layer).tolist()
    [1.0]
    """
    types = {name: parameter.dtype for name, parameter in _trained(parameters).items()}

    def stored(layer: LayerSelection) -> NDArray[Any]:
        values = torch.from_numpy(np.ascontiguousarray(layer.values))
        rounded: NDArray[Any] = values.to(types[layer.name]).to(values.dtype).numpy()
        return rounded

    return stored


def _trained(parameters: Parameters) -> dict[str, Tensor]:
    named: Any = parameters.named_parameters() if isinstance(parameters, nn.Module) else parameters
    try:
        items = iter(named)
    except TypeError:
        raise _not_named(named) from None
    trained = {}
    for item in items:
        match item:
            case (str() as name, Tensor() as parameter):
                if parameter.requires_grad:
                    trained[name] = parameter
            case _:
                raise _not_named(item)
    return trained


def _not_named(found: object) -> InputError:
    return InputError(
        f"the parameters are of type {type(found).__name__}, without names: pass the module or "
        "module.named_parameters()"
    )


def _check(trained: dict[str, Tensor], selector: Selector | ErrorFeedback) -> None:
    loses = isinstance(selector, ErrorFeedback) and selector.sent_values is None
    for name, parameter in trained.items():
        if parameter.grad is not None and parameter.grad.layout != torch.strided:
            raise UpdateError(
                f"the gradient of {name!r} is sparse: make its layer without sparse gradients"
            )
        if loses and parameter.dtype in _SHORT:
            raise InputError(
                f"gradients of {name!r} are {parameter.dtype}, which rounds what waited: give "
                "ErrorFeedback sent_values=as_stored(model), so that what is lost waits on"
            )


def _write(parameter: Tensor, layer: LayerSelection | None) -> None:
    """Make *layer* the gradient of *parameter*."""
    if layer is None:
        if parameter.grad is not None:
            parameter.grad.zero_()
        return
    whole = np.zeros(parameter.numel(), np.result_type(layer.values))
    whole[layer.indices] = layer.values
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.copy_(torch.from_numpy(whole).view(parameter.shape))
