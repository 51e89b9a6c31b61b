"""Values as the wire carries them, and what a receiver makes of them.

Rounding is to the nearest, ties to the even; bfloat16 and int8 are formed from the value as
float32. Nothing is flushed: what is too small for the type becomes a subnormal of it or a zero
of its sign (int8 has one zero). What is too large is refused.

int8 sends q = value / scale, rounded, with one float32 scale a layer::

    scale = max |value| / 127, at least 2^-126, at most the largest of which 127 fit in float32
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.values import all_finite, quantise, round_to_bfloat16
from cwmp.payload import SCALE_BYTES, VALUE_BYTES, ValueType
from cwmp.selection import LayerSelection
from cwmp.wire.header import Reader
from profiler.errors import PayloadError, UpdateError

_LEVELS = np.float32(127)
_SMALLEST_SCALE = np.finfo(np.float32).tiny
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / _LEVELS, np.float32(0))
_BFLOAT16_INFINITY = 0x7F80
_WIRE: dict[ValueType, np.dtype[Any]] = {
    "int8": np.dtype("i1"),
    "bfloat16": np.dtype("<u2"),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}
_THROUGH: dict[ValueType, np.dtype[Any]] = {
    "int8": np.dtype(np.float32),
    "bfloat16": np.dtype(np.float32),
}
_KERNEL_TYPES = (np.dtype(np.float32), np.dtype(np.float64))


def as_sent(layer: LayerSelection, value_type: ValueType) -> LayerSelection:
    """*layer* with the values that a receiver sees: float32 where sent as bfloat16 or int8.

    What sending loses is ``layer.values - as_sent(layer, value_type).values``, for error
    feedback to keep.

    Raises:
        UpdateError: a value is NaN, infinite or too large for *value_type*.

    >>> layer = LayerSelection("w", (4,), np.arange(3), np.array([1.0, -0.3, 0.002]))
    >>> as_sent(layer, "int8").values
    array([ 1.       , -0.2992126,  0.       ], dtype=float32)
    """
    scale, written = to_wire(layer.values, value_type, f"layer {layer.name!r}")
    return replace(layer, values=_from_wire(written, value_type, scale))


def to_wire(
    values: NDArray[Any], value_type: ValueType, where: str
) -> tuple[np.float32 | None, NDArray[Any]]:
    """The scale (``None`` but for int8) and *values* in the wire's type.

    Raises:
        UpdateError: a value is NaN, infinite or too large for *value_type*.
    """
    target = _THROUGH.get(value_type, _WIRE[value_type])
    numbers = np.asarray(values, order="C")
    if numbers.dtype != target:
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = numbers.astype(target)
    sound = _all_finite(numbers)
    scale, written = None, numbers
    if sound and value_type == "bfloat16":
        written = np.empty(numbers.shape, dtype=np.uint16)
        round_to_bfloat16(numbers.reshape(-1).view(np.uint32), written.reshape(-1))
        sound = not ((written & _BFLOAT16_INFINITY) == _BFLOAT16_INFINITY).any()
    elif sound and value_type == "int8":
        scale = _scale_of(numbers)
        written = np.empty(numbers.shape, dtype=np.int8)
        quantise(numbers.reshape(-1), float(scale), written.reshape(-1))
    if not sound:
        raise UpdateError(f"{where} holds a value that is NaN, infinite or beyond {value_type}")
    return scale, written


def read_values(
    reader: Reader, count: int, value_type: ValueType, where: str
) -> NDArray[np.floating]:
    """*count* values, and their scale before them, in the receiver's type.

    Raises:
        PayloadError: truncated, or holding a value or scale that no encoder writes.
    """
    scale = _read_scale(reader, where) if value_type == "int8" else None
    view = reader.take(VALUE_BYTES[value_type] * count, where)
    written = np.frombuffer(view, _WIRE[value_type])
    if value_type == "int8" and written.min(initial=0) < -127:
        raise PayloadError(f"payload holds -128 in {where}, which no encoder writes")
    values = _from_wire(written, value_type, scale)
    if not _all_finite(values):
        raise PayloadError(f"payload holds NaN or infinity in {where}")
    return values


def _all_finite(numbers: NDArray[np.floating]) -> bool:
    if numbers.dtype in _KERNEL_TYPES:
        return all_finite(numbers.reshape(-1))
    return bool(np.isfinite(numbers).all())


def _read_scale(reader: Reader, where: str) -> np.float32:
    scale = np.frombuffer(reader.take(SCALE_BYTES, f"the scale of {where}"), "<f4")[0]
    if not _SMALLEST_SCALE <= scale <= _LARGEST_SCALE:
        raise PayloadError(f"payload has {scale} as the scale of {where}")
    return np.float32(scale)


def _scale_of(numbers: NDArray[np.float32]) -> np.float32:
    largest = np.float32(max(numbers.max(initial=0), -numbers.min(initial=0)))
    return np.clip(largest / _LEVELS, _SMALLEST_SCALE, _LARGEST_SCALE)


def _from_wire(
    written: NDArray[Any], value_type: ValueType, scale: np.float32 | None
) -> NDArray[np.floating]:
    """A new array in the machine's own order."""
    if value_type == "bfloat16":
        return (written.astype(np.uint32) << 16).view(np.float32)
    if scale is not None:
        return written.astype(np.float32) * scale
    return written.astype(written.dtype.newbyteorder("="))
