"""A sample of an update's cache lines and their costs: about where an integer budget ends.

As in `cwmp.kernels.sample`, nothing that is selected depends on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cwmp.kernels.costed_draw import NUMBER_BITS, Sampled, draw
from cwmp.kernels.costed_places import EVERYTHING, Place, point, weight_of
from cwmp.kernels.costed_reading import CostSources
from cwmp.kernels.costed_scan import CHUNK
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import NO_BITS
from cwmp.kernels.sample import Lines
from cwmp.kernels.scan import Integers, Sources
from cwmp.kernels.vectors import LANES

_LINE = LANES
_FIRST_LINES = 128
_MOST_LINES = 2**20
_DEVIATIONS = 4.5
_TIES = 4
_LESS = 1 - 2.0**-40
_SAMPLE_NS, _SORT_NS, _DOUBT_NS = 5.0, 15.0, 6.0
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


def costed_bracket(
    sources: Sources,
    costs: CostSources,
    lines: Lines,
    position: Integers,
    sizes: Integers,
    exponent: int,
    most: int,
    budget: int,
    threads: int = 1,
) -> Bracket:
    """Where falling score spends *budget*, give or take four and a half standard deviations.

    A small sample says what share of the entries the budget keeps; with it the size of the sample
    that costs least, as in `cwmp.kernels.sample`.

    Args:
        lines: as `cwmp.kernels.sample.lines_of` draws them.
        position: their numbers by position.
        sizes: entries of each layer.
        exponent: 0, 1 or 2 for weights 1, sqrt(c) and c.
        most: entries that cost more are left out.
        budget: in units of the costs.
        threads: how many read the sample.
    """
    where = (sources, costs, lines, position, sizes)
    test = point(EVERYTHING, exponent, most)
    available = min(lines.layer.size, _MOST_LINES)
    count = min(_FIRST_LINES, available)
    sample = draw(*where, test, count)
    wanted, crude = _finer(sample, lines, sizes, float(budget))
    if min(wanted, available) > count:
        test["outer"] = crude * crude * _LESS
        sample = draw(*where, test, int(min(wanted, available)), threads)
    else:
        crude = 0.0
    high, low, expected, doubtful = _ends(sample, lines, sizes, exponent, float(budget))
    return Bracket(_place(high), _place(low, crude / 2), int(expected), int(doubtful))


def _place(end: End, least: float = 0.0) -> Place:
    score, bits, cost, chunk, tied = end
    return Place(max(float(score), least), int(bits), int(cost), int(chunk), bool(tied))


@compiled
def _finer(sample: Sampled, lines: Lines, sizes: Integers, budget: float) -> tuple[float, float]:
    """How many lines a sample should have, and a score below which its entries do not matter."""
    reach = _reach(sample, lines, budget)
    kept = max(_estimate(sample, lines, 0, reach), 1.0)
    entries = sizes.sum()
    hit_ns = _SAMPLE_NS * entries / kept + _SORT_NS
    hits = (_DEVIATIONS * kept * _DOUBT_NS / hit_ns) ** (2 / 3)
    margin = reach + int(_DEVIATIONS * np.sqrt(reach)) + 16
    crude = _score(sample.key[margin]) if margin < sample.key.size else 0.0
    return hits * entries / kept / _LINE, crude


@compiled
def _ends(
    sample: Sampled, lines: Lines, sizes: Integers, exponent: int, budget: float
) -> tuple[End, End, float, float]:
    """Upper and lower end, entries expected and in doubt."""
    reach = _reach(sample, lines, budget)
    spread = 1 + _DEVIATIONS * _deviation(sample, lines, reach)
    inner = _reach(sample, lines, budget / spread)
    outer = _reach(sample, lines, budget * spread)
    high = (np.inf, NO_BITS, 0, 0, False)
    if inner > 0:
        high = _end(sample, lines, sizes, exponent, inner - 1)
        if not high[4]:
            high = (high[0], NO_BITS, 0, 0, False)
    low = (0.0, 0, 0, 0, False)
    if outer < sample.key.size:
        low = _end(sample, lines, sizes, exponent, outer)
        if not low[4]:
            low = (low[0], 0, 0, 0, False)
    expected = _estimate(sample, lines, 0, min(outer + 1, sample.key.size))
    return high, low, expected, _estimate(sample, lines, max(inner - 1, 0), outer)


@compiled
def _score(key: int) -> float:
    """The score of a key, its last digits cleared."""
    bits = np.empty(1, dtype=np.int64)
    bits[0] = key >> NUMBER_BITS << NUMBER_BITS
    return bits.view(np.float64)[0]


@compiled
def _number(sample: Sampled, place: int) -> int:
    return sample.key[place] & ((1 << NUMBER_BITS) - 1)


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
def _end(sample: Sampled, lines: Lines, sizes: Integers, exponent: int, place: int) -> End:
    """Score, |g| bits, cost and chunk of an entry, and whether others share its score."""
    key = sample.key[place]
    tied = 1
    for step in (-1, 1):
        other = place + step
        while 0 <= other < sample.key.size and tied < _TIES:
            if sample.key[other] >> NUMBER_BITS != key >> NUMBER_BITS:
                break
            tied += 1
            other += step
    number = _number(sample, place)
    line, cost = sample.line[number], sample.cost[number]
    chunk = lines.start[line] // CHUNK
    for layer in range(lines.layer[line]):
        chunk += (sizes[layer] + CHUNK - 1) // CHUNK
    score = np.float64(sample.value[number]) / weight_of(cost, exponent)
    bits = np.int64(sample.value.view(np.uint32)[number])
    return score, bits, np.int64(cost), chunk, tied >= _TIES
