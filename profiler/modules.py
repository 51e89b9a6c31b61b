"""The operation ``train``: one local SGD step, for the whole model and by module.

A module here is one that owns parameters directly and is called in the model's forward; its
step is forward, backward (input gradients too, except in the first one called, as in the
model) and the parameter step p -= lr dL/dp. The whole model's step is layer ``*``. k is the
batch size. Inputs are caught by hooks in one forward of the whole model at that batch size;
each block scales them by fresh noise, so that values differ but zeros stay zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from profiler.attempts import first_line
from profiler.errors import InputError
from profiler.operations import place_of, synchronise
from profiler.workloads import Cell, OperationName, Workload

if TYPE_CHECKING:
    import torch
    from torch import nn

WHOLE = "*"
_LEARNING_RATE = 1e-6
_SETS = 2


@dataclass
class _Call:
    """The first call of a module in one forward pass."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    first: bool
    macs: float | None = None


@dataclass
class _Pass:
    """One forward pass of the whole model at one batch size."""

    inputs: torch.Tensor
    calls: dict[str, _Call] = field(default_factory=dict)


class TrainOperation:
    """One local SGD step of a copy of *model*, which itself is left as it is.

    Args:
        model: any module whose forward takes one batched tensor.
        example_input: a batch; its first dimension is the batch.
        batch_sizes: the k to measure.
        device: ``cpu`` or ``cuda:0``.

    Raises:
        InputError: batch sizes that are not distinct positive numbers, or a forward pass that
            fails on the example input.
    """

    implementation = "torch autograd; p.add_(p.grad, alpha=-lr), no momentum"
    scope: tuple[str, ...] = ()

    def __init__(
        self,
        model: nn.Module,
        example_input: torch.Tensor,
        batch_sizes: Sequence[int] = (8, 32),
        device: str = "cpu",
    ) -> None:
        if not batch_sizes or min(batch_sizes) < 1 or len(set(batch_sizes)) != len(batch_sizes):
            raise InputError(f"batch sizes must be distinct and positive, not {batch_sizes}")
        if example_input.dim() < 1 or example_input.shape[0] < 1:
            raise InputError("the example input needs a batch dimension with one example")
        self.device = device
        self.runs_on = place_of(device)
        self.batch_sizes = tuple(sorted(batch_sizes))
        try:
            self._model = copy.deepcopy(model).to(device).train()
        except Exception as error:  # a user's module may raise anything
            raise InputError(
                f"{type(model).__name__} cannot be copied to {device}: {first_line(error)}; "
                "mend it, or leave train out of the operations"
            ) from error
        self._passes: dict[int, _Pass] = {}
        for batch in self.batch_sizes:
            inputs = _batch_of(example_input, batch).to(device)
            self._passes[batch] = _capture(self._model, inputs)

    @property
    def name(self) -> OperationName:
        return "train"

    def cells(self) -> tuple[Cell, ...]:
        cells = []
        for name in (WHOLE, *self._passes[self.batch_sizes[0]].calls):
            for batch, taken in self._passes.items():
                known = [call.macs for call in taken.calls.values() if call.macs is not None]
                whole = sum(known) if known else None
                macs = whole if name == WHOLE else taken.calls[name].macs
                cells.append(_cell(name, self._module(name), batch, macs))
        return tuple(cells)

    def prepare(self, cell: Cell, seed: int) -> Workload:
        import torch

        generator = torch.Generator(device=self.device).manual_seed(seed)
        taken = self._passes[cell.k]
        call = _Call((taken.inputs,), {}, first=True)
        if cell.layer != WHOLE:
            call = taken.calls[cell.layer]
        module = self._module(cell.layer)
        sets = [
            (_fresh(call.args, call.first, generator), _fresh(call.kwargs, call.first, generator))
            for _ in range(_SETS)
        ]
        whole = cell.layer == WHOLE
        return TrainWorkload(module, sets, torch.device(self.device), whole=whole)

    def _module(self, name: str) -> nn.Module:
        return self._model if name == WHOLE else self._model.get_submodule(name)


class TrainWorkload:
    """One module, or the *whole* model, and a pool of fresh inputs, rotated by the loop."""

    def __init__(
        self,
        module: nn.Module,
        sets: list[tuple[Any, Mapping[str, Any]]],
        device: torch.device,
        *,
        whole: bool,
    ) -> None:
        self._module, self._whole = module, whole
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._sets = [(args, kwargs, list(_tensors((args, kwargs)))) for args, kwargs in sets]
        self._device = device

    def run(self, repetitions: int) -> None:
        import torch

        sets, count = self._sets, len(self._sets)
        for step in range(repetitions):
            args, kwargs, leaves = sets[step % count]
            outputs = list(_differentiable(self._module(*args, **kwargs)))
            if self._whole and not outputs:
                raise InputError("the model's output depends on no parameter: it cannot be trained")
            torch.autograd.backward([_loss(output) for output in outputs])
            with torch.no_grad():
                for parameter in self._parameters:
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=-_LEARNING_RATE)
                        parameter.grad = None
            for tensor in leaves:
                tensor.grad = None
        synchronise(self._device)

    def reference(self, repetitions: int) -> None:
        sets, count = self._sets, len(self._sets)
        for step in range(repetitions):
            _args, _kwargs, _leaves = sets[step % count]
        synchronise(self._device)

    def close(self) -> None:
        self._sets = []


def _capture(model: nn.Module, inputs: torch.Tensor) -> _Pass:
    """Run *model* once and keep the first call of each module that owns parameters."""
    import torch

    taken = _Pass(inputs)
    with _hooked(model, taken), torch.no_grad():
        try:
            model(inputs)
        except Exception as error:  # a user's module may raise anything
            raise InputError(
                f"{type(model).__name__} refuses an input of shape {tuple(inputs.shape)}: "
                f"{first_line(error)}; give its shape with --input-shape C,H,W"
            ) from error
    return taken


@contextmanager
def _hooked(model: nn.Module, taken: _Pass) -> Iterator[None]:
    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if name not in taken.calls:
                macs = module_macs(module, output)
                taken.calls[name] = _Call(args, kwargs, not taken.calls, macs)

        return keep

    handles = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in model.named_modules()
        if name and any(p.requires_grad for p in module.parameters(recurse=False))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def module_macs(module: nn.Module, output: Any) -> float | None:
    """Multiply-accumulates of one forward call: outputs times inputs that each one sums.

    Linear: numel(out) in_features; convolution: numel(out) (in_channels / groups)
    prod(kernel). ``None`` for every other module.
    """
    from torch import nn

    if isinstance(module, nn.Linear):
        return float(output.numel() * module.in_features)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        summed = module.in_channels // module.groups * prod(module.kernel_size)
        return float(output.numel() * summed)
    return None


def _cell(name: str, module: nn.Module, batch: int, macs: float | None) -> Cell:
    whole = name == WHOLE
    own = [p for p in module.parameters(recurse=whole) if p.requires_grad]
    total = sum(p.numel() for p in own)
    return Cell(
        operation="train",
        layer=name,
        kind="model" if whole else type(module).__name__.lower(),
        shape=(total,) if whole else tuple(own[0].shape),
        dtype=str(own[0].dtype).removeprefix("torch."),
        parameters=total,
        k=batch,
        pattern="batch",
        macs=macs,
    )


def _batch_of(example: torch.Tensor, batch: int) -> torch.Tensor:
    """*batch* examples: those given, repeated as often as needed."""
    times = -(-batch // example.shape[0])
    return example.repeat(times, *([1] * (example.dim() - 1)))[:batch].clone()


def _fresh(value: Any, first: bool, generator: torch.Generator) -> Any:
    """A copy of a nest of tensors; floating ones scaled by 1 + 0.1 N(0, 1)."""
    import torch

    if isinstance(value, torch.Tensor):
        if not value.is_floating_point():
            return value.clone()
        noise = torch.randn(
            value.shape, generator=generator, device=value.device, dtype=torch.float32
        )
        scaled = value.detach() * (1 + 0.1 * noise).to(value.dtype)
        return scaled.requires_grad_(not first)
    if isinstance(value, Mapping):
        return {key: _fresh(item, first, generator) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [_fresh(item, first, generator) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _differentiable(output: Any) -> Iterator[torch.Tensor]:
    return (tensor for tensor in _tensors(output) if tensor.requires_grad)


def _loss(output: torch.Tensor) -> torch.Tensor:
    """Mean of squares: a scalar whose gradient depends on the values and costs one pass."""
    return output.square().mean()
