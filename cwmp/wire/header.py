"""The headers of a message and of its parts, and the cursor that reads them.

The reader trusts nothing: it never moves past the end, and a message is checked for length,
version, damage and model before anything in it is looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cwmp.payload import HEADER_BYTES, PayloadLayout, ValueType
from profiler.errors import PayloadError

MAGIC = b"CWMP"
VERSION = 2

DENSE, KEPT, MISSING, RUNS, BUFFERS = range(5)
BUFFERS_NUMBER = 0xFFFFFFFF

_HEADER = struct.Struct("<4sBBHI8sI")
_CHECKSUM = struct.Struct("<I")
_PART = struct.Struct("<IIBBBB")
_VALUE_CODES: Mapping[ValueType, int] = {
    "float32": 0,
    "float16": 1,
    "float64": 2,
    "bfloat16": 3,
    "int8": 4,
}


class PartHeader(NamedTuple):
    """What stands before a layer or the buffers: its number, entries, code, and Rice parameters.

    *b_lengths* is of the lengths of runs.
    """

    number: int
    entries: int
    code: int
    b: int = 0
    b_lengths: int = 0

    def to_bytes(self) -> bytes:
        return _PART.pack(*self, 0)


def message_of(layout: PayloadLayout, touched: int, body: Iterable[bytes | memoryview]) -> bytes:
    """A whole message: header, checksum, and the parts of *body*."""
    parts = tuple(body)
    code = _VALUE_CODES[layout.value_type]
    start = _HEADER.pack(MAGIC, VERSION, code, 0, touched, layout.fingerprint, 0)[:-4]
    checksum = zlib.crc32(start)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join((start, _CHECKSUM.pack(checksum), *parts))


class Reader:
    """A cursor over a message that never reads past its end."""

    def __init__(self, payload: bytes | bytearray | memoryview) -> None:
        self.view = memoryview(payload).cast("B")
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.view) - self.position

    def take(self, count: int, what: str) -> memoryview:
        """The next *count* bytes.

        Raises:
            PayloadError: fewer are left.
        """
        taken = self.ahead(count)
        if len(taken) < count:
            raise PayloadError(f"payload ends {count - len(taken)} bytes short of {what}")
        self.position += count
        return taken

    def ahead(self, count: int) -> memoryview:
        """The next *count* bytes, or what is left, without moving past them."""
        return self.view[self.position : self.position + count]

    def part_header(self) -> PartHeader:
        """The header of the next part.

        Raises:
            PayloadError: truncated, or reserved bytes set.
        """
        *fields, zero = _PART.unpack(self.take(_PART.size, "the header of a layer"))
        if zero:
            raise PayloadError("payload has a layer header with reserved bytes set")
        return PartHeader(*fields)


def read_header(reader: Reader, layout: PayloadLayout) -> int:
    """Check length, header and checksum; return the number of touched layers.

    Raises:
        PayloadError: not a payload, of another version, model or value type, damaged, or
            longer than any of this model's.
    """
    if reader.left > layout.max_bytes:
        raise PayloadError(
            f"payload of {reader.left} bytes exceeds the {layout.max_bytes} of this model's largest"
        )
    view = reader.take(HEADER_BYTES, "its header")
    magic, version, values, flags, touched, fingerprint, checksum = _HEADER.unpack(view)
    if magic != MAGIC:
        raise PayloadError(f"not a payload: it starts with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise PayloadError(
            f"payload has version {version}; this release reads {VERSION}: use the same release "
            "of cwmp at both ends"
        )
    body = reader.view[HEADER_BYTES:]
    if zlib.crc32(body, zlib.crc32(view[: -_CHECKSUM.size])) != checksum:
        raise PayloadError("payload is damaged: its checksum does not match")
    if fingerprint != layout.fingerprint or values != _VALUE_CODES[layout.value_type]:
        raise PayloadError("payload was written for another model or value type")
    if flags:
        raise PayloadError(f"payload has unknown flags {flags:#06x}")
    if touched > len(layout.layers):
        raise PayloadError(f"payload announces {touched} layers of {len(layout.layers)}")
    return int(touched)
