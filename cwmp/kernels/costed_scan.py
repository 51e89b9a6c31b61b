"""One pass over an update whose entries each have a cost: candidates, and where each stands.

As in `cwmp.kernels.scan`, an update and its costs stay where they are, chunks have fixed borders,
and what a chunk yields is its own, so that nothing depends on the number of threads. Costs are
integers and are added as integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import simd, simd_costed
from cwmp.kernels.costed_places import BINS, Place, bin_of, point, score_bins, weight_of
from cwmp.kernels.costed_reading import CostSources, scan_entries
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import Bits, Floats
from cwmp.kernels.scan import Chunks, Floats32, Integers, Sources, runs_of
from cwmp.kernels.threads import MOST_THREADS, in_parallel
from cwmp.kernels.vectors import LANES

CHUNK = 2**15
"""Entries of a chunk, as `cwmp.kernels.scan.chunks_of` cuts them."""

_ROOMS = 2 * MOST_THREADS


class Room(NamedTuple):
    """Memory of one run of chunks: candidates, and those of them that are in doubt.

    Attributes:
        index, value: the candidates.
        cost: the candidates of one chunk at a time; shape (CHUNK + LANES,).
        slot: which of its chunk's candidates each one in doubt is.
        doubt_value, doubt_cost, score: theirs.
        sums: their costs added up by `bin_of` the score; shape (BINS,).
    """

    index: NDArray[np.int32]
    value: Floats32
    cost: Bits
    slot: NDArray[np.int32]
    doubt_value: Floats32
    doubt_cost: Bits
    score: Floats
    sums: Integers


@dataclass
class Costed:
    """What a pass has found, chunk by chunk; all shape (C,) but *rooms*.

    Attributes:
        chunks: the chunks.
        index_at, value_at: addresses of each chunk's first candidate.
        count: its candidates.
        doubt: those of them that are not surely before the bracket's upper end.
        sure_cost: the cost of the others.
        squares: sum of g^2 over everything in the chunk.
        largest: bits of the chunk's largest magnitude; above `simd.INFINITY_BITS` for NaN.
        bins: of the scores in doubt; see `bin_of`.
        rooms: the memory that the addresses point into, with the number in doubt that each
            holds, in the order of the chunks.
    """

    chunks: Chunks
    index_at: Integers
    value_at: Integers
    count: Integers
    doubt: Integers
    sure_cost: Integers
    squares: Floats
    largest: Bits
    bins: tuple[int, int]
    rooms: list[tuple[Room, int]] = field(default_factory=list)

    @property
    def kept(self) -> int:
        return int(self.count.sum())


class CostedScratch:
    """Rooms kept between rounds, so that a round does not pay for fresh pages."""

    def __init__(self) -> None:
        self._rooms: list[Room] = []

    def take(self, entries: int, doubtful: int) -> Room:
        """A room of at least *entries* candidates, *doubtful* of them in doubt."""
        try:
            room = self._rooms.pop()
        except IndexError:
            room = None
        if room is None or room.index.size < entries or room.slot.size < doubtful:
            room = Room(
                np.empty(entries, dtype=np.int32),
                np.empty(entries, dtype=np.float32),
                np.empty(CHUNK + LANES, dtype=np.uint32),
                np.empty(doubtful, dtype=np.int32),
                np.empty(doubtful, dtype=np.float32),
                np.empty(doubtful, dtype=np.uint32),
                np.empty(doubtful, dtype=np.float64),
                np.empty(BINS, dtype=np.int64),
            )
        return room

    def give_back(self, found: Costed) -> None:
        """Keep the rooms of a pass for the next round; its candidates are gone."""
        self._rooms = [room for room, _ in found.rooms[:_ROOMS]]


def scan_costed(
    sources: Sources,
    costs: CostSources,
    chunks: Chunks,
    bracket: tuple[Place, Place],
    exponent: int,
    most: int,
    scratch: CostedScratch,
    *,
    expected: tuple[int, int],
    threads: int = 1,
) -> Costed:
    """Keep the entries up to the lower place of *bracket*, and split off those before the upper.

    Args:
        bracket: the upper place, then the lower.
        expected: about how many entries are kept, and how many of these are in doubt; more is
            only slower.
    """
    runs = chunks.layer.size
    index_at, value_at, count, doubt, sure_cost = np.zeros((5, runs), dtype=np.int64)
    squares, largest = np.zeros(runs), np.zeros(runs, dtype=np.uint32)
    bins = score_bins(bracket)
    found = Costed(chunks, index_at, value_at, count, doubt, sure_cost, squares, largest, bins)
    high, low = (point(place, exponent, most) for place in bracket)
    total = int(chunks.size.sum())

    def run(begin: int, end: int) -> list[tuple[Room, int]]:
        rooms = []
        while begin < end:
            left = int(chunks.size[begin:end].sum())
            shares = (expected[0] * left // total, expected[1] * left // total)
            sizes = (min(left, share + share // 8) + CHUNK + LANES for share in shares)
            room = scratch.take(*sizes)
            begin, doubtful = _scan_chunks(
                sources,
                costs,
                chunks,
                begin,
                end,
                bracket,
                (high, low),
                bins,
                room,
                found.index_at,
                found.value_at,
                found.count,
                found.doubt,
                found.sure_cost,
                found.squares,
                found.largest,
            )
            rooms.append((room, doubtful))
        return rooms

    tasks = [partial(run, *part) for part in runs_of(chunks.size, threads)]
    found.rooms = [room for rooms in in_parallel(tasks) for room in rooms]
    return found


@compiled
def _scan_chunks(
    sources: Sources,
    costs: CostSources,
    chunks: Chunks,
    begin: int,
    end: int,
    bracket: tuple[Place, Place],
    points: tuple[NDArray[np.void], NDArray[np.void]],
    bins: tuple[int, int],
    room: Room,
    index_at: Integers,
    value_at: Integers,
    count: Integers,
    doubt: Integers,
    sure_cost: Integers,
    squares: Floats,
    largest: Bits,
) -> tuple[int, int]:
    """Scan chunks until the room is too small for another.

    Returns:
        The first chunk not scanned, and the number of entries in doubt.
    """
    stats = np.empty(simd.STATS, dtype=np.float64)
    extremes = stats[LANES:].view(np.uint32)
    upper, lower = points[0].copy(), points[1].copy()
    paid = np.zeros(1, dtype=np.int64)
    exponent = upper[0].exponent
    keys = room.score.view(np.int64)
    room.sums[:] = 0
    used, doubtful = 0, 0
    for chunk in range(begin, end):
        layer, start, size = chunks.layer[chunk], chunks.start[chunk], chunks.size[chunk]
        slack = size + LANES
        if used + slack > room.index.size or doubtful + slack > room.slot.size:
            return chunk, doubtful
        index_at[chunk] = room.index.ctypes.data + 4 * used
        value_at[chunk] = room.value.ctypes.data + 4 * used
        lower[0].bits = bracket[1].bits + np.int64(chunk > bracket[1].chunk)
        upper[0].bits = bracket[0].bits + np.int64(chunk >= bracket[0].chunk)
        kept = scan_entries(
            sources.kind[layer],
            costs.width[layer],
            sources.address[layer],
            costs.address[layer],
            start,
            size,
            lower.ctypes.data,
            index_at[chunk],
            value_at[chunk],
            room.cost.ctypes.data,
            stats.ctypes.data,
        )
        count[chunk] = kept
        squares[chunk] = stats[:LANES].sum()
        largest[chunk] = extremes.max()
        unsure = simd_costed.split(
            value_at[chunk],
            room.cost.ctypes.data,
            kept,
            upper.ctypes.data,
            room.slot.ctypes.data + 4 * doubtful,
            room.doubt_value.ctypes.data + 4 * doubtful,
            room.doubt_cost.ctypes.data + 4 * doubtful,
            paid.ctypes.data,
        )
        doubt[chunk] = unsure
        sure_cost[chunk] = paid[0]
        for slot in range(doubtful, doubtful + unsure):
            weight = weight_of(room.doubt_cost[slot], exponent)
            room.score[slot] = np.float64(abs(room.doubt_value[slot])) / weight
        for slot in range(doubtful, doubtful + unsure):
            room.sums[bin_of(keys[slot], bins)] += room.doubt_cost[slot]
        used += kept
        doubtful += unsure
    return end, doubtful
