"""Sound messages, what becomes of them on the way, and what the decoder makes of that."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from math import prod

import numpy as np

from cwmp.codec import decode, encode
from cwmp.payload import HEADER_BYTES, DecodedPayload, PayloadLayout, ValueType
from cwmp.selection import LayerSelection
from profiler.errors import PayloadError

SHAPES = {"kept": (5, 9), "whole": (7,), "few": (400,), "runs": (300,), "most": (50,)}
BUFFERS = {"mean": (3,)}
_NUMBERS = (0, 1, 2, 3, 4, 7, 31, 32, 44, 45, 46, 127, 128, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
_PARTICULARS = re.compile(r"0x\w+|b['\"].*|'[^']*'|-?\d[\d.e+-]*|\bnan\b|-?\binf\b")
_FLOATS = (np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38)


def layout_of(value_type: ValueType = "float32") -> PayloadLayout:
    """Five layers, one for each way to write one, and one buffer."""
    return PayloadLayout(SHAPES, BUFFERS, value_type)


def sound_message(layout: PayloadLayout, numbers: np.random.Generator) -> bytes:
    """A message of *layout* in which every code is used."""

    def layer(name: str, indices: np.ndarray, form: str = "sparse") -> LayerSelection:
        values = numbers.normal(size=indices.size).astype(np.float32)
        return LayerSelection(name, SHAPES[name], indices, values, form)

    def some(n: int, k: int) -> np.ndarray:
        return np.sort(numbers.permutation(n)[:k])

    start = int(numbers.integers(0, 200))
    layers = [
        layer("kept", some(45, 20)),
        layer("whole", np.arange(7), "dense"),
        layer("few", some(400, 6)),
        layer("runs", np.append(np.arange(start, start + 60), start + 70 + np.arange(20))),
        layer("most", some(50, 46)),
    ]
    return encode(layers, layout, {"mean": numbers.normal(size=3)})


def sealed(payload: bytes) -> bytes:
    """*payload* with the checksum that it needs, where it is long enough to hold one."""
    if len(payload) < HEADER_BYTES:
        return payload
    checksum = zlib.crc32(payload[HEADER_BYTES:], zlib.crc32(payload[: HEADER_BYTES - 4]))
    return payload[: HEADER_BYTES - 4] + struct.pack("<I", checksum) + payload[HEADER_BYTES:]


def mutated(payload: bytes, numbers: np.random.Generator, others: Sequence[bytes] = ()) -> bytes:
    """*payload* after one to three of: flips, cuts, insertions, numbers, floats, splices."""
    content = bytearray(payload)
    draws = numbers.integers(0, 2**31, size=16).tolist()
    for _ in range(1 + draws.pop() % 3):
        start = draws.pop() % max(len(content), 1)
        length = 1 + draws[0] % 8
        choice = draws.pop()
        match draws.pop() % 7:
            case 0:
                content[start : start + 1] = bytes([choice & 255])
            case 1:
                if content:
                    content[start] ^= 1 << choice % 8
            case 2:
                del content[start : start + length]
            case 3:
                times = 1000 if choice % 64 == 0 else 1 + length // 4
                content[start:start] = choice.to_bytes(4, "little") * times
            case 4:
                content[start : start + 4] = struct.pack("<I", _NUMBERS[choice % len(_NUMBERS)])
            case 5:
                content[start : start + 4] = struct.pack("<f", _FLOATS[choice % len(_FLOATS)])
            case _:
                donor = others[choice % len(others)] if others else bytes(content)
                content[start : start + length] = donor[start : start + length]
    return bytes(content)


def outcome_of(payload: bytes, layout: PayloadLayout) -> str:
    """What the decoder made of *payload*, without its numbers and names.

    Raises:
        ValueError: it was accepted although no encoder writes it.
        BaseException: whatever the decoder raised that is not a `PayloadError`.
    """
    try:
        decoded = decode(payload, layout)
    except PayloadError as error:
        return "refused: " + _PARTICULARS.sub("…", str(error))
    check_decoded(decoded, payload, layout)
    return "accepted, and it is what the encoder writes"


def check_decoded(decoded: DecodedPayload, payload: bytes, layout: PayloadLayout) -> None:
    """Raise ValueError unless *decoded* is a selection that the encoder writes as *payload*."""
    for layer in decoded.layers:
        indices = layer.indices
        in_range = 0 <= indices[0] <= indices[-1] < prod(layer.shape)
        if not (in_range and (np.diff(indices) > 0).all() and np.isfinite(layer.values).all()):
            raise ValueError(f"layer {layer.name!r} is not what a selection holds")
    if layout.value_type == "int8":  # a scale that is rounded twice may differ in its last bit
        return
    if encode(decoded.layers, layout, decoded.buffers) != payload:
        raise ValueError("the message is not the one that the encoder writes")
