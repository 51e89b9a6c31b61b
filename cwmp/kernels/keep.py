"""From candidates to fewer of them: those in an interval, and those that a cut keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import carray
from numpy.typing import NDArray

from cwmp.kernels import simd
from cwmp.kernels.crossing import Cut
from cwmp.kernels.jit import compiled
from cwmp.kernels.scan import (
    NO_BITS,
    Bits,
    Candidates,
    Floats,
    Floats32,
    Integers,
    Pairs,
    runs_of,
)
from cwmp.kernels.threads import in_parallel


@dataclass(frozen=True)
class Kept:
    """The entries that a cut keeps, layer after layer.

    Attributes:
        index: positions in their layers, ascending within each; shape (K,).
        value: float32; shape (K,).
        ends: where each layer's entries end, and 0 before; shape (L + 1,).
        captured: sum of g^2 of each layer's; shape (L,).
    """

    index: NDArray[np.int32]
    value: Floats32
    ends: Integers
    captured: Floats


def keep(found: Candidates, cut: Cut, threads: int = 1) -> Kept:
    """Those of *found* that *cut* keeps. *found* must hold everything that it asks for."""
    chunks = found.chunks
    low, split = _chunk_thresholds(chunks.layer, chunks.start, chunks.size, cut.low, cut.tie_limit)
    high = np.full(low.size, NO_BITS, dtype=np.uint32)
    kept = filtered(found, low, high, split, threads)
    layers = cut.low.size
    ends = np.zeros(layers + 1, dtype=np.int64)
    np.cumsum(per_layer(kept, kept.count, layers), out=ends[1:])
    room = kept.memory[0]
    return Kept(room.index, room.value, ends, per_layer(kept, kept.squares, layers))


def per_layer(found: Candidates, amounts: NDArray[np.generic], layers: int) -> NDArray[np.float64]:
    """Amounts of chunks added up by layer, chunk after chunk; shape (layers,)."""
    return np.bincount(found.chunks.layer, weights=amounts, minlength=layers)


def filtered(
    found: Candidates, low: Bits, high: Bits, split: Integers | None = None, threads: int = 1
) -> Candidates:
    """Those of *found* with ``low <= |g| bits < high``, which each chunk has its own of.

    Where a chunk has a *split*, pairs at positions before it need only reach low - 1.
    The squares of what is returned are those of the kept entries.
    """
    size = low.size
    if split is None:
        split = np.full(size, -1, dtype=np.int64)
    source = (found.index_at, found.value_at, found.count, low, high, split)
    counts = np.zeros(size, dtype=np.int64)
    cuts = runs_of(found.count, threads)
    in_parallel([partial(_count, *source, *run, counts) for run in cuts])
    offsets = np.concatenate(([0], np.cumsum(counts)))
    total = int(offsets[-1])
    room = Pairs(np.empty(total, dtype=np.int32), np.empty(total, dtype=np.float32))
    squares = np.zeros(size)
    in_parallel([partial(_write, *source, *run, offsets, room, squares) for run in cuts])
    return Candidates(
        found.chunks,
        room.index.ctypes.data + 4 * offsets[:-1],
        room.value.ctypes.data + 4 * offsets[:-1],
        counts,
        squares,
        found.largest,
        [room],
    )


@compiled
def _chunk_thresholds(
    layer: Integers, start: Integers, size: Integers, low: Bits, limit: Integers
) -> tuple[Bits, Integers]:
    """Each chunk's threshold, and the position before which one less will do; -1 for nowhere."""
    lows = np.empty(layer.size, dtype=np.uint32)
    splits = np.full(layer.size, -1, dtype=np.int64)
    for chunk in range(layer.size):
        here = limit[layer[chunk]]
        lows[chunk] = low[layer[chunk]]
        if here >= start[chunk] + size[chunk]:
            lows[chunk] -= np.uint32(1)
        elif here > start[chunk]:
            splits[chunk] = here
    return lows, splits


@compiled
def _head(index_at: int, size: int, split: int) -> int:
    """How many of the pairs lie before position *split*."""
    if split < 0:
        return 0
    index = carray(simd.pointer_int32(index_at), (size,))
    return np.searchsorted(index, split)  # type: ignore[return-value]


@compiled
def _count(
    index_at: Integers,
    value_at: Integers,
    count: Integers,
    low: Bits,
    high: Bits,
    split: Integers,
    begin: int,
    end: int,
    kept: Integers,
) -> None:
    magnitude = np.uint32(0x7FFFFFFF)
    for chunk in range(begin, end):
        size = count[chunk]
        bits = carray(simd.pointer_uint32(value_at[chunk]), (size,))
        least, span = low[chunk], high[chunk] - low[chunk]
        number = 0
        if low[chunk] < high[chunk]:
            for slot in range(size):
                number += np.int64(np.uint32((bits[slot] & magnitude) - least) < span)
        for slot in range(_head(index_at[chunk], size, split[chunk])):
            number += np.int64((bits[slot] & magnitude) == least - np.uint32(1))
        kept[chunk] = number


@compiled
def _write(
    index_at: Integers,
    value_at: Integers,
    count: Integers,
    low: Bits,
    high: Bits,
    split: Integers,
    begin: int,
    end: int,
    offsets: Integers,
    room: Pairs,
    squares: Floats,
) -> None:
    stats = np.empty(simd.STATS, dtype=np.float64)
    sums = stats[: simd.LANES]
    index, value = room.index.ctypes.data, room.value.ctypes.data
    last = offsets[end]
    for chunk in range(begin, end):
        place = offsets[chunk]
        if place == offsets[chunk + 1]:
            continue
        least = low[chunk]
        head = _head(index_at[chunk], count[chunk], split[chunk])
        if head > 0:
            least -= np.uint32(1)
            place += simd.compact(
                index_at[chunk],
                value_at[chunk],
                head,
                least,
                high[chunk] - least,
                index + 4 * place,
                value + 4 * place,
                last - place,
                stats.ctypes.data,
            )
            squares[chunk] += sums.sum()
            least += np.uint32(1)
        if least < high[chunk]:
            simd.compact(
                index_at[chunk] + 4 * head,
                value_at[chunk] + 4 * head,
                count[chunk] - head,
                least,
                high[chunk] - least,
                index + 4 * place,
                value + 4 * place,
                last - place,
                stats.ctypes.data,
            )
            squares[chunk] += sums.sum()
