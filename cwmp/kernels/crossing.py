"""Where a falling score spends the budget, exactly: a radix search over the entries in doubt.

The order is that of `cwmp.kernels.reference.score_order`: by falling |g| / w_l in float64, then
falling |g|, then layer and position. The longest prefix within the budget is one threshold a
layer, and in layers that share the last score a position up to which ties are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import carray

from cwmp.kernels import simd
from cwmp.kernels.energy import EnergyTable, message_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import ALL_BITS, Bits, Floats, threshold_bits
from cwmp.kernels.scan import Candidates, Integers

_FEW = 64
_BINS = 1024
_HISTOGRAM = 2**17
_FITS, _CROSSES, _EXCEEDS = range(3)


@dataclass(frozen=True)
class Cut:
    """What is kept of each layer: |g| bits of `low` and more, and some of those just below.

    Attributes:
        low: threshold as bits; shape (L,); `ALL_BITS` closes the layer.
        tie_limit: entries of bits ``low - 1`` are kept at positions below it; shape (L,).
        counts: kept entries; shape (L,).
        chunk_counts: kept entries of each chunk, where they are known; shape (C,).
        next_layer, next_bits: the first entry left out, where one was; else -1.
    """

    low: Bits
    tie_limit: Integers
    counts: Integers
    chunk_counts: Integers | None = None
    next_layer: int = -1
    next_bits: int = 0


class Doubtful(NamedTuple):
    """Entries whose score lies in an interval, in the layers' order and then by position."""

    score: Floats
    layer: Integers
    bits: Bits
    position: Integers


def longest_prefix(
    found: Candidates,
    band: Candidates,
    weights: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> Cut | None:
    """The longest prefix of the score within the budget.

    Args:
        found: all entries from some score on.
        band: the part of *found* that is in doubt; the rest scores more.

    Returns:
        ``None`` where the budget does not end within *band*: *found* fits whole, so that it may
        end below, or what scores more than *band* does not fit.
    """
    chunks = found.chunks
    state, low, limit, counts, chunk_counts, layer, bits = _longest_prefix(
        chunks.layer,
        chunks.start,
        chunks.size,
        found.count,
        (band.index_at, band.value_at, band.count),
        weights,
        table,
        message_j,
        budget_j,
    )
    return Cut(low, limit, counts, chunk_counts, layer, bits) if state == _CROSSES else None


@compiled
def _longest_prefix(
    chunk_layer: Integers,
    chunk_start: Integers,
    chunk_size: Integers,
    found: Integers,
    band: tuple[Integers, Integers, Integers],
    weights: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> tuple[int, Bits, Integers, Integers, Integers, int, int]:
    index_at, value_at, count = band
    layers = weights.size
    counts = np.zeros(layers, dtype=np.int64)
    sure = found - count
    for chunk in range(sure.size):
        counts[chunk_layer[chunk]] += sure[chunk]
    low = np.zeros(layers, dtype=np.uint32)
    limit = np.zeros(layers, dtype=np.int64)
    if message_energy(table, message_j, counts) > budget_j:
        return _EXCEEDS, low, limit, counts, sure, -1, 0
    doubtful = _doubtful(chunk_layer, index_at, value_at, count, weights)
    live = _narrow(doubtful, counts, table, message_j, budget_j)
    state, layer, bits, score, position = _finish(
        doubtful, live, counts, table, message_j, budget_j
    )
    if state == _FITS:
        return _FITS, low, limit, counts, sure, -1, 0
    low, limit = _limits(weights, table.parameters, score, bits, layer, position)
    lows, splits = chunk_thresholds(chunk_layer, chunk_start, chunk_size, low, limit)
    done = 0
    for chunk in range(count.size):
        for slot in range(done, done + count[chunk]):
            here = doubtful.bits[slot]
            tied = here + 1 == lows[chunk] and doubtful.position[slot] < splits[chunk]
            sure[chunk] += np.int64(here >= lows[chunk] or tied)
        done += count[chunk]
    return _CROSSES, low, limit, counts, sure, layer, bits


@compiled
def chunk_thresholds(
    layer: Integers, start: Integers, size: Integers, low: Bits, limit: Integers
) -> tuple[Bits, Integers]:
    """Each chunk's threshold, and the position before which one less will do; -1 for nowhere."""
    lows = np.empty(layer.size, dtype=np.uint32)
    splits = np.full(layer.size, -1, dtype=np.int64)
    for chunk in range(layer.size):
        here = limit[layer[chunk]]
        lows[chunk] = low[layer[chunk]]
        if here >= start[chunk] + size[chunk]:
            lows[chunk] -= np.uint32(1)
        elif here > start[chunk]:
            splits[chunk] = here
    return lows, splits


@compiled
def _doubtful(
    chunk_layer: Integers, index_at: Integers, value_at: Integers, count: Integers, weights: Floats
) -> Doubtful:
    total = count.sum()
    score = np.empty(total, dtype=np.float64)
    layers = np.empty(total, dtype=np.int64)
    bits = np.empty(total, dtype=np.uint32)
    positions = np.empty(total, dtype=np.int64)
    done = 0
    for chunk in range(count.size):
        size = count[chunk]
        layer = chunk_layer[chunk]
        weight = weights[layer]
        index = carray(simd.pointer_int32(index_at[chunk]), (size,))
        value = carray(simd.pointer_float32(value_at[chunk]), (size,))
        raw = carray(simd.pointer_uint32(value_at[chunk]), (size,))
        for slot in range(size):
            score[done + slot] = np.float64(abs(value[slot])) / weight
            bits[done + slot] = raw[slot] & np.uint32(0x7FFFFFFF)
            positions[done + slot] = index[slot]
            layers[done + slot] = layer
        done += size
    return Doubtful(score, layers, bits, positions)


@compiled
def _narrow(
    doubtful: Doubtful, counts: Integers, table: EnergyTable, message_j: float, budget_j: float
) -> Integers:
    """Add to *counts* what surely fits, and return the entries among which the budget ends.

    One round sorts the entries into bins by their score's leading bits and keeps the bin in
    which the budget ends; a few rounds leave `_FEW` entries, or one score.
    """
    keys = doubtful.score.view(np.int64)
    live = np.arange(keys.size)
    layers = counts.size
    bins = max(2, min(_BINS, _HISTOGRAM // layers))
    while live.size > _FEW:
        least, most = keys[live[0]], keys[live[0]]
        for slot in live:
            least = min(least, keys[slot])
            most = max(most, keys[slot])
        if least == most:
            break
        shift = 0
        while (most - least) >> shift >= bins:
            shift += 1
        above = np.zeros((bins + 1, layers), dtype=np.int64)
        for slot in live:
            above[(keys[slot] - least) >> shift, doubtful.layer[slot]] += 1
        for row in range(bins - 1, -1, -1):
            for layer in range(layers):
                above[row, layer] += above[row + 1, layer]
        inside, outside = bins, -1  # above[inside] fits, above[outside] does not, or is below all
        while inside - outside > 1:
            middle = (inside + outside) // 2
            if message_energy(table, message_j, counts + above[middle]) <= budget_j:
                inside = middle
            else:
                outside = middle
        for layer in range(layers):
            counts[layer] += above[inside, layer]
        chosen = np.empty(live.size, dtype=np.int64)
        size = 0
        for slot in live:
            if (keys[slot] - least) >> shift == outside:
                chosen[size] = slot
                size += 1
        live = chosen[:size]
    return live


@compiled
def _finish(
    doubtful: Doubtful,
    live: Integers,
    counts: Integers,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> tuple[int, int, int, float, int]:
    """Add entries of *live* in order while they fit; what is the first that does not.

    Entries of one score and one magnitude are taken by layer and position.
    """
    taken = np.zeros(live.size, dtype=np.bool_)
    while True:
        score, bits, size = -1.0, np.uint32(0), 0
        for place in range(live.size):
            if not taken[place]:
                slot = live[place]
                ahead = doubtful.score[slot] > score
                if ahead or (doubtful.score[slot] == score and doubtful.bits[slot] > bits):
                    score, bits, size = doubtful.score[slot], doubtful.bits[slot], 0
                if doubtful.score[slot] == score and doubtful.bits[slot] == bits:
                    size += 1
        if size == 0:
            return _FITS, -1, 0, 0.0, 0
        group = np.empty(size, dtype=np.int64)
        size = 0
        for place in range(live.size):
            slot = live[place]
            if not taken[place] and doubtful.score[slot] == score and doubtful.bits[slot] == bits:
                taken[place] = True
                group[size] = slot
                size += 1
        fits, too_many = 0, size + 1
        trial = counts.copy()
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            trial[:] = counts
            for slot in group[:middle]:
                trial[doubtful.layer[slot]] += 1
            if message_energy(table, message_j, trial) <= budget_j:
                fits = middle
            else:
                too_many = middle
        for slot in group[:fits]:
            counts[doubtful.layer[slot]] += 1
        if fits < size:
            slot = group[fits]
            return (
                _CROSSES,
                doubtful.layer[slot],
                np.int64(bits),
                score,
                doubtful.position[slot],
            )


@compiled
def _limits(
    weights: Floats, sizes: Integers, score: float, bits: int, layer: int, position: int
) -> tuple[Bits, Integers]:
    """Thresholds and tie limits of the prefix that ends before the entry named."""
    low = threshold_bits(score, weights)
    limit = np.zeros(weights.size, dtype=np.int64)
    value = np.empty(1, dtype=np.float32)
    view = value.view(np.uint32)
    for other in range(weights.size):
        if low[other] == ALL_BITS:
            continue
        view[0] = low[other]
        if np.float64(value[0]) / weights[other] != score or low[other] > bits:
            continue  # no entry of this layer has that score, or it has a larger magnitude
        low[other] += 1
        if low[other] == bits + 1:
            limit[other] = position if other == layer else (sizes[other] if other < layer else 0)
    return low, limit
