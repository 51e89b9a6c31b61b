"""Loops over vectors of sixteen entries that each have a cost of their own.

An entry (g, c) is compared with a point (s, b) of the order "falling score |g| / w, then falling
|g|", where w is 1, sqrt(c) or c. Sixteen at a time the comparison is g^2 against s^2 w^2, with a
margin above all rounding: both sides are float64, where the square of no float32 overflows or
underflows, so that subnormals and the largest magnitudes need no care, and NaN compares false.
What lies within the margin is settled by the score itself, correctly rounded as anywhere else,
where the caller says that ties matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from cwmp.kernels.simd import (
    _BITS,
    _DOUBLES,
    _FLOATS,
    _I16,
    _I32,
    _I64,
    _MASK,
    _SHORTS,
    LANES,
    _at,
    _Builder,
    _call,
    _can_compress,
    _each,
    _first,
    _Load,
    _load_bfloat16,
    _load_float16,
    _load_float32,
    _masked_load,
    _pointer,
    _positions,
    _prefetch,
    _splat,
    _Value,
    _vector,
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

_LONGS = ir.VectorType(_I64, LANES)


class _Point:
    """The fields of a record of type `POINT`, in registers."""

    def __init__(self, b: _Builder, address: _Value) -> None:
        self.b = b
        self.score, self.outer, self.inner = (self._field(address, n, True) for n in range(3))
        exponent = self._field(address, 3, False)
        self.rooted = b.icmp_unsigned(">=", exponent, _vector(_LONGS, [1] * LANES))
        self.linear = b.icmp_unsigned(">=", exponent, _vector(_LONGS, [2] * LANES))
        self.bits, self.pair_bits, self.pair_cost, self.cost_mask, self.most = (
            b.trunc(self._field(address, n, False), _BITS) for n in range(4, 9)
        )
        exact = b.load(_at(b, address, ir.Constant(_I64, 9), 8, _I64))
        self.exact = b.icmp_unsigned("!=", exact, ir.Constant(_I64, 0))
        inverse = b.load(_at(b, address, ir.Constant(_I64, 10), 8, ir.DoubleType()))
        self.inverse = _splat(b, b.fptrunc(inverse, ir.FloatType()))
        self.narrow = b.fcmp_ordered(">", inverse, ir.Constant(ir.DoubleType(), 0.0))

    def _field(self, address: _Value, number: int, is_float: bool) -> _Value:
        kind = ir.DoubleType() if is_float else _I64
        b = self.b
        return _splat(b, b.load(_at(b, address, ir.Constant(_I64, number), 8, kind)))

    def limits(self, cost: _Value) -> tuple[_Value, _Value]:
        """*outer* w^2 and *inner* w^2."""
        b, one = self.b, _vector(_DOUBLES, [1.0] * LANES)
        wide = b.uitofp(cost, _DOUBLES)
        square = b.fmul(b.select(self.rooted, wide, one), b.select(self.linear, wide, one))
        return b.fmul(self.outer, square), b.fmul(self.inner, square)

    def about(self, floats: _Value, cost: _Value) -> _Value:
        """What is above the point, and a little below it, in float32."""
        b, one = self.b, _vector(_FLOATS, [1.0] * LANES)
        ratio, charge = b.fmul(floats, self.inverse), b.uitofp(cost, _FLOATS)
        square = b.fmul(b.select(self.rooted, charge, one), b.select(self.linear, charge, one))
        return b.fcmp_ordered(">", b.fmul(ratio, ratio), square)

    def above(self, floats: _Value, cost: _Value) -> tuple[_Value, _Value]:
        """What is surely above the point, and what may be."""
        b = self.b
        squares = _square(b, floats)
        outer, inner = self.limits(cost)
        return b.fcmp_ordered(">", squares, inner), b.fcmp_ordered(">", squares, outer)

    def settled(self, floats: _Value, bits: _Value, cost: _Value, near: _Value) -> _Value:
        """Those of *near* that are above the point by their exact score."""
        b = self.b
        large = b.icmp_unsigned(">=", bits, self.bits)
        other = b.or_(
            b.xor(bits, self.pair_bits), b.and_(b.xor(cost, self.pair_cost), self.cost_mask)
        )
        pair = b.icmp_unsigned("==", other, _vector(_BITS, [0] * LANES))
        result = cgutils.alloca_once_value(b, b.and_(near, b.and_(pair, large)))
        unsure = b.bitcast(b.and_(near, b.not_(pair)), _I16)
        with b.if_then(b.icmp_unsigned("!=", unsure, ir.Constant(_I16, 0)), likely=False):
            wide, one = b.uitofp(cost, _DOUBLES), _vector(_DOUBLES, [1.0] * LANES)
            root = _call(b, "llvm.sqrt.v16f64", _DOUBLES, wide)
            weight = b.select(self.linear, wide, b.select(self.rooted, root, one))
            size = _call(b, "llvm.fabs.v16f64", _DOUBLES, b.fpext(floats, _DOUBLES))
            score = b.fdiv(size, weight)
            more = b.fcmp_ordered(">", score, self.score)
            level = b.and_(b.fcmp_ordered("==", score, self.score), large)
            b.store(b.and_(near, b.or_(more, level)), result)
        return b.load(result)


class _Statistics:
    """Sums of g^2, exact products in float64, and the largest magnitude, as in `simd.STATS`."""

    def __init__(self, b: _Builder) -> None:
        self.b = b
        self.sums = cgutils.alloca_once_value(b, _vector(_DOUBLES, [0.0] * LANES))
        self.largest = cgutils.alloca_once_value(b, _vector(_BITS, [0] * LANES))

    def add(self, floats: _Value) -> None:
        b = self.b
        bits = _magnitude(b, floats)
        largest = _call(b, "llvm.umax.v16i32", _BITS, b.load(self.largest), bits)
        b.store(largest, self.largest)
        wide = b.fpext(floats, _DOUBLES)  # its square is exact, so that fusing changes nothing
        sums = _call(b, "llvm.fmuladd.v16f64", _DOUBLES, wide, wide, b.load(self.sums))
        b.store(sums, self.sums)

    def finish(self, stats: _Value) -> None:
        b = self.b
        b.store(b.load(self.sums), b.inttoptr(stats, _DOUBLES.as_pointer()), align=8)
        largest = _at(b, stats, ir.Constant(_I64, LANES), 8, _BITS)
        b.store(b.load(self.largest), largest, align=4)


class _Columns:
    """Vectors compressed to the same lanes and appended, each to an output of its own."""

    def __init__(self, b: _Builder, outputs: tuple[_Value, ...]) -> None:
        self.b, self.outputs = b, outputs
        self.kept = cgutils.alloca_once_value(b, ir.Constant(_I64, 0))

    def keep(self, vectors: tuple[_Value, ...], lanes: _Value) -> None:
        b = self.b
        bits = b.bitcast(lanes, _I16)
        if _can_compress():  # without a branch: what is kept is not predictable
            self._append(vectors, lanes, bits)
            return
        with b.if_then(b.icmp_unsigned("!=", bits, ir.Constant(_I16, 0))):
            self._append(vectors, lanes, bits)

    def _append(self, vectors: tuple[_Value, ...], lanes: _Value, bits: _Value) -> None:
        b = self.b
        kept = b.load(self.kept)
        nothing = ir.Constant(_BITS, ir.Undefined)
        for vector, out in zip(vectors, self.outputs, strict=True):
            name = "llvm.experimental.vector.compress.v16i32"
            packed = _call(b, name, _BITS, vector, lanes, nothing)
            b.store(packed, _at(b, out, kept, 4, _BITS), align=4)
        b.store(b.add(kept, b.zext(_call(b, "llvm.ctpop.i16", _I16, bits), _I64)), self.kept)


def _load_uint16(b: _Builder, base: _Value, entry: _Value, lanes: _Value) -> _Value:
    pointer = _at(b, base, entry, 2, _SHORTS)
    if lanes is None:
        return b.zext(b.load(pointer, align=2), _BITS)
    return b.zext(_masked_load(b, pointer, _SHORTS, "v16i16", lanes), _BITS)


def _load_uint32(b: _Builder, base: _Value, entry: _Value, lanes: _Value) -> _Value:
    return b.bitcast(_load_float32(b, base, entry, lanes), _BITS)


def _magnitude(b: _Builder, floats: _Value) -> _Value:
    return b.and_(b.bitcast(floats, _BITS), _vector(_BITS, [0x7FFFFFFF] * LANES))


def _square(b: _Builder, floats: _Value) -> _Value:
    wide = b.fpext(floats, _DOUBLES)
    return b.fmul(wide, wide)


def _scan(load: _Load, item_bytes: int, load_cost: _Load, cost_bytes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def scan(_: Any, source, costs, entries, point, first, out_index, out_value, out_cost, stats):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> _Value:
            source, costs, entries, point, first, out_index, out_value, out_cost, stats = arguments
            test = _Point(b, point)
            statistics = _Statistics(b)
            columns = _Columns(b, (out_index, out_value, out_cost))
            chosen = cgutils.alloca_once(b, _MASK)

            def step(entry: _Value, lanes: _Value) -> None:
                _prefetch(b, source, entry, item_bytes)
                _prefetch(b, costs, entry, cost_bytes)
                floats = load(b, source, entry, lanes)
                cost = load_cost(b, costs, entry, lanes)
                statistics.add(floats)
                affordable = b.icmp_unsigned("<=", cost, test.most)
                affordable = affordable if lanes is None else b.and_(affordable, lanes)
                with b.if_else(test.narrow) as (narrow, wide):
                    with narrow:
                        b.store(b.and_(affordable, test.about(floats, cost)), chosen)
                    with wide:
                        clear, outside = (b.and_(affordable, x) for x in test.above(floats, cost))
                        b.store(outside, chosen)
                        with b.if_then(test.exact, likely=False):
                            near = b.and_(outside, b.not_(clear))
                            settled = test.settled(floats, _magnitude(b, floats), cost, near)
                            b.store(b.or_(clear, settled), chosen)
                index = _positions(b, first, entry)
                columns.keep((index, b.bitcast(floats, _BITS), cost), b.load(chosen))

            _each(b, entries, step)
            statistics.finish(stats)
            return b.load(columns.kept)

        i32, i64 = types.int32, types.int64
        return types.int64(i64, i64, i64, i64, i32, i64, i64, i64, i64), generate

    return scan


scan_float32_uint16 = _scan(_load_float32, 4, _load_uint16, 2)
scan_float16_uint16 = _scan(_load_float16, 2, _load_uint16, 2)
scan_bfloat16_uint16 = _scan(_load_bfloat16, 2, _load_uint16, 2)
scan_float32_uint32 = _scan(_load_float32, 4, _load_uint32, 4)
scan_float16_uint32 = _scan(_load_float16, 2, _load_uint32, 4)
scan_bfloat16_uint32 = _scan(_load_bfloat16, 2, _load_uint32, 4)
"""``scan_*(source, costs, entries, point, first, out_index, out_value, out_cost, stats) -> kept``

Read *entries* floats at *source* and as many costs once; append those above the *point* to the
outputs as (first + position, float32 value, uint32 cost), in order; write g^2 sums and the largest
magnitude bits to *stats*. Without *exact* what lies within the margin around the point's score is
kept too. The outputs need room for *entries* + `LANES`. Zeros are never kept.
"""


@intrinsic  # type: ignore[untyped-decorator]
def split(_, in_value, in_cost, entries, point, out_slot, out_value, out_cost, cost_sum):  # type: ignore[no-untyped-def]
    """Append those of *entries* that are not above the *point* to the outputs as (slot,
    float32 value, uint32 cost).

    Costs of the others are added up into the int64 at *cost_sum*. Without *exact* what lies within
    the margin around the point's score is not above it. Returns the number kept; the outputs
    need room for *entries* + `LANES`.
    """

    def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> _Value:
        in_value, in_cost, entries, point, out_slot, out_value, out_cost, cost_sum = arguments
        test = _Point(b, point)
        columns = _Columns(b, (out_slot, out_value, out_cost))
        chosen = cgutils.alloca_once(b, _MASK)
        total = cgutils.alloca_once_value(b, _vector(_LONGS, [0] * LANES))

        def step(entry: _Value, lanes: _Value) -> None:
            floats = _load_float32(b, in_value, entry, lanes)
            cost = _load_uint32(b, in_cost, entry, lanes)
            clear, outside = test.above(floats, cost)
            b.store(clear, chosen)
            with b.if_then(test.exact, likely=False):
                near = b.and_(outside, b.not_(clear))
                near = near if lanes is None else b.and_(near, lanes)
                settled = test.settled(floats, _magnitude(b, floats), cost, near)
                b.store(b.or_(clear, settled), chosen)
            sure = b.load(chosen)  # lanes past the end are zeros, which no point is below
            rest = b.not_(sure)
            paid = b.select(sure, b.zext(cost, _LONGS), ir.Constant(_LONGS, None))
            b.store(b.add(b.load(total), paid), total)
            slot = _positions(b, ir.Constant(_I32, 0), entry)
            columns.keep(
                (slot, b.bitcast(floats, _BITS), cost),
                rest if lanes is None else b.and_(rest, lanes),
            )

        _each(b, entries, step)
        added = _call(b, "llvm.vector.reduce.add.v16i64", _I64, b.load(total))
        b.store(added, b.inttoptr(cost_sum, _I64.as_pointer()))
        return b.load(columns.kept)

    i64 = types.int64
    return types.int64(i64, i64, i64, i64, i64, i64, i64, i64), generate


def _gather(load: _Load, load_cost: _Load) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def gather(_: Any, source, costs, entry, entries, point, out_value, out_cost):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> _Value:
            source, costs, entry, entries, point, out_value, out_cost = arguments
            test = _Point(b, point)
            lanes = _first(b, entries)
            floats = load(b, source, entry, lanes)
            cost = load_cost(b, costs, entry, lanes)
            b.store(floats, b.inttoptr(out_value, _FLOATS.as_pointer()), align=4)
            b.store(cost, b.inttoptr(out_cost, _BITS.as_pointer()), align=4)
            wanted = test.above(floats, cost)[1]
            wanted = b.and_(wanted, b.icmp_unsigned("<=", cost, test.most))
            return b.zext(b.bitcast(b.and_(wanted, lanes), _I16), _I64)

        i64 = types.int64
        return i64(i64, i64, i64, i64, i64, i64, i64), generate

    return gather


gather_float32_uint16 = _gather(_load_float32, _load_uint16)
gather_float16_uint16 = _gather(_load_float16, _load_uint16)
gather_bfloat16_uint16 = _gather(_load_bfloat16, _load_uint16)
gather_float32_uint32 = _gather(_load_float32, _load_uint32)
gather_float16_uint32 = _gather(_load_float16, _load_uint32)
gather_bfloat16_uint32 = _gather(_load_bfloat16, _load_uint32)
"""``gather_*(source, costs, entry, entries, point, out_value, out_cost) -> lanes``: the
*entries* <= 16 floats and costs from *entry* on, as float32 and uint32, and zeros after them.
The lanes that `scan_*` would keep come back as bits, the first entry's lowest."""

pointer_uint16 = _pointer(types.uint16)
pointer_float64 = _pointer(types.float64)
"""``pointer_*(address)``: for `numba.carray`."""
