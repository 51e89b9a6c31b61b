"""Shape formulas against what torch counts and allocates, and against loops that count."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from costmodels.tables.shapes import FIELDS, SHAPE_KINDS, UNITS, shape_features, shape_kind
from profiler.errors import InputError

ITEM = 4  # bytes of a float32


def features(kind: str, item_bytes: float = ITEM, **fields: float) -> dict[str, float]:
    columns = {name: np.array([float(value)]) for name, value in fields.items()}
    table = shape_features(kind, columns, 1, item_bytes)
    assert list(table.columns) == list(UNITS)
    return {str(name): float(table[name].iloc[0]) for name in table.columns}


def counted_macs(call: Any) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 2


small = st.integers(1, 4)


@settings(max_examples=60)
@given(st.sampled_from([1, 2, 3]), st.data())
def test_a_convolution_is_what_torch_multiplies_and_allocates(
    dimensions: int, data: st.DataObject
) -> None:
    groups, batch, bias = data.draw(small), data.draw(small), data.draw(st.booleans())
    inputs, outputs = groups * data.draw(small), groups * data.draw(small)
    axes = ("height", "width", "depth")[:dimensions]
    drawn = {
        name: [data.draw(st.integers(low, high)) for _ in axes]
        for name, low, high in (
            ("size", 3, 8), ("kernel", 1, 3), ("stride", 1, 3), ("padding", 0, 2),
            ("dilation", 1, 2),
        )
    }  # fmt: skip
    layer = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dimensions - 1](
        inputs, outputs, drawn["kernel"], drawn["stride"], drawn["padding"], drawn["dilation"],
        groups, bias=bias,
    )  # fmt: skip
    image = torch.zeros(batch, inputs, *drawn["size"])
    assume(
        all(
            size + 2 * pad >= step * (kernel - 1) + 1
            for size, pad, step, kernel in zip(
                *(drawn[name] for name in ("size", "padding", "dilation", "kernel")), strict=True
            )
        )
    )
    made = layer(image)
    fields = {
        (axis if name == "size" else f"{name}_{axis}"): value
        for name, values in drawn.items()
        for axis, value in zip(axes, values, strict=True)
    }
    found = features(
        f"conv{dimensions}d", batch=batch, in_channels=inputs, out_channels=outputs,
        groups=groups, bias=bias, **fields,
    )  # fmt: skip
    unfolded = batch * inputs * np.prod(drawn["kernel"]) * np.prod(made.shape[2:])
    assert found == {
        "calls": 1,
        "macs": counted_macs(lambda: layer(image)),
        "input_bytes": image.nbytes,
        "output_bytes": made.nbytes,
        "weight_bytes": sum(weight.nbytes for weight in layer.parameters()),
        "unfolded_bytes": unfolded * ITEM,
        "examples": batch,
    }
    if dimensions == 2:
        columns = torch.nn.functional.unfold(
            image, drawn["kernel"], drawn["dilation"], drawn["padding"], drawn["stride"]
        )
        assert found["unfolded_bytes"] == columns.nbytes


def test_a_depthwise_convolution_by_a_counting_loop() -> None:
    batch, channels, side, kernel, stride = 2, 3, 5, 3, 2
    positions = range(0, side - kernel + 1, stride)
    macs = sum(
        1
        for _ in product(range(batch), range(channels), positions, positions,
                         range(kernel), range(kernel))
    )  # fmt: skip
    found = features(
        "conv2d", batch=batch, in_channels=channels, out_channels=channels, groups=channels,
        size=side, kernel=kernel, stride=stride,
    )  # fmt: skip
    assert found["macs"] == macs


def test_a_given_output_size_is_taken_as_same_padding_needs() -> None:
    layer = torch.nn.Conv2d(2, 3, 5, padding="same", bias=False)
    image = torch.zeros(1, 2, 7, 7)
    found = features("conv2d", in_channels=2, out_channels=3, size=7, kernel=5, out_size=7)
    assert found["macs"] == counted_macs(lambda: layer(image))
    assert found["output_bytes"] == layer(image).nbytes


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_pooling_touches_every_element_of_every_window(dimensions: int) -> None:
    pool = (torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.MaxPool3d)[dimensions - 1]
    image = torch.zeros(2, 3, *[7] * dimensions)
    for stride in (None, 1, 3):
        made = pool(3, stride)(image)
        step = stride or 3
        windows = list(range(0, 7 - 3 + 1, step))
        touched = sum(
            1
            for _ in product(range(2), range(3), *[windows] * dimensions, *[range(3)] * dimensions)
        )
        fields = {} if stride is None else {"stride": stride}
        found = features(f"pool{dimensions}d", batch=2, in_channels=3, size=7, kernel=3, **fields)
        assert found["macs"] == touched
        assert (found["input_bytes"], found["output_bytes"]) == (image.nbytes, made.nbytes)
        assert found["weight_bytes"] == found["unfolded_bytes"] == 0


@given(small, small, small, small, st.booleans())
def test_a_linear_layer(batch: int, positions: int, inner: int, outer: int, bias: bool) -> None:
    layer = torch.nn.Linear(inner, outer, bias=bias).double()
    vectors = torch.zeros(batch, positions, inner).double()
    found = features(
        "linear", 8, batch=batch, positions=positions, in_features=inner, out_features=outer,
        bias=bias,
    )  # fmt: skip
    assert found["macs"] == counted_macs(lambda: layer(vectors))
    assert found["input_bytes"] == vectors.nbytes
    assert found["output_bytes"] == layer(vectors).nbytes
    assert found["weight_bytes"] == sum(weight.nbytes for weight in layer.parameters())


@given(small, small, small, small)
def test_a_product_of_matrices(batch: int, rows: int, inner: int, columns: int) -> None:
    left, right = torch.zeros(batch, rows, inner), torch.zeros(batch, inner, columns)
    found = features("matmul", batch=batch, rows=rows, inner=inner, columns=columns)
    assert found["macs"] == counted_macs(lambda: torch.bmm(left, right))
    assert found["input_bytes"] == left.nbytes + right.nbytes
    assert found["output_bytes"] == torch.bmm(left, right).nbytes


@given(small, small, small, small, small)
def test_attention_is_two_products(
    batch: int, heads: int, queries: int, keys: int, width: int
) -> None:
    query = torch.zeros(batch, heads, queries, width)
    key = torch.zeros(batch, heads, keys, width)

    def attend() -> torch.Tensor:
        return torch.matmul(torch.softmax(torch.matmul(query, key.mT), -1), key)

    found = features(
        "attention", batch=batch, heads=heads, q_len=queries, kv_len=keys, head_dim=width
    )
    assert found["macs"] == counted_macs(attend)
    assert found["input_bytes"] == query.nbytes + 2 * key.nbytes
    assert found["output_bytes"] == attend().nbytes
    shared = features(
        "attention", batch=batch, heads=heads, kv_heads=1, q_len=queries, kv_len=keys,
        head_dim=width,
    )  # fmt: skip
    assert shared["macs"] == found["macs"]
    assert shared["input_bytes"] == query.nbytes + 2 * key[:, :1].nbytes


def test_embedding_norm_and_elementwise() -> None:
    table = torch.nn.Embedding(5, 3)
    for tokens in (2, 9):
        indices = torch.zeros(2, tokens, dtype=torch.int64)
        found = features("embedding", batch=2, tokens=tokens, embedding_dim=3, vocabulary=5)
        assert found["input_bytes"] == indices.nbytes
        assert found["output_bytes"] == table(indices).nbytes
        assert found["weight_bytes"] == min(5, 2 * tokens) * 3 * ITEM
    norm = torch.nn.BatchNorm2d(3)
    image = torch.zeros(2, 3, 4, 4)
    found = features("norm", elements=image.numel(), channels=3, batch=2)
    assert found["weight_bytes"] == sum(weight.nbytes for weight in norm.parameters())
    assert found["macs"] == image.numel()
    added = features("elementwise", elements=image.numel(), inputs=2)
    assert (added["input_bytes"], added["output_bytes"]) == (2 * image.nbytes, image.nbytes)


@pytest.mark.parametrize(
    "fault",
    [
        {"kernel": 9},
        {"kernel": 0},
        {"kernel": 2.5},
        {"size": np.nan},
        {"in_channels": -3},
        {"groups": 2},
        {"padding": -1},
        {"stride": np.inf},
    ],
)
def test_an_impossible_layer_has_no_features(fault: dict[str, float]) -> None:
    usual = {"in_channels": 3, "out_channels": 4, "size": 8, "kernel": 3}
    assert all(np.isfinite(list(features("conv2d", **usual).values())))
    assert all(np.isnan(list(features("conv2d", **(usual | fault)).values())))


def test_a_missing_field_and_an_unknown_kind_are_named() -> None:
    with pytest.raises(InputError, match="'conv2d' needs the shape field 'in_channels'"):
        features("conv2d", size=3)
    with pytest.raises(InputError, match="'sponge' has no shape formula"):
        features("sponge", size=3)


def test_usual_names_of_kinds() -> None:
    assert [shape_kind(name) for name in ("Conv2d", "nn.Linear", "MaxPool2d", "layer_norm")] == [
        "conv2d", "linear", "pool2d", "norm",
    ]  # fmt: skip
    assert all(shape_kind(name) == name for name in SHAPE_KINDS)
    assert shape_kind("depthwise") is None  # its groups would silently be 1
    assert len(set(FIELDS)) == len(FIELDS)


def test_rows_are_independent() -> None:
    columns = {
        "in_channels": np.array([1.0, 2.0, np.nan]), "out_channels": np.array([3.0, 4.0, 5.0]),
        "size": np.array([5.0, 6.0, 7.0]), "kernel": np.array([1.0, 3.0, 3.0]),
    }  # fmt: skip
    table = shape_features("conv2d", columns, 3, ITEM)
    for row in range(3):
        alone = shape_features(
            "conv2d", {name: values[[row]] for name, values in columns.items()}, 1, ITEM
        )
        pd.testing.assert_series_equal(table.iloc[row], alone.iloc[0], check_names=False)
