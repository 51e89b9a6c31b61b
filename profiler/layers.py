"""A torch model as the list of tensors an update is applied to.

A *layer* here is one named parameter tensor (``conv1.weight``): that is the unit a sparse
update touches, pays a fixed cost for, and is priced by. Local training is priced by the
module that computes (``conv1``); see `profiler.modules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from profiler.errors import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One parameter tensor of a model.

    Attributes:
        name: the parameter's name in the state dict.
        kind: the owning module's class in lower case and the parameter's role,
            ``conv2d.weight``, ``batchnorm2d.bias``.
        shape: the tensor's shape.
        dtype: ``float32``, ``float16``, ``bfloat16`` ...
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.parameters == 0:
            raise InputError(f"layer {self.name!r} has shape {self.shape} and so no entries")

    @property
    def parameters(self) -> int:
        """The number of entries."""
        return prod(self.shape)

    @property
    def signature(self) -> tuple[str, tuple[int, ...], str]:
        """Layers of equal signature cost the same and share measurements."""
        return (self.kind, self.shape, self.dtype)


def layers_of(model: nn.Module) -> tuple[LayerInfo, ...]:
    """The trainable parameter tensors of *model*, in state-dict order, shared ones once.

    Raises:
        InputError: the model has no trainable parameters, or one of them is empty.
    """
    owners = {
        f"{prefix}.{role}" if prefix else role: (type(module).__name__.lower(), role)
        for prefix, module in model.named_modules()
        for role, _ in module.named_parameters(recurse=False)
    }
    layers = []
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            continue
        kind, role = owners[name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        layers.append(LayerInfo(name, f"{kind}.{role}", tuple(tensor.shape), dtype))
    if not layers:
        raise InputError(f"{type(model).__name__} has no trainable parameters to profile")
    return tuple(layers)
