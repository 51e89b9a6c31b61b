"""The decoder against damaged and forged messages."""

from __future__ import annotations

import struct
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from stand_ins.hostile_payloads import layout_of, mutated, outcome_of, sealed, sound_message

from cwmp.codec import decode, encode
from cwmp.payload import HEADER_BYTES, VALUE_BYTES, PayloadLayout, index_bytes
from cwmp.selection import LayerSelection
from profiler.errors import PayloadError

LAYOUT = PayloadLayout({"w": (5, 9), "few": (400,)}, {"mean": (3,)})
BYTE_LAYOUT = PayloadLayout({"w": (5, 9)}, value_type="int8")
DENSE, KEPT, MISSING, RUNS, END = range(5)
MEAN = struct.pack("<IIBBBB3f", 2**32 - 1, 3, END, 0, 0, 0, 1.0, 2.0, 3.0)


def _layer(number: int, k: int, code: int, body: bytes, b=0, b_lengths=0, zero=0) -> bytes:
    return struct.pack("<IIBBBB", number, k, code, b, b_lengths, zero) + body


def _floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _bits(text: str) -> bytes:
    """Bytes of bits written least first; spaces are for the reader."""
    text = text.replace(" ", "")
    padded = text + "0" * (-len(text) % 8)
    return bytes(int(padded[at : at + 8][::-1], 2) for at in range(0, len(padded), 8))


def _message(*parts: bytes, touched: int | None = None, layout=LAYOUT, tail: bytes = MEAN) -> bytes:
    start = encode([], layout, {"mean": np.zeros(3)} if layout.buffers else {})[:8]
    count = struct.pack("<I", len(parts) if touched is None else touched)
    return sealed(start + count + layout.fingerprint + bytes(4) + b"".join((*parts, tail)))


def _of_bytes(body: bytes) -> bytes:
    return _message(_layer(0, 2, KEPT, _bits("11") + body), layout=BYTE_LAYOUT, tail=b"")


def _put(offset: int, content: bytes) -> bytes:
    return sealed(SOUND[:offset] + content + SOUND[offset + len(content) :])


ONE, TWO, FOUR = _floats(1), _floats(1, 2), _floats(1, 2, 3, 4)
FIRST = _layer(0, 2, KEPT, _bits("11") + TWO)
FEW = _layer(1, 2, KEPT, _bits("11000 00001 001 001") + TWO, b=5)  # 67 and 148
WHOLE = _floats(*range(45))
SOUND = _message(FIRST, FEW)
LONG = _bits("0" * 32 + "1" * 4)
EIGHT = _layer(0, 8, RUNS, struct.pack("<I", 1) + _bits("00111 1") + _bits("111 1"), 5, 3)

FORGED = {
    "empty": (b"", "its header"),
    "a header cut short": (SOUND[:23], "its header"),
    "magic": (_put(0, b"CWMQ"), "not a payload"),
    "version": (_put(4, b"\x01"), "version 1; this release reads 2"),
    "value type": (_put(5, b"\x01"), "another model"),
    "flags": (_put(6, b"\x01"), "flags"),
    "fingerprint": (_put(12, b"\0" * 8), "another model"),
    "checksum": (SOUND[:-1] + bytes([SOUND[-1] ^ 1]), "checksum"),
    "more layers than the model": (_message(FIRST, FEW, touched=3), "3 layers of 2"),
    "2^32 - 1 layers": (_message(FIRST, FEW, touched=2**32 - 1), "4294967295 layers of 2"),
    "more layers than follow": (_message(FIRST, touched=2), "layer 4294967295"),
    "fewer layers than follow": (_message(FIRST, FEW, touched=1), "buffers"),
    "trailing bytes": (sealed(SOUND + b"\0"), "1 bytes after"),
    "truncated values": (sealed(SOUND[:-1]), "1 bytes short"),
    "truncated header of a layer": (_message(FIRST[:5], tail=b""), "header of a layer"),
    "larger than the model": (sealed(SOUND + bytes(10_000)), "exceeds"),
    "a layer beyond the model": (
        _message(_layer(2, 1, KEPT, _bits("1") + ONE)),
        "layer 2 after -1",
    ),
    "a layer twice": (_message(FIRST, FIRST), "layer 0 after 0"),
    "layers out of order": (_message(FEW, FIRST), "layer 0 after 1"),
    "reserved bytes": (_message(_layer(0, 2, KEPT, _bits("11") + TWO, zero=1)), "reserved"),
    "no entries": (_message(_layer(0, 0, KEPT, b"")), "0 entries"),
    "more entries than the layer": (_message(_layer(0, 46, KEPT, b"")), "46 entries"),
    "2^32 - 1 entries": (_message(_layer(0, 2**32 - 1, KEPT, b"")), "4294967295 entries"),
    "unknown code": (_message(_layer(0, 2, 7, _bits("11") + TWO)), "index code 7"),
    "buffers as a layer": (_message(_layer(0, 2, END, TWO)), "index code 4"),
    "a dense layer in part": (_message(_layer(0, 44, DENSE, WHOLE)), "44 of 45"),
    "a dense layer with a b": (_message(_layer(0, 45, DENSE, WHOLE, b=1)), "45 of 45"),
    "b beyond the model": (_message(_layer(0, 2, KEPT, bytes(16) + TWO, b=30)), "b = 30"),
    "b beyond 31": (_message(_layer(0, 1, KEPT, bytes(9) + ONE, b=32)), "b = 32"),
    "b of 255": (_message(_layer(0, 1, KEPT, bytes(40) + ONE, b=255)), "b = 255"),
    "a b of lengths without runs": (
        _message(_layer(0, 2, KEPT, _bits("11") + TWO, b_lengths=1)),
        "not the smallest",
    ),
    "a larger b": (_message(_layer(0, 2, KEPT, _bits("00 11") + TWO, b=1)), "not the smallest"),
    "a smaller b": (_message(_layer(1, 1, KEPT, _bits("0" * 12 + "1") + ONE)), "not the smallest"),
    "kept where missing is smaller": (
        _message(_layer(0, 44, KEPT, _bits("1" * 43 + "01") + _floats(*range(44)))),
        "not the smallest",
    ),
    "missing where few are": (_message(_layer(0, 22, MISSING, b"")), "index code 2 for 22"),
    "missing that are out of range": (
        _message(_layer(0, 44, MISSING, _bits("10111 01") + _floats(*range(44)), b=5)),
        "out of range",
    ),
    "index out of range": (
        _message(_layer(0, 1, KEPT, _bits("10111 01") + ONE, b=5)),
        "'w' that are cut short or out of range",
    ),
    "no end of the zeros": (_message(_layer(1, 1, KEPT, bytes(50)), tail=b""), "out of range"),
    "padding bits": (_message(_layer(0, 2, KEPT, _bits("11000001") + TWO)), "padding"),
    "indices that are not there": (
        _message(_layer(1, 200, KEPT, b"\xff" * 24), tail=b""),
        "within the indices",
    ),
    "indices cut short": (_message(_layer(1, 3, KEPT, _bits("0110")), tail=b""), "cut short"),
    "no runs": (_message(_layer(0, 8, RUNS, bytes(4))), "0 runs in 8"),
    "too many runs": (_message(_layer(0, 8, RUNS, struct.pack("<I", 3))), "3 runs in 8"),
    "2^32 - 1 runs": (_message(_layer(0, 8, RUNS, b"\xff" * 4)), "4294967295 runs"),
    "a count of runs cut short": (_message(_layer(0, 8, RUNS, b"\1"), tail=b""), "3 bytes short"),
    "runs that fall short": (
        _message(
            _layer(0, 8, RUNS, struct.pack("<I", 1) + _bits("00111 1") + _bits("011 1"), 5, 3)
        ),
        "do not add up to 8",
    ),
    "runs where kept is smaller": (_message(EIGHT + _floats(*range(8))), "not the smallest"),
    "NaN in a sparse layer": (
        _message(_layer(0, 2, KEPT, _bits("11") + _floats(1, np.nan))),
        "'w'",
    ),
    "infinity in a dense layer": (
        _message(_layer(0, 45, DENSE, _floats(*range(44), -np.inf))),
        "NaN or infinity in layer 'w'",
    ),
    "NaN in a buffer": (_message(tail=MEAN[:-4] + _floats(np.nan)), "'mean'"),
    "buffers of another length": (_message(tail=_layer(2**32 - 1, 2, END, TWO)), "lacks"),
    "buffers left out": (_message(FIRST, tail=b""), "header of a layer"),
}

FORGED_BYTES = {
    "a scale of zero": (_of_bytes(_floats(0) + b"\1\2"), "0.0 as the scale"),
    "a negative scale": (_of_bytes(_floats(-1) + b"\1\2"), "-1.0 as the scale"),
    "a scale that is NaN": (_of_bytes(_floats(np.nan) + b"\1\2"), "nan as the scale"),
    "a scale that is infinite": (_of_bytes(_floats(np.inf) + b"\1\2"), "inf as the scale"),
    "a subnormal scale": (_of_bytes(_floats(1e-40) + b"\1\2"), "as the scale"),
    "a scale beyond float32 / 127": (_of_bytes(_floats(3e36) + b"\1\2"), "as the scale"),
    "-128": (_of_bytes(_floats(1) + b"\1\x80"), "-128"),
    "a scale cut short": (_of_bytes(b"\0\0"), "2 bytes short of the scale"),
}


def test_the_messages_that_are_spoilt_are_sound() -> None:
    layers = decode(SOUND, LAYOUT).layers
    assert [layer.indices.tolist() for layer in layers] == [[0, 1], [67, 148]]
    (layer,) = decode(_of_bytes(_floats(0.5) + b"\x81\2"), BYTE_LAYOUT).layers
    assert layer.values.tolist() == [-63.5, 1.0]


@pytest.mark.parametrize("name", [*FORGED, *FORGED_BYTES])
def test_a_forged_message_is_refused_with_its_reason(name: str) -> None:
    layout = LAYOUT if name in FORGED else BYTE_LAYOUT
    payload, says = (FORGED | FORGED_BYTES)[name]
    with pytest.raises(PayloadError, match=says) as caught:
        decode(payload, layout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value_type", VALUE_BYTES)
def test_mutated_messages_are_refused_or_are_what_an_encoder_writes(value_type) -> None:
    numbers = np.random.default_rng(7)
    layout = layout_of(value_type)
    sound = [sound_message(layout, numbers) for _ in range(20)]
    outcomes: Counter[str] = Counter()
    for case in range(4000):
        payload = mutated(sound[case % 20], numbers, sound)
        if case % 4:
            payload = sealed(payload)
        outcomes[outcome_of(payload, layout).partition(":")[0].partition(",")[0]] += 1
    assert outcomes["refused"] > 1000
    assert outcomes["accepted"] > 400


@pytest.mark.parametrize("form", ["dense", "kept", "missing", "runs"])
@pytest.mark.parametrize("value_type", VALUE_BYTES)
def test_decoding_allocates_at_most_4_times_the_model_in_float32(form: str, value_type) -> None:
    n = 200_000
    layout = PayloadLayout({"w": (n,)}, value_type=value_type)
    kept = {
        "dense": np.arange(n),
        "kept": np.arange(0, n, 2),
        "missing": np.delete(np.arange(n), np.arange(0, n, 3)),
        "runs": np.arange(n)[np.arange(n) % 32 < 31],
    }[form]
    layer = LayerSelection(
        "w", (n,), kept, np.ones(kept.size), "dense" if form == "dense" else "sparse"
    )
    payload = encode([layer], layout)
    decode(payload, layout)
    tracemalloc.start()
    try:
        decode(payload, layout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n < peak < 4 * 4 * n


def test_forged_counts_allocate_nothing_beyond_the_model() -> None:
    n = 50_000
    layout = PayloadLayout({"w": (n,)})
    counts = (1, 10, n // 2, n // 2 + 1, n - 1, n, n + 1, 2**31, 2**32 - 1)
    bodies = (b"\xff" * int(index_bytes(n, n)), bytes(7000) + b"\1", b"\1\0\0\0" + b"\xff" * 90)
    forged = [
        _message(_layer(0, k, code, body, b, b), layout=layout, tail=b"")
        for k in counts
        for code in (DENSE, KEPT, MISSING, RUNS)
        for b in (0, 1, 31, 255)
        for body in bodies
    ]
    tracemalloc.start()
    try:
        for message in forged:
            with pytest.raises(PayloadError):
                decode(message, layout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 4 * n


def test_nothing_short_of_a_whole_header_is_looked_into() -> None:
    assert len(SOUND) > HEADER_BYTES
    for length in range(len(SOUND)):
        with pytest.raises(PayloadError):
            decode(SOUND[:length], LAYOUT)
        with pytest.raises(PayloadError):
            decode(sealed(SOUND[:length]), LAYOUT)
