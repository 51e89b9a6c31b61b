"""The entries among which the budget may end: collected, and first made few by a sample of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray

from cwmp.kernels import simd
from cwmp.kernels.energy import EnergyTable, message_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import Bits, Floats
from cwmp.kernels.radix import falling
from cwmp.kernels.scan import Integers
from cwmp.kernels.vectors import LANES

Band = tuple[Integers, Integers, Integers, Integers]
"""Each chunk's layer, addresses of its positions and values, and their count; all shape (C,)."""

_MANY = 2**14
_SAMPLED = 2**12
_DEVIATIONS = 4.5
_LAYER_BITS = 20


class Doubtful(NamedTuple):
    """Entries of an interval of scores, in the layers' order and then by position."""

    score: Floats
    layer: Integers
    bits: Bits
    position: Integers


@compiled
def interval(
    band: Band,
    counts: Integers,
    weights: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> tuple[float, float]:
    """Scores between which the budget ends, most probably; 0 and infinity for a small band.

    One entry in so many is taken, in order: with h of them above the end, the end's place
    among them deviates by no more than sqrt(h).
    """
    total = band[3].sum()
    if total <= _MANY:
        return 0.0, np.inf
    stride = total // _SAMPLED
    keys = falling(_sampled_keys(band, weights, stride), _LAYER_BITS)
    low, high = 0, keys.size + 1
    trial = counts.copy()
    done = 0
    while high - low > 1:
        middle = (low + high) // 2
        for place in range(min(done, middle), max(done, middle)):
            layer = keys[place] & ((1 << _LAYER_BITS) - 1)
            trial[layer] += stride if middle > done else -stride
        done = middle
        if message_energy(table, message_j, np.minimum(trial, table.parameters)) <= budget_j:
            low = middle
        else:
            high = middle
    margin = int(_DEVIATIONS * np.sqrt(low)) + 4
    above = _score(keys[low - margin]) if low >= margin else np.inf
    below = _score(keys[low + margin]) if low + margin < keys.size else 0.0
    return below, above


@compiled
def _score(key: int) -> float:
    bits = np.empty(1, dtype=np.int64)
    bits[0] = key >> _LAYER_BITS << _LAYER_BITS
    return bits.view(np.float64)[0]


@compiled
def _sampled_keys(band: Band, weights: Floats, stride: int) -> Integers:
    """Scores of each entry number *stride*, as integers with the layer in the low bits."""
    chunk_layer, _, value_at, count = band
    keys = np.empty(count.sum() // stride + 1, dtype=np.int64)
    score = np.empty(1, dtype=np.float64)
    bits = score.view(np.int64)
    found, slot = 0, 0
    for chunk in range(count.size):
        layer = chunk_layer[chunk]
        value = carray(simd.pointer_float32(value_at[chunk]), (count[chunk],))
        while slot < count[chunk]:
            score[0] = np.float64(abs(value[slot])) / weights[layer]
            keys[found] = (bits[0] >> _LAYER_BITS << _LAYER_BITS) | layer
            found += 1
            slot += stride
        slot -= count[chunk]
    return keys[:found]


@compiled
def count_from(band: Band, low: Bits, layers: int) -> Integers:
    """Entries of each layer with |g| bits of at least ``low[l]``; shape (layers,)."""
    chunk_layer, _, value_at, count = band
    counts = np.zeros(layers, dtype=np.int64)
    for chunk in range(count.size):
        counts[chunk_layer[chunk]] += count_bits(
            value_at[chunk], count[chunk], low[chunk_layer[chunk]]
        )
    return counts


@compiled
def count_bits(value_at: int, size: int, low: int) -> int:
    """How many of *size* values have |g| bits of at least *low*."""
    bits = carray(simd.pointer_uint32(value_at), (size,))
    least, number = np.uint32(low), np.uint32(0)
    for slot in range(size):
        number += np.uint32((bits[slot] & np.uint32(0x7FFFFFFF)) >= least)
    return np.int64(number)


@compiled
def collect(band: Band, weights: Floats, low: Bits, high: Bits) -> Doubtful:
    """The entries with ``low[l] <= |g| bits < high[l]``."""
    chunk_layer, index_at, value_at, count = band
    total = 0
    for chunk in range(count.size):
        layer, values = chunk_layer[chunk], value_at[chunk]
        total += count_bits(values, count[chunk], low[layer])
        total -= count_bits(values, count[chunk], high[layer])
    score = np.empty(total, dtype=np.float64)
    layers = np.empty(total, dtype=np.int64)
    bits = np.empty(total, dtype=np.uint32)
    positions = np.empty(total, dtype=np.int64)
    index = np.empty(total + LANES, dtype=np.int32)
    value = np.empty(total + LANES, dtype=np.float32)
    raw = value.view(np.uint32)
    stats = np.empty(simd.STATS, dtype=np.float64)
    done = 0
    for chunk in range(count.size):
        layer = chunk_layer[chunk]
        size = simd.compact(
            index_at[chunk],
            value_at[chunk],
            count[chunk],
            low[layer],
            max(high[layer], low[layer]) - low[layer],
            index.ctypes.data + 4 * done,
            value.ctypes.data + 4 * done,
            total + LANES - done,
            stats.ctypes.data,
        )
        for slot in range(done, done + size):
            score[slot] = np.float64(abs(value[slot])) / weights[layer]
            layers[slot] = layer
            bits[slot] = raw[slot] & np.uint32(0x7FFFFFFF)
            positions[slot] = index[slot]
        done += size
    return Doubtful(score, layers, bits, positions)
