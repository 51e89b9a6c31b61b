"""Sixteen entries against one point of an order: what the loops of `simd_costed` are made of.

An entry (g, c) is compared with a point (s, b) of the order "falling score |g| / w, then falling
|g|", where w is 1, sqrt(c) or c. Sixteen at a time the comparison is g^2 against s^2 w^2, with a
margin above all rounding: both sides are float64, where the square of no float32 overflows or
underflows, so that subnormals and the largest magnitudes need no care, and NaN compares false.
What lies within the margin is settled by the score itself, correctly rounded as anywhere else,
where the caller says that ties matter; where they do not, float32 and a wider margin will do.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from cwmp.kernels.vectors import (
    BITS,
    DOUBLES,
    FLOATS,
    I16,
    I64,
    LANES,
    Builder,
    Value,
    at,
    call,
    can_compress,
    constant,
    splat,
)

POINT = np.dtype(
    [
        ("score", np.float64),
        ("outer", np.float64),
        ("inner", np.float64),
        ("exponent", np.int64),
        ("bits", np.int64),
        ("pair_bits", np.int64),
        ("pair_cost", np.int64),
        ("cost_mask", np.int64),
        ("most", np.int64),
        ("exact", np.int64),
        ("inverse", np.float64),
    ]
)
"""A point of the order, as the loops read it.

score, bits: s and b; an entry is above the point where its score is more than s, or s with
    |g| bits of b or more.
outer, inner: s^2 less and more than all rounding; what is not above *outer* w^2 is below the
    point, what is above *inner* w^2 is above it.
exponent: 0, 1, 2 for w = 1, sqrt(c), c.
pair_bits, pair_cost, cost_mask: |g| bits and cost of an entry that has the score s exactly;
    costs are compared under the mask.
most: entries that cost more are left out.
exact: whether what lies between the limits is told apart by its score.
inverse: 1 / s as float32 and a little more, for a comparison in float32 that keeps a little too
    much; 0 where s is so small or so large that it could overflow, or where *exact* is asked for.
"""

LONGS = ir.VectorType(I64, LANES)


class Point:
    """The fields of a record of type `POINT`, in registers."""

    def __init__(self, b: Builder, address: Value) -> None:
        self.b = b
        self.score, self.outer, self.inner = (self._field(address, n, True) for n in range(3))
        exponent = self._field(address, 3, False)
        self.rooted = b.icmp_unsigned(">=", exponent, constant(LONGS, [1] * LANES))
        self.linear = b.icmp_unsigned(">=", exponent, constant(LONGS, [2] * LANES))
        self.bits, self.pair_bits, self.pair_cost, self.cost_mask, self.most = (
            b.trunc(self._field(address, n, False), BITS) for n in range(4, 9)
        )
        exact = b.load(at(b, address, ir.Constant(I64, 9), 8, I64))
        self.exact = b.icmp_unsigned("!=", exact, ir.Constant(I64, 0))
        inverse = b.load(at(b, address, ir.Constant(I64, 10), 8, ir.DoubleType()))
        self.inverse = splat(b, b.fptrunc(inverse, ir.FloatType()))
        self.narrow = b.fcmp_ordered(">", inverse, ir.Constant(ir.DoubleType(), 0.0))

    def _field(self, address: Value, number: int, is_float: bool) -> Value:
        kind = ir.DoubleType() if is_float else I64
        b = self.b
        return splat(b, b.load(at(b, address, ir.Constant(I64, number), 8, kind)))

    def limits(self, cost: Value) -> tuple[Value, Value]:
        """*outer* w^2 and *inner* w^2."""
        b, one = self.b, constant(DOUBLES, [1.0] * LANES)
        wide = b.uitofp(cost, DOUBLES)
        square = b.fmul(b.select(self.rooted, wide, one), b.select(self.linear, wide, one))
        return b.fmul(self.outer, square), b.fmul(self.inner, square)

    def about(self, floats: Value, cost: Value) -> Value:
        """What is above the point, and a little below it, in float32."""
        b, one = self.b, constant(FLOATS, [1.0] * LANES)
        ratio, charge = b.fmul(floats, self.inverse), b.uitofp(cost, FLOATS)
        square = b.fmul(b.select(self.rooted, charge, one), b.select(self.linear, charge, one))
        return b.fcmp_ordered(">", b.fmul(ratio, ratio), square)

    def above(self, floats: Value, cost: Value) -> tuple[Value, Value]:
        """What is surely above the point, and what may be."""
        b = self.b
        squares = _square(b, floats)
        outer, inner = self.limits(cost)
        return b.fcmp_ordered(">", squares, inner), b.fcmp_ordered(">", squares, outer)

    def settled(self, floats: Value, bits: Value, cost: Value, near: Value) -> Value:
        """Those of *near* that are above the point by their exact score."""
        b = self.b
        large = b.icmp_unsigned(">=", bits, self.bits)
        other = b.or_(
            b.xor(bits, self.pair_bits), b.and_(b.xor(cost, self.pair_cost), self.cost_mask)
        )
        pair = b.icmp_unsigned("==", other, constant(BITS, [0] * LANES))
        result = cgutils.alloca_once_value(b, b.and_(near, b.and_(pair, large)))
        unsure = b.bitcast(b.and_(near, b.not_(pair)), I16)
        with b.if_then(b.icmp_unsigned("!=", unsure, ir.Constant(I16, 0)), likely=False):
            wide, one = b.uitofp(cost, DOUBLES), constant(DOUBLES, [1.0] * LANES)
            root = call(b, "llvm.sqrt.v16f64", DOUBLES, wide)
            weight = b.select(self.linear, wide, b.select(self.rooted, root, one))
            size = call(b, "llvm.fabs.v16f64", DOUBLES, b.fpext(floats, DOUBLES))
            score = b.fdiv(size, weight)
            more = b.fcmp_ordered(">", score, self.score)
            level = b.and_(b.fcmp_ordered("==", score, self.score), large)
            b.store(b.and_(near, b.or_(more, level)), result)
        return b.load(result)


class Statistics:
    """Sums of g^2, exact products in float64, and the largest magnitude, as in `simd.STATS`."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.sums = cgutils.alloca_once_value(b, constant(DOUBLES, [0.0] * LANES))
        self.largest = cgutils.alloca_once_value(b, constant(BITS, [0] * LANES))

    def add(self, floats: Value) -> None:
        b = self.b
        bits = magnitude(b, floats)
        largest = call(b, "llvm.umax.v16i32", BITS, b.load(self.largest), bits)
        b.store(largest, self.largest)
        wide = b.fpext(floats, DOUBLES)  # its square is exact, so that fusing changes nothing
        sums = call(b, "llvm.fmuladd.v16f64", DOUBLES, wide, wide, b.load(self.sums))
        b.store(sums, self.sums)

    def finish(self, stats: Value) -> None:
        b = self.b
        b.store(b.load(self.sums), b.inttoptr(stats, DOUBLES.as_pointer()), align=8)
        largest = at(b, stats, ir.Constant(I64, LANES), 8, BITS)
        b.store(b.load(self.largest), largest, align=4)


class Columns:
    """Vectors compressed to the same lanes and appended, each to an output of its own."""

    def __init__(self, b: Builder, outputs: tuple[Value, ...]) -> None:
        self.b, self.outputs = b, outputs
        self.kept = cgutils.alloca_once_value(b, ir.Constant(I64, 0))

    def keep(self, vectors: tuple[Value, ...], lanes: Value) -> None:
        b = self.b
        bits = b.bitcast(lanes, I16)
        if can_compress():  # without a branch: what is kept is not predictable
            self._append(vectors, lanes, bits)
            return
        with b.if_then(b.icmp_unsigned("!=", bits, ir.Constant(I16, 0))):
            self._append(vectors, lanes, bits)

    def _append(self, vectors: tuple[Value, ...], lanes: Value, bits: Value) -> None:
        b = self.b
        kept = b.load(self.kept)
        nothing = ir.Constant(BITS, ir.Undefined)
        for vector, out in zip(vectors, self.outputs, strict=True):
            name = "llvm.experimental.vector.compress.v16i32"
            packed = call(b, name, BITS, vector, lanes, nothing)
            b.store(packed, at(b, out, kept, 4, BITS), align=4)
        b.store(b.add(kept, b.zext(call(b, "llvm.ctpop.i16", I16, bits), I64)), self.kept)


def magnitude(b: Builder, floats: Value) -> Value:
    """The bits of |g|."""
    return b.and_(b.bitcast(floats, BITS), constant(BITS, [0x7FFFFFFF] * LANES))


def _square(b: Builder, floats: Value) -> Value:
    wide = b.fpext(floats, DOUBLES)
    return b.fmul(wide, wide)
