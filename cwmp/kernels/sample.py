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
from cwmp.kernels.scan import BFLOAT16, FLOAT16, FLOAT32, Floats, Floats32, Integers, Sources

_LINE = simd.LANES
_FIRST_LINES = 512
_MOST_LINES = 2**14
_SHARE = 24
_HITS = 4096
_DEVIATIONS = 5.0
_LINE_BITS = 20
_SEED = 20260322


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
        tied: scores in between that very many entries have, at most two.
    """

    low: float
    high: float
    expected: int
    tied: tuple[float, ...] = ()


def lines_of(sizes: Sequence[int]) -> Lines:
    """Lines spread evenly over each layer with a random phase; small layers whole.

    A layer gets lines by its size, at least four. There is at most one line for 24, so that
    the sample stays cheap beside the pass, and 2^14 in all or so.
    """
    generator = np.random.default_rng(_SEED)
    total = sum(sizes)
    budget = min(_MOST_LINES, max(_FIRST_LINES, total // (_LINE * _SHARE)))
    layers, starts, lengths, turns = [], [], [], []
    for layer, size in enumerate(sizes):
        whole = -(-size // _LINE)
        count = min(whole, max(4, round(budget * size / total)))
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
    sizes = table.parameters
    first = min(_FIRST_LINES, lines.layer.size)
    values = _gather(sources, lines, first)
    scale = _scale(lines, first, sizes)
    keys = np.sort(_keys(values, lines, weights, 0.0))[::-1]
    reach = _longest(keys, lines, scale, table, message_j, budget_j)
    kept = _estimate(keys[:reach], lines, scale)
    wanted = min(lines.layer.size, int(_HITS * sizes.sum() / (_LINE * max(kept, 1.0))))
    if wanted > first and reach < keys.size:
        crude = _score(keys[min(keys.size - 1, 2 * reach + 64)])
        values = _gather(sources, lines, wanted)
        scale = _scale(lines, wanted, sizes)
        keys = np.sort(_keys(values, lines, weights, crude))[::-1]
        reach = _longest(keys, lines, scale, table, message_j, budget_j)
        complete = False
    else:
        complete = True
    spread = 1 + _DEVIATIONS * _deviation(keys[:reach], lines, scale, weights)
    inner = _longest(keys, lines, scale * spread, table, message_j, budget_j)
    outer = _longest(keys, lines, scale / spread, table, message_j, budget_j)
    if outer < keys.size:
        low = _score(keys[outer])
    else:
        low = 0.0 if complete else crude / 2
    return Bracket(
        low=low,
        high=_score(keys[inner - 1]) if inner else np.inf,
        expected=int(_estimate(keys[: outer + 1], lines, scale)),
        tied=_tied(keys, inner, outer),
    )


def _score(key: int) -> float:
    """The score of a key, its low bits cleared."""
    return float((np.array(key) & -(1 << _LINE_BITS)).view(np.float64))


def _tied(keys: Integers, inner: int, outer: int) -> tuple[float, ...]:
    """Scores that are shared by a quarter of what is kept, around the end of the budget."""
    near = keys[max(inner - 1, 0) : outer + 1] >> _LINE_BITS
    scores, counts = np.unique(near, return_counts=True)
    heavy = np.argsort(counts)[::-1][:2]
    enough = max(64, outer // 4)
    return tuple(
        float((scores[i : i + 1] << _LINE_BITS).view(np.float64)[0])
        for i in sorted(heavy)
        if counts[i] >= enough
    )


def _estimate(keys: Integers, lines: Lines, scale: Floats) -> float:
    return float(scale[lines.layer[keys & ((1 << _LINE_BITS) - 1)]].sum())


def _deviation(keys: Integers, lines: Lines, scale: Floats, weights: Floats) -> float:
    """Relative standard deviation of the joules that *keys* stand for, from line to line."""
    line = keys & ((1 << _LINE_BITS) - 1)
    layer = lines.layer[line]
    drawn = np.where(scale[layer] > 1, scale[layer] * weights[layer] ** 2, 0.0)
    load = np.bincount(line, weights=drawn)
    total = float((scale[layer] * weights[layer] ** 2).sum())
    return float(np.sqrt((load**2).sum())) / total if total > 0 else 0.0


@compiled
def _gather(sources: Sources, lines: Lines, count: int) -> Floats32:
    """|update + residual| of the first *count* lines; shape (count, 16)."""
    values = np.zeros((count, _LINE), dtype=np.float32)
    residual = np.zeros(_LINE, dtype=np.float32)
    for line in range(count):
        layer, start, size = lines.layer[line], lines.start[line], lines.size[line]
        out = values.ctypes.data + 4 * _LINE * line
        _gather_line(sources.kind[layer], sources.address[layer], start, size, out)
        if sources.residual[layer] != 0:
            _gather_line(FLOAT32, sources.residual[layer], start, size, residual.ctypes.data)
            for lane in range(_LINE):
                values[line, lane] += residual[lane]
    return values


@compiled
def _gather_line(kind: int, address: int, start: int, size: int, out: int) -> None:
    if kind == FLOAT32:
        simd.gather_float32(address, start, size, out)
    elif kind == FLOAT16:
        simd.gather_float16(address, start, size, out)
    elif kind == BFLOAT16:
        simd.gather_bfloat16(address, start, size, out)


@compiled
def _scale(lines: Lines, count: int, sizes: Integers) -> Floats:
    """How many entries of its layer a sampled entry stands for, with *count* lines read."""
    sampled = np.zeros(sizes.size, dtype=np.int64)
    for line in range(count):
        sampled[lines.layer[line]] += lines.size[line]
    return sizes / np.maximum(sampled, 1)


@compiled
def _keys(values: Floats32, lines: Lines, weights: Floats, crude: float) -> Integers:
    """Scores of *crude* or more as integers of the same order, the line's number in their low bits."""
    keys = np.empty(values.size, dtype=np.int64)
    score = np.empty(1, dtype=np.float64)
    bits = score.view(np.int64)
    found = 0
    for line in range(values.shape[0]):
        weight = weights[lines.layer[line]]
        floor = np.float32(crude * weight * (1 - 1e-6))
        for lane in range(lines.size[line]):
            value = abs(values[line, lane])
            if value >= floor and value > 0:
                score[0] = np.float64(value) / weight
                if score[0] >= crude and score[0] > 0:
                    keys[found] = (bits[0] >> _LINE_BITS << _LINE_BITS) | line
                    found += 1
    return keys[:found]


@compiled
def _longest(
    keys: Integers,
    lines: Lines,
    scale: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> int:
    """The longest run of *keys* whose entries, scaled to the update, the budget pays for."""
    low, high = 0, keys.size + 1
    sampled = np.zeros(scale.size, dtype=np.int64)
    counts = np.zeros(scale.size, dtype=np.int64)
    while high - low > 1:
        middle = (low + high) // 2
        sampled[:] = 0
        for key in keys[:middle]:
            sampled[lines.layer[key & ((1 << _LINE_BITS) - 1)]] += 1
        for layer in range(scale.size):
            counts[layer] = min(table.parameters[layer], int(sampled[layer] * scale[layer]))
        if message_energy(table, message_j, counts) <= budget_j:
            low = middle
        else:
            high = middle
    return low
