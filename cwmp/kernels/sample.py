"""A sample of an update's cache lines, to say about where a budget ends before the pass.

Nothing that is selected depends on the sample: it proposes an interval of scores, the pass and
`cwmp.kernels.crossing` find the exact place, and where the interval misses it a wider one follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cwmp.kernels import simd
from cwmp.kernels.energy import EnergyTable, message_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import Floats, threshold_bits
from cwmp.kernels.radix import falling
from cwmp.kernels.scan import FLOAT16, FLOAT32, Floats32, Integers, Sources
from cwmp.kernels.vectors import LANES

_LINE = LANES
_FIRST_LINES = 128
_MOST_LINES = 2**15
_LEAST_LINES = 4
_SHARE = 12
_DEVIATIONS = 4.5
_NUMBER_BITS = 20
_AHEAD = 24
_SEED = 20260322
TIE_WIDTH = 2.0 ** (_NUMBER_BITS - 51)
"""By how much, relative to it, a score can lie above what `Bracket.tied` says."""
_SAMPLE_NS, _SORT_NS, _DOUBT_NS = 1.5, 8.0, 8.0
"""About what an entry sampled, a hit sorted and an entry in doubt cost: they set the sample's size,
and nothing else."""


class Lines(NamedTuple):
    """Which lines are read, in an order whose every beginning is a sample itself; shape (M,).

    Attributes:
        layer, start: where each line begins.
        size: its entries, 16 but in small layers and at their ends.
    """

    layer: Integers
    start: Integers
    size: Integers


@dataclass(frozen=True)
class Bracket:
    """Scores between which the budget ends, most probably.

    Attributes:
        low, high: what scores below *low* is not kept, what scores *high* or more is; 0 and
            infinity where the sample cannot say.
        expected: about how many entries score *low* or more.
        tied: a score in between that very many entries have, but for its last digits; else 0.
    """

    low: float
    high: float
    expected: int
    tied: float = 0.0


def lines_of(sizes: Sequence[int]) -> Lines:
    """Lines spread evenly over each layer with a random phase; small layers whole.

    A layer gets lines by its size, at least four. There is about one line in twelve at most,
    so that the sample stays cheap beside the pass, and 2^15 in all or so.
    """
    generator = np.random.default_rng(_SEED)
    total = sum(sizes)
    budget = min(_MOST_LINES, max(_FIRST_LINES, total // (_LINE * _SHARE)))
    layers, starts, lengths, turns = [], [], [], []
    for layer, size in enumerate(sizes):
        whole = -(-size // _LINE)
        count = min(whole, max(_LEAST_LINES, round(budget * size / total)))
        stratum = np.arange(count)
        place = stratum if count == whole else stratum + generator.random(count)
        start = (place * whole / count).astype(np.int64) * _LINE
        layers.append(np.full(count, layer, dtype=np.int64))
        starts.append(start)
        lengths.append(np.minimum(_LINE, size - start))
        turns.append((generator.permutation(count) + 0.5) / count)
    order = np.argsort(np.concatenate(turns), kind="stable")
    return Lines(*(np.concatenate(x)[order] for x in (layers, starts, lengths)))


def bracket(
    sources: Sources,
    lines: Lines,
    weights: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> Bracket:
    """Where falling |g| / w_l spends *budget_j*, give or take five standard deviations.

    The deviation is that of the joules that the lines hold: lines are drawn, not entries, so
    that neighbours which are large together widen it. Layers with an infinite weight are closed.
    """
    low, high, expected, tied = _bracket(sources, lines, weights, table, message_j, budget_j)
    return Bracket(low, high, int(expected), tied)


@compiled
def _bracket(
    sources: Sources,
    lines: Lines,
    weights: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> tuple[float, float, float, float]:
    """Low and high score, entries expected, and a score that very many entries share.

    A small sample says what share of the entries the budget keeps; with it the size of the
    sample that costs least, its own reading and the entries it leaves in doubt together: for
    h hits of K kept entries at density d, h (a / d + b) + 2 z K c / sqrt(h) is least at
    h = (z K c / (a / d + b))^(2/3).
    """
    sizes = table.parameters
    count = min(_FIRST_LINES, lines.layer.size)
    scale = scale_of(lines, count, sizes)
    keys = falling(_keys(sources, lines, count, weights, 0.0), _NUMBER_BITS)
    reach = _longest(keys, lines, scale, table, message_j, budget_j, keys.size)
    kept = max(_estimate(keys[:reach], lines, scale), 1.0)
    entries = sizes.sum()
    hit_ns = _SAMPLE_NS * entries / kept + _SORT_NS
    hits = (_DEVIATIONS * kept * _DOUBT_NS / hit_ns) ** (2 / 3)
    wanted = min(lines.layer.size, int(hits * entries / kept / _LINE))
    crude = 0.0
    if wanted > count:
        margin = reach + int(_DEVIATIONS * np.sqrt(reach)) + 16
        if margin < keys.size:
            crude = _score(keys[margin])
        scale = scale_of(lines, wanted, sizes)
        keys = falling(_keys(sources, lines, wanted, weights, crude), _NUMBER_BITS)
        reach = _longest(keys, lines, scale, table, message_j, budget_j, keys.size)
    spread = 1 + _DEVIATIONS * _deviation(keys[:reach], lines, scale, weights)
    inner = _longest(keys, lines, scale * spread, table, message_j, budget_j, reach)
    outer = _longest(keys, lines, scale / spread, table, message_j, budget_j, keys.size)
    low = _score(keys[outer]) if outer < keys.size else crude / 2
    high = _score(keys[inner - 1]) if inner else np.inf
    tied = _tied(keys, inner, outer, reach)
    return low, high, _estimate(keys[: outer + 1], lines, scale), tied


@compiled
def _score(key: int) -> float:
    """The score of a key, its low bits cleared."""
    bits = np.empty(1, dtype=np.int64)
    bits[0] = key >> _NUMBER_BITS << _NUMBER_BITS
    return bits.view(np.float64)[0]  # type: ignore[no-any-return]


@compiled
def _line(key: int) -> int:
    return key & ((1 << _NUMBER_BITS) - 1)


@compiled
def _tied(keys: Integers, inner: int, outer: int, reach: int) -> float:
    """The score around the end of the budget that most entries share; 0 unless very many do.

    Very many are more than twice what is kept: to collect those would cost more memory than
    the rest of the search.
    """
    enough, score = 2 * reach + 64, 0.0
    place = max(inner - 1, 0)
    while place > 0 and keys[place - 1] >> _NUMBER_BITS == keys[place] >> _NUMBER_BITS:
        place -= 1
    while place < keys.size and place <= outer:
        end = place
        while end < keys.size and keys[end] >> _NUMBER_BITS == keys[place] >> _NUMBER_BITS:
            end += 1
        if end - place > enough:
            enough, score = end - place, _score(keys[place])
        place = end
    return score


@compiled
def _estimate(keys: Integers, lines: Lines, scale: Floats) -> float:
    """How many entries of the update *keys* stand for."""
    total = 0.0
    for key in keys:
        total += scale[lines.layer[_line(key)]]
    return total


@compiled
def _deviation(keys: Integers, lines: Lines, scale: Floats, weights: Floats) -> float:
    """Relative standard deviation of the joules that *keys* stand for, from line to line.

    The joules of an entry are in proportion to the square of its layer's weight, which is
    exact for score g^2 / c. Layers that were read whole deviate by nothing.
    """
    load = np.zeros(lines.layer.size, dtype=np.float64)
    total = 0.0
    for key in keys:
        layer = lines.layer[_line(key)]
        joules = scale[layer] * weights[layer] ** 2
        total += joules
        if scale[layer] > 1:
            load[_line(key)] += joules
    squares = 0.0
    for joules in load:
        squares += joules * joules
    return np.sqrt(squares) / total if total > 0 else 0.0  # type: ignore[no-any-return]


@compiled
def scale_of(lines: Lines, count: int, sizes: Integers) -> Floats:
    """How many entries of its layer a sampled entry stands for, with *count* lines read."""
    sampled = np.zeros(sizes.size, dtype=np.int64)
    for line in range(count):
        sampled[lines.layer[line]] += lines.size[line]
    scale = np.empty(sizes.size, dtype=np.float64)
    for layer in range(sizes.size):
        scale[layer] = sizes[layer] / max(sampled[layer], 1)
    return scale


@compiled
def _keys(sources: Sources, lines: Lines, count: int, weights: Floats, crude: float) -> Integers:
    """Scores of *crude* or more in the first *count* lines, as integers of the same order.

    The line's number stands in the low bits.
    """
    keys = np.empty(count * _LINE, dtype=np.int64)
    score = np.empty(1, dtype=np.float64)
    bits = score.view(np.int64)
    values = np.empty(_LINE, dtype=np.float32)
    low = threshold_bits(crude, weights)
    found = 0
    for line in range(count):
        fetch(sources, lines, min(line + _AHEAD, count - 1))
        layer = lines.layer[line]
        lanes = read_line(sources, lines, line, low[layer], values)
        lane = 0
        while lanes != 0:
            if lanes & 1:
                score[0] = np.float64(abs(values[lane])) / weights[layer]
                if np.isfinite(score[0]):  # the pass will find what is not
                    keys[found] = (bits[0] >> _NUMBER_BITS << _NUMBER_BITS) | line
                    found += 1
            lanes >>= 1
            lane += 1
    return keys[:found]


@compiled
def fetch(sources: Sources, lines: Lines, line: int) -> None:
    """Have a line on its way when its turn comes: lines lie far apart."""
    layer, start = lines.layer[line], lines.start[line]
    width = 4 if sources.kind[layer] == FLOAT32 else 2
    simd.prefetch(sources.address[layer] + width * start)
    if sources.residual[layer] != 0:
        simd.prefetch(sources.residual[layer] + 4 * start)


@compiled
def read_line(sources: Sources, lines: Lines, line: int, low: int, values: Floats32) -> int:
    """A line's 16 entries, its residual added, into *values*; which of them reach *low*."""
    layer = lines.layer[line]
    kind, address, residual = sources.kind[layer], sources.address[layer], sources.residual[layer]
    start, size, least = lines.start[line], lines.size[line], np.uint32(low)
    out = values.ctypes.data
    if kind == FLOAT32:
        return simd.gather_float32(address, residual, start, size, least, out)
    if kind == FLOAT16:
        return simd.gather_float16(address, residual, start, size, least, out)
    return simd.gather_bfloat16(address, residual, start, size, least, out)


@compiled
def _longest(
    keys: Integers,
    lines: Lines,
    scale: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
    most: int,
) -> int:
    """The longest run of at most *most* keys whose entries, scaled to the update, can be paid."""
    low, high = 0, most + 1
    sampled = np.zeros(scale.size, dtype=np.int64)
    counts = np.zeros(scale.size, dtype=np.int64)
    done = 0
    while high - low > 1:
        middle = (low + high) // 2
        for place in range(min(done, middle), max(done, middle)):
            sampled[lines.layer[_line(keys[place])]] += 1 if middle > done else -1
        done = middle
        for layer in range(scale.size):
            counts[layer] = min(table.parameters[layer], int(sampled[layer] * scale[layer]))
        if message_energy(table, message_j, counts) <= budget_j:
            low = middle
        else:
            high = middle
    return low
