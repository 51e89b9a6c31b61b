"""A sample of an update's cache lines and their costs: about where an integer budget ends.

As in `cwmp.kernels.sample`, nothing that is selected depends on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import simd
from cwmp.kernels.costed_scan import (
    CHUNK,
    EVERYTHING,
    CostSources,
    Place,
    point,
    read_line,
    weight_of,
)
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import NO_BITS, Bits, Floats
from cwmp.kernels.sample import Lines, scale_of
from cwmp.kernels.scan import FLOAT32, Floats32, Integers, Sources

_LINE = simd.LANES
_FIRST_LINES = 128
_MOST_LINES = 2**20
_AHEAD = 16
_DEVIATIONS = 4.5
_NUMBER_BITS = 24
_DIGIT_BITS = 11
_TIES = 4
_INSERTION = 64
_LESS = 1 - 2.0**-40
_SAMPLE_NS, _SORT_NS, _DOUBT_NS = 4.0, 12.0, 10.0
"""About what an entry sampled, a hit sorted and an entry in doubt cost: they set the sample's size,
and nothing else."""


End = tuple[float, int, int, int, bool]


class Bracket(NamedTuple):
    """Places between which the budget ends, most probably.

    Attributes:
        high, low: what comes before *high* is kept, what comes after *low* is not.
        expected: about how many entries come before *low*.
        doubtful: about how many of these come after *high*.
    """

    high: Place
    low: Place
    expected: int
    doubtful: int


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


def costed_bracket(
    sources: Sources,
    costs: CostSources,
    lines: Lines,
    position: Integers,
    sizes: Integers,
    exponent: int,
    most: int,
    budget: int,
) -> Bracket:
    """Where falling score spends *budget*, give or take four and a half standard deviations.

    Args:
        lines: as `cwmp.kernels.sample.lines_of` draws them.
        position: their numbers by position.
        sizes: entries of each layer.
        exponent: 0, 1 or 2 for weights 1, sqrt(c) and c.
        most: entries that cost more are left out.
        budget: in units of the costs.
    """
    every = point(EVERYTHING, exponent, most)
    ends, expected, doubtful = _bracket(
        sources, costs, lines, position, sizes, every, float(budget)
    )
    return Bracket(_place(ends[0]), _place(ends[1]), int(expected), int(doubtful))


def _place(end: tuple[float, int, int, int, bool]) -> Place:
    score, bits, cost, chunk, tied = end
    return Place(float(score), int(bits), int(cost), int(chunk), bool(tied))


@compiled
def _bracket(
    sources: Sources,
    costs: CostSources,
    lines: Lines,
    position: Integers,
    sizes: Integers,
    test: NDArray[np.void],
    budget: float,
) -> tuple[tuple[End, End], float, float]:
    """Upper and lower end, entries expected and in doubt.

    A small sample says what share of the entries the budget keeps; with it the size of the sample
    that costs least, as in `cwmp.kernels.sample`.
    """
    available = min(lines.layer.size, _MOST_LINES)
    count = min(_FIRST_LINES, available)
    sample = _draw(sources, costs, lines, position, sizes, test, count)
    reach = _reach(sample, lines, budget)
    kept = max(_estimate(sample, lines, 0, reach), 1.0)
    entries = sizes.sum()
    hit_ns = _SAMPLE_NS * entries / kept + _SORT_NS
    hits = (_DEVIATIONS * kept * _DOUBT_NS / hit_ns) ** (2 / 3)
    wanted = min(available, int(hits * entries / kept / _LINE))
    crude = 0.0
    if wanted > count:
        margin = reach + int(_DEVIATIONS * np.sqrt(reach)) + 16
        if margin < sample.key.size:
            crude = _score(sample.key[margin])
        finer = test.copy()
        finer[0].outer = crude * crude * _LESS
        sample = _draw(sources, costs, lines, position, sizes, finer, wanted)
        reach = _reach(sample, lines, budget)
    spread = 1 + _DEVIATIONS * _deviation(sample, lines, reach)
    inner = _reach(sample, lines, budget / spread)
    outer = _reach(sample, lines, budget * spread)
    high = (np.inf, NO_BITS, 0, 0, False)
    if inner > 0:
        high = _end(sample, lines, sizes, test, inner - 1)
        if not high[4]:
            high = (high[0], NO_BITS, 0, 0, False)
    low = (crude / 2, 0, 0, 0, False)
    if outer < sample.key.size:
        low = _end(sample, lines, sizes, test, outer)
        if not low[4]:
            low = (low[0], 0, 0, 0, False)
    expected = _estimate(sample, lines, 0, min(outer + 1, sample.key.size))
    return (high, low), expected, _estimate(sample, lines, max(inner - 1, 0), outer)


@compiled
def _draw(
    sources: Sources,
    costs: CostSources,
    lines: Lines,
    position: Integers,
    sizes: Integers,
    test: NDArray[np.void],
    count: int,
) -> Sampled:
    """The entries of the first *count* lines that *test* keeps."""
    room = count * _LINE
    key, line_of = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    size, charge = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.uint32)
    drawn = np.empty(count, dtype=np.int64)
    found = 0
    for line in position:
        if line < count:
            drawn[found] = line
            found += 1
    score = np.empty(1, dtype=np.float64)
    bits = score.view(np.int64)
    value = np.empty(_LINE, dtype=np.float32)
    cost = np.empty(_LINE, dtype=np.uint32)
    found = 0
    for place in range(count):
        _fetch(sources, costs, lines, drawn[min(place + _AHEAD, count - 1)])
        line = drawn[place]
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
        lane = 0
        while lanes != 0:
            if lanes & 1:
                line_of[found], size[found], charge[found] = line, abs(value[lane]), cost[lane]
                score[0] = np.float64(size[found]) / weight_of(cost[lane], test[0].exponent)
                key[found] = (bits[0] >> _NUMBER_BITS << _NUMBER_BITS) | found
                found += 1
            lanes >>= 1
            lane += 1
    scale = scale_of(lines, count, sizes)
    return Sampled(_in_order(key[:found], size.view(np.uint32)), line_of, size, charge, scale)


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
    keys = _falling(keys)
    begin = 0
    while begin < keys.size:
        end = begin + 1
        while end < keys.size and keys[end] >> _NUMBER_BITS == keys[begin] >> _NUMBER_BITS:
            end += 1
        if end - begin > 1:
            run = keys[begin:end]
            mask = (1 << _NUMBER_BITS) - 1
            own = np.empty(run.size, dtype=np.int64)
            for place in range(run.size):
                number = run[place] & mask
                own[place] = (np.int64(bits[number]) << _NUMBER_BITS) | number
            own = _falling(own)
            for place in range(run.size):
                run[place] = (run[place] & ~mask) | (own[place] & mask)
        begin = end
    return keys


@compiled
def _falling(keys: Integers) -> Integers:
    """*keys* by what stands above their number, falling; equal ones stay as they came."""
    if keys.size < 2:
        return keys
    least, most = keys.min() >> _NUMBER_BITS, keys.max() >> _NUMBER_BITS
    if keys.size <= _INSERTION:
        for place in range(1, keys.size):
            key, at = keys[place], place
            while at > 0 and keys[at - 1] >> _NUMBER_BITS < key >> _NUMBER_BITS:
                keys[at] = keys[at - 1]
                at -= 1
            keys[at] = key
        return keys
    other = np.empty_like(keys)
    digits = 1 << _DIGIT_BITS
    shift = 0
    while (most - least) >> shift > 0:
        ends = np.zeros(digits + 1, dtype=np.int64)
        for key in keys:
            ends[(((most - (key >> _NUMBER_BITS)) >> shift) & (digits - 1)) + 1] += 1
        for digit in range(digits):
            ends[digit + 1] += ends[digit]
        for key in keys:
            digit = ((most - (key >> _NUMBER_BITS)) >> shift) & (digits - 1)
            other[ends[digit]] = key
            ends[digit] += 1
        keys, other = other, keys
        shift += _DIGIT_BITS
    return keys


@compiled
def _score(key: int) -> float:
    """The score of a key, its last digits cleared."""
    bits = np.empty(1, dtype=np.int64)
    bits[0] = key >> _NUMBER_BITS << _NUMBER_BITS
    return bits.view(np.float64)[0]


@compiled
def _number(sample: Sampled, place: int) -> int:
    return sample.key[place] & ((1 << _NUMBER_BITS) - 1)


@compiled
def _joules(sample: Sampled, lines: Lines, place: int) -> float:
    """The cost that the entry at *place* stands for."""
    number = _number(sample, place)
    return np.float64(sample.cost[number]) * sample.scale[lines.layer[sample.line[number]]]


@compiled
def _reach(sample: Sampled, lines: Lines, budget: float) -> int:
    """How many of the sample's first entries stand for no more than *budget*."""
    spent = 0.0
    for place in range(sample.key.size):
        spent += _joules(sample, lines, place)
        if spent > budget:
            return place
    return sample.key.size


@compiled
def _estimate(sample: Sampled, lines: Lines, begin: int, end: int) -> float:
    """How many entries of the update those from *begin* to *end* stand for."""
    total = 0.0
    for place in range(begin, end):
        total += sample.scale[lines.layer[sample.line[_number(sample, place)]]]
    return total


@compiled
def _deviation(sample: Sampled, lines: Lines, reach: int) -> float:
    """Relative standard deviation of the cost of the first *reach*, from line to line.

    Layers that were read whole deviate by nothing.
    """
    load = np.zeros(lines.layer.size, dtype=np.float64)
    total = 0.0
    for place in range(reach):
        line = sample.line[_number(sample, place)]
        cost = _joules(sample, lines, place)
        total += cost
        if sample.scale[lines.layer[line]] > 1:
            load[line] += cost
    return np.sqrt((load * load).sum()) / total if total > 0 else 0.0


@compiled
def _end(sample: Sampled, lines: Lines, sizes: Integers, test: NDArray[np.void], place: int) -> End:
    """Score, |g| bits, cost and chunk of an entry, and whether others share its score."""
    key = sample.key[place]
    tied = 1
    for step in (-1, 1):
        other = place + step
        while 0 <= other < sample.key.size and tied < _TIES:
            if sample.key[other] >> _NUMBER_BITS != key >> _NUMBER_BITS:
                break
            tied += 1
            other += step
    number = _number(sample, place)
    line, cost = sample.line[number], sample.cost[number]
    chunk = lines.start[line] // CHUNK
    for layer in range(lines.layer[line]):
        chunk += (sizes[layer] + CHUNK - 1) // CHUNK
    score = np.float64(sample.value[number]) / weight_of(cost, test[0].exponent)
    bits = np.int64(sample.value.view(np.uint32)[number])
    return score, bits, np.int64(cost), chunk, tied >= _TIES
