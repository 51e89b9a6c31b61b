"""One pass over an update: the candidates above each layer's threshold, sums and extremes.

An update stays where it is, one address a layer. Layers are cut into chunks, whose borders do
not depend on the number of threads; threads take runs of chunks; what a chunk yields (its
candidates in order, its sum of g^2, its largest magnitude) is its own, so that every result is
the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import simd
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import NO_BITS, Bits, Floats
from cwmp.kernels.threads import MOST_THREADS, in_parallel
from cwmp.kernels.vectors import LANES

Floats32 = NDArray[np.float32]
Integers = NDArray[np.int64]

FLOAT32, FLOAT16, BFLOAT16 = range(3)

_CHUNK = 2**15
_ROOMS = 2 * MOST_THREADS


class Sources(NamedTuple):
    """Where an update's layers lie.

    Attributes:
        address: of each layer's first entry; shape (L,).
        kind: FLOAT32, FLOAT16 or BFLOAT16; shape (L,).
        residual: address of each layer's float32 residual, to be added to first; 0 for none.
    """

    address: Integers
    kind: NDArray[np.int8]
    residual: Integers


class Chunks(NamedTuple):
    """Layers cut into chunks; all shape (C,), in the layers' order."""

    layer: Integers
    start: Integers
    size: Integers


@dataclass
class Candidates:
    """What a pass has kept, chunk by chunk, as (position in the layer, float32 value) pairs.

    Attributes:
        chunks: the chunks they come from.
        index_at, value_at: addresses of each chunk's first pair; shape (C,).
        count: pairs of each chunk; shape (C,).
        squares: sum of g^2 over everything in the chunk, kept or not; shape (C,).
        ties: entries of each chunk that were only counted; shape (C,).
        largest: bits of the chunk's largest magnitude; above `simd.INFINITY_BITS` for NaN.
        memory: the arrays that the addresses point into.
    """

    chunks: Chunks
    index_at: Integers
    value_at: Integers
    count: Integers
    squares: Floats
    ties: Integers
    largest: Bits
    memory: list[Pairs] = field(default_factory=list)

    @property
    def kept(self) -> int:
        return int(self.count.sum())


class Wanted(NamedTuple):
    """What a pass keeps of each chunk, as |g| bits; all shape (C,).

    Attributes:
        low: keep what reaches it; `ALL_BITS` keeps nothing.
        tie_low, tie_high: only count what lies in between (and below *low*).
    """

    low: Bits
    tie_low: Bits
    tie_high: Bits


class Pairs(NamedTuple):
    """Room for candidates."""

    index: NDArray[np.int32]
    value: Floats32


class Scratch:
    """Rooms kept between rounds, so that a round does not pay for fresh pages.

    Two selections at a time never share a room: who takes one owns it until it is given back.
    """

    def __init__(self) -> None:
        self._rooms: list[Pairs] = []

    def take(self, entries: int) -> Pairs:
        """A room of at least *entries*; one that is too small is let go."""
        try:
            room = self._rooms.pop()
        except IndexError:
            room = None
        if room is None or room.index.size < entries:
            room = Pairs(np.empty(entries, dtype=np.int32), np.empty(entries, dtype=np.float32))
        return room

    def give_back(self, rooms: list[Pairs]) -> None:
        """Keep *rooms* for the next round."""
        self._rooms = rooms[:_ROOMS]


def chunks_of(sizes: Sequence[int]) -> Chunks:
    """Layers of *sizes* entries in chunks of at most 2^15."""
    layers, starts, lengths = [], [], []
    for layer, size in enumerate(sizes):
        first = np.arange(0, size, _CHUNK, dtype=np.int64)
        starts.append(first)
        lengths.append(np.minimum(_CHUNK, size - first))
        layers.append(np.full(first.size, layer, dtype=np.int64))
    return Chunks(np.concatenate(layers), np.concatenate(starts), np.concatenate(lengths))


def chunk_of(chunks: Chunks, chunk: int) -> Chunks:
    """One chunk alone."""
    return Chunks(*(part[chunk : chunk + 1] for part in chunks))


def runs_of(work: Integers, threads: int) -> list[tuple[int, int]]:
    """Runs of chunks, one a thread, with about equal shares of *work*."""
    if threads == 1:
        return [(0, work.size)]
    ends = np.cumsum(work)
    shares = ends[-1] * np.arange(threads + 1) // threads
    cuts = np.searchsorted(ends, shares)
    cuts[0], cuts[-1] = 0, work.size
    return [(int(a), int(b)) for a, b in pairwise(cuts)]


def scan(
    sources: Sources,
    chunks: Chunks,
    wanted: Wanted,
    scratch: Scratch,
    *,
    expected: int,
    runs: Sequence[tuple[int, int]] | None = None,
) -> Candidates:
    """Keep the entries that are *wanted*.

    Where a layer has a residual, ``residual += update`` happens in the same pass, and the sum is
    what is read.

    Args:
        expected: about how many entries are kept; more is only slower.
        runs: the chunks of each thread, see `runs_of`; ``None`` for one thread.
    """
    size = chunks.layer.size
    found = Candidates(
        chunks,
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.float64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.uint32),
    )
    total = int(chunks.size.sum())

    def run(begin: int, end: int) -> list[Pairs]:
        rooms = []
        while begin < end:
            left = int(chunks.size[begin:end].sum())
            share = expected * left // total
            room = scratch.take(min(left, share + share // 8) + 2 * _CHUNK + LANES)
            rooms.append(room)
            begin = _scan_run(sources, found, begin, end, wanted, room)
        return rooms

    tasks = [partial(run, *part) for part in runs or [(0, size)]]
    found.memory = [room for rooms in in_parallel(tasks) for room in rooms]
    return found


def _scan_run(
    sources: Sources,
    found: Candidates,
    begin: int,
    end: int,
    wanted: Wanted,
    room: Pairs,
) -> int:
    return _scan_chunks(
        sources,
        found.chunks,
        begin,
        end,
        wanted,
        room,
        found.index_at,
        found.value_at,
        found.count,
        found.squares,
        found.ties,
        found.largest,
    )


@compiled
def _scan_chunks(
    sources: Sources,
    chunks: Chunks,
    begin: int,
    end: int,
    wanted: Wanted,
    room: Pairs,
    index_at: Integers,
    value_at: Integers,
    count: Integers,
    squares: Floats,
    ties: Integers,
    largest: Bits,
) -> int:
    """Scan chunks until the room is too small for another; the first one not scanned."""
    stats = np.empty(simd.STATS, dtype=np.float64)
    extremes = stats[LANES:].view(np.uint32)
    index, value = room.index.ctypes.data, room.value.ctypes.data
    used = 0
    for chunk in range(begin, end):
        layer, start, size = chunks.layer[chunk], chunks.start[chunk], chunks.size[chunk]
        if used + 2 * size + LANES > room.index.size:
            return chunk
        kept = _scan_one(
            sources.kind[layer],
            sources.address[layer],
            sources.residual[layer],
            start,
            size,
            wanted.low[chunk],
            NO_BITS,
            index + 4 * used,
            value + 4 * used,
            stats.ctypes.data,
        )
        index_at[chunk] = index + 4 * used
        value_at[chunk] = value + 4 * used
        count[chunk] = kept
        squares[chunk] = stats[:LANES].sum()
        largest[chunk] = extremes.max()
        if wanted.tie_low[chunk] < wanted.tie_high[chunk]:  # what it writes is not used
            summed = sources.residual[layer] != 0
            ties[chunk] = _scan_one(
                FLOAT32 if summed else sources.kind[layer],
                sources.residual[layer] if summed else sources.address[layer],
                0,
                start,
                size,
                wanted.tie_low[chunk],
                wanted.tie_high[chunk],
                index + 4 * (used + kept),
                value + 4 * (used + kept),
                stats.ctypes.data,
            )
        used += kept
    return end


@compiled
def _scan_one(
    kind: int,
    address: int,
    residual: int,
    start: int,
    size: int,
    low: int,
    high: int,
    index: int,
    value: int,
    stats: int,
) -> int:
    first = np.int32(start)
    low32 = np.uint32(low)
    span32 = np.uint32(high - low) if low < high else np.uint32(0)
    if residual != 0:
        old = residual + 4 * start
        if kind == FLOAT32:
            return simd.add_scan_float32(  # type: ignore[no-any-return]
                address + 4 * start, old, size, low32, span32, first, index, value, stats
            )
        if kind == FLOAT16:
            return simd.add_scan_float16(  # type: ignore[no-any-return]
                address + 2 * start, old, size, low32, span32, first, index, value, stats
            )
        return simd.add_scan_bfloat16(  # type: ignore[no-any-return]
            address + 2 * start, old, size, low32, span32, first, index, value, stats
        )
    if kind == FLOAT32:
        return simd.scan_float32(  # type: ignore[no-any-return]
            address + 4 * start, size, low32, span32, first, index, value, stats
        )
    if kind == FLOAT16:
        return simd.scan_float16(  # type: ignore[no-any-return]
            address + 2 * start, size, low32, span32, first, index, value, stats
        )
    return simd.scan_bfloat16(  # type: ignore[no-any-return]
        address + 2 * start, size, low32, span32, first, index, value, stats
    )


@compiled
def clear(values: Floats32, index: NDArray[np.int32]) -> None:
    """Set the entries at *index* to zero."""
    for place in index:
        values[place] = np.float32(0.0)
