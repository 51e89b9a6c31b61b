"""From candidates to fewer of them: those in an interval, and those that a cut keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from cwmp.kernels import simd
from cwmp.kernels.crossing import Cut, chunk_thresholds
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import NO_BITS, Bits, Floats
from cwmp.kernels.scan import (
    Candidates,
    Floats32,
    Integers,
    Pairs,
    Scratch,
    runs_of,
)
from cwmp.kernels.threads import in_parallel
from cwmp.kernels.vectors import LANES

_ALONE = 2**19


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
    chunks, layers = found.chunks, cut.low.size
    low, split = chunk_thresholds(chunks.layer, chunks.start, chunks.size, cut.low, cut.tie_limit)
    source = (found.index_at, found.value_at, found.count, low, NO_BITS, split)
    cuts = runs_of(found.count, _useful(found, threads))
    counts = cut.chunk_counts
    if counts is None:
        counts = np.zeros(low.size, dtype=np.int64)
        in_parallel([partial(_count, *source, *run, counts) for run in cuts])
    offsets = np.zeros(low.size + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    total = int(offsets[-1])
    room = Pairs(np.empty(total, dtype=np.int32), np.empty(total, dtype=np.float32))
    squares = np.zeros(low.size)
    in_parallel([partial(_write, *source, *run, offsets, room, squares) for run in cuts])
    ends = np.zeros(layers + 1, dtype=np.int64)
    ends[1:] = np.cumsum(per_layer(found, counts, layers))
    return Kept(room.index, room.value, ends, per_layer(found, squares, layers))


def per_layer(found: Candidates, amounts: NDArray[Any], layers: int) -> Floats:
    """Amounts of chunks added up by layer, chunk after chunk; shape (layers,)."""
    sums: Floats = np.bincount(found.chunks.layer, weights=amounts, minlength=layers)
    return sums


def below(found: Candidates, high: Bits, scratch: Scratch, threads: int = 1) -> Candidates:
    """Those of *found* with |g| bits under *high*, which each layer has its own of."""
    room = scratch.take(found.kept)
    runs = found.count.size
    part = Candidates(
        found.chunks,
        np.empty(runs, dtype=np.int64),
        np.empty(runs, dtype=np.int64),
        np.empty(runs, dtype=np.int64),
        found.squares,
        found.ties,
        found.largest,
        [room],
    )
    source = (found.chunks.layer, found.index_at, found.value_at, found.count, high)
    target = (part.index_at, part.value_at, part.count)
    cuts = runs_of(found.count, _useful(found, threads))
    in_parallel([partial(_below, *source, *run, room, *target) for run in cuts])
    return part


def _useful(found: Candidates, threads: int) -> int:
    return threads if found.kept > _ALONE else 1


@compiled
def _below(
    layer: Integers,
    index_at: Integers,
    value_at: Integers,
    count: Integers,
    high: Bits,
    begin: int,
    end: int,
    room: Pairs,
    index_to: Integers,
    value_to: Integers,
    kept: Integers,
) -> None:
    stats = np.empty(simd.STATS, dtype=np.float64)
    index, value = room.index.ctypes.data, room.value.ctypes.data
    place = count[:begin].sum()
    last = place + count[begin:end].sum()
    for chunk in range(begin, end):
        index_to[chunk] = index + 4 * place
        value_to[chunk] = value + 4 * place
        kept[chunk] = simd.compact(
            index_at[chunk],
            value_at[chunk],
            count[chunk],
            np.uint32(0),
            min(high[layer[chunk]], np.uint32(NO_BITS)),
            index_to[chunk],
            value_to[chunk],
            last - place,
            stats.ctypes.data,
        )
        place += kept[chunk]


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
    high: int,
    split: Integers,
    begin: int,
    end: int,
    kept: Integers,
) -> None:
    magnitude = np.uint32(0x7FFFFFFF)
    for chunk in range(begin, end):
        size = count[chunk]
        bits = carray(simd.pointer_uint32(value_at[chunk]), (size,))
        least, span = low[chunk], np.uint32(high) - low[chunk]
        number = 0
        if low[chunk] < high:
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
    high: int,
    split: Integers,
    begin: int,
    end: int,
    offsets: Integers,
    room: Pairs,
    squares: Floats,
) -> None:
    stats = np.empty(simd.STATS, dtype=np.float64)
    sums = stats[:LANES]
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
                np.uint32(high) - least,
                index + 4 * place,
                value + 4 * place,
                last - place,
                stats.ctypes.data,
            )
            squares[chunk] += sums.sum()
            least += np.uint32(1)
        if least < high:
            simd.compact(
                index_at[chunk] + 4 * head,
                value_at[chunk] + 4 * head,
                count[chunk] - head,
                least,
                np.uint32(high) - least,
                index + 4 * place,
                value + 4 * place,
                last - place,
                stats.ctypes.data,
            )
            squares[chunk] += sums.sum()
