"""Where a budget ends, by counting: for updates of which a sample says nothing.

Each pass adds up the costs of the entries by the next digit of their place in the order (the score,
then |g|, then the chunk) and goes on with those among which the budget ends. Nothing is collected,
so that no update, however its scores are tied, takes more memory or more than eight passes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.costed_places import EVERYTHING, Place, point, weight_of
from cwmp.kernels.costed_reading import CostSources, read_line
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import NO_BITS
from cwmp.kernels.scan import Chunks, Integers, Sources, runs_of
from cwmp.kernels.threads import in_parallel
from cwmp.kernels.vectors import LANES

_FEW = 2**15
_SHARE = 64
_DIGIT = 16
_INFINITE_SCORE = 0x7FF0000000000000
_SCORE, _BITS, _CHUNK = range(3)


def refined(
    sources: Sources,
    costs: CostSources,
    chunks: Chunks,
    exponent: int,
    most: int,
    budget: int,
    threads: int = 1,
) -> tuple[Place, Place, int]:
    """Places between which *budget* surely ends, with few entries or many equal ones in doubt.

    Returns:
        The upper and the lower place, and the number of entries between them. Where all entries
        can be paid, both are the end of the order.
    """
    enough = max(_FEW, int(chunks.size.sum()) // _SHARE)
    every = point(EVERYTHING, exponent, most)
    cuts = runs_of(chunks.size, threads)
    score, bits, spent = 0, 0, 0
    for kind, shift, digits in _levels():
        bins = chunks.layer.size if kind == _CHUNK else 1 << digits
        where = (kind, score, bits, shift, shift + digits)
        tasks = [partial(_count, sources, costs, chunks, *run, every, where, bins) for run in cuts]
        counted: Integers = np.sum(in_parallel(tasks), axis=0)
        sums, numbers = counted[0], counted[1]
        order = np.arange(bins) if kind == _CHUNK else np.arange(bins)[::-1]
        ends = np.searchsorted(np.cumsum(sums[order]), budget - spent, side="right")
        if ends == bins:
            return EVERYTHING._replace(bits=NO_BITS), EVERYTHING, 0
        digit, number = int(order[ends]), int(numbers[order[ends]])
        spent += int(sums[order[:ends]].sum())
        if kind == _CHUNK:
            place = Place(_score(score), bits, 0, digit, True)
            return place, place, number
        if kind == _SCORE:
            score += digit << shift
            high = Place(_score(score + (1 << shift) - 1), NO_BITS, 0, 0, False)
            low = Place(_score(score), 0, 0, 0, False)
        else:
            bits += digit << shift
            high = Place(_score(score), bits + (1 << shift) - 1, 0, 0, True)
            low = Place(_score(score), bits, 0, chunks.layer.size, True)
        if number <= enough:
            return high, low, number
    raise AssertionError("the last level always returns")


def _levels() -> list[tuple[int, int, int]]:
    """What is counted in turn: kind, the digit's shift and its number of bits."""
    levels = []
    for kind, width in ((_SCORE, 63), (_BITS, 31)):
        while width:
            digits = min(_DIGIT, width)
            width -= digits
            levels.append((kind, width, digits))
    return [*levels, (_CHUNK, 0, 0)]


def _score(key: int) -> float:
    return float(np.array(min(key, _INFINITE_SCORE), dtype=np.int64).view(np.float64))


@compiled
def _count(
    sources: Sources,
    costs: CostSources,
    chunks: Chunks,
    begin: int,
    end: int,
    every: NDArray[np.void],
    where: tuple[int, int, int, int, int],
    bins: int,
) -> Integers:
    """Costs and numbers of the entries in each bin; shape (2, bins)."""
    kind, least_score, least_bits, shift, width = where
    sums = np.zeros((2, bins), dtype=np.int64)
    value = np.empty(LANES, dtype=np.float32)
    raw = value.view(np.uint32)
    cost = np.empty(LANES, dtype=np.uint32)
    score = np.empty(1, dtype=np.float64)
    key = score.view(np.int64)
    for chunk in range(begin, end):
        layer, start, size = chunks.layer[chunk], chunks.start[chunk], chunks.size[chunk]
        for done in range(0, size, LANES):
            lanes = read_line(
                sources,
                costs,
                layer,
                start + done,
                min(LANES, size - done),
                every.ctypes.data,
                value.ctypes.data,
                cost.ctypes.data,
            )
            lane = -1
            while lanes != 0:
                lane += 1
                kept = lanes & 1
                lanes >>= 1
                if kept == 0:
                    continue
                score[0] = np.float64(abs(value[lane])) / weight_of(cost[lane], every[0].exponent)
                bits = np.int64(raw[lane] & np.uint32(0x7FFFFFFF))
                if kind == _SCORE:
                    offset = key[0] - least_score
                elif key[0] != least_score:
                    continue
                else:
                    offset = bits - least_bits
                if offset < 0 or offset >> width != 0:
                    continue
                place = chunk if kind == _CHUNK else offset >> shift
                sums[0, place] += cost[lane]
                sums[1, place] += 1
    return sums
