"""The frame around messages: what goes in comes out, and nothing else is taken for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwmp.fl.algorithms.envelope import Kind, batches_of, bits_of, pack, unpack, values_of
from cwmp.payload import PayloadLayout
from profiler.errors import PayloadError, UpdateError

LAYOUT = PayloadLayout({"w": (3, 4)}, {"mean": (2,)})


@given(st.binary(max_size=64), st.sampled_from(list(Kind)))
def test_a_body_comes_back(body: bytes, kind: Kind) -> None:
    read = unpack(kind, LAYOUT, pack(kind, LAYOUT, body))
    assert bytes(read.take(len(body))) == body
    read.end()


@given(st.binary(max_size=80))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(PayloadError):
        unpack(Kind.LOGITS, LAYOUT, noise)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_any_flipped_bit_is_refused(body: bytes, data: st.DataObject) -> None:
    message = bytearray(pack(Kind.PACKETS, LAYOUT, body))
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PayloadError):
        unpack(Kind.PACKETS, LAYOUT, bytes(message))


def test_another_kind_or_model_is_refused() -> None:
    message = pack(Kind.LOGITS, LAYOUT, b"abcd")
    with pytest.raises(PayloadError, match="kind"):
        unpack(Kind.TEACHER, LAYOUT, message)
    with pytest.raises(PayloadError, match="another model"):
        unpack(Kind.LOGITS, PayloadLayout({"w": (4, 3)}, {"mean": (2,)}), message)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_masks_come_back_and_stray_bits_are_refused(bits: list[bool]) -> None:
    mask = np.array(bits)
    written = bits_of(mask)
    read = unpack(Kind.CHANNELS, LAYOUT, pack(Kind.CHANNELS, LAYOUT, written))
    np.testing.assert_array_equal(read.bits(mask.size), mask)
    if mask.size % 8:
        stray = bytes([*written[:-1], written[-1] | 0x80])
        read = unpack(Kind.CHANNELS, LAYOUT, pack(Kind.CHANNELS, LAYOUT, stray))
        with pytest.raises(PayloadError, match="beyond"):
            read.bits(mask.size)


def test_what_is_too_large_to_send_is_an_update_error() -> None:
    for bad in ([np.nan], [np.inf], [7e4]):
        with pytest.raises(UpdateError):
            values_of(bad, "<f2", "the logits")


def test_values_that_are_not_finite_and_rests_are_refused() -> None:
    read = unpack(
        Kind.LOGITS,
        LAYOUT,
        pack(Kind.LOGITS, LAYOUT, np.array([1, np.nan], dtype=np.float32).tobytes()),
    )
    with pytest.raises(PayloadError, match="NaN"):
        read.values(2, "<f4", "the logits")
    read = unpack(Kind.LOGITS, LAYOUT, pack(Kind.LOGITS, LAYOUT, b"123"))
    read.take(2)
    with pytest.raises(PayloadError, match="after"):
        read.end()
    with pytest.raises(PayloadError, match="early"):
        read.take(2)


@given(st.integers(1, 5000))
def test_batches_add_up(count: int) -> None:
    parts = batches_of(count)
    assert sum(parts) == count
    assert max(parts) <= 1000
