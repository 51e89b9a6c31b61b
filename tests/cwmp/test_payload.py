"""Sizes, round trips and what the encoder refuses."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.codec import decode, encode
from cwmp.payload import HEADER_BYTES, VALUE_BYTES, PayloadLayout, buffer_bytes, layer_bytes
from cwmp.selection import LayerSelection, Selection
from cwmp.wire.values import as_sent
from profiler.errors import InputError, LayerMismatchError, PayloadError, UpdateError


@st.composite
def messages(draw: st.DrawFn):
    """A layout, a selection of it and its buffers."""
    value_type = draw(st.sampled_from(list(VALUE_BYTES)))
    shapes = draw(
        st.lists(st.lists(st.integers(1, 9), max_size=3).map(tuple), min_size=1, max_size=5)
    )
    buffer_shapes = draw(st.lists(st.lists(st.integers(1, 4), max_size=2).map(tuple), max_size=3))
    layout = PayloadLayout(
        {f"layer{number}": shape for number, shape in enumerate(shapes)},
        {f"buffer{number}": shape for number, shape in enumerate(buffer_shapes)},
        value_type,
    )
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    index_type = draw(st.sampled_from(["int32", "int64"]))
    layers = []
    for name, shape in layout.layers.items():
        parameters = prod(shape)
        form = draw(st.sampled_from(["sparse", "dense"]))
        k = parameters if form == "dense" else draw(st.integers(0, parameters))
        indices = np.sort(numbers.permutation(parameters)[:k])
        values = numbers.normal(size=k).astype("f8" if value_type == "float64" else "f4")
        values[numbers.random(k) < 0.2] = -0.0
        layer = LayerSelection(name, shape, indices.astype(index_type), values, form)
        layers.append(as_sent(layer, value_type) if value_type != "int8" else layer)
    buffers = {
        name: numbers.normal(size=shape).astype(np.float32)
        for name, shape in layout.buffers.items()
    }
    return layout, layers, buffers


@given(messages())
@settings(max_examples=200, deadline=None)
def test_round_trip_is_bit_for_bit_and_no_longer_than_declared(message) -> None:
    layout, layers, buffers = message
    payload = encode(layers, layout, buffers)
    declared = sum(
        int(layer_bytes(prod(x.shape), x.indices.size, x.form, layout.value_bytes)) for x in layers
    )
    assert len(payload) <= HEADER_BYTES + declared + buffer_bytes(layout.buffer_entries)
    assert len(payload) <= layout.max_bytes

    decoded = decode(payload, layout)
    sent = [as_sent(layer, layout.value_type) for layer in layers if layer.indices.size]
    assert [layer.name for layer in decoded.layers] == [layer.name for layer in sent]
    for got, layer in zip(decoded.layers, sent, strict=True):
        assert (got.shape, got.form) == (layer.shape, layer.form)
        assert got.indices.dtype == np.int32
        assert got.values.dtype == layer.values.dtype
        np.testing.assert_array_equal(got.indices, layer.indices)
        assert got.values.tobytes() == layer.values.tobytes()
    assert list(decoded.buffers) == list(buffers)
    for name, buffer in buffers.items():
        assert decoded.buffers[name].tobytes() == buffer.tobytes()
        assert decoded.buffers[name].shape == buffer.shape
    if layout.value_type != "int8":
        assert encode(decoded.layers, layout, decoded.buffers) == payload


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_decoded(kind) -> None:
    payload = encode([_one([3], [2.0])], LAYOUT)
    assert decode(kind(payload), LAYOUT).layers[0].indices.tolist() == [3]


def _one(indices, values, form="sparse", *, name="w", shape=(4, 5)) -> LayerSelection:
    return LayerSelection(
        name, shape, np.asarray(indices, dtype=np.int64), np.asarray(values, np.float32), form
    )


LAYOUT = PayloadLayout({"v": (3,), "w": (4, 5)})


def test_layers_travel_in_the_layouts_order() -> None:
    one, two = _one([1], [2.0]), _one([0], [3.0], name="v", shape=(3,))
    assert encode([one, two], LAYOUT) == encode([two, one], LAYOUT)
    assert [layer.name for layer in decode(encode([one, two], LAYOUT), LAYOUT).layers] == ["v", "w"]


def test_a_dense_layer_carries_zeros_where_nothing_was_kept() -> None:
    got = decode(encode([_one([3], [2.0], "dense")], LAYOUT), LAYOUT).layers[0]
    assert got.form == "dense"
    np.testing.assert_array_equal(got.values, np.where(np.arange(20) == 3, 2.0, 0.0))


def test_nothing_kept_is_a_bare_header() -> None:
    payload = encode([], LAYOUT)
    assert len(payload) == HEADER_BYTES
    assert decode(payload, LAYOUT).layers == ()


def test_integer_buffers_travel_exactly_or_not_at_all() -> None:
    layout = PayloadLayout({"w": (1,)}, {"seen": ()})
    payload = encode([], layout, {"seen": np.int64(2**24)})
    assert decode(payload, layout).buffers["seen"] == 2**24
    with pytest.raises(UpdateError, match="'seen'"):
        encode([], layout, {"seen": np.int64(2**24 + 1)})


@pytest.mark.parametrize(
    ("layers", "error", "says"),
    [
        ([_one([0], [1.0], name="x")], LayerMismatchError, "'x'"),
        ([_one([0], [1.0], shape=(5, 4))], LayerMismatchError, r"\(5, 4\)"),
        ([_one([0], [1.0]), _one([1], [1.0])], LayerMismatchError, "twice"),
        ([_one([20], [1.0])], UpdateError, "0 to 19"),
        ([_one([-1], [1.0])], UpdateError, "0 to 19"),
        ([_one([2, 1], [1.0, 1.0])], UpdateError, "ascend"),
        ([_one([1, 1], [1.0, 1.0])], UpdateError, "ascend"),
        ([_one([20], [1.0], "dense")], UpdateError, "0 to 19"),
        ([_one([5, -(2**63), -1, 7], np.ones(4))], UpdateError, "ascend"),
        ([_one([1, 2], [1.0])], UpdateError, "indices"),
        ([_one([1], [np.nan])], UpdateError, "'w'"),
        ([_one([1], [-np.inf])], UpdateError, "'w'"),
        ([_one([1], [np.inf], "dense")], UpdateError, "'w'"),
    ],
)
def test_the_encoder_refuses(layers, error, says) -> None:
    with pytest.raises(error, match=says):
        encode(layers, LAYOUT)


def test_what_is_no_payload_and_no_layers_is_refused_by_its_kind() -> None:
    with pytest.raises(InputError, match="bytes, not str"):
        decode("abc", LAYOUT)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"a Selection: pass selection\.layers"):
        encode(Selection((), 0.0, 1.0, 0.0, 0.0), LAYOUT)  # type: ignore[arg-type]


def test_indices_that_are_not_integers_are_refused() -> None:
    half = LayerSelection("w", (4, 5), np.array([0.5]), np.ones(1, np.float32))
    with pytest.raises(UpdateError, match="ascend"):
        encode([half], LAYOUT)
    short = LayerSelection("w", (4, 5), np.array([3, 7], np.uint8), np.ones(2, np.float32))
    assert decode(encode([short], LAYOUT), LAYOUT).layers[0].indices.tolist() == [3, 7]


def test_a_value_beyond_the_wire_type_is_refused() -> None:
    half = PayloadLayout({"w": (4, 5)}, value_type="float16")
    with pytest.raises(UpdateError, match="float16"):
        encode([_one([1], [1e5])], half)


@pytest.mark.parametrize(
    ("buffers", "says"),
    [
        (None, "'mean' is missing from the payload"),
        ({"mean": np.zeros(3), "other": np.zeros(1)}, "'other' is missing from the layout"),
        ({"mean": np.zeros(4)}, "shape"),
    ],
)
def test_buffers_must_be_the_layouts(buffers, says) -> None:
    with pytest.raises(LayerMismatchError, match=says):
        encode([], PayloadLayout({"w": (2,)}, {"mean": (3,)}), buffers)


def test_a_buffer_with_nan_is_refused() -> None:
    with pytest.raises(UpdateError, match="'mean'"):
        encode([], PayloadLayout({"w": (2,)}, {"mean": (1,)}), {"mean": np.array([np.nan])})


@pytest.mark.parametrize(
    ("layers", "value_type", "says"),
    [
        ({}, "float32", "at least one layer"),
        ({"w": (0,)}, "float32", "'w'"),
        ({"w": (2**16, 2**16)}, "float32", "2\\^31"),
        ({"w": (2,)}, "int4", "int4"),
    ],
)
def test_a_layout_that_no_payload_can_carry(layers, value_type, says) -> None:
    with pytest.raises(InputError, match=says):
        PayloadLayout(layers, value_type=value_type)


@pytest.mark.parametrize(
    "other",
    [
        PayloadLayout({"v": (3,), "w": (5, 4)}),
        PayloadLayout({"w": (4, 5), "v": (3,)}),
        PayloadLayout({"v": (3,), "x": (4, 5)}),
        PayloadLayout({"v": (3,), "w": (4, 5)}, value_type="float16"),
        PayloadLayout({"v": (3,), "w": (4, 5)}, value_type="bfloat16"),
        PayloadLayout({"v": (3,), "w": (4, 5)}, {"mean": (3,)}),
    ],
)
def test_another_model_has_another_fingerprint(other) -> None:
    assert other.fingerprint != LAYOUT.fingerprint
    with pytest.raises(PayloadError, match="another model"):
        decode(encode([], LAYOUT), other)
