"""A model's buffers (BatchNorm statistics): whole, as float32, at the end of each message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.payload import PayloadLayout
from cwmp.wire.header import BUFFERS, BUFFERS_NUMBER, PartHeader, Reader
from cwmp.wire.values import read_values, to_wire
from profiler.errors import LayerMismatchError, PayloadError, UpdateError


def write_buffers(layout: PayloadLayout, buffers: Mapping[str, Any]) -> Iterator[Any]:
    """The parts of the message that hold *buffers*; none where the layout has none.

    Raises:
        LayerMismatchError: a buffer is missing, unknown or of another shape.
        UpdateError: a value is NaN or infinite, or an integer that float32 cannot hold.
    """
    for name in {*layout.buffers, *buffers}:
        if name not in buffers or name not in layout.buffers:
            where = "payload" if name in layout.buffers else "layout"
            raise LayerMismatchError(f"buffer {name!r} is missing from the {where}")
    if not layout.buffers:
        return
    yield PartHeader(BUFFERS_NUMBER, layout.buffer_entries, BUFFERS).to_bytes()
    for name, shape in layout.buffers.items():
        array = np.asarray(buffers[name])
        if array.shape != tuple(shape):
            raise LayerMismatchError(
                f"buffer {name!r} has shape {array.shape}, not {tuple(shape)} as in the layout"
            )
        _, values = to_wire(array, "float32", f"buffer {name!r}")
        if array.dtype.kind in "iu" and not np.array_equal(values.astype(np.float64), array):
            raise UpdateError(f"buffer {name!r} holds an integer above 2^24, inexact in float32")
        yield values


def read_buffers(reader: Reader, layout: PayloadLayout) -> dict[str, NDArray[np.float32]]:
    """The buffers of *layout*, which stand next.

    Raises:
        PayloadError: they do not, or hold NaN or infinity.
    """
    if not layout.buffers:
        return {}
    if reader.part_header() != PartHeader(BUFFERS_NUMBER, layout.buffer_entries, BUFFERS):
        raise PayloadError("payload lacks the model's buffers where they should stand")
    return {
        name: read_values(reader, prod(shape), "float32", f"buffer {name!r}").reshape(shape)
        for name, shape in layout.buffers.items()
    }
