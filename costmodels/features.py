"""An operation on a layer as physical quantities, each with a unit and never negative.

A regression over them gives prices in J/call, J/entry, J/cache line ... The list is
versioned: a cost model names the version that it was fitted with and others are refused.

Distinct cache lines that k random entries of a tensor of L lines touch, on average::

    lines = L (1 - (1 - 1/L)^k)

(the occupancy of L urns by k balls), and when the entries are consecutive and begin anywhere
in a line, 1 + (k - 1) itemsize / 64 and at most L. Both are concave in k. A line of a larger
tensor sits further away: ``far_lines`` multiplies by log2(1 + tensor bytes / 32 KiB), so that
the price of a line may grow with the footprint.

Where training cannot tell two columns apart, one size measured makes ``parameters`` as
constant as ``calls``, the later column of the list carries the price: a larger model is then
not priced like a small one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from costmodels.cells import CellMean
from profiler.errors import InputError

FEATURES_VERSION: Literal[1] = 1
LINE_BYTES = 64
NEAR_BYTES = 32 * 1024

Group = Literal[
    "update",
    "update.dense",
    "encode",
    "encode.dense",
    "send",
    "select.topk",
    "select.cwmp",
    "train",
]
"""What shares coefficients: random and clustered indices run the same code, dense another, and
so does each rule of selection."""

_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
_ITEM_BYTES |= {"float8_e5m2": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1}
_ITEM_BYTES |= {"complex64": 8, "complex128": 16, "bool": 1}


@dataclass(frozen=True, slots=True)
class Feature:
    """A column: its name, the unit that its coefficient has, and what it counts."""

    name: str
    unit: str
    meaning: str


_CALLS = Feature("calls", "J/call", "one for each call")
_ENTRIES = Feature("entries", "J/entry", "entries kept, k")
_PARAMETERS = Feature("parameters", "J/parameter", "parameters scanned or stepped")

FEATURES: Mapping[Group, tuple[Feature, ...]] = MappingProxyType(
    {
        "update": (
            _CALLS,
            _ENTRIES,
            Feature("far_lines", "J/line", "lines x log2(1 + tensor bytes / 32 KiB)"),
            Feature("lines", "J/line", "distinct cache lines touched"),
        ),
        "update.dense": (
            _CALLS,
            Feature("far_bytes", "J/byte", "bytes x log2(1 + tensor bytes / 32 KiB)"),
            Feature("bytes", "J/byte", "bytes of the tensor"),
        ),
        "encode": (_CALLS, _ENTRIES, _PARAMETERS),
        "encode.dense": (_CALLS, _PARAMETERS),
        "send": (_CALLS, Feature("bytes", "J/byte", "bytes sent")),
        "select.topk": (_CALLS, _PARAMETERS, _ENTRIES),
        "select.cwmp": (_CALLS, _PARAMETERS, _ENTRIES),
        "train": (
            _PARAMETERS,
            _CALLS,
            Feature("examples", "J/example", "examples in the batch"),
            Feature("mac_examples", "J/MAC", "forward multiply-accumulates of the batch"),
        ),
    }
)


def group_of(operation: str, pattern: str) -> Group:
    """The group that *operation* under *pattern* belongs to.

    Raises:
        InputError: an unknown operation, or a pattern that it does not have.
    """
    own_code = pattern == "dense" or operation == "select"
    wanted = f"{operation}.{pattern}" if own_code else operation
    for group in FEATURES:
        if wanted == group:
            return group
    if any(operation == group.partition(".")[0] for group in FEATURES):
        raise InputError(f"{operation!r} has no form {pattern!r} that features are known for")
    raise InputError(f"unknown operation {operation!r}; choose update, encode, send, select, train")


def item_bytes(dtype: str) -> int:
    """Bytes of one element.

    Raises:
        InputError: an unknown element type.
    """
    if dtype not in _ITEM_BYTES:
        raise InputError(f"unknown element type {dtype!r}; known: {', '.join(_ITEM_BYTES)}")
    return _ITEM_BYTES[dtype]


def feature_matrix(
    operation: str,
    pattern: str,
    k: ArrayLike,
    *,
    parameters: int,
    dtype: str,
    macs: float | None = None,
) -> NDArray[np.float64]:
    """The features of *k* entries (bytes for send, examples for train), shape (len(k), p).

    Args:
        operation, pattern: as in a trace.
        k: amounts, shape (m,).
        parameters: entries of the layer, or of the whole model for a message.
        dtype: element type.
        macs: forward multiply-accumulates of one example; train alone.

    Raises:
        InputError: an unknown operation or element type, or train without macs.
    """
    amounts = np.atleast_1d(np.asarray(k, dtype=np.float64))
    ones = np.ones_like(amounts)
    group = group_of(operation, pattern)
    if operation == "update":
        tensor_bytes = parameters * item_bytes(dtype)
        far = np.log2(1.0 + tensor_bytes / NEAR_BYTES)
        if group == "update":
            lines = _lines(pattern, amounts, tensor_bytes, item_bytes(dtype))
            columns = [ones, amounts, lines * far, lines]
        else:
            columns = [ones, ones * tensor_bytes * far, ones * tensor_bytes]
    elif group == "encode":
        columns = [ones, amounts, ones * parameters]
    elif group == "encode.dense":
        columns = [ones, ones * parameters]
    elif group == "send":
        columns = [ones, amounts]
    elif operation == "select":
        columns = [ones, ones * parameters, amounts]
    else:
        if macs is None:
            raise InputError("the features of training need the module's multiply-accumulates")
        columns = [ones * parameters, ones, amounts, amounts * macs]
    return np.column_stack(columns)


def cell_features(cells: Sequence[CellMean]) -> NDArray[np.float64]:
    """One row of features a cell, shape (len(cells), p); the cells are of one group."""
    rows = [
        feature_matrix(
            cell.operation,
            cell.pattern,
            cell.k,
            parameters=cell.parameters,
            dtype=cell.dtype,
            macs=None if cell.macs is None else cell.macs / cell.k,
        )
        for cell in cells
    ]
    return np.concatenate(rows)


def _lines(
    pattern: str, k: NDArray[np.float64], tensor_bytes: int, itemsize: int
) -> NDArray[np.float64]:
    total = -(-tensor_bytes // LINE_BYTES)
    if pattern == "clustered":
        return np.minimum(1.0 + (k - 1.0) * itemsize / LINE_BYTES, total)
    if total == 1:
        return np.ones_like(k)
    # expm1 and log1p keep the k = 1 case at one line for tensors of 10^9 lines
    return np.asarray(-total * np.expm1(k * np.log1p(-1.0 / total)))
