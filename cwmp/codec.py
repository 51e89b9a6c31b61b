"""Selection to bytes and back, in the format that `cwmp.payload` describes.

The decoder treats its input as hostile: every length and number is checked against the
layout before anything is allocated for it, so that what is allocated stays within a small
multiple of the model's own size, and a bad message is one `PayloadError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from cwmp.payload import DecodedPayload, PayloadLayout
from cwmp.selection import LayerSelection
from cwmp.wire.buffers import read_buffers, write_buffers
from cwmp.wire.header import (
    DENSE,
    PartHeader,
    Reader,
    message_of,
    read_header,
)
from cwmp.wire.indices import checked_indices, read_indices, smallest_code
from cwmp.wire.values import read_values, to_wire
from profiler.errors import InputError, LayerMismatchError, PayloadError, UpdateError


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
        At most ``HEADER_BYTES`` + the `layer_bytes` of each layer + `buffer_bytes` bytes.

    Raises:
        LayerMismatchError: a layer or buffer is not the layout's, or appears twice.
        UpdateError: indices out of range or not ascending, or a value that is NaN, infinite or
            too large for the layout's value type.
        InputError: something other than layer selections.

    >>> layout = PayloadLayout({"w": (1000,)})
    >>> kept = LayerSelection("w", (1000,), np.array([3, 700]), np.array([1.0, -2.0], np.float32))
    >>> len(encode([kept], layout))
    47
    """
    layers = _checked_layers(layers)
    touched = [(_number_of(x, layout), x) for x in layers if x.indices.size]
    touched.sort(key=lambda one: one[0])
    for (before, _), (number, layer) in pairwise(touched):
        if before == number:
            raise LayerMismatchError(f"layer {layer.name!r} is selected twice in one payload")
    body = [part for number, layer in touched for part in _layer_parts(number, layer, layout)]
    body.extend(write_buffers(layout, buffers or {}))
    return message_of(layout, len(touched), body)


def decode(payload: bytes | bytearray | memoryview, layout: PayloadLayout) -> DecodedPayload:
    """Read one message, trusting nothing in it; indices come as int32.

    Allocates at most 4 times the model's size in float32, and a constant.

    Raises:
        PayloadError: not a payload, another version or model, damaged, truncated, longer than
            it says, or holding an index or value that no encoder writes.
        InputError: something other than bytes.

    >>> layout = PayloadLayout({"w": (1000,)})
    >>> kept = LayerSelection("w", (1000,), np.array([3, 700]), np.array([1.0, -2.0], np.float32))
    >>> (read,) = decode(encode([kept], layout), layout).layers
    >>> read.indices.tolist(), read.values.tolist()
    ([3, 700], [1.0, -2.0])
    """
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise InputError(f"a payload is bytes, not {type(payload).__name__}")
    reader = Reader(payload)
    touched = read_header(reader, layout)
    layers: list[LayerSelection] = []
    last = -1
    for _ in range(touched):
        header = reader.part_header()
        if not last < header.number < len(layout.layers):
            raise PayloadError(
                f"payload names layer {header.number} after {last}, of {len(layout.layers)}"
            )
        last = header.number
        layers.append(_read_layer(reader, header, layout))
    buffers = read_buffers(reader, layout)
    if reader.left:
        raise PayloadError(f"payload has {reader.left} bytes after its end")
    return DecodedPayload(tuple(layers), buffers)


def _checked_layers(layers: object) -> tuple[LayerSelection, ...]:
    remedy = "pass selection.layers"
    if not isinstance(layers, Iterable):
        raise InputError(f"cannot encode a {type(layers).__name__}: {remedy}")
    checked = tuple(layers)
    for layer in checked:
        if not isinstance(layer, LayerSelection):
            raise InputError(f"cannot encode a {type(layer).__name__} as a layer: {remedy}")
    return checked


def _number_of(layer: LayerSelection, layout: PayloadLayout) -> int:
    """The layer's place in the layout, once it is known to belong there."""
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
    return layout.numbers[layer.name]


def _layer_parts(number: int, layer: LayerSelection, layout: PayloadLayout) -> Iterator[Any]:
    where = f"layer {layer.name!r}"
    parameters = layout.sizes[number]
    scale, values = to_wire(layer.values, layout.value_type, where)
    indices = checked_indices(layer.indices, parameters, where)
    if layer.form == "dense":
        yield PartHeader(number, parameters, DENSE).to_bytes()
        values, kept = np.zeros(parameters, dtype=values.dtype), values
        values[indices] = kept
    else:
        index = smallest_code(indices, parameters)
        yield index.header(number, values.size).to_bytes()
        yield index.to_bytes()
    if scale is not None:
        yield scale.astype("<f4").tobytes()
    yield values


def _read_layer(reader: Reader, header: PartHeader, layout: PayloadLayout) -> LayerSelection:
    name, parameters = layout.names[header.number], layout.sizes[header.number]
    where = f"layer {name!r}"
    shape = tuple(layout.layers[name])
    k = header.entries
    if not 0 < k <= parameters:
        raise PayloadError(f"payload holds {k} entries of {where}, which has {parameters}")
    if header.code == DENSE:
        if header[1:] != (parameters, DENSE, 0, 0):
            raise PayloadError(f"payload has {k} of {parameters} entries of dense {where}")
        values = read_values(reader, k, layout.value_type, where)
        return LayerSelection(name, shape, np.arange(k, dtype=np.int32), values, "dense")
    indices = read_indices(reader, header, parameters, where)
    values = read_values(reader, k, layout.value_type, where)
    return LayerSelection(name, shape, indices, values, "sparse")
