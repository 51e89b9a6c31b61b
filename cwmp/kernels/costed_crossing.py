"""Where the order of entries spends an integer budget, exactly, and what is kept up to there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import carray
from numpy.typing import NDArray

from cwmp.kernels import simd
from cwmp.kernels.costed_places import Place, bin_scores
from cwmp.kernels.costed_scan import Costed, Room
from cwmp.kernels.jit import compiled
from cwmp.kernels.keep import Kept
from cwmp.kernels.magnitudes import NO_BITS, Bits, Floats
from cwmp.kernels.scan import Floats32, Integers, runs_of
from cwmp.kernels.threads import in_parallel
from cwmp.kernels.vectors import LANES

_FEW = 64
_BINS = 2048
_ALONE = 2**17
_MAGNITUDE = np.uint32(0x7FFFFFFF)


class Doubtful(NamedTuple):
    """Entries in doubt, in the order of positions; all of one shape.

    Attributes:
        score: |g| / w.
        bits: of g.
        cost: in units of the costs.
        number: of an entry among all in doubt.
    """

    score: Floats
    bits: Bits
    cost: Bits
    number: Integers


@dataclass(frozen=True)
class Crossing:
    """The first entry that the budget does not pay for, and the cost of those before it.

    Attributes:
        spent: cost of all entries before it.
        number: which of the entries in doubt it is; -1 where all candidates can be paid.
        next: its score, |g| bits, cost and chunk; ``None`` where there is none.
    """

    spent: int
    number: int = -1
    next: Place | None = None


def crossing(found: Costed, budget: int) -> Crossing:
    """The end of the longest prefix within *budget*.

    Returns:
        An entry in doubt where the budget ends among them. ``spent`` is above the budget where what
        is surely before them does not fit.
    """
    spent = int(found.sure_cost.sum())
    if spent > budget:
        return Crossing(spent)
    sums = np.sum([room.sums for room, _ in found.rooms], axis=0)[::-1]
    paid = np.cumsum(sums)
    place = int(np.searchsorted(paid, budget - spent, side="right"))
    if place == sums.size:
        return Crossing(spent + int(paid[-1]))
    spent += int(paid[place] - sums[place])
    entries = _within(found, sums.size - 1 - place)
    place, cost = _crossing(entries, budget - spent)
    number = int(entries.number[place])
    following = Place(
        float(entries.score[place]),
        int(entries.bits[place] & _MAGNITUDE),
        int(entries.cost[place]),
        int(np.searchsorted(np.cumsum(found.doubt), number, side="right")),
        True,
    )
    return Crossing(spent + int(cost), number, following)


def _within(found: Costed, place: int) -> Doubtful:
    """The entries in doubt that one bin holds."""
    low, high = bin_scores(found.bins, place)
    parts, begin = [], 0
    for room, size in found.rooms:
        score = room.score[:size]
        slots = np.flatnonzero((score >= low) & (score < high))
        bits = room.doubt_value[slots].view(np.uint32)
        parts.append((score[slots], bits, room.doubt_cost[slots], slots + begin))
        begin += size
    return Doubtful(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def collect(found: Costed, end: Crossing, threads: int = 1) -> Kept:
    """The candidates before the entry at *end*; all of them where there is none."""
    counts = found.count.copy()
    if end.next is not None:
        last, begin = (end.next.score, end.next.bits, end.number), 0
        tasks = []
        for room, size in found.rooms:
            tasks.append(
                partial(_drop, room, size, begin, last, found.doubt, found.value_at, counts)
            )
            begin += size
        in_parallel(tasks)
    offsets = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    total = int(offsets[-1])
    memory = np.empty(2 * total, dtype=np.int32)  # one piece: fewer and larger pages
    index, value = memory[:total], memory[total:].view(np.float32)
    squares = np.zeros(counts.size)
    source = (found.index_at, found.value_at, found.count, offsets)
    cuts = runs_of(found.count, threads if found.kept > _ALONE else 1)
    in_parallel([partial(_copy, *source, *run, index, value, squares) for run in cuts])
    layer = found.chunks.layer
    layers = int(layer[-1]) + 1
    ends = np.zeros(layers + 1, dtype=np.int64)
    ends[1:] = offsets[np.searchsorted(layer, np.arange(layers), side="right")]
    captured = np.bincount(layer, weights=squares, minlength=layers)
    return Kept(index, value, ends, captured)


@compiled
def _crossing(entries: Doubtful, left: int) -> tuple[int, int]:
    """The first entry that *left* does not pay for, -1 for none, and the cost of those before.

    Each round adds up costs in bins of the score, or of |g| where all have one score, and keeps
    the bin in which the budget ends. A few rounds leave `_FEW` entries, or entries that only their
    positions tell apart.
    """
    total = np.int64(0)
    for cost in entries.cost:
        total += cost
    if total <= left:
        return -1, total
    paid = np.int64(0)
    live = np.arange(entries.score.size)
    if live.size > _FEW:
        keys = entries.score.view(np.int64)
        live, paid = _narrow(keys, entries.cost, live, left, paid)
    if live.size > _FEW:
        keys = np.empty(live.size, dtype=np.int64)
        for number in range(live.size):
            keys[number] = entries.bits[live[number]] & _MAGNITUDE
        live, paid = _narrow(keys, entries.cost[live], live, left, paid)
    if live.size > _FEW:
        for place in live:
            if paid + entries.cost[place] > left:
                return place, paid
            paid += entries.cost[place]
    taken = np.zeros(live.size, dtype=np.bool_)
    while True:
        best = -1
        for number in range(live.size):
            if not taken[number] and (best < 0 or _before(entries, live[number], live[best])):
                best = number
        place = live[best]
        if paid + entries.cost[place] > left:
            return place, paid
        paid += entries.cost[place]
        taken[best] = True


@compiled
def _before(entries: Doubtful, one: int, two: int) -> bool:
    """Whether entry *one* comes before entry *two*."""
    if entries.score[one] != entries.score[two]:
        return entries.score[one] > entries.score[two]
    size, other = entries.bits[one] & _MAGNITUDE, entries.bits[two] & _MAGNITUDE
    return size > other if size != other else one < two


@compiled
def _narrow(
    keys: Integers, cost: Bits, place: Integers, left: int, paid: int
) -> tuple[Integers, int]:
    """Places among which the budget ends, few or of one key, and the cost of those before them."""
    while keys.size > _FEW:
        least = keys.min()
        shift, width = 0, keys.max() - least
        if width == 0:
            break
        while width >> shift >= _BINS:
            shift += 1
        sums = np.zeros(_BINS, dtype=np.int64)
        for number in range(keys.size):
            sums[(keys[number] - least) >> shift] += cost[number]
        ends = _BINS - 1
        while paid + sums[ends] <= left:
            paid += sums[ends]
            ends -= 1
        chosen = np.empty(keys.size, dtype=np.int64)
        size = 0
        for number in range(keys.size):
            chosen[size] = number
            size += np.int64((keys[number] - least) >> shift == ends)
        chosen = chosen[:size]
        keys, cost, place = keys[chosen], cost[chosen], place[chosen]
    return place, paid


@compiled
def _drop(
    room: Room,
    size: int,
    begin: int,
    last: tuple[float, int, int],
    doubt: Integers,
    value_at: Integers,
    counts: Integers,
) -> None:
    """Zero what is not before the entry *last* among the candidates, and count it off.

    Args:
        room, size: the entries in doubt of some chunks, the first of them number *begin*.
        last: score, |g| bits and number.
    """
    score, bits, number = last
    raw = room.doubt_value.view(np.uint32)
    chunk, done = 0, 0
    while done < begin:
        done += doubt[chunk]
        chunk += 1
    slot = 0
    while slot < size:
        end = slot + doubt[chunk]
        if end > slot:
            value = carray(simd.pointer_float32(value_at[chunk]), (room.slot[end - 1] + 1,))
        kept = 0
        for other in range(slot, end):
            own, rank = raw[other] & _MAGNITUDE, room.score[other]  # no branch: they mix evenly
            level = (own > bits) | ((own == bits) & (begin + other < number))
            before = (rank > score) | ((rank == score) & level)
            value[room.slot[other]] *= np.float32(before)
            kept += np.int64(before)
        counts[chunk] -= doubt[chunk] - kept
        slot = end
        chunk += 1


@compiled
def _copy(
    index_at: Integers,
    value_at: Integers,
    count: Integers,
    offsets: Integers,
    begin: int,
    end: int,
    index: NDArray[np.int32],
    value: Floats32,
    squares: Floats,
) -> None:
    """The candidates that are not zero, and their sums of g^2."""
    stats = np.empty(simd.STATS, dtype=np.float64)
    for chunk in range(begin, end):
        place = offsets[chunk]
        if place == offsets[chunk + 1]:
            continue
        simd.compact(
            index_at[chunk],
            value_at[chunk],
            count[chunk],
            np.uint32(1),
            np.uint32(NO_BITS - 1),
            index.ctypes.data + 4 * place,
            value.ctypes.data + 4 * place,
            offsets[end] - place,
            stats.ctypes.data,
        )
        squares[chunk] = stats[:LANES].sum()
