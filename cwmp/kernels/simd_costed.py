"""Loops over vectors of sixteen entries that each have a cost of their own.

They extend `cwmp.kernels.simd`; an entry is kept where it is above a point of the order of scores,
see `cwmp.kernels.simd_point`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from cwmp.kernels.simd import pointer_to
from cwmp.kernels.simd_point import LONGS, Columns, Point, Statistics, magnitude
from cwmp.kernels.vectors import (
    BITS,
    FLOATS,
    I16,
    I32,
    I64,
    LANES,
    MASK,
    SHORTS,
    Builder,
    Load,
    Value,
    at,
    call,
    constant,
    each_vector,
    first_lanes,
    load_bfloat16,
    load_float16,
    load_float32,
    masked_load,
    positions,
    prefetch_ahead,
)


def _load_uint16(b: Builder, base: Value, entry: Value, lanes: Value) -> Value:
    pointer = at(b, base, entry, 2, SHORTS)
    if lanes is None:
        return b.zext(b.load(pointer, align=2), BITS)
    return b.zext(masked_load(b, pointer, SHORTS, "v16i16", lanes), BITS)


def _load_uint32(b: Builder, base: Value, entry: Value, lanes: Value) -> Value:
    return b.bitcast(load_float32(b, base, entry, lanes), BITS)


def _scan(load: Load, item_bytes: int, load_cost: Load, cost_bytes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def scan(_: Any, source, costs, entries, point, first, out_index, out_value, out_cost, stats):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> Value:
            source, costs, entries, point, first, out_index, out_value, out_cost, stats = arguments
            test = Point(b, point)
            statistics = Statistics(b)
            columns = Columns(b, (out_index, out_value, out_cost))
            chosen = cgutils.alloca_once(b, MASK)

            def step(entry: Value, lanes: Value) -> None:
                prefetch_ahead(b, source, entry, item_bytes)
                prefetch_ahead(b, costs, entry, cost_bytes)
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
                            settled = test.settled(floats, magnitude(b, floats), cost, near)
                            b.store(b.or_(clear, settled), chosen)
                index = positions(b, first, entry)
                columns.keep((index, b.bitcast(floats, BITS), cost), b.load(chosen))

            each_vector(b, entries, step)
            statistics.finish(stats)
            return b.load(columns.kept)

        i32, i64 = types.int32, types.int64
        return types.int64(i64, i64, i64, i64, i32, i64, i64, i64, i64), generate

    return scan


scan_float32_uint16 = _scan(load_float32, 4, _load_uint16, 2)
scan_float16_uint16 = _scan(load_float16, 2, _load_uint16, 2)
scan_bfloat16_uint16 = _scan(load_bfloat16, 2, _load_uint16, 2)
scan_float32_uint32 = _scan(load_float32, 4, _load_uint32, 4)
scan_float16_uint32 = _scan(load_float16, 2, _load_uint32, 4)
scan_bfloat16_uint32 = _scan(load_bfloat16, 2, _load_uint32, 4)
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

    def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> Value:
        in_value, in_cost, entries, point, out_slot, out_value, out_cost, cost_sum = arguments
        test = Point(b, point)
        columns = Columns(b, (out_slot, out_value, out_cost))
        chosen = cgutils.alloca_once(b, MASK)
        total = cgutils.alloca_once_value(b, constant(LONGS, [0] * LANES))

        def step(entry: Value, lanes: Value) -> None:
            floats = load_float32(b, in_value, entry, lanes)
            cost = _load_uint32(b, in_cost, entry, lanes)
            clear, outside = test.above(floats, cost)
            b.store(clear, chosen)
            with b.if_then(test.exact, likely=False):
                near = b.and_(outside, b.not_(clear))
                near = near if lanes is None else b.and_(near, lanes)
                settled = test.settled(floats, magnitude(b, floats), cost, near)
                b.store(b.or_(clear, settled), chosen)
            sure = b.load(chosen)  # lanes past the end are zeros, which no point is below
            rest = b.not_(sure)
            paid = b.select(sure, b.zext(cost, LONGS), ir.Constant(LONGS, None))
            b.store(b.add(b.load(total), paid), total)
            slot = positions(b, ir.Constant(I32, 0), entry)
            columns.keep(
                (slot, b.bitcast(floats, BITS), cost),
                rest if lanes is None else b.and_(rest, lanes),
            )

        each_vector(b, entries, step)
        added = call(b, "llvm.vector.reduce.add.v16i64", I64, b.load(total))
        b.store(added, b.inttoptr(cost_sum, I64.as_pointer()))
        return b.load(columns.kept)

    i64 = types.int64
    return types.int64(i64, i64, i64, i64, i64, i64, i64, i64), generate


def _gather(load: Load, load_cost: Load) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def gather(_: Any, source, costs, entry, entries, point, out_value, out_cost):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> Value:
            source, costs, entry, entries, point, out_value, out_cost = arguments
            test = Point(b, point)
            lanes = first_lanes(b, entries)
            floats = load(b, source, entry, lanes)
            cost = load_cost(b, costs, entry, lanes)
            b.store(floats, b.inttoptr(out_value, FLOATS.as_pointer()), align=4)
            b.store(cost, b.inttoptr(out_cost, BITS.as_pointer()), align=4)
            wanted = test.above(floats, cost)[1]
            wanted = b.and_(wanted, b.icmp_unsigned("<=", cost, test.most))
            return b.zext(b.bitcast(b.and_(wanted, lanes), I16), I64)

        i64 = types.int64
        return i64(i64, i64, i64, i64, i64, i64, i64), generate

    return gather


gather_float32_uint16 = _gather(load_float32, _load_uint16)
gather_float16_uint16 = _gather(load_float16, _load_uint16)
gather_bfloat16_uint16 = _gather(load_bfloat16, _load_uint16)
gather_float32_uint32 = _gather(load_float32, _load_uint32)
gather_float16_uint32 = _gather(load_float16, _load_uint32)
gather_bfloat16_uint32 = _gather(load_bfloat16, _load_uint32)
"""``gather_*(source, costs, entry, entries, point, out_value, out_cost) -> lanes``: the
*entries* <= 16 floats and costs from *entry* on, as float32 and uint32, and zeros after them.
The lanes that `scan_*` would keep come back as bits, the first entry's lowest."""

pointer_uint16 = pointer_to(types.uint16)
pointer_float64 = pointer_to(types.float64)
"""``pointer_*(address)``: for `numba.carray`."""
