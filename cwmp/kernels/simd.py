"""Loops over vectors of sixteen that numba cannot write: compare as bits, compress, store.

Each function here is one loop in LLVM's own terms, so that it runs on any processor LLVM knows
and at the speed of memory where the processor can compress a vector (AVX-512).

Magnitudes are compared as the bits of float32 with the sign cleared: as unsigned integers they
order like |g|, zeros (of either sign) are 0, subnormals stand below the normals and are not
flushed, infinity is 0x7F800000 and every NaN lies above it. An interval of magnitudes is
``low <= bits < low + span``, one unsigned comparison.

Addresses are integers; the callers own the memory. float16 and bfloat16 are widened to float32
on the way in, exactly.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from cwmp.kernels.vectors import (
    BITS,
    DOUBLES,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    LANES,
    VOID,
    Builder,
    Load,
    Value,
    at,
    call,
    can_compress,
    constant,
    each_vector,
    first_lanes,
    load_bfloat16,
    load_float16,
    load_float32,
    magnitude_bits,
    positions,
    prefetch_ahead,
    splat,
)

INFINITY_BITS = 0x7F800000
STATS = 24
"""float64 slots of a stats record: 16 partial sums of g^2, then 16 uint32 largest bits."""


class _Sink:
    """Where a loop leaves the entries it keeps, and what it learns on the way.

    Everything is a stack slot; LLVM keeps them in registers.
    """

    def __init__(self, b: Builder, low: Value, span: Value, out: tuple[Value, Value]) -> None:
        self.b = b
        self.low, self.span = splat(b, low), splat(b, span)
        self.out_index, self.out_value = out
        self.kept = cgutils.alloca_once_value(b, ir.Constant(I64, 0))
        self.sums = cgutils.alloca_once_value(b, constant(DOUBLES, [0.0] * LANES))
        self.largest = cgutils.alloca_once_value(b, constant(BITS, [0] * LANES))

    def magnitude(self, floats: Value) -> Value:
        return magnitude_bits(self.b, floats)

    def watch(self, floats: Value) -> None:
        """Add g^2, exact in float64, to the sixteen sums, and keep the largest magnitude."""
        b = self.b
        bits = magnitude_bits(b, floats)
        largest = call(b, "llvm.umax.v16i32", BITS, b.load(self.largest), bits)
        b.store(largest, self.largest)
        wide = b.fpext(floats, DOUBLES)
        sums = call(b, "llvm.fmuladd.v16f64", DOUBLES, wide, wide, b.load(self.sums))
        b.store(sums, self.sums)

    def wanted(self, floats: Value, lanes: Value) -> Value:
        """Those of the *lanes* whose magnitude lies in the interval."""
        b = self.b
        inside = b.icmp_unsigned("<", b.sub(magnitude_bits(b, floats), self.low), self.span)
        return inside if lanes is None else b.and_(inside, lanes)

    def keep(self, index: Value, floats: Value, lanes: Value, limit: Value = None) -> None:
        """Append the chosen *lanes* to the outputs, never past *limit* entries of them."""
        b = self.b
        bits = b.bitcast(lanes, I16)
        if can_compress():  # without a branch: what is kept is not predictable
            self._append(index, floats, lanes, bits, limit)
            return
        with b.if_then(b.icmp_unsigned("!=", bits, ir.Constant(I16, 0))):
            self._append(index, floats, lanes, bits, limit)

    def finish(self, stats: Value) -> Value:
        b = self.b
        b.store(b.load(self.sums), b.inttoptr(stats, DOUBLES.as_pointer()), align=8)
        largest = at(b, stats, ir.Constant(I64, LANES), 8, BITS)
        b.store(b.load(self.largest), largest, align=4)
        return b.load(self.kept)

    def _append(self, index: Value, floats: Value, lanes: Value, bits: Value, limit: Value) -> None:
        b = self.b
        kept = b.load(self.kept)
        more = b.zext(call(b, "llvm.ctpop.i16", I16, bits), I64)
        total = b.add(kept, more)
        for vector, out in ((index, self.out_index), (b.bitcast(floats, BITS), self.out_value)):
            packed = call(
                b,
                "llvm.experimental.vector.compress.v16i32",
                BITS,
                vector,
                lanes,
                ir.Constant(BITS, ir.Undefined),
            )
            target = at(b, out, kept, 4, BITS)
            if limit is None:
                b.store(packed, target, align=4)
            else:
                self._store_within(packed, target, kept, more, limit)
        b.store(total, self.kept)

    def _store_within(
        self, packed: Value, target: Value, kept: Value, more: Value, limit: Value
    ) -> None:
        """A full vector where there is room for one, else just the *more* that count."""
        b = self.b
        room = b.icmp_unsigned("<=", b.add(kept, ir.Constant(I64, LANES)), limit)
        with b.if_else(room) as (full, tail):
            with full:
                b.store(packed, target, align=4)
            with tail:
                align = ir.Constant(I32, 4)
                lanes = first_lanes(b, more)
                call(b, "llvm.masked.store.v16i32.p0", VOID, packed, target, align, lanes)


def _scan(load: Load, item_bytes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def scan(_: Any, source, entries, low, span, first, out_index, out_value, stats):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> Value:
            source, entries, low, span, first, out_index, out_value, stats = arguments
            sink = _Sink(b, low, span, (out_index, out_value))

            def step(entry: Value, lanes: Value) -> None:
                prefetch_ahead(b, source, entry, item_bytes)
                floats = load(b, source, entry, lanes)
                sink.watch(floats)
                sink.keep(positions(b, first, entry), floats, sink.wanted(floats, lanes))

            each_vector(b, entries, step)
            return sink.finish(stats)

        i32, i64, u32 = types.int32, types.int64, types.uint32
        return types.int64(i64, i64, u32, u32, i32, i64, i64, i64), generate

    return scan


scan_float32 = _scan(load_float32, 4)
scan_float16 = _scan(load_float16, 2)
scan_bfloat16 = _scan(load_bfloat16, 2)
"""``scan_*(source, entries, low, span, first, out_index, out_value, stats) -> kept``

Read *entries* floats at *source* once; append those of the interval to the outputs as (first +
position, float32 value), in order; write g^2 sums and the largest magnitude bits to *stats*. The
outputs need room for *entries* + `LANES`. Zeros enter only if *low* is 0.
"""


def _add_scan(load: Load, item_bytes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def scan(_: Any, source, residual, entries, low, span, first, out_index, out_value, stats):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> Value:
            source, residual, entries, low, span, first, out_index, out_value, stats = arguments
            sink = _Sink(b, low, span, (out_index, out_value))

            def step(entry: Value, lanes: Value) -> None:
                prefetch_ahead(b, source, entry, item_bytes)
                prefetch_ahead(b, residual, entry, 4)
                new = load(b, source, entry, lanes)
                old = load_float32(b, residual, entry, lanes)
                floats = b.fadd(old, new)
                target = at(b, residual, entry, 4, FLOATS)
                if lanes is None:
                    b.store(floats, target, align=4)
                else:
                    align = ir.Constant(I32, 4)
                    call(b, "llvm.masked.store.v16f32.p0", VOID, floats, target, align, lanes)
                sink.watch(floats)
                sink.keep(positions(b, first, entry), floats, sink.wanted(floats, lanes))

            each_vector(b, entries, step)
            return sink.finish(stats)

        i32, i64, u32 = types.int32, types.int64, types.uint32
        return types.int64(i64, i64, i64, u32, u32, i32, i64, i64, i64), generate

    return scan


add_scan_float32 = _add_scan(load_float32, 4)
add_scan_float16 = _add_scan(load_float16, 2)
add_scan_bfloat16 = _add_scan(load_bfloat16, 2)
"""``add_scan_*(source, residual, entries, ...)``: residual += source in the pass of `scan_*`,
which then reads the sum."""


@intrinsic  # type: ignore[untyped-decorator]
def compact(_, in_index, in_value, entries, low, span, out_index, out_value, limit, stats):  # type: ignore[no-untyped-def]
    """Append those of *entries* (index, value) pairs that the interval holds to the outputs.

    Writes nothing past *limit* pairs; the outputs may be the inputs. Returns the number kept;
    their g^2 sums and largest bits go to *stats*.
    """

    def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> Value:
        in_index, in_value, entries, low, span, out_index, out_value, limit, stats = arguments
        sink = _Sink(b, low, span, (out_index, out_value))

        def step(entry: Value, lanes: Value) -> None:
            index = b.bitcast(load_float32(b, in_index, entry, lanes), BITS)
            floats = load_float32(b, in_value, entry, lanes)
            wanted = sink.wanted(floats, lanes)
            nothing = ir.Constant(FLOATS, None)
            sink.watch(b.select(wanted, floats, nothing))
            sink.keep(index, floats, wanted, limit)

        each_vector(b, entries, step)
        return sink.finish(stats)

    i64, u32 = types.int64, types.uint32
    return types.int64(i64, i64, i64, u32, u32, i64, i64, i64, i64), generate


def _gather(load: Load) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def gather(_: Any, source, residual, entry, entries, low, out):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> Value:
            source, residual, entry, entries, low, out = arguments
            lanes = first_lanes(b, entries)
            floats = cgutils.alloca_once_value(b, load(b, source, entry, lanes))
            with b.if_then(b.icmp_unsigned("!=", residual, ir.Constant(I64, 0))):
                old = load_float32(b, residual, entry, lanes)
                b.store(b.fadd(old, b.load(floats)), floats)
            values = b.load(floats)
            b.store(values, b.inttoptr(out, FLOATS.as_pointer()), align=4)
            large = b.icmp_unsigned(">=", magnitude_bits(b, values), splat(b, low))
            return b.zext(b.bitcast(b.and_(large, lanes), I16), I64)

        i64 = types.int64
        return i64(i64, i64, i64, i64, types.uint32, i64), generate

    return gather


gather_float32 = _gather(load_float32)
gather_float16 = _gather(load_float16)
gather_bfloat16 = _gather(load_bfloat16)
"""``gather_*(source, residual, entry, entries, low, out) -> lanes``: the *entries* <= 16 floats
from *entry* on, with those of *residual* added unless it is 0, as float32, and zeros after them.
The lanes whose |g| bits are at least *low* come back as bits, the first entry's lowest."""


def pointer_to(kind: Any) -> Any:
    """An intrinsic that makes a pointer to *kind* of an address, for `numba.carray`."""

    @intrinsic  # type: ignore[untyped-decorator]
    def pointer(_: Any, address):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> Value:
            return b.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


pointer_float32 = pointer_to(types.float32)
pointer_int32 = pointer_to(types.int32)
pointer_uint32 = pointer_to(types.uint32)
"""``pointer_*(address)``: for `numba.carray`."""


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_: Any, address):  # type: ignore[no-untyped-def]
    """Ask for the cache line at *address*, which need not be valid."""

    def generate(context: Any, b: Builder, signature: Any, arguments: Any) -> None:
        pointer = b.inttoptr(arguments[0], I8.as_pointer())
        read, keep, data = (ir.Constant(I32, x) for x in (0, 3, 1))
        call(b, "llvm.prefetch.p0", VOID, pointer, read, keep, data)

    return types.void(types.int64), generate
