"""The decoder against damaged and forged messages."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from cwmp.codec import decode, encode
from cwmp.payload import PayloadLayout
from cwmp.selection import LayerSelection
from profiler.errors import PayloadError

LAYOUT = PayloadLayout({"bitmap": (5, 9), "whole": (7,), "few": (400,)}, {"mean": (3,)})
HEADER = 24


def _seal(payload: bytes) -> bytes:
    """Give a forged message the checksum that it needs."""
    checksum = zlib.crc32(payload[HEADER:], zlib.crc32(payload[: HEADER - 4]))
    return payload[: HEADER - 4] + struct.pack("<I", checksum) + payload[HEADER:]


def _message(seed: int = 0) -> bytes:
    numbers = np.random.default_rng(seed)

    def layer(name: str, shape: tuple[int, ...], k: int, form: str) -> LayerSelection:
        indices = np.sort(numbers.permutation(int(np.prod(shape)))[:k])
        return LayerSelection(name, shape, indices, numbers.normal(size=k).astype("f4"), form)

    layers = [
        layer("bitmap", (5, 9), 20, "sparse"),
        layer("whole", (7,), 7, "dense"),
        layer("few", (400,), 6, "sparse"),
    ]
    return encode(layers, LAYOUT, {"mean": numbers.normal(size=3)})


MESSAGE = _message()
BITMAP = HEADER
WHOLE = BITMAP + 12 + 6 + 80
FEW = WHOLE + 12 + 28
MEAN = FEW + 12 + 48


def _put(offset: int, content: bytes) -> bytes:
    return _seal(MESSAGE[:offset] + content + MESSAGE[offset + len(content) :])


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)


NAN, INF = struct.pack("<f", np.nan), struct.pack("<f", -np.inf)

FORGED = {
    "empty": (b"", "its header"),
    "a header cut short": (MESSAGE[:23], "its header"),
    "magic": (_put(0, b"CWMQ"), "not a payload"),
    "version": (_put(4, b"\x02"), "version 2"),
    "value type": (_put(5, b"\x01"), "another model"),
    "flags": (_put(6, b"\x01"), "flags"),
    "fingerprint": (_put(12, b"\0" * 8), "another model"),
    "checksum": (MESSAGE[:-1] + bytes([MESSAGE[-1] ^ 1]), "checksum"),
    "more layers than follow": (_put(8, _u32(4)), "layer 4294967295"),
    "fewer layers than follow": (_put(8, _u32(2)), "buffers"),
    "2^32 - 1 layers": (_put(8, _u32(2**32 - 1)), "layer"),
    "trailing bytes": (_seal(MESSAGE + b"\0"), "1 bytes after"),
    "truncated values": (_seal(MESSAGE[:-1]), "1 bytes short"),
    "truncated header of a layer": (_seal(MESSAGE[: FEW + 5]), "layer header"),
    "larger than the model": (_seal(MESSAGE + bytes(10_000)), "exceeds"),
    "a layer beyond the model": (_put(FEW, _u32(3)), "layer 3"),
    "a layer twice": (_put(WHOLE, _u32(0)), "layer 0 after 0"),
    "layers out of order": (_put(FEW, _u32(0)), "layer 0 after 1"),
    "reserved bytes": (_put(FEW + 9, b"\x01"), "reserved"),
    "no entries": (_put(FEW + 4, _u32(0)), "0 entries"),
    "more entries than the layer": (_put(FEW + 4, _u32(401)), "401 entries"),
    "2^32 - 1 entries": (_put(FEW + 4, _u32(2**32 - 1)), "4294967295 entries"),
    "unknown code": (_put(FEW + 8, b"\x07"), "code 7"),
    "the larger index code": (_put(FEW + 8, b"\x01"), "code 1"),
    "a dense layer in part": (_put(WHOLE + 4, _u32(6)), "6 of 7"),
    "index out of range": (_put(FEW + 12 + 20, _u32(400)), "'few'"),
    "index far out of range": (_put(FEW + 12, _u32(2**31)), "'few'"),
    "indices not ascending": (_put(FEW + 12 + 4, MESSAGE[FEW + 12 : FEW + 16]), "'few'"),
    "bitmap of another count": (_put(BITMAP + 12, b"\xff"), "'bitmap'"),
    "NaN in a sparse layer": (_put(FEW + 12 + 24, NAN), "'few'"),
    "infinity in a dense layer": (_put(WHOLE + 12, INF), "'whole'"),
    "NaN in a buffer": (_put(MEAN + 12, NAN), "'mean'"),
    "buffers of another length": (_put(MEAN + 4, _u32(2)), "buffers"),
    "buffers left out": (_seal(MESSAGE[:MEAN]), "layer header"),
}


def test_the_message_itself_is_sound() -> None:
    assert [layer.indices.size for layer in decode(MESSAGE, LAYOUT).layers] == [20, 7, 6]
    assert _seal(MESSAGE) == MESSAGE


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_message_is_refused_with_its_reason(name: str) -> None:
    payload, says = FORGED[name]
    with pytest.raises(PayloadError, match=says) as caught:
        decode(payload, LAYOUT)
    assert "\n" not in str(caught.value)


def test_padding_bits_of_a_bitmap_must_be_zero() -> None:
    last = MESSAGE[BITMAP + 12 + 5]
    kept = next(bit for bit in range(8) if last >> bit & 1)
    with pytest.raises(PayloadError, match="'bitmap'"):
        decode(_put(BITMAP + 12 + 5, bytes([last & ~(1 << kept) | 0x80])), LAYOUT)


def _mutated(numbers: np.random.Generator, payload: bytes) -> bytes:
    content = bytearray(payload)
    for _ in range(int(numbers.integers(1, 4))):
        start = int(numbers.integers(0, max(len(content), 1)))
        length = int(numbers.integers(1, 9))
        match int(numbers.integers(0, 5)):
            case 0:
                for offset in range(start, min(start + length, len(content))):
                    content[offset] ^= int(numbers.integers(1, 256))
            case 1:
                del content[start : start + length]
            case 2:
                content[start:start] = numbers.bytes(length)
            case 3:
                content[start : start + 4] = _u32(int(numbers.choice([0, 1, 3, 255, 2**32 - 1])))
            case _:
                other = int(numbers.integers(0, max(len(content), 1)))
                content[start : start + length] = content[other : other + length]
    return bytes(content)


@pytest.mark.parametrize("sealed", [False, True])
def test_mutated_messages_are_refused_or_are_what_an_encoder_writes(sealed: bool) -> None:
    numbers = np.random.default_rng(7)
    refused = accepted = 0
    for case in range(4000):
        payload = _mutated(numbers, _message(case % 20))
        if sealed and len(payload) >= HEADER:
            payload = _seal(payload)
        try:
            decoded = decode(payload, LAYOUT)
        except PayloadError:
            refused += 1
            continue
        accepted += 1
        assert encode(decoded.layers, LAYOUT, decoded.buffers) == payload
    assert refused > 1000
    assert (accepted > 100) if sealed else (accepted < 40)


def test_a_forged_count_allocates_nothing_beyond_the_model() -> None:
    layout = PayloadLayout({"w": (50_000,)})
    whole = LayerSelection("w", (50_000,), np.arange(50_000), np.ones(50_000, np.float32), "dense")
    payload = encode([whole], layout)
    forged = [
        _seal(payload[:28] + _u32(count) + bytes([code]) + payload[33:])
        for count in (1, 49_999, 50_001, 2**32 - 1)
        for code in (0, 1, 2)
    ]
    tracemalloc.start()
    try:
        for message in forged:
            with pytest.raises(PayloadError):
                decode(message, layout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 50_000
