"""An update where it lies: addresses for the kernels, without a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.scan import BFLOAT16, FLOAT16, FLOAT32, Sources
from cwmp.selectors.updates import AnyUpdate, as_array, check_names, check_shape, check_values

_SUBNORMAL = np.float32(1e-45)
_NUMPY_KINDS = {np.dtype(np.float32): FLOAT32, np.dtype(np.float16): FLOAT16}
TORCH_KINDS = {"torch.float32": FLOAT32, "torch.float16": FLOAT16, "torch.bfloat16": BFLOAT16}


@dataclass(frozen=True)
class Reading:
    """An update's layers in the costs' order, held in memory while their addresses are used.

    Attributes:
        sources: where they lie.
        holders: what keeps them there; numpy arrays, or torch tensors on the CPU.
        residuals: float32 arrays that the pass adds them to; empty without error feedback.
    """

    sources: Sources
    holders: tuple[Any, ...]
    residuals: tuple[NDArray[np.float32], ...] = ()

    def check_finite(self, names: Sequence[str]) -> None:
        """Raise the error that says which layer holds NaN or inf.

        Raises:
            UpdateError: one does.
        """
        for name, holder in zip(names, self.holders, strict=True):
            check_values(name, as_array(name, holder))

    def alone(self) -> Reading:
        """The update without its residuals."""
        nothing = np.zeros_like(self.sources.residual)
        return Reading(self.sources._replace(residual=nothing), self.holders)

    def summed(self) -> Reading:
        """The residuals that this update has been added to, in its place; itself without any."""
        if not self.residuals:
            return self
        kind = np.full_like(self.sources.kind, FLOAT32)
        nothing = np.zeros_like(self.sources.residual)
        return Reading(Sources(self.sources.residual, kind, nothing), self.residuals)

    def narrowed(self, layer: int, values: NDArray[np.float32]) -> NDArray[Any]:
        """*values* of a layer in the update's own type, which they came from."""
        return values.astype(np.float16) if self.sources.kind[layer] == FLOAT16 else values

    def values(self, layer: int) -> NDArray[Any]:
        """All entries of one layer, flat; bfloat16 as float32. May be the update's own memory."""
        return as_array("", self.holders[layer]).reshape(-1)


def read_in_place(
    update: AnyUpdate,
    names: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    residual: Mapping[str, NDArray[np.float32]] | None = None,
) -> Reading | None:
    """Find the layers of *update*; what is not contiguous or not on the CPU is copied.

    Returns:
        ``None`` for what the kernels do not read: float64, and anything while this thread takes
        subnormal numbers for zero (`torch.set_flush_denormal`).

    Raises:
        LayerMismatchError: a layer is missing, unknown, or of another shape.
        UpdateError: a layer without entries, or of a type that is not a float.
    """
    if _flushes_subnormals():
        return None
    check_names(update, names)
    address = np.empty(len(names), dtype=np.int64)
    kind = np.empty(len(names), dtype=np.int8)
    old = np.zeros(len(names), dtype=np.int64)
    holders = []
    for number, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        found = _locate(update[name]) or _locate(as_array(name, update[name]))
        if found is None:
            return None
        holder, address[number], kind[number] = found
        if tuple(holder.shape) != shape:
            check_shape(name, tuple(holder.shape), shape)
        if not prod(shape):
            check_values(name, as_array(name, holder))
        if residual is not None:
            old[number] = residual[name].ctypes.data
        holders.append(holder)
    kept = () if residual is None else tuple(residual[name] for name in names)
    return Reading(Sources(address, kind, old), tuple(holders), kept)


def _flushes_subnormals() -> bool:
    return bool(_SUBNORMAL * np.float32(1.0) == 0)


def _locate(value: Any) -> tuple[Any, int, int] | None:
    """The holder of *value*, its address and kind; ``None`` where the kernels cannot read it."""
    if isinstance(value, np.ndarray):
        known = _NUMPY_KINDS.get(value.dtype)
        if known is None:
            return None
        array = np.ascontiguousarray(value)
        return array.reshape(value.shape), array.ctypes.data, known
    if hasattr(value, "data_ptr"):  # a torch tensor, told without importing torch
        known = TORCH_KINDS.get(str(value.dtype))
        if known is None:
            return None
        tensor = value.detach().cpu().contiguous()
        return tensor, tensor.data_ptr(), known
    return None
