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

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Entries a step handles; outputs of `scan_*` need this many entries of slack."""
INFINITY_BITS = 0x7F800000
STATS = 24
"""float64 slots of a stats record: 16 partial sums of g^2, then 16 uint32 largest bits."""

_PREFETCH_BYTES = 3072
_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_BITS = ir.VectorType(_I32, LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_HALFS = ir.VectorType(ir.HalfType(), LANES)
_SHORTS = ir.VectorType(_I16, LANES)
_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_MASK = ir.VectorType(_I1, LANES)
_VOID = ir.VoidType()

_Builder = Any
_Value = Any
_Load = Callable[[_Builder, _Value, _Value, _Value], _Value]


def _can_compress() -> bool:
    return bool(binding.get_host_cpu_features().get("avx512f", False))


def _vector(kind: Any, numbers: list[Any]) -> ir.Constant:
    return ir.Constant(kind, numbers)


def _call(b: _Builder, name: str, result: Any, *arguments: _Value) -> _Value:
    signature = ir.FunctionType(result, [x.type for x in arguments])
    return b.call(cgutils.get_or_insert_function(b.module, signature, name), list(arguments))


def _splat(b: _Builder, scalar: _Value) -> _Value:
    kind = ir.VectorType(scalar.type, LANES)
    one = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return b.shuffle_vector(one, one, _vector(_BITS, [0] * LANES))


def _at(b: _Builder, base: _Value, index: _Value, size: int, kind: Any) -> _Value:
    """A pointer to *kind* at *base* + *index* items of *size* bytes."""
    return b.inttoptr(b.add(base, b.mul(index, ir.Constant(_I64, size))), kind.as_pointer())


def _masked_load(b: _Builder, pointer: _Value, kind: Any, name: str, lanes: _Value) -> _Value:
    zero = ir.Constant(kind, None)
    align = ir.Constant(_I32, 1)
    return _call(b, f"llvm.masked.load.{name}.p0", kind, pointer, align, lanes, zero)


def _load_float32(b: _Builder, base: _Value, entry: _Value, lanes: _Value) -> _Value:
    pointer = _at(b, base, entry, 4, _FLOATS)
    if lanes is None:
        return b.load(pointer, align=4)
    return _masked_load(b, pointer, _FLOATS, "v16f32", lanes)


def _load_float16(b: _Builder, base: _Value, entry: _Value, lanes: _Value) -> _Value:
    pointer = _at(b, base, entry, 2, _HALFS)
    if lanes is None:
        return b.fpext(b.load(pointer, align=2), _FLOATS)
    return b.fpext(_masked_load(b, pointer, _HALFS, "v16f16", lanes), _FLOATS)


def _load_bfloat16(b: _Builder, base: _Value, entry: _Value, lanes: _Value) -> _Value:
    pointer = _at(b, base, entry, 2, _SHORTS)
    if lanes is None:
        short = b.load(pointer, align=2)
    else:
        short = _masked_load(b, pointer, _SHORTS, "v16i16", lanes)
    return b.bitcast(b.shl(b.zext(short, _BITS), _vector(_BITS, [16] * LANES)), _FLOATS)


def _magnitude(b: _Builder, floats: _Value) -> _Value:
    return b.and_(b.bitcast(floats, _BITS), _vector(_BITS, [0x7FFFFFFF] * LANES))


class _Sink:
    """Where a loop leaves the entries it keeps, and what it learns on the way.

    Everything is a stack slot; LLVM keeps them in registers.
    """

    def __init__(self, b: _Builder, low: _Value, span: _Value, out: tuple[_Value, _Value]) -> None:
        self.b = b
        self.low, self.span = _splat(b, low), _splat(b, span)
        self.out_index, self.out_value = out
        self.kept = cgutils.alloca_once_value(b, ir.Constant(_I64, 0))
        self.sums = cgutils.alloca_once_value(b, _vector(_DOUBLES, [0.0] * LANES))
        self.largest = cgutils.alloca_once_value(b, _vector(_BITS, [0] * LANES))

    def magnitude(self, floats: _Value) -> _Value:
        return _magnitude(self.b, floats)

    def watch(self, floats: _Value) -> None:
        """Add g^2, exact in float64, to the sixteen sums, and keep the largest magnitude."""
        b = self.b
        bits = _magnitude(b, floats)
        largest = _call(b, "llvm.umax.v16i32", _BITS, b.load(self.largest), bits)
        b.store(largest, self.largest)
        wide = b.fpext(floats, _DOUBLES)
        b.store(b.fadd(b.load(self.sums), b.fmul(wide, wide)), self.sums)

    def wanted(self, floats: _Value, lanes: _Value) -> _Value:
        """Those of the *lanes* whose magnitude lies in the interval."""
        b = self.b
        inside = b.icmp_unsigned("<", b.sub(_magnitude(b, floats), self.low), self.span)
        return inside if lanes is None else b.and_(inside, lanes)

    def keep(self, index: _Value, floats: _Value, lanes: _Value, limit: _Value = None) -> None:
        """Append the chosen *lanes* to the outputs, never past *limit* entries of them."""
        b = self.b
        bits = b.bitcast(lanes, _I16)
        if _can_compress():  # without a branch: what is kept is not predictable
            self._append(index, floats, lanes, bits, limit)
            return
        with b.if_then(b.icmp_unsigned("!=", bits, ir.Constant(_I16, 0))):
            self._append(index, floats, lanes, bits, limit)

    def finish(self, stats: _Value) -> _Value:
        b = self.b
        b.store(b.load(self.sums), b.inttoptr(stats, _DOUBLES.as_pointer()), align=8)
        largest = _at(b, stats, ir.Constant(_I64, LANES), 8, _BITS)
        b.store(b.load(self.largest), largest, align=4)
        return b.load(self.kept)

    def _append(
        self, index: _Value, floats: _Value, lanes: _Value, bits: _Value, limit: _Value
    ) -> None:
        b = self.b
        kept = b.load(self.kept)
        more = b.zext(_call(b, "llvm.ctpop.i16", _I16, bits), _I64)
        total = b.add(kept, more)
        for vector, out in ((index, self.out_index), (b.bitcast(floats, _BITS), self.out_value)):
            packed = _call(
                b,
                "llvm.experimental.vector.compress.v16i32",
                _BITS,
                vector,
                lanes,
                ir.Constant(_BITS, ir.Undefined),
            )
            target = _at(b, out, kept, 4, _BITS)
            if limit is None:
                b.store(packed, target, align=4)
            else:
                self._store_within(packed, target, kept, more, limit)
        b.store(total, self.kept)

    def _store_within(
        self, packed: _Value, target: _Value, kept: _Value, more: _Value, limit: _Value
    ) -> None:
        """A full vector where there is room for one, else just the *more* that count."""
        b = self.b
        room = b.icmp_unsigned("<=", b.add(kept, ir.Constant(_I64, LANES)), limit)
        with b.if_else(room) as (full, tail):
            with full:
                b.store(packed, target, align=4)
            with tail:
                align = ir.Constant(_I32, 4)
                lanes = _first(b, more)
                _call(b, "llvm.masked.store.v16i32.p0", _VOID, packed, target, align, lanes)


def _first(b: _Builder, count: _Value) -> _Value:
    """A mask of the first *count* lanes."""
    lane = _vector(_BITS, list(range(LANES)))
    return b.icmp_unsigned("<", lane, _splat(b, b.trunc(count, _I32)))


def _each(b: _Builder, entries: _Value, step: Callable[[_Value, _Value], None]) -> None:
    """``step(first entry, lanes)`` over all vectors; *lanes* is ``None`` but for a short last."""
    shift = ir.Constant(_I64, 4)
    vectors = b.lshr(entries, shift)
    with cgutils.for_range(b, vectors) as loop:
        step(b.shl(loop.index, shift), None)
    done = b.shl(vectors, shift)
    left = b.sub(entries, done)
    with b.if_then(b.icmp_unsigned("!=", left, ir.Constant(_I64, 0))):
        step(done, _first(b, left))


def _positions(b: _Builder, first: _Value, entry: _Value) -> _Value:
    lane = _vector(_BITS, list(range(LANES)))
    return b.add(_splat(b, b.add(first, b.trunc(entry, _I32))), lane)


def _prefetch(b: _Builder, base: _Value, entry: _Value, size: int) -> None:
    ahead = b.add(base, ir.Constant(_I64, _PREFETCH_BYTES))
    pointer = _at(b, ahead, entry, size, _I8)
    read, keep, data = (ir.Constant(_I32, x) for x in (0, 3, 1))
    _call(b, "llvm.prefetch.p0", _VOID, pointer, read, keep, data)


def _scan(load: _Load, item_bytes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def scan(_: Any, source, entries, low, span, first, out_index, out_value, stats):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> _Value:
            source, entries, low, span, first, out_index, out_value, stats = arguments
            sink = _Sink(b, low, span, (out_index, out_value))

            def step(entry: _Value, lanes: _Value) -> None:
                _prefetch(b, source, entry, item_bytes)
                floats = load(b, source, entry, lanes)
                sink.watch(floats)
                sink.keep(_positions(b, first, entry), floats, sink.wanted(floats, lanes))

            _each(b, entries, step)
            return sink.finish(stats)

        i32, i64, u32 = types.int32, types.int64, types.uint32
        return types.int64(i64, i64, u32, u32, i32, i64, i64, i64), generate

    return scan


scan_float32 = _scan(_load_float32, 4)
scan_float16 = _scan(_load_float16, 2)
scan_bfloat16 = _scan(_load_bfloat16, 2)
"""``scan_*(source, entries, low, span, first, out_index, out_value, stats) -> kept``

Read *entries* floats at *source* once; append those of the interval to the outputs as (first +
position, float32 value), in order; write g^2 sums and the largest magnitude bits to *stats*. The
outputs need room for *entries* + `LANES`. Zeros enter only if *low* is 0.
"""


def _add_scan(load: _Load, item_bytes: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def scan(_: Any, source, residual, entries, low, span, first, out_index, out_value, stats):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> _Value:
            source, residual, entries, low, span, first, out_index, out_value, stats = arguments
            sink = _Sink(b, low, span, (out_index, out_value))

            def step(entry: _Value, lanes: _Value) -> None:
                _prefetch(b, source, entry, item_bytes)
                _prefetch(b, residual, entry, 4)
                new = load(b, source, entry, lanes)
                old = _load_float32(b, residual, entry, lanes)
                floats = b.fadd(old, new)
                target = _at(b, residual, entry, 4, _FLOATS)
                if lanes is None:
                    b.store(floats, target, align=4)
                else:
                    align = ir.Constant(_I32, 4)
                    _call(b, "llvm.masked.store.v16f32.p0", _VOID, floats, target, align, lanes)
                sink.watch(floats)
                sink.keep(_positions(b, first, entry), floats, sink.wanted(floats, lanes))

            _each(b, entries, step)
            return sink.finish(stats)

        i32, i64, u32 = types.int32, types.int64, types.uint32
        return types.int64(i64, i64, i64, u32, u32, i32, i64, i64, i64), generate

    return scan


add_scan_float32 = _add_scan(_load_float32, 4)
add_scan_float16 = _add_scan(_load_float16, 2)
add_scan_bfloat16 = _add_scan(_load_bfloat16, 2)
"""``add_scan_*(source, residual, entries, ...)``: residual += source in the pass of `scan_*`,
which then reads the sum."""


@intrinsic  # type: ignore[untyped-decorator]
def compact(_, in_index, in_value, entries, low, span, out_index, out_value, limit, stats):  # type: ignore[no-untyped-def]
    """Append those of *entries* (index, value) pairs that the interval holds to the outputs.

    Writes nothing past *limit* pairs; the outputs may be the inputs. Returns the number kept;
    their g^2 sums and largest bits go to *stats*.
    """

    def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> _Value:
        in_index, in_value, entries, low, span, out_index, out_value, limit, stats = arguments
        sink = _Sink(b, low, span, (out_index, out_value))

        def step(entry: _Value, lanes: _Value) -> None:
            index = b.bitcast(_load_float32(b, in_index, entry, lanes), _BITS)
            floats = _load_float32(b, in_value, entry, lanes)
            wanted = sink.wanted(floats, lanes)
            nothing = ir.Constant(_FLOATS, None)
            sink.watch(b.select(wanted, floats, nothing))
            sink.keep(index, floats, wanted, limit)

        _each(b, entries, step)
        return sink.finish(stats)

    i64, u32 = types.int64, types.uint32
    return types.int64(i64, i64, i64, u32, u32, i64, i64, i64, i64), generate


def _gather(load: _Load) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def gather(_: Any, source, residual, entry, entries, low, out):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> _Value:
            source, residual, entry, entries, low, out = arguments
            lanes = _first(b, entries)
            floats = cgutils.alloca_once_value(b, load(b, source, entry, lanes))
            with b.if_then(b.icmp_unsigned("!=", residual, ir.Constant(_I64, 0))):
                old = _load_float32(b, residual, entry, lanes)
                b.store(b.fadd(old, b.load(floats)), floats)
            values = b.load(floats)
            b.store(values, b.inttoptr(out, _FLOATS.as_pointer()), align=4)
            large = b.icmp_unsigned(">=", _magnitude(b, values), _splat(b, low))
            return b.zext(b.bitcast(b.and_(large, lanes), _I16), _I64)

        i64 = types.int64
        return i64(i64, i64, i64, i64, types.uint32, i64), generate

    return gather


gather_float32 = _gather(_load_float32)
gather_float16 = _gather(_load_float16)
gather_bfloat16 = _gather(_load_bfloat16)
"""``gather_*(source, residual, entry, entries, low, out) -> lanes``: the *entries* <= 16 floats
from *entry* on, with those of *residual* added unless it is 0, as float32, and zeros after them.
The lanes whose |g| bits are at least *low* come back as bits, the first entry's lowest."""


def _pointer(kind: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def pointer(_: Any, address):  # type: ignore[no-untyped-def]
        def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> _Value:
            return b.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


pointer_float32 = _pointer(types.float32)
pointer_int32 = _pointer(types.int32)
pointer_uint32 = _pointer(types.uint32)
"""``pointer_*(address)``: for `numba.carray`."""


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_: Any, address):  # type: ignore[no-untyped-def]
    """Ask for the cache line at *address*, which need not be valid."""

    def generate(context: Any, b: _Builder, signature: Any, arguments: Any) -> None:
        pointer = b.inttoptr(arguments[0], _I8.as_pointer())
        read, keep, data = (ir.Constant(_I32, x) for x in (0, 3, 1))
        _call(b, "llvm.prefetch.p0", _VOID, pointer, read, keep, data)

    return types.void(types.int64), generate
