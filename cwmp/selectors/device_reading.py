"""An update that lives on a GPU, as its tensors; or copied from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from cwmp.kernels import cuda
from cwmp.selectors.reading import TORCH_KINDS, Reading, read_in_place
from cwmp.selectors.updates import AnyUpdate, as_array

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 2**17
"""An update of so many entries is copied to the host whole: that takes less than one kernel."""


@dataclass(frozen=True)
class DeviceReading(Reading):
    """An update's layers on a device; `sources` has no addresses.

    Attributes:
        rows: its entries, laid out; shape (R, ROW).
        search: what laid them out.
        brought: layers that have been copied to the host, by number.
    """

    rows: Any = None
    search: Any = None
    brought: dict[int, Any] = field(default_factory=dict)

    def values(self, layer: int) -> NDArray[Any]:
        """As `Reading.values`."""
        return as_array("", self.brought.get(layer, self.holders[layer])).reshape(-1)


def tensors_on_device(
    update: AnyUpdate, names: Sequence[str], shapes: Sequence[tuple[int, ...]], kind: str | None
) -> list[Tensor] | None:
    """The layers of *update* where all are tensors on one device of *kind*, as the costs have
    them; ``None`` where the host has to read, copy or refuse it.

    Args:
        kind: ``cuda``; ``None`` for any.
    """
    layers = [update[name] for name in names if name in update]
    if not layers or len(layers) != len(names) or len(update) != len(names):
        return None
    where = getattr(layers[0], "device", None)
    if getattr(where, "type", None) != (kind or getattr(where, "type", "")):
        return None
    for layer, shape in zip(layers, shapes, strict=True):
        if not hasattr(layer, "data_ptr") or layer.device != where or not prod(shape):
            return None
        if str(layer.dtype) not in TORCH_KINDS or tuple(layer.shape) != shape:
            return None
    return [layer.detach() for layer in layers]


def on_host(
    layers: Sequence[Any], names: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> Reading:
    """*layers* copied to the host in one go, to be read as an update in memory.

    They are of types that the kernels read, as `tensors_on_device` has seen.
    """
    here = cuda.to_host([layer.reshape(-1) for layer in layers])
    shaped = [part.view(shape) for part, shape in zip(here, shapes, strict=True)]
    reading = read_in_place(dict(zip(names, shaped, strict=True)), names, shapes)
    return cast(Reading, reading)
