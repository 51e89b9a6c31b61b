"""Every value type against its definition, bit for bit, and what each refuses."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cwmp.codec import decode, encode
from cwmp.payload import HEADER_BYTES, VALUE_BYTES, PayloadLayout, layer_bytes
from cwmp.selection import LayerSelection
from cwmp.wire.values import as_sent
from profiler.errors import UpdateError

FLOAT32_MAX = float(np.finfo(np.float32).max)
SUBNORMAL = 2.0**-149
BFLOAT16_MAX, BEFORE_TIE, TIE = struct.unpack("<3f", bytes.fromhex("00007f7fff7f7f7f00807f7f"))
INT8_MAX_SCALE = np.nextafter(np.float32(FLOAT32_MAX) / np.float32(127), np.float32(0))
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
edges = st.sampled_from([0.0, -0.0, SUBNORMAL, -SUBNORMAL, 2.0**-126, 1.0, -1.0, 2.0**-133])


def _layer(values, dtype=np.float32, form="sparse") -> LayerSelection:
    numbers = np.asarray(values, dtype=dtype)
    return LayerSelection("w", (2 * numbers.size,), np.arange(numbers.size), numbers, form)


def _received(layer: LayerSelection, value_type) -> LayerSelection:
    layout = PayloadLayout({"w": layer.shape}, value_type=value_type)
    payload = encode([layer], layout)
    n, k = layer.shape[0], layer.indices.size
    assert len(payload) <= HEADER_BYTES + int(layer_bytes(n, k, "sparse", VALUE_BYTES[value_type]))
    (got,) = decode(payload, layout).layers
    np.testing.assert_array_equal(got.indices, layer.indices)
    return got


def _same(got, expected) -> None:
    assert got.dtype == expected.dtype
    assert got.tobytes() == expected.tobytes()


def _slow_bfloat16(number: float) -> float:
    """The nearer of the two bfloat16 around *number*, or the one whose last bit is 0."""
    (bits,) = struct.unpack("<I", struct.pack("<f", number))
    low = bits & 0xFFFF0000
    around = [struct.unpack("<f", struct.pack("<I", x & 0xFFFFFFFF))[0] for x in (low, low + 65536)]
    if not np.isfinite(around[1]):  # as if the exponent went on
        around[1] = float(np.copysign(2.0**128, number))
    distances = [abs(Fraction(x) - Fraction(number)) for x in around]
    if distances[0] == distances[1]:
        return around[(low >> 16) & 1]
    return around[distances[1] < distances[0]]


def _slow_int8(numbers: list[float]) -> tuple[np.float32, list[int]]:
    largest = max(abs(x) for x in numbers)
    scale = max(np.float32(np.float32(largest) / np.float32(127)), np.float32(2.0**-126))
    scale = min(scale, INT8_MAX_SCALE)
    quotients = [round(Fraction(x) / Fraction(float(scale))) for x in numbers]  # ties to even
    return scale, quotients


@given(st.lists(singles | edges, min_size=1, max_size=40))
@settings(max_examples=300, deadline=None)
@example([1.00390625, 1.01171875, -1.00390625, 1.0039063692])
@example([SUBNORMAL, 2.0**-134, 2.0**-134 * 3, -(2.0**-134), -0.0])
def test_bfloat16_is_the_nearest_ties_to_even(numbers: list[float]) -> None:
    expected = [_slow_bfloat16(x) for x in numbers]
    if any(abs(x) > BFLOAT16_MAX for x in expected):
        with pytest.raises(UpdateError, match="beyond bfloat16"):
            as_sent(_layer(numbers), "bfloat16")
        return
    got = _received(_layer(numbers), "bfloat16").values
    _same(got, np.array(expected, dtype=np.float32))
    _same(as_sent(_layer(got), "bfloat16").values, got)


@given(st.lists(singles | edges, min_size=1, max_size=40))
@settings(max_examples=300, deadline=None)
@example([127.0, 0.5, 1.5, -2.5, 126.5, -0.0])
@example([SUBNORMAL, 2.0**-127, 3 * 2.0**-128])
@example([0.0, -0.0])
@example([FLOAT32_MAX, -1.0])
def test_int8_is_the_nearest_multiple_of_the_scale(numbers: list[float]) -> None:
    scale, quotients = _slow_int8(numbers)
    got = _received(_layer(numbers), "int8").values
    assert max(abs(q) for q in quotients) <= 127
    _same(got, np.array(quotients, dtype=np.float32) * scale)
    worst = float(np.abs(got.astype(float) - np.array(numbers)).max())
    assert worst <= float(scale) * (0.5 + 127 * 2.0**-24)


@given(st.lists(st.floats(-6e4, 6e4), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
@example([2.0**-24, 2.0**-25, -(2.0**-25), 2.0**-26, 1 + 2.0**-11, 1 + 3 * 2.0**-11, -0.0])
@example([2048 + 1.0, 2048 + 3.0])
def test_float16_is_the_nearest_ties_to_even(numbers: list[float]) -> None:
    got = _received(_layer(numbers, np.float64), "float16").values
    expected = np.frombuffer(struct.pack(f"<{len(numbers)}e", *numbers), "<f2")
    _same(got, expected.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value_type", ["float32", "float64"])
def test_wider_types_carry_narrower_values_exactly(dtype: str, value_type) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    values = np.array([1.5, -0.0, tiny, -tiny, np.finfo(dtype).tiny], dtype=dtype)
    got = _received(_layer(values, dtype), value_type).values
    if np.dtype(dtype).itemsize <= np.dtype(value_type).itemsize:
        _same(got, values.astype(value_type))
    else:
        assert got.tolist() == [1.5, 0.0, 0.0, 0.0, 0.0]
        assert np.signbit(got).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("value_type", VALUE_BYTES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value_type, bad: float) -> None:
    for form in ("sparse", "dense"):
        with pytest.raises(UpdateError, match="'w' holds a value"):
            encode(
                [_layer([1.0, bad], form=form)], PayloadLayout({"w": (4,)}, value_type=value_type)
            )


@pytest.mark.parametrize(
    ("value_type", "largest", "beyond"),
    [
        ("float16", 65519.996, 65520.0),
        ("bfloat16", BEFORE_TIE, TIE),
        ("float32", FLOAT32_MAX, 3.4028236e38),
        ("int8", FLOAT32_MAX, 3.4028236e38),
    ],
)
def test_overflow_is_refused_from_the_value_that_rounds_to_infinity(
    value_type, largest: float, beyond: float
) -> None:
    got = _received(_layer([largest, 0.0], np.float64), value_type).values
    assert np.isfinite(got).all()
    assert abs(float(got[0]) / largest - 1) < 0.004
    with pytest.raises(UpdateError, match=f"beyond {value_type}"):
        _received(_layer([beyond, 0.0], np.float64), value_type)


@given(
    st.sampled_from(sorted(VALUE_BYTES)),
    st.sampled_from(["float16", "float32", "float64"]),
    st.integers(0, 2**32),
    st.integers(1, 300),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_as_sent_is_what_arrives(value_type, dtype: str, seed: int, k: int, dense: bool) -> None:
    numbers = np.random.default_rng(seed)
    values = numbers.normal(size=k) * 10.0 ** numbers.integers(-4, 4, k)
    layer = _layer(values, dtype, "dense" if dense else "sparse")
    if dense:
        layer = LayerSelection("w", (k,), layer.indices, layer.values, "dense")
    sent = as_sent(layer, value_type)
    got = _received(layer, value_type)
    assert (sent.name, sent.shape, sent.form) == (layer.name, layer.shape, layer.form)
    _same(got.values, sent.values)
    lost = layer.values.astype(np.float64) - sent.values
    half_step = {"int8": 1 / 254, "bfloat16": 2.0**-8, "float16": 2.0**-11}.get(
        value_type, 2.0**-24
    )
    largest = float(np.abs(layer.values.astype(np.float64)).max())
    assert float(np.abs(lost).max()) <= 1.001 * half_step * largest + 2.0**-25


def test_values_of_another_layout_in_memory_are_sent_alike() -> None:
    values = np.arange(12, dtype=np.float32)
    strided = LayerSelection("w", (12,), np.arange(12)[::2], values[::2])
    frozen = values[::2].copy()
    frozen.flags.writeable = False
    layout = PayloadLayout({"w": (12,)})
    still = LayerSelection("w", (12,), np.arange(0, 12, 2), frozen)
    swapped = LayerSelection("w", (12,), np.arange(0, 12, 2), frozen.astype(">f4"))
    assert encode([strided], layout) == encode([still], layout) == encode([swapped], layout)
