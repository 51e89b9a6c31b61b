"""Selection to bytes and back, in the format that `cwmp.payload` describes.

The decoder treats its input as hostile: every length and number is checked against the
layout before anything is allocated for it, so that what is allocated stays within a small
multiple of the model's own size, and a bad message is one `PayloadError`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.payload import HEADER_BYTES, DecodedPayload, PayloadLayout, Shape, ValueType
from cwmp.selection import LayerSelection
from profiler.errors import LayerMismatchError, PayloadError, UpdateError

MAGIC = b"CWMP"
VERSION = 1

_HEADER = struct.Struct("<4sBBHI8sI")
_CHECKSUM = struct.Struct("<I")
_LAYER = struct.Struct("<IIB3s")
_ZERO = b"\0\0\0"
_BUFFERS_NUMBER = 0xFFFFFFFF
_DENSE, _BITMAP, _INTEGERS, _BUFFERS = range(4)
_VALUE_CODES: Mapping[ValueType, int] = {"float32": 0, "float16": 1, "float64": 2}


def encode(
    layers: Sequence[LayerSelection],
    layout: PayloadLayout,
    buffers: Mapping[str, Any] | None = None,
) -> bytes:
    """Write a selection as one message.

    Args:
        layers: the kept entries; layers with none are left out. Entries of a dense layer that
            are not kept go out as zeros.
        layout: the model's layers and buffers.
        buffers: name -> array of each buffer of the layout. Integers must be exact in float32.

    Returns:
        ``HEADER_BYTES`` + the `layer_bytes` of each layer + `buffer_bytes` bytes.

    Raises:
        LayerMismatchError: a layer or buffer is not the layout's, or appears twice.
        UpdateError: indices out of range or not ascending, or a value that is NaN, infinite or
            too large for the layout's value type.
    """
    numbers = {name: number for number, name in enumerate(layout.layers)}
    touched = [layer for layer in layers if layer.indices.size]
    for layer in touched:
        _check_layer(layer, layout)
    touched.sort(key=lambda layer: numbers[layer.name])
    for before, after in pairwise(touched):
        if before.name == after.name:
            raise LayerMismatchError(f"layer {after.name!r} is selected twice in one payload")
    body = [_layer_part(numbers[layer.name], layer, layout) for layer in touched]
    body.append(_buffers_part(layout, buffers or {}))
    start = _HEADER.pack(
        MAGIC, VERSION, _VALUE_CODES[layout.value_type], 0, len(touched), layout.fingerprint, 0
    )[: -_CHECKSUM.size]
    checksum = zlib.crc32(start)
    for part in body:
        checksum = zlib.crc32(part, checksum)
    return b"".join((start, _CHECKSUM.pack(checksum), *body))


def decode(payload: bytes, layout: PayloadLayout) -> DecodedPayload:
    """Read one message, trusting nothing in it.

    Raises:
        PayloadError: not a payload, another version or model, damaged, truncated, longer than
            it says, or holding an index or value that no encoder writes.
    """
    reader = _Reader(payload)
    touched = _read_header(reader, layout)
    names = list(layout.layers)
    layers: list[LayerSelection] = []
    last = -1
    for _ in range(touched):
        number, k, code = reader.layer_header()
        if not last < number < len(names):
            raise PayloadError(f"payload names layer {number} after {last}, of {len(names)}")
        last = number
        name = names[number]
        layers.append(_read_layer(reader, name, tuple(layout.layers[name]), k, code, layout))
    buffers = _read_buffers(reader, layout)
    if reader.left:
        raise PayloadError(f"payload has {reader.left} bytes after its end")
    return DecodedPayload(tuple(layers), buffers)


def _check_layer(layer: LayerSelection, layout: PayloadLayout) -> None:
    shape = layout.layers.get(layer.name)
    if shape is None or tuple(shape) != tuple(layer.shape):
        known = "absent" if shape is None else f"of shape {tuple(shape)}"
        raise LayerMismatchError(
            f"layer {layer.name!r} of shape {tuple(layer.shape)} is {known} in the payload layout"
        )
    indices = layer.indices
    if indices.shape != layer.values.shape or indices.ndim != 1:
        raise UpdateError(
            f"layer {layer.name!r} has {indices.shape} indices but {layer.values.shape} values"
        )
    if indices[0] < 0 or indices[-1] >= prod(shape) or not (np.diff(indices) > 0).all():
        raise UpdateError(
            f"the indices of layer {layer.name!r} must ascend within 0 to {prod(shape) - 1}"
        )


def _layer_part(number: int, layer: LayerSelection, layout: PayloadLayout) -> bytes:
    values = _wire_values(layer.values, layout.value_type, f"layer {layer.name!r}")
    k, parameters = layer.indices.size, prod(layer.shape)
    if layer.form == "dense":
        whole = np.zeros(parameters, dtype=values.dtype)
        whole[layer.indices] = values
        return _LAYER.pack(number, parameters, _DENSE, _ZERO) + whole.tobytes()
    code = _index_code(parameters, k)
    if code == _BITMAP:
        kept = np.zeros(parameters, dtype=np.uint8)
        kept[layer.indices] = 1
        index_bytes = np.packbits(kept, bitorder="little").tobytes()
    else:
        index_bytes = layer.indices.astype("<u4").tobytes()
    return _LAYER.pack(number, k, code, _ZERO) + index_bytes + values.tobytes()


def _buffers_part(layout: PayloadLayout, buffers: Mapping[str, Any]) -> bytes:
    for name in {*layout.buffers, *buffers}:
        if name not in buffers or name not in layout.buffers:
            where = "payload" if name in layout.buffers else "layout"
            raise LayerMismatchError(f"buffer {name!r} is missing from the {where}")
    if not layout.buffers:
        return b""
    parts = [_LAYER.pack(_BUFFERS_NUMBER, layout.buffer_entries, _BUFFERS, _ZERO)]
    for name, shape in layout.buffers.items():
        array = np.asarray(buffers[name])
        if array.shape != tuple(shape):
            raise LayerMismatchError(
                f"buffer {name!r} has shape {array.shape}, not {tuple(shape)} as in the layout"
            )
        values = _wire_values(array, "float32", f"buffer {name!r}")
        if array.dtype.kind in "iu" and not np.array_equal(values.astype(np.float64), array):
            raise UpdateError(f"buffer {name!r} holds an integer above 2^24, inexact in float32")
        parts.append(values.tobytes())
    return b"".join(parts)


def _wire_values(values: NDArray[Any], value_type: ValueType, where: str) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        written = np.asarray(values).astype(_wire_dtype(value_type), order="C")
    if not np.isfinite(written).all():
        raise UpdateError(f"{where} holds a value that is NaN, infinite or beyond {value_type}")
    return written


def _wire_dtype(value_type: ValueType) -> np.dtype[Any]:
    return np.dtype(value_type).newbyteorder("<")


def _index_code(parameters: int, k: int) -> int:
    return _BITMAP if -(-parameters // 8) < 4 * k else _INTEGERS


class _Reader:
    """A cursor over the message that never reads past its end."""

    def __init__(self, payload: bytes) -> None:
        self.view = memoryview(payload).cast("B")
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.view) - self.position

    def take(self, count: int, what: str) -> memoryview:
        if count > self.left:
            raise PayloadError(f"payload ends {count - self.left} bytes short of {what}")
        taken = self.view[self.position : self.position + count]
        self.position += count
        return taken

    def layer_header(self) -> tuple[int, int, int]:
        number, k, code, zero = _LAYER.unpack(self.take(_LAYER.size, "a layer header"))
        if zero != _ZERO:
            raise PayloadError("payload has a layer header with reserved bytes set")
        return number, k, code


def _read_header(reader: _Reader, layout: PayloadLayout) -> int:
    """Check the header and the checksum; return the number of touched layers."""
    if reader.left > layout.max_bytes:
        raise PayloadError(
            f"payload of {reader.left} bytes exceeds the {layout.max_bytes} of this model's largest"
        )
    view = reader.take(HEADER_BYTES, "its header")
    magic, version, values, flags, touched, fingerprint, checksum = _HEADER.unpack(view)
    if magic != MAGIC:
        raise PayloadError(f"not a payload: it starts with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise PayloadError(f"payload has version {version}; this release reads {VERSION}")
    body = reader.view[HEADER_BYTES:]
    if zlib.crc32(body, zlib.crc32(view[: -_CHECKSUM.size])) != checksum:
        raise PayloadError("payload is damaged: its checksum does not match")
    if fingerprint != layout.fingerprint or values != _VALUE_CODES[layout.value_type]:
        raise PayloadError("payload was written for another model or value type")
    if flags:
        raise PayloadError(f"payload has unknown flags {flags:#06x}")
    return int(touched)


def _read_layer(
    reader: _Reader, name: str, shape: Shape, k: int, code: int, layout: PayloadLayout
) -> LayerSelection:
    parameters = prod(shape)
    if not 0 < k <= parameters:
        raise PayloadError(f"payload holds {k} entries of layer {name!r}, which has {parameters}")
    if code == _DENSE:
        if k != parameters:
            raise PayloadError(f"payload has {k} of {parameters} entries of dense layer {name!r}")
        values = _read_values(reader, k, layout.value_type, f"layer {name!r}")
        indices: NDArray[np.int64] = np.arange(parameters, dtype=np.int64)
        return LayerSelection(name, shape, indices, values, "dense")
    if code != _index_code(parameters, k):
        raise PayloadError(f"payload has index code {code} for {k} entries of layer {name!r}")
    if code == _BITMAP:
        indices = _read_bitmap(reader, k, parameters, name)
    else:
        indices = np.frombuffer(reader.take(4 * k, f"layer {name!r}"), "<u4").astype(np.int64)
        if indices[-1] >= parameters or not (np.diff(indices) > 0).all():
            raise PayloadError(f"payload has indices of layer {name!r} out of order or range")
    values = _read_values(reader, k, layout.value_type, f"layer {name!r}")
    return LayerSelection(name, shape, indices, values, "sparse")


def _read_bitmap(reader: _Reader, k: int, parameters: int, name: str) -> NDArray[np.int64]:
    packed = np.frombuffer(reader.take(-(-parameters // 8), f"layer {name!r}"), np.uint8)
    indices = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
    if indices.size != k or indices[-1] >= parameters:
        raise PayloadError(f"payload has a bitmap of layer {name!r} that does not hold {k} entries")
    return indices.astype(np.int64)


def _read_values(reader: _Reader, k: int, value_type: ValueType, where: str) -> NDArray[Any]:
    dtype = _wire_dtype(value_type)
    values = np.frombuffer(reader.take(dtype.itemsize * k, where), dtype)
    if not np.isfinite(values).all():
        raise PayloadError(f"payload holds NaN or infinity in {where}")
    return values.astype(dtype.newbyteorder("="))


def _read_buffers(reader: _Reader, layout: PayloadLayout) -> dict[str, NDArray[np.float32]]:
    if not layout.buffers:
        return {}
    number, entries, code = reader.layer_header()
    if (number, entries, code) != (_BUFFERS_NUMBER, layout.buffer_entries, _BUFFERS):
        raise PayloadError("payload lacks the model's buffers where they should stand")
    return {
        name: _read_values(reader, prod(shape), "float32", f"buffer {name!r}").reshape(shape)
        for name, shape in layout.buffers.items()
    }
