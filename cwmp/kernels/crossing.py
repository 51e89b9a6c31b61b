"""Where a falling score spends the budget, exactly: a radix search over the entries in doubt.

The order is that of `cwmp.kernels.reference.score_order`: by falling |g| / w_l in float64, then
falling |g|, then layer and position. The longest prefix within the budget is one threshold a
layer, and in layers that share the last score a position up to which ties are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import carray

from cwmp.kernels import simd
from cwmp.kernels.doubt import Band, Doubtful, collect, count_bits, count_from, interval
from cwmp.kernels.energy import EnergyTable, message_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import ALL_BITS, NO_BITS, Bits, Floats, threshold_bits
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
        chunks.start,
        chunks.size,
        found.count,
        (chunks.layer, band.index_at, band.value_at, band.count),
        weights,
        table,
        message_j,
        budget_j,
    )
    return Cut(low, limit, counts, chunk_counts, layer, bits) if state == _CROSSES else None


@compiled
def _longest_prefix(
    chunk_start: Integers,
    chunk_size: Integers,
    found: Integers,
    band: Band,
    weights: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> tuple[int, Bits, Integers, Integers, Integers, int, int]:
    _, _, value_at, count = band
    layers = weights.size
    counts = np.zeros(layers, dtype=np.int64)
    sure = found - count
    for chunk in range(sure.size):
        counts[band[0][chunk]] += sure[chunk]
    low = np.zeros(layers, dtype=np.uint32)
    limit = np.zeros(layers, dtype=np.int64)
    if message_energy(table, message_j, counts) > budget_j:
        return _EXCEEDS, low, limit, counts, sure, -1, 0
    below, above = interval(band, counts, weights, table, message_j, budget_j)
    state, layer, bits, score, position, ends = _end(
        band, counts, weights, table, message_j, budget_j, below, above
    )
    if state != _CROSSES and (below > 0 or np.isfinite(above)):  # the sample of the band misled
        state, layer, bits, score, position, ends = _end(
            band, counts, weights, table, message_j, budget_j, 0.0, np.inf
        )
    if state == _FITS:
        return _FITS, low, limit, counts, sure, -1, 0
    low, limit = _limits(weights, table.parameters, score, bits, layer, position)
    lows, splits = chunk_thresholds(band[0], chunk_start, chunk_size, low, limit)
    for chunk in range(count.size):
        sure[chunk] += count_bits(value_at[chunk], count[chunk], lows[chunk])
        if splits[chunk] >= 0:
            sure[chunk] += _ties_before(band, chunk, lows[chunk] - 1, splits[chunk])
    return _CROSSES, low, limit, ends, sure, layer, bits


@compiled
def _end(
    band: Band,
    counts: Integers,
    weights: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
    below: float,
    above: float,
) -> tuple[int, int, int, float, int, Integers]:
    """The first entry that does not fit, among those that score from *below* to *above*.

    Its layer, bits, score and position; and what is kept of each layer.
    """
    high = threshold_bits(above, weights)
    kept = counts + count_from(band, high, weights.size)
    if message_energy(table, message_j, kept) > budget_j:
        return _EXCEEDS, -1, 0, 0.0, 0, kept
    low = threshold_bits(below, weights)
    doubtful = collect(band, weights, low, np.minimum(high, np.uint32(NO_BITS)))
    live = _narrow(doubtful, kept, table, message_j, budget_j)
    state, layer, bits, score, position = _finish(doubtful, live, kept, table, message_j, budget_j)
    return state, layer, bits, score, position, kept


@compiled
def _ties_before(band: Band, chunk: int, bits: int, split: int) -> int:
    """Entries of exactly these *bits* at positions before *split* of a chunk."""
    _, index_at, value_at, count = band
    index = carray(simd.pointer_int32(index_at[chunk]), (count[chunk],))
    raw = carray(simd.pointer_uint32(value_at[chunk]), (count[chunk],))
    number = 0
    for slot in range(count[chunk]):
        tied = (raw[slot] & np.uint32(0x7FFFFFFF)) == np.uint32(bits)
        number += np.int64(tied and index[slot] < split)
    return number


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
    most_bins = max(2, min(_BINS, _HISTOGRAM // layers))
    while live.size > _FEW:
        bins = max(2, min(most_bins, live.size // 4))
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
