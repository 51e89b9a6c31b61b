"""Sampled lines of an update and of its costs, their entries in the order of `Place`."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import simd
from cwmp.kernels.costed_places import weight_of
from cwmp.kernels.costed_reading import CostSources, read_line
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import Bits, Floats
from cwmp.kernels.radix import falling
from cwmp.kernels.sample import Lines, scale_of
from cwmp.kernels.scan import FLOAT32, Floats32, Integers, Sources
from cwmp.kernels.threads import in_parallel
from cwmp.kernels.vectors import LANES

NUMBER_BITS = 24
"""Low bits of a key, which hold an entry's number; the score's leading bits stand above."""

_LINE = LANES
_AHEAD = 24
_FIRST_ROOM = 2**13
_ALONE = 2**10


class Sampled(NamedTuple):
    """Entries of sampled lines, in the order of `Place`.

    Attributes:
        key: the score's leading bits, and the entry's number; falling.
        line, value, cost: the line it comes from, |g| and c, by its number.
        scale: how many entries of its layer an entry stands for; shape (L,).
    """

    key: Integers
    line: Integers
    value: Floats32
    cost: Bits
    scale: Floats


def by_position(lines: Lines) -> Integers:
    """The numbers of *lines* in the order of layers and positions."""
    order = np.lexsort((lines.start, lines.layer))
    return order.astype(np.int64)


def draw(
    sources: Sources,
    costs: CostSources,
    lines: Lines,
    position: Integers,
    sizes: Integers,
    test: NDArray[np.void],
    count: int,
    threads: int = 1,
) -> Sampled:
    """The entries of the first *count* lines that *test* keeps.

    Args:
        position: the lines' numbers by position; see `by_position`.
        sizes: entries of each layer.
        threads: how many read at a time; the sample does not depend on it.
    """
    chosen = position[position < count]
    parts = [
        partial(_draw, sources, costs, lines, part, test)
        for part in np.array_split(chosen, threads if count > _ALONE else 1)
    ]
    drawn = in_parallel(parts)
    starts = np.cumsum([0, *(part[0].size for part in drawn)])
    key = np.concatenate([x[0] + start for x, start in zip(drawn, starts, strict=False)])
    line, value, cost = (np.concatenate([x[column] for x in drawn]) for column in (1, 2, 3))
    key = _in_order(key, value.view(np.uint32))
    return Sampled(key, line, value, cost, scale_of(lines, count, sizes))


@compiled
def _draw(
    sources: Sources,
    costs: CostSources,
    lines: Lines,
    chosen: Integers,
    test: NDArray[np.void],
) -> tuple[Integers, Integers, Floats32, Bits]:
    """Key, line, |g| and c of the entries of the *chosen* lines that *test* keeps."""
    count = chosen.size
    room = min(_FIRST_ROOM, count * _LINE)
    key, line_of = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    size, charge = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.uint32)
    score = np.empty(1, dtype=np.float64)
    bits = score.view(np.int64)
    value = np.empty(_LINE, dtype=np.float32)
    cost = np.empty(_LINE, dtype=np.uint32)
    found = 0
    for place in range(count):
        _fetch(sources, costs, lines, chosen[min(place + _AHEAD, count - 1)])
        line = chosen[place]
        lanes = read_line(
            sources,
            costs,
            lines.layer[line],
            lines.start[line],
            lines.size[line],
            test.ctypes.data,
            value.ctypes.data,
            cost.ctypes.data,
        )
        if found + _LINE > room:
            room = min(2 * room, count * _LINE)
            key, line_of = _longer(key, room), _longer(line_of, room)
            size, charge = _longer(size, room), _longer(charge, room)
        lane = 0
        while lanes != 0:
            if lanes & 1:
                line_of[found], size[found], charge[found] = line, abs(value[lane]), cost[lane]
                score[0] = np.float64(size[found]) / weight_of(cost[lane], test[0].exponent)
                key[found] = (bits[0] >> NUMBER_BITS << NUMBER_BITS) | found
                found += 1
            lanes >>= 1
            lane += 1
    return key[:found], line_of[:found], size[:found], charge[:found]


@compiled
def _longer(array: NDArray[Any], room: int) -> NDArray[Any]:
    """A copy with *room* places."""
    longer = np.empty(room, dtype=array.dtype)
    longer[: array.size] = array
    return longer


@compiled
def _fetch(sources: Sources, costs: CostSources, lines: Lines, line: int) -> None:
    """Have a line on its way when its turn comes: lines lie far apart."""
    layer, start = lines.layer[line], lines.start[line]
    width = 4 if sources.kind[layer] == FLOAT32 else 2
    simd.prefetch(sources.address[layer] + width * start)
    simd.prefetch(costs.address[layer] + costs.width[layer] * start)


@compiled
def _in_order(keys: Integers, bits: Bits) -> Integers:
    """*keys* by falling score; equal ones by falling |g|, and then as they came."""
    keys = falling(keys, NUMBER_BITS)
    begin = 0
    while begin < keys.size:
        end = begin + 1
        while end < keys.size and keys[end] >> NUMBER_BITS == keys[begin] >> NUMBER_BITS:
            end += 1
        if end - begin > 1:
            run = keys[begin:end]
            mask = (1 << NUMBER_BITS) - 1
            own = np.empty(run.size, dtype=np.int64)
            for place in range(run.size):
                number = run[place] & mask
                own[place] = (np.int64(bits[number]) << NUMBER_BITS) | number
            own = falling(own, NUMBER_BITS)
            for place in range(run.size):
                run[place] = (run[place] & ~mask) | (own[place] & mask)
        begin = end
    return keys
