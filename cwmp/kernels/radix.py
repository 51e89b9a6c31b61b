"""Radix sorts: no comparison, no worst case."""

from __future__ import annotations

import numpy as np

from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import Bits
from cwmp.kernels.reference import Integers

_DIGIT_BITS = 11
_FEW = 512
_INSERTION = 64


@compiled
def falling(keys: Integers, ignored: int) -> Integers:
    """*keys* from the largest to the smallest but for their *ignored* low bits; stable.

    The array passed in is scratch afterwards.
    """
    if keys.size <= _INSERTION:
        for place in range(1, keys.size):
            key, at = keys[place], place
            while at > 0 and keys[at - 1] >> ignored < key >> ignored:
                keys[at] = keys[at - 1]
                at -= 1
            keys[at] = key
        return keys
    least, most = keys.min() >> ignored, keys.max() >> ignored
    other = np.empty_like(keys)
    digits = 1 << _DIGIT_BITS
    shift = 0
    while (most - least) >> shift > 0:
        ends = np.zeros(digits + 1, dtype=np.int64)
        for key in keys:
            ends[(((most - (key >> ignored)) >> shift) & (digits - 1)) + 1] += 1
        for digit in range(digits):
            ends[digit + 1] += ends[digit]
        for key in keys:
            digit = ((most - (key >> ignored)) >> shift) & (digits - 1)
            other[ends[digit]] = key
            ends[digit] += 1
        keys, other = other, keys
        shift += _DIGIT_BITS
    return keys


@compiled
def sort_falling(bits: Bits, other: Bits) -> None:
    """Sort 31-bit numbers from the largest down, in place; *other* is as long, for scratch."""
    if bits.size <= _FEW:
        bits.sort()
        bits[:] = bits[::-1].copy()
        return
    digits = 1 << _DIGIT_BITS
    ends = np.empty(digits + 1, dtype=np.int64)
    source, target = bits, other
    for turn in range(3):
        shift = np.uint32(turn * _DIGIT_BITS)
        ends[:] = 0
        for number in source:
            ends[digits - np.int64((number >> shift) & np.uint32(digits - 1))] += 1
        for digit in range(digits):
            ends[digit + 1] += ends[digit]
        for number in source:
            digit = digits - 1 - np.int64((number >> shift) & np.uint32(digits - 1))
            target[ends[digit]] = number
            ends[digit] += 1
        source, target = target, source
    bits[:] = other
