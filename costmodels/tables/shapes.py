"""The shape of a layer -> the physical quantities that its energy is explained by.

Every formula counts one call of the layer on a whole batch. B is ``batch``, ``item`` the bytes of
one number, all other letters are fields of the same meaning; products over spatial dimensions are
written for two of them.

=========== ================================ ====================================================
kind        fields (those in brackets have a default)          macs; input; output; weight numbers
=========== ================================ ====================================================
conv1d-3d   in_channels C, out_channels K, size or height/width/depth, kernel, [stride 1],
            [padding 0], [dilation 1], [groups g = 1], [out_size], [bias 0], [batch 1]
            -- B K Ho Wo (C/g) kh kw;  B C H W;  B K Ho Wo;  K (C/g) kh kw + bias K;
            unfolded B C kh kw Ho Wo
pool1d-3d   in_channels C, size, kernel, [stride = kernel], [padding 0], [dilation 1], [batch 1]
            -- one operation for each element of each window: B C Ho Wo kh kw;  B C H W;
            B C Ho Wo;  0
linear      in_features I, out_features O, [positions P = 1], [bias 0], [batch 1]
            -- B P I O;  B P I;  B P O;  I O + bias O
matmul      rows M, inner L, columns N, [batch 1]       -- B M L N;  B (M L + L N);  B M N;  0
attention   heads h, q_len Q, [kv_len S = Q], head_dim D, [kv_heads h' = h], [batch 1]
            -- 2 B h Q S D (scores, then their mean of the values; projections are linear layers);
            B D (h Q + 2 h' S);  B h Q D;  0
embedding   tokens T, embedding_dim D, [vocabulary V], [batch 1]
            -- 0;  8-byte indices B T;  B T D;  the rows that can be touched, min(V, B T) D
norm        elements N of the whole batch, [channels C = 0], [batch 1]
            -- N (scale and shift);  N;  N;  2 C
elementwise elements N of the whole batch, [inputs 1], [batch 1]       -- 0;  N inputs;  N;  0
=========== ================================ ====================================================

An output size is floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1 where it is not
given (Dumoulin and Visin 2016, arXiv:1603.07285); ``padding = "same"`` is written as the given
output size. Depthwise convolution is groups = in_channels. A field of a spatial dimension is
``size``, ``kernel``, ``stride``, ``padding``, ``dilation``, ``out_size`` for all of them, or the
one with ``_height``, ``_width``, ``_depth`` behind it (``height``, ``out_height`` for sizes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from profiler.errors import InputError

Floats = NDArray[np.float64]
Fields = Mapping[str, Floats]
Amounts = dict[str, Floats]

UNITS = MappingProxyType(
    {
        "calls": "J/call",
        "macs": "J/MAC",
        "input_bytes": "J/byte",
        "output_bytes": "J/byte",
        "weight_bytes": "J/byte",
        "unfolded_bytes": "J/byte",
        "examples": "J/example",
    }
)
ITEM_BYTES = MappingProxyType(
    {"float64": 8.0, "float32": 4.0, "tf32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8": 1.0}
    | {"int64": 8.0, "int32": 4.0, "int16": 2.0, "int8": 1.0, "uint8": 1.0, "int4": 0.5}
)
_AXES = ("height", "width", "depth")
_SPATIAL = ("kernel", "stride", "padding", "dilation")
_INDEX_BYTES = 8.0

_PLAIN = (
    *("batch", "in_channels", "out_channels", "groups", "bias"),
    *("in_features", "out_features", "positions", "rows", "inner", "columns"),
    *("heads", "kv_heads", "q_len", "kv_len", "head_dim"),
    *("tokens", "embedding_dim", "vocabulary", "elements", "channels", "inputs"),
)
FIELDS = (
    *_PLAIN,
    *("size", *_AXES, "out_size", *(f"out_{axis}" for axis in _AXES)),
    *(name for base in _SPATIAL for name in (base, *(f"{base}_{axis}" for axis in _AXES))),
)
_MAY_BE_ZERO = ("padding", "bias", "channels", *(f"padding_{axis}" for axis in _AXES))


def shape_features(kind: str, fields: Fields, rows: int, item_bytes: float) -> pd.DataFrame:
    """The features of *rows* layers of one kind: columns as in `UNITS`, NaN where impossible.

    A row is impossible when a field is not a whole number of at least one (padding, bias and
    channels: zero), when the kernel does not fit into the padded input, or when the groups do
    not divide the channels. ``unfolded_bytes`` is the buffer of the convolution by matrix
    product (im2col); what a kind does not have is 0.

    Raises:
        InputError: no such kind, or a field that the kind needs is not there.
    """
    canonical = shape_kind(kind)
    if canonical is None:
        raise InputError(
            f"kind {kind!r} has no shape formula; known: {', '.join(SHAPE_KINDS)}; give ready "
            "[features] or name its formula in kind.shapes"
        )
    reader = _Reader(canonical, fields, rows)
    amounts = _FORMULAS[canonical](reader)
    amounts = {
        "calls": np.ones(rows),
        "macs": amounts["macs"],
        "input_bytes": amounts["input"] * amounts.get("input_item", item_bytes),
        "output_bytes": amounts["output"] * item_bytes,
        "weight_bytes": amounts["weight"] * item_bytes,
        "unfolded_bytes": amounts.get("unfolded", np.zeros(rows)) * item_bytes,
        "examples": reader.take("batch", 1),
    }
    table = pd.DataFrame(amounts, columns=list(UNITS))
    table[~reader.possible] = np.nan
    return table


class _Reader:
    """Hands out fields as columns and keeps which rows are possible."""

    def __init__(self, kind: str, fields: Fields, rows: int) -> None:
        self.kind, self.fields, self.rows = kind, fields, rows
        self.possible = np.ones(rows, dtype=bool)

    def take(self, name: str, default: float | Floats | None = None) -> Floats:
        """The field *name*; the default where the table has no such field."""
        if name not in self.fields:
            if default is None:
                raise InputError(
                    f"kind {self.kind!r} needs the shape field {name!r}: name its column, or a "
                    "number, in [shape]"
                )
            return np.broadcast_to(np.asarray(default, dtype=np.float64), (self.rows,)).copy()
        values = self.fields[name]
        least = 0 if name in _MAY_BE_ZERO else 1
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(values) & (values >= least) & (values == np.floor(values))
        self.possible &= usable
        return np.where(usable, values, float(least))

    def along(self, base: str, axis: str, default: float | Floats | None = None) -> Floats:
        """A spatial field along one axis: its own, else that of all axes."""
        own = {"size": axis, "out_size": f"out_{axis}"}.get(base, f"{base}_{axis}")
        return self.take(own if own in self.fields else base, default)

    def need(self, condition: NDArray[np.bool_]) -> None:
        self.possible &= condition


def _windows(read: _Reader, dimensions: int, *, pool: bool) -> tuple[Floats, Floats, Floats]:
    """Products over the axes of the input's sizes, the output's sizes and the kernel's."""
    inputs, outputs, kernels = (np.ones(read.rows) for _ in range(3))
    for axis in _AXES[:dimensions]:
        size, kernel = read.along("size", axis), read.along("kernel", axis)
        stride = read.along("stride", axis, kernel if pool else 1)
        reach = read.along("dilation", axis, 1) * (kernel - 1) + 1
        computed = np.floor((size + 2 * read.along("padding", axis, 0) - reach) / stride) + 1
        output = read.along("out_size", axis, computed)
        read.need(output >= 1)
        inputs, outputs, kernels = inputs * size, outputs * output, kernels * kernel
    return inputs, outputs, kernels


def _conv(read: _Reader, dimensions: int) -> Amounts:
    batch, groups = read.take("batch", 1), read.take("groups", 1)
    channels, filters = read.take("in_channels"), read.take("out_channels")
    read.need((channels % groups == 0) & (filters % groups == 0))
    inputs, outputs, kernels = _windows(read, dimensions, pool=False)
    weights = filters * (channels / groups) * kernels
    return {
        "macs": batch * outputs * weights,
        "input": batch * channels * inputs,
        "output": batch * filters * outputs,
        "weight": weights + read.take("bias", 0) * filters,
        "unfolded": batch * channels * kernels * outputs,
    }


def _pool(read: _Reader, dimensions: int) -> Amounts:
    planes = read.take("batch", 1) * read.take("in_channels")
    inputs, outputs, kernels = _windows(read, dimensions, pool=True)
    return {
        "macs": planes * outputs * kernels,
        "input": planes * inputs,
        "output": planes * outputs,
        "weight": np.zeros(read.rows),
    }


def _linear(read: _Reader) -> Amounts:
    vectors = read.take("batch", 1) * read.take("positions", 1)
    inner, outer = read.take("in_features"), read.take("out_features")
    return {
        "macs": vectors * inner * outer,
        "input": vectors * inner,
        "output": vectors * outer,
        "weight": (inner + read.take("bias", 0)) * outer,
    }


def _matmul(read: _Reader) -> Amounts:
    batch, m, inner, n = (
        read.take("batch", 1), *(read.take(name) for name in ("rows", "inner", "columns")),
    )  # fmt: skip
    return {
        "macs": batch * m * inner * n,
        "input": batch * (m + n) * inner,
        "output": batch * m * n,
        "weight": np.zeros(read.rows),
    }


def _attention(read: _Reader) -> Amounts:
    batch, heads, queries = read.take("batch", 1), read.take("heads"), read.take("q_len")
    keys, width = read.take("kv_len", queries), read.take("head_dim")
    return {
        "macs": 2 * batch * heads * queries * keys * width,
        "input": batch * width * (heads * queries + 2 * read.take("kv_heads", heads) * keys),
        "output": batch * heads * queries * width,
        "weight": np.zeros(read.rows),
    }


def _embedding(read: _Reader) -> Amounts:
    tokens, width = read.take("batch", 1) * read.take("tokens"), read.take("embedding_dim")
    return {
        "macs": np.zeros(read.rows),
        "input": tokens,
        "input_item": np.full(read.rows, _INDEX_BYTES),
        "output": tokens * width,
        "weight": np.minimum(read.take("vocabulary", tokens), tokens) * width,
    }


def _norm(read: _Reader) -> Amounts:
    elements = read.take("elements")
    return {
        "macs": elements,
        "input": elements,
        "output": elements,
        "weight": 2 * read.take("channels", 0),
    }


def _elementwise(read: _Reader) -> Amounts:
    elements = read.take("elements")
    return {
        "macs": np.zeros(read.rows),
        "input": elements * read.take("inputs", 1),
        "output": elements,
        "weight": np.zeros(read.rows),
    }


_FORMULAS: dict[str, Callable[[_Reader], Amounts]] = {
    "conv1d": lambda read: _conv(read, 1),
    "conv2d": lambda read: _conv(read, 2),
    "conv3d": lambda read: _conv(read, 3),
    "pool1d": lambda read: _pool(read, 1),
    "pool2d": lambda read: _pool(read, 2),
    "pool3d": lambda read: _pool(read, 3),
    "linear": _linear,
    "matmul": _matmul,
    "attention": _attention,
    "embedding": _embedding,
    "norm": _norm,
    "elementwise": _elementwise,
}
SHAPE_KINDS = tuple(_FORMULAS)
_ALIASES = {
    **{f"{how}pool{n}d": f"pool{n}d" for how in ("max", "avg") for n in (1, 2, 3)},
    "conv": "conv2d",
    "convolution": "conv2d",
    "pool": "pool2d",
    "dense": "linear",
    "fc": "linear",
    "gemm": "matmul",
    "bmm": "matmul",
    "mm": "matmul",
    **{f"batchnorm{n}d": "norm" for n in (1, 2, 3)},
    "layernorm": "norm",
    "groupnorm": "norm",
    "rmsnorm": "norm",
    "batchnorm": "norm",
    "relu": "elementwise",
    "gelu": "elementwise",
    "add": "elementwise",
    "softmax": "elementwise",
    "dropout": "elementwise",
    "sdpa": "attention",
}


def shape_kind(name: str) -> str | None:
    """The formula that *name* means: one of `SHAPE_KINDS`, in any case, or a usual other name."""
    plain = name.casefold().replace("_", "").replace("-", "").removeprefix("nn.")
    return plain if plain in _FORMULAS else _ALIASES.get(plain)
