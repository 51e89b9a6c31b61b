"""Bit positions, one machine instruction each."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(_: Any, word):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _trailing_zeros_in_python(word: int) -> int:
    number = int(word)
    return (number & -number).bit_length() - 1


trailing_zeros = _trailing_zeros_in_python if config.DISABLE_JIT else _trailing_zeros
"""The position of the lowest bit set of a uint64 that is not 0."""
