"""What a message holds, and how many bytes it takes; `cwmp.codec` writes and reads it.

One message holds, for each touched layer, either all of it (``dense``) or the kept entries
(``sparse``: indices as a Rice code of the gaps between them, then values), then the model's
buffers, whole. All integers are little-endian::

    message  = header (24), layer..., buffers (only if the model has any)
    header   = magic "CWMP", version u8 = 2, value code u8, flags u16 = 0, touched layers u32,
               layout fingerprint (8), CRC-32 of everything else u32
    layer    = layer number u32, entries k u32, code u8, b u8, b of lengths u8, zero u8,
               indices, scale, values
    buffers  = 0xFFFFFFFF u32, entries u32, code u8, zero (3), float32 values
    code     = 0 dense (k = n, no indices), 1 kept: the positions of the kept entries,
               2 missing: those of the missing ones (k > n / 2), 3 runs, 4 buffers
    indices  = kept, missing: one stream;  runs: r u32, r entries missing before each run,
               r last kept entries of each run (r <= k / 4), two streams
    stream   = the code of `cwmp.kernels.rice` with parameter b, filled with zeros to a byte
    scale    = float32, of int8 values alone (`cwmp.wire.values`)

There is one encoding for each selection: layers in the layout's order, indices ascending, the
smallest index code (of equals the first, then the smaller b), padding bits zero.
docs/payload.md has it byte by byte. Version 1 was never released.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cwmp.selection import Form, LayerSelection
from profiler.errors import InputError

HEADER_BYTES = 24
LAYER_HEADER_BYTES = 12
SCALE_BYTES = 4
MAX_ENTRIES = 2**31

ValueType = Literal["int8", "bfloat16", "float16", "float32", "float64"]
VALUE_BYTES: Mapping[ValueType, int] = {
    "int8": 1,
    "bfloat16": 2,
    "float16": 2,
    "float32": 4,
    "float64": 8,
}

Shape = tuple[int, ...]


def index_bytes(parameters: int, k: ArrayLike) -> NDArray[np.int64]:
    """The most bytes that the indices of *k* of n *parameters* take, elementwise.

    ceil(min(n, min over b of k (b + 1) + floor((n - k) / 2^b)) / 8): a Rice code of parameter b
    spends b + 1 bits an entry and 1 more for each 2^b that a gap holds, and the gaps add up to
    n - k at most. The sum falls in b as long as (2 k + 1) 2^b <= n - k.

    >>> index_bytes(10_000, [0, 1, 100, 10_000]).tolist()
    [0, 2, 107, 1250]
    """
    amounts = np.asarray(k, dtype=np.int64)
    left = parameters - amounts
    _, exponent = np.frexp(left / (2 * amounts + 1))
    b = np.maximum(exponent, 0).astype(np.int64)
    bits = np.minimum(amounts * (b + 1) + (left >> b), parameters)
    return np.where(amounts > 0, (bits + 7) >> 3, 0)


def layer_bytes(
    parameters: int, k: ArrayLike, form: Form, value_bytes: int = 4
) -> NDArray[np.int64]:
    """The most bytes that *k* kept entries of a layer of n *parameters* take, elementwise; 0 at 0.

    dense: header + v n;  sparse: header + v k + `index_bytes`; 4 more for the scale of int8.
    Dense layers take exactly that. It never falls as k grows.

    >>> layer_bytes(10_000, [0, 1, 100], "sparse").tolist()
    [0, 18, 519]
    >>> int(layer_bytes(10_000, 1, "dense"))
    40012
    """
    amounts = np.asarray(k, dtype=np.int64)
    if form == "dense":
        body = np.full_like(amounts, value_bytes * parameters)
    else:
        body = value_bytes * amounts + index_bytes(parameters, amounts)
    scale = SCALE_BYTES if value_bytes == VALUE_BYTES["int8"] else 0
    return np.where(amounts > 0, LAYER_HEADER_BYTES + scale + body, 0)


def buffer_bytes(entries: int, value_bytes: int = 4) -> int:
    """Bytes that a model's buffers (BatchNorm statistics) take; 0 when it has none."""
    return LAYER_HEADER_BYTES + value_bytes * entries if entries else 0


@dataclass(frozen=True)
class PayloadLayout:
    """What sender and receiver agree on: the model's layers and buffers, and the value type.

    Attributes:
        layers: layer name -> shape, in the model's order.
        buffers: buffer name -> shape, in the model's order; always sent as float32.
        value_type: the type of the layers' values on the wire.

    Raises:
        InputError: a layer without entries or with more than 2^31, or an unknown value type.

    >>> PayloadLayout({"conv.weight": (8, 3, 3, 3), "conv.bias": (8,)}).max_bytes
    972
    """

    layers: Mapping[str, Shape]
    buffers: Mapping[str, Shape] = field(default_factory=dict)
    value_type: ValueType = "float32"

    def __post_init__(self) -> None:
        if self.value_type not in VALUE_BYTES:
            known = ", ".join(VALUE_BYTES)
            raise InputError(f"values cannot be sent as {self.value_type!r}; choose from {known}")
        if not self.layers:
            raise InputError("a payload layout needs at least one layer")
        for name, shape in (*self.layers.items(), *self.buffers.items()):
            if not 0 < prod(shape) <= MAX_ENTRIES:
                raise InputError(
                    f"{name!r} of shape {tuple(shape)} has {prod(shape)} entries; "
                    "a payload carries 1 to 2^31 of a tensor: split it"
                )
        if self.buffer_entries > MAX_ENTRIES:
            raise InputError(f"{self.buffer_entries} buffer entries; a payload carries 2^31")

    @cached_property
    def fingerprint(self) -> bytes:
        """8 bytes that differ between layouts: the start of a SHA-256 over names and shapes."""
        content = [[[name, *shape] for name, shape in part.items()] for part in self._parts]
        return hashlib.sha256(json.dumps([content, self.value_type]).encode()).digest()[:8]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The layers' names, in the model's order."""
        return tuple(self.layers)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Layer name -> its place in the model's order."""
        return {name: number for number, name in enumerate(self.layers)}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The entries of each layer, in the model's order."""
        return tuple(prod(shape) for shape in self.layers.values())

    @property
    def value_bytes(self) -> int:
        """Bytes of one value on the wire."""
        return VALUE_BYTES[self.value_type]

    @property
    def buffer_entries(self) -> int:
        """The entries of all buffers."""
        return sum(prod(shape) for shape in self.buffers.values())

    @cached_property
    def max_bytes(self) -> int:
        """The size of the largest message of this layout: every entry in its sparse form."""
        layers = sum(int(layer_bytes(n, n, "sparse", self.value_bytes)) for n in self.sizes)
        return HEADER_BYTES + layers + buffer_bytes(self.buffer_entries)

    @property
    def _parts(self) -> tuple[Mapping[str, Shape], Mapping[str, Shape]]:
        return self.layers, self.buffers


@dataclass(frozen=True, slots=True)
class DecodedPayload:
    """What a message held.

    Attributes:
        layers: the touched layers, in the layout's order; a dense layer holds all its entries.
        buffers: name -> float32 array of the buffer's shape; empty when the layout has none.

    >>> layer = LayerSelection("w", (3,), np.array([2]), np.array([0.5], dtype=np.float32))
    >>> held = DecodedPayload((layer,), {"mean": np.zeros(2, dtype=np.float32)})
    >>> [x.name for x in held.layers], list(held.buffers)
    (['w'], ['mean'])
    """

    layers: tuple[LayerSelection, ...]
    buffers: Mapping[str, NDArray[np.float32]]
