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
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import NO_BITS, Bits, Floats
from cwmp.kernels.scan import FLOAT16, FLOAT32, Chunks, Floats32, Integers, Sources, runs_of
from cwmp.kernels.threads import MOST_THREADS, in_parallel

CHUNK = 2**15
"""Entries of a chunk, as `cwmp.kernels.scan.chunks_of` cuts them."""

_MARGIN = 2.0**-48
_NARROW, _NARROW_MARGIN = 2.0**-60, 2.0**-20
_ROOMS = 2 * MOST_THREADS


class CostSources(NamedTuple):
    """Where the entries' costs lie.

    Attributes:
        address: of each layer's first cost; shape (L,).
        width: bytes of a cost, 2 or 4; shape (L,).
    """

    address: Integers
    width: NDArray[np.int8]


class Place(NamedTuple):
    """A place in the order of entries: falling score |g| / w, then falling |g|, then position.

    The entry at a place is that of score *score* and |g| bits *bits* in chunk *chunk*; positions
    within a chunk are not told apart.

    Attributes:
        cost: of an entry that stands there, where there is one; else 0.
        exact: whether entries of the same score are told apart. Without it, the pass may keep
            entries that score a last digit less.
    """

    score: float
    bits: int
    cost: int
    chunk: int
    exact: bool


EVERYTHING = Place(0.0, 0, 0, 0, False)
"""Before it lie all entries but the zeros."""
NOTHING = Place(np.inf, NO_BITS, 0, 0, False)
"""Before it lies no entry."""


class Room(NamedTuple):
    """Memory of one run of chunks: candidates, and those of them that are in doubt.

    Attributes:
        index, value: the candidates.
        cost: the candidates of one chunk at a time; shape (CHUNK + LANES,).
        slot: which of its chunk's candidates each one in doubt is.
        doubt_value, doubt_cost, score: theirs.
    """

    index: NDArray[np.int32]
    value: Floats32
    cost: Bits
    slot: NDArray[np.int32]
    doubt_value: Floats32
    doubt_cost: Bits
    score: Floats


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
                np.empty(CHUNK + simd.LANES, dtype=np.uint32),
                np.empty(doubtful, dtype=np.int32),
                np.empty(doubtful, dtype=np.float32),
                np.empty(doubtful, dtype=np.uint32),
                np.empty(doubtful, dtype=np.float64),
            )
        return room

    def give_back(self, found: Costed) -> None:
        """Keep the rooms of a pass for the next round; its candidates are gone."""
        self._rooms = [room for room, _ in found.rooms[:_ROOMS]]


def point(place: Place, exponent: int, most: int) -> NDArray[np.void]:
    """*place* as `cwmp.kernels.simd_costed` reads it.

    Args:
        exponent: 0, 1 or 2 for weights 1, sqrt(c) and c.
        most: entries that cost more are left out.
    """
    record = np.zeros(1, dtype=simd_costed.POINT)
    square = place.score * place.score
    record["score"] = place.score
    record["outer"], record["inner"] = square * (1 - _MARGIN), square * (1 + _MARGIN)
    record["exponent"] = exponent
    record["pair_bits"], record["pair_cost"] = place.bits, place.cost
    record["cost_mask"] = 2**32 - 1 if exponent else 0
    record["most"] = most
    record["exact"] = place.exact
    if not place.exact and _NARROW <= place.score <= 1 / _NARROW:
        record["inverse"] = (1 + _NARROW_MARGIN) / place.score
    return record


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
    found = Costed(
        chunks,
        *(np.zeros(runs, dtype=np.int64) for _ in range(5)),
        np.zeros(runs, dtype=np.float64),
        np.zeros(runs, dtype=np.uint32),
    )
    high, low = (point(place, exponent, most) for place in bracket)
    total = int(chunks.size.sum())

    def run(begin: int, end: int) -> list[tuple[Room, int]]:
        rooms = []
        while begin < end:
            left = int(chunks.size[begin:end].sum())
            shares = (expected[0] * left // total, expected[1] * left // total)
            sizes = (min(left, share + share // 8) + CHUNK + simd.LANES for share in shares)
            room = scratch.take(*sizes)
            begin, doubtful = _scan_chunks(
                sources,
                costs,
                chunks,
                begin,
                end,
                bracket,
                high,
                low,
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
    high: NDArray[np.void],
    low: NDArray[np.void],
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
    extremes = stats[simd.LANES :].view(np.uint32)
    upper, lower = high.copy(), low.copy()
    paid = np.zeros(1, dtype=np.int64)
    exponent = high[0].exponent
    used, doubtful = 0, 0
    for chunk in range(begin, end):
        layer, start, size = chunks.layer[chunk], chunks.start[chunk], chunks.size[chunk]
        slack = size + simd.LANES
        if used + slack > room.index.size or doubtful + slack > room.slot.size:
            return chunk, doubtful
        index_at[chunk] = room.index.ctypes.data + 4 * used
        value_at[chunk] = room.value.ctypes.data + 4 * used
        lower[0].bits = bracket[1].bits + np.int64(chunk > bracket[1].chunk)
        upper[0].bits = bracket[0].bits + np.int64(chunk >= bracket[0].chunk)
        kept = _scan_one(
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
        squares[chunk] = stats[: simd.LANES].sum()
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
        used += kept
        doubtful += unsure
    return end, doubtful


@compiled
def weight_of(cost: int, exponent: int) -> float:
    """w, with |g| / w the score: 1, sqrt(c) or c for an exponent of 0, 1, 2."""
    wide = np.float64(cost)
    if exponent == 0:
        return 1.0
    return np.sqrt(wide) if exponent == 1 else wide  # type: ignore[no-any-return]


@compiled
def _scan_one(
    kind: int,
    width: int,
    address: int,
    costs: int,
    start: int,
    size: int,
    point: int,
    index: int,
    value: int,
    cost: int,
    stats: int,
) -> int:
    first = np.int32(start)
    source = address + (4 if kind == FLOAT32 else 2) * start
    charge = costs + width * start
    if width == 2:
        if kind == FLOAT32:
            return simd_costed.scan_float32_uint16(
                source, charge, size, point, first, index, value, cost, stats
            )
        if kind == FLOAT16:
            return simd_costed.scan_float16_uint16(
                source, charge, size, point, first, index, value, cost, stats
            )
        return simd_costed.scan_bfloat16_uint16(
            source, charge, size, point, first, index, value, cost, stats
        )
    if kind == FLOAT32:
        return simd_costed.scan_float32_uint32(
            source, charge, size, point, first, index, value, cost, stats
        )
    if kind == FLOAT16:
        return simd_costed.scan_float16_uint32(
            source, charge, size, point, first, index, value, cost, stats
        )
    return simd_costed.scan_bfloat16_uint32(
        source, charge, size, point, first, index, value, cost, stats
    )


@compiled
def read_line(
    sources: Sources,
    costs: CostSources,
    layer: int,
    start: int,
    size: int,
    test: int,
    value: int,
    cost: int,
) -> int:
    """At most 16 entries and their costs to *value* and *cost*; which *test* keeps, as bits."""
    source, charge, kind = sources.address[layer], costs.address[layer], sources.kind[layer]
    if costs.width[layer] == 2:
        if kind == FLOAT32:
            return simd_costed.gather_float32_uint16(source, charge, start, size, test, value, cost)
        if kind == FLOAT16:
            return simd_costed.gather_float16_uint16(source, charge, start, size, test, value, cost)
        return simd_costed.gather_bfloat16_uint16(source, charge, start, size, test, value, cost)
    if kind == FLOAT32:
        return simd_costed.gather_float32_uint32(source, charge, start, size, test, value, cost)
    if kind == FLOAT16:
        return simd_costed.gather_float16_uint32(source, charge, start, size, test, value, cost)
    return simd_costed.gather_bfloat16_uint32(source, charge, start, size, test, value, cost)
