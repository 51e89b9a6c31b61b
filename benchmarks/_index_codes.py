"""Other codes for ascending positions, to measure `cwmp.kernels.rice` against.

Each is (encode, decode): positions and n to (words, bits), and those back to k positions. They
are written for speed as the real one is, and trust their input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import rice
from cwmp.kernels.bits import trailing_zeros

Positions = NDArray[np.int32]
Words = NDArray[np.uint64]
Code = tuple[Callable[[Positions, int], tuple[Words, int]], Callable[..., Positions]]

_ONE, _SIX, _LOW_SIX = np.uint64(1), np.uint64(6), np.uint64(63)
_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")


def rice_apart(positions: Positions, n: int) -> tuple[Words, int]:
    """The project's own: fields and quotients in two streams."""
    b, bits = rice.parameter_of(positions, n)
    words = np.zeros((bits >> 6) + 2, dtype=np.uint64)
    rice.pack(positions, b, words)
    return words, bits


def rice_apart_back(words: Words, bits: int, k: int, n: int, b: int) -> Positions:
    """Positions of `rice_apart`."""
    positions = np.empty(k, dtype=np.int32)
    if rice.unpack(words, bits, b, n, positions) != bits:
        raise ValueError("the code does not read back")
    return positions


def rice_mixed(positions: Positions, n: int) -> tuple[Words, int]:
    """Each quotient beside its field, as Rice codes are usually laid out."""
    b, bits = rice.parameter_of(positions, n)
    words = np.zeros((bits >> 6) + 3, dtype=np.uint64)
    _pack_mixed(positions, b, words)
    return words, bits


def rice_mixed_back(words: Words, bits: int, k: int, n: int, b: int) -> Positions:
    """Positions of `rice_mixed`."""
    positions = np.empty(k, dtype=np.int32)
    _unpack_mixed(words, b, positions)
    return positions


def elias_fano(positions: Positions, n: int) -> tuple[Words, int]:
    """Elias 1974, Fano 1971: the low bits as they are, the high bits as a unary histogram."""
    k = positions.size
    low = max(0, int(np.floor(np.log2(n / k))))
    bits = k * low + k + (n >> low)
    words = np.zeros((bits >> 6) + 2, dtype=np.uint64)
    _pack_elias_fano(positions, low, words)
    return words, bits


def elias_fano_back(words: Words, bits: int, k: int, n: int, b: int) -> Positions:
    """Positions of `elias_fano`."""
    positions = np.empty(k, dtype=np.int32)
    _unpack_elias_fano(words, max(0, int(np.floor(np.log2(n / k)))), positions)
    return positions


def roaring_bits(positions: Positions, n: int) -> int:
    """The size as Roaring bitmaps: chunks of 2^16, each an array of 16-bit numbers, a bitmap of
    8 KiB, or runs, whichever is smallest, and 4 bytes a chunk (Chambi et al. 2016)."""
    chunks, counts = np.unique(positions >> 16, return_counts=True)
    new_run = np.diff(positions, prepend=-2) != 1
    run_counts = np.bincount(np.searchsorted(chunks, positions[new_run] >> 16))
    sizes = np.minimum(np.minimum(2 * counts, 8192), 2 + 4 * run_counts)
    return 8 * int(sizes.sum() + 4 * chunks.size)


CODES: dict[str, Code] = {
    "Rice, streams apart": (rice_apart, rice_apart_back),
    "Rice, interleaved": (rice_mixed, rice_mixed_back),
    "Elias-Fano": (elias_fano, elias_fano_back),
}


@_jit
def _pack_mixed(positions, b, words):  # type: ignore[no-untyped-def]
    shift = np.uint64(b)
    mask = (_ONE << shift) - _ONE
    at, previous = np.uint64(0), np.int64(-1)
    for i in range(positions.size):
        position = np.int64(positions[i])
        gap = np.uint64(position - previous - 1)
        previous = position
        at += gap >> shift
        field = (gap & mask) << _ONE | _ONE
        offset = at & _LOW_SIX
        words[at >> _SIX] |= field << offset
        words[(at >> _SIX) + _ONE] |= field >> _ONE >> (_LOW_SIX - offset)
        at += shift + _ONE


@_jit
def _unpack_mixed(words, b, positions):  # type: ignore[no-untyped-def]
    shift = np.uint64(b)
    mask = (_ONE << shift) - _ONE
    at, previous = np.uint64(0), np.int64(-1)
    for i in range(positions.size):
        zeros = np.int64(0)
        while True:
            word, offset = at >> _SIX, at & _LOW_SIX
            ahead = words[word] >> offset | words[word + _ONE] << _ONE << (_LOW_SIX - offset)
            if ahead != 0:
                break
            at += np.uint64(64)
            zeros += 64
        quotient = np.int64(trailing_zeros(ahead))
        at += np.uint64(quotient) + _ONE
        word, offset = at >> _SIX, at & _LOW_SIX
        ahead = words[word] >> offset | words[word + _ONE] << _ONE << (_LOW_SIX - offset)
        at += shift
        previous += (((zeros + quotient) << b) | np.int64(ahead & mask)) + 1
        positions[i] = previous


@_jit
def _pack_elias_fano(positions, low, words):  # type: ignore[no-untyped-def]
    shift, mask = np.uint64(low), (_ONE << np.uint64(low)) - _ONE
    start, at = np.uint64(positions.size * low), np.uint64(0)
    for i in range(positions.size):
        position = np.uint64(positions[i])
        field, offset = position & mask, at & _LOW_SIX
        words[at >> _SIX] |= field << offset
        words[(at >> _SIX) + _ONE] |= field >> _ONE >> (_LOW_SIX - offset)
        at += shift
        place = start + (position >> shift) + np.uint64(i)
        words[place >> _SIX] |= _ONE << (place & _LOW_SIX)


@_jit
def _unpack_elias_fano(words, low, positions):  # type: ignore[no-untyped-def]
    shift, mask = np.uint64(low), (_ONE << np.uint64(low)) - _ONE
    start, at = positions.size * low, np.uint64(0)
    high = np.uint64(start) >> _SIX
    skipped = np.uint64(start) & _LOW_SIX
    word = words[high] >> skipped << skipped
    for i in range(positions.size):
        while word == 0:
            high += _ONE
            word = words[high]
        place = np.int64(high << _SIX) - start + np.int64(trailing_zeros(word))
        word &= word - _ONE
        field, offset = at >> _SIX, at & _LOW_SIX
        ahead = words[field] >> offset | words[field + _ONE] << _ONE << (_LOW_SIX - offset)
        at += shift
        positions[i] = ((place - i) << low) | np.int64(ahead & mask)
