"""The frame around messages that do not hold a selection of entries.

All integers are little-endian::

    message = magic "CWMX", kind u8, version u8 = 1, zero u16, layout fingerprint (8),
              CRC-32 of everything else u32, body

The kind tells what the body is: a message of one method is refused by every other. A model's
buffers, where a message holds them, are its last bytes, float32, in the layout's order, as in
`cwmp.payload`: sent whole.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from enum import IntEnum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.training import EVALUATED_AT_ONCE
from cwmp.payload import HEADER_BYTES, PayloadLayout, buffer_bytes
from profiler.errors import InputError, PayloadError, UpdateError

MAGIC = b"CWMX"
VERSION = 1
_FRAME = struct.Struct("<4sBBH8sI")
FRAME_BYTES = _FRAME.size


class Kind(IntEnum):
    """What a body holds."""

    FITNESS = 1
    LOGITS = 2
    TEACHER = 3
    NOTHING = 4
    CHANNELS = 5
    PACKETS = 6
    STATISTICS = 7


def pack(kind: Kind, layout: PayloadLayout, body: bytes) -> bytes:
    """One message around *body*."""
    bare = _FRAME.pack(MAGIC, kind, VERSION, 0, layout.fingerprint, 0)
    crc = zlib.crc32(body, zlib.crc32(bare))
    return _FRAME.pack(MAGIC, kind, VERSION, 0, layout.fingerprint, crc) + body


def unpack(kind: Kind, layout: PayloadLayout, payload: bytes) -> Body:
    """The body of a message of this kind for this model.

    Raises:
        PayloadError: another kind, version or model, damaged or cut short.
    """
    if len(payload) < FRAME_BYTES:
        raise PayloadError(f"a message of {len(payload)} bytes; its header takes {FRAME_BYTES}")
    magic, found, version, zero, fingerprint, crc = _FRAME.unpack_from(payload)
    if (magic, version, zero) != (MAGIC, VERSION, 0):
        raise PayloadError("not a message of this kind, or of another version")
    if found != kind:
        raise PayloadError(f"a message of kind {found}, not {int(kind)} ({kind.name.lower()})")
    if fingerprint != layout.fingerprint:
        raise PayloadError("the message is of another model: its layout differs")
    bare = _FRAME.pack(magic, found, version, zero, fingerprint, 0)
    body = memoryview(payload)[FRAME_BYTES:]
    if zlib.crc32(body, zlib.crc32(bare)) != crc:
        raise PayloadError("the message is damaged: its checksum differs")
    return Body(body, layout)


class Body:
    """Reads a body from its start; whatever does not fit is a `PayloadError`."""

    def __init__(self, data: memoryview, layout: PayloadLayout) -> None:
        self._data = data
        self._layout = layout
        self._at = 0

    def take(self, count: int) -> memoryview:
        """The next *count* bytes."""
        if count > len(self._data) - self._at:
            left = len(self._data) - self._at
            raise PayloadError(f"the message ends {count - left} bytes early")
        self._at += count
        return self._data[self._at - count : self._at]

    def integers(self, count: int) -> tuple[int, ...]:
        """The next *count* unsigned 32-bit integers."""
        return struct.unpack(f"<{count}I", self.take(4 * count))

    def bits(self, count: int) -> NDArray[np.bool_]:
        """The next *count* bits, filled with zeros to a byte."""
        packed = np.frombuffer(self.take((count + 7) // 8), dtype=np.uint8)
        spread = np.unpackbits(packed, bitorder="little")
        if spread[count:].any():
            raise PayloadError("bits are set beyond the last one")
        return spread[:count].astype(np.bool_)

    def values(self, count: int, kind: str, what: str) -> NDArray[Any]:
        """The next *count* finite values of numpy type *kind*.

        Raises:
            PayloadError: too few, or NaN or infinite.
        """
        dtype = np.dtype(kind)
        found = np.frombuffer(self.take(dtype.itemsize * count), dtype=dtype)
        if not np.isfinite(found).all():
            raise PayloadError(f"{what} are NaN or infinite")
        return found

    def buffers(self) -> dict[str, NDArray[np.float32]]:
        """The model's buffers, which end the message."""
        found: dict[str, NDArray[np.float32]] = {}
        for name, shape in self._layout.buffers.items():
            values = self.values(prod(shape), "<f4", f"the values of buffer {name!r}")
            found[name] = values.reshape(shape).astype(np.float32)
        self.end()
        return found

    @property
    def ended(self) -> bool:
        """Whether everything was read."""
        return self._at == len(self._data)

    def end(self) -> None:
        """Raise unless everything was read."""
        if not self.ended:
            raise PayloadError(f"{len(self._data) - self._at} bytes after the message's end")


def bits_of(mask: NDArray[np.bool_]) -> bytes:
    """A mask as `Body.bits` reads it."""
    return np.packbits(mask, bitorder="little").tobytes()


def values_of(values: ArrayLike, kind: str, what: str) -> bytes:
    """Values as `Body.values` reads them.

    Raises:
        UpdateError: NaN, infinite, or too large for the type.
    """
    with np.errstate(over="ignore"):
        written = np.asarray(values).astype(kind)
    if not np.isfinite(written).all():
        raise UpdateError(f"{what} are NaN, infinite or too large to send: training diverged")
    return written.tobytes()


def buffers_of(layout: PayloadLayout, buffers: Mapping[str, NDArray[np.float32]]) -> bytes:
    """A model's buffers as `Body.buffers` reads them.

    Raises:
        UpdateError: NaN or infinite.
    """
    return b"".join(
        values_of(buffers[name], "<f4", f"the values of buffer {name!r}") for name in layout.buffers
    )


def counted(examples: int) -> int:
    """*examples*, if a client can have as many.

    Raises:
        PayloadError: fewer than 1.
    """
    if examples < 1:
        raise PayloadError(f"it claims {examples} examples; at least 1 is needed")
    return examples


def batches_of(examples: int) -> tuple[int, ...]:
    """The batches in which `Trainer.scores` sees so many examples."""
    whole, rest = divmod(examples, EVALUATED_AT_ONCE)
    return (EVALUATED_AT_ONCE,) * whole + ((rest,) if rest else ())


def affordable_bytes(setting: Setting) -> float:
    """Bytes of one message, frame and buffers included, that the budget pays for; inf if free."""
    byte_j = setting.costs.layers[0].byte_j
    if byte_j == 0:
        return float("inf") if setting.budget_j >= setting.costs.message_j else 0.0
    overhead = HEADER_BYTES + buffer_bytes(setting.layout.buffer_entries)
    return (setting.budget_j - setting.costs.message_j) / byte_j + overhead


def numbers(name: MethodName, form: str, defaults: tuple[float, ...]) -> tuple[float, ...]:
    """The arguments of *name*, finite numbers, *defaults* where they are left out.

    Raises:
        InputError: too many, or not numbers, or a feedback, which these methods do not have.
    """
    if name.feedback.remembers:
        raise InputError(f"{name.name} has no entries left unsent, and takes no feedback: {name}")
    try:
        given = tuple(float(text) for text in name.arguments)
    except ValueError:
        given = (float("nan"),)
    if len(given) > len(defaults) or not np.isfinite(given).all():
        raise InputError(f"cannot read {str(name)!r}: write {form}")
    return given + defaults[len(given) :]
