"""Words for loops over vectors of sixteen, in LLVM's terms, which numba alone cannot say.

Functions take the builder of a function under construction and return the values that the
instructions they add will have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

LANES = 16
"""Entries a vector holds."""

_PREFETCH_BYTES = 3072
I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
BITS = ir.VectorType(I32, LANES)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
HALFS = ir.VectorType(ir.HalfType(), LANES)
SHORTS = ir.VectorType(I16, LANES)
DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
MASK = ir.VectorType(I1, LANES)
VOID = ir.VoidType()

Builder = Any
Value = Any
Load = Callable[[Builder, Value, Value, Value], Value]


def can_compress() -> bool:
    """Whether this processor compresses a vector in a register (AVX-512)."""
    return bool(binding.get_host_cpu_features().get("avx512f", False))


def constant(kind: Any, numbers: list[Any]) -> ir.Constant:
    """A vector of these numbers."""
    return ir.Constant(kind, numbers)


def call(b: Builder, name: str, result: Any, *arguments: Value) -> Value:
    """Call an LLVM intrinsic by its full name."""
    signature = ir.FunctionType(result, [x.type for x in arguments])
    return b.call(cgutils.get_or_insert_function(b.module, signature, name), list(arguments))


def splat(b: Builder, scalar: Value) -> Value:
    """The scalar in every lane."""
    kind = ir.VectorType(scalar.type, LANES)
    one = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(one, one, constant(BITS, [0] * LANES))


def at(b: Builder, base: Value, index: Value, size: int, kind: Any) -> Value:
    """A pointer to *kind* at *base* + *index* items of *size* bytes."""
    return b.inttoptr(b.add(base, b.mul(index, ir.Constant(I64, size))), kind.as_pointer())


def masked_load(b: Builder, pointer: Value, kind: Any, name: str, lanes: Value) -> Value:
    """A vector with zeros where *lanes* is off; what lies there is not touched."""
    zero = ir.Constant(kind, None)
    align = ir.Constant(I32, 1)
    return call(b, f"llvm.masked.load.{name}.p0", kind, pointer, align, lanes, zero)


def load_float32(b: Builder, base: Value, entry: Value, lanes: Value) -> Value:
    """Sixteen float32 from *entry* on, or those of *lanes*."""
    pointer = at(b, base, entry, 4, FLOATS)
    if lanes is None:
        return b.load(pointer, align=4)
    return masked_load(b, pointer, FLOATS, "v16f32", lanes)


def load_float16(b: Builder, base: Value, entry: Value, lanes: Value) -> Value:
    """Sixteen float16 from *entry* on, or those of *lanes*, as float32."""
    pointer = at(b, base, entry, 2, HALFS)
    if lanes is None:
        return b.fpext(b.load(pointer, align=2), FLOATS)
    return b.fpext(masked_load(b, pointer, HALFS, "v16f16", lanes), FLOATS)


def load_bfloat16(b: Builder, base: Value, entry: Value, lanes: Value) -> Value:
    """Sixteen bfloat16 from *entry* on, or those of *lanes*, as float32."""
    pointer = at(b, base, entry, 2, SHORTS)
    if lanes is None:
        short = b.load(pointer, align=2)
    else:
        short = masked_load(b, pointer, SHORTS, "v16i16", lanes)
    return b.bitcast(b.shl(b.zext(short, BITS), constant(BITS, [16] * LANES)), FLOATS)


def magnitude_bits(b: Builder, floats: Value) -> Value:
    """The bits of float32 with the sign cleared."""
    return b.and_(b.bitcast(floats, BITS), constant(BITS, [0x7FFFFFFF] * LANES))


def first_lanes(b: Builder, count: Value) -> Value:
    """A mask of the first *count* lanes."""
    lane = constant(BITS, list(range(LANES)))
    return b.icmp_unsigned("<", lane, splat(b, b.trunc(count, I32)))


def each_vector(b: Builder, entries: Value, step: Callable[[Value, Value], None]) -> None:
    """``step(first entry, lanes)`` over all vectors; *lanes* is ``None`` but for a short last."""
    shift = ir.Constant(I64, 4)
    vectors = b.lshr(entries, shift)
    with cgutils.for_range(b, vectors) as loop:
        step(b.shl(loop.index, shift), None)
    done = b.shl(vectors, shift)
    left = b.sub(entries, done)
    with b.if_then(b.icmp_unsigned("!=", left, ir.Constant(I64, 0))):
        step(done, first_lanes(b, left))


def positions(b: Builder, first: Value, entry: Value) -> Value:
    """*first* + *entry* and the fifteen numbers after it, as int32."""
    lane = constant(BITS, list(range(LANES)))
    return b.add(splat(b, b.add(first, b.trunc(entry, I32))), lane)


def prefetch_ahead(b: Builder, base: Value, entry: Value, size: int) -> None:
    """Ask for what a loop over items of *size* bytes will read some vectors on."""
    ahead = b.add(base, ir.Constant(I64, _PREFETCH_BYTES))
    pointer = at(b, ahead, entry, size, I8)
    read, keep, data = (ir.Constant(I32, x) for x in (0, 3, 1))
    call(b, "llvm.prefetch.p0", VOID, pointer, read, keep, data)
