"""What each layer offers: the gain of its k largest candidates, k = 0, 1, ..., and back again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import carray
from numpy.typing import NDArray

from cwmp.kernels import simd
from cwmp.kernels.crossing import Cut
from cwmp.kernels.energy import EnergyTable, dense_energy, layer_energy, sparse_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import ALL_BITS, Bits, Floats
from cwmp.kernels.radix import sort_falling
from cwmp.kernels.scan import Candidates, Integers

_NOISE = 1e-12
_LAST = 16


@dataclass(frozen=True)
class Ranked:
    """Candidates sorted within their layers.

    Attributes:
        bits: |g| as bits, each layer's from the largest to the smallest; shape (K,).
        starts: where each layer's bits start, and K; shape (L + 1,).
        gains: G_l(0) = 0, ..., G_l(K_l), one layer after another; shape (K + L,).
        offsets: where each layer's gains start, and their number; shape (L + 1,).
    """

    bits: Bits
    starts: Integers
    gains: Floats
    offsets: Integers


def ranked(found: Candidates, layers: int) -> Ranked:
    """The candidates of a pass, sorted, with their cumulative g^2 in float64."""
    bits, starts, gains = _ranked(found.chunks.layer, found.value_at, found.count, layers)
    return Ranked(bits, starts, gains, starts + np.arange(layers + 1))


def cut_of(found: Candidates, order: Ranked, counts: Integers, whole: NDArray[np.bool_]) -> Cut:
    """The cut that keeps the ``counts[l]`` largest of each layer, ties by position.

    Layers that go out *whole* are not collected entry by entry. Of the others no more is kept
    than there are candidates.
    """
    counts = np.where(whole, counts, np.minimum(counts, np.diff(order.starts)))
    chunks = found.chunks
    low, limit = _cut(
        chunks.layer,
        found.index_at,
        found.value_at,
        found.count,
        order.bits,
        order.starts,
        np.where(whole, 0, counts),
    )
    return Cut(low, limit, counts)


@compiled
def best_counts(
    gains: Floats, offsets: Integers, totals: Floats, table: EnergyTable, price: float
) -> Integers:
    """Each layer's smallest k of largest G_l(k) - price E_l(k); n_l for the layer sent whole.

    Every k is tried: E is neither convex nor concave.
    """
    counts = np.zeros(totals.size, dtype=np.int64)
    for layer in range(totals.size):
        best, start = 0.0, offsets[layer]
        for k in range(1, offsets[layer + 1] - start):
            value = gains[start + k] - price * layer_energy(table, layer, k)
            if value > best:
                best, counts[layer] = value, k
        if totals[layer] - price * dense_energy(table, layer) > best * (1 + _NOISE):
            counts[layer] = table.parameters[layer]
    return counts


@compiled
def marginal_price(gains: Floats, offsets: Integers, table: EnergyTable, counts: Integers) -> float:
    """What the last joule bought: the least gain a joule of any layer's last few entries.

    Where one layer takes the whole budget the dual is flat, and its price says nothing.
    """
    price = np.inf
    for layer in range(counts.size):
        k, start = counts[layer], offsets[layer]
        if not 1 < k < offsets[layer + 1] - start:
            continue
        few = min(_LAST, k - 1)
        gained = gains[start + k] - gains[start + k - few]
        spent_j = sparse_energy(table, layer, k) - sparse_energy(table, layer, k - few)
        if spent_j > 0:
            price = min(price, gained / spent_j)
    return price if np.isfinite(price) else 0.0


@compiled
def _ranked(
    chunk_layer: Integers, value_at: Integers, count: Integers, layers: int
) -> tuple[Bits, Integers, Floats]:
    starts = np.zeros(layers + 1, dtype=np.int64)
    for chunk in range(count.size):
        starts[chunk_layer[chunk] + 1] += count[chunk]
    for layer in range(layers):
        starts[layer + 1] += starts[layer]
    bits = np.empty(starts[layers], dtype=np.uint32)
    place = 0
    for chunk in range(count.size):
        raw = carray(simd.pointer_uint32(value_at[chunk]), (count[chunk],))
        for slot in range(count[chunk]):
            bits[place + slot] = raw[slot] & np.uint32(0x7FFFFFFF)
        place += count[chunk]
    other = np.empty_like(bits)
    gains = np.empty(bits.size + layers, dtype=np.float64)
    value = np.empty(1, dtype=np.uint32)
    view = value.view(np.float32)
    for layer in range(layers):
        begin, end = starts[layer], starts[layer + 1]
        sort_falling(bits[begin:end], other[begin:end])
        gain = 0.0
        gains[begin + layer] = 0.0
        for rank in range(begin, end):
            value[0] = bits[rank]
            gain += np.float64(view[0]) * np.float64(view[0])
            gains[rank + layer + 1] = gain
    return bits, starts, gains


@compiled
def _cut(
    chunk_layer: Integers,
    index_at: Integers,
    value_at: Integers,
    count: Integers,
    bits: Bits,
    starts: Integers,
    counts: Integers,
) -> tuple[Bits, Integers]:
    layers = counts.size
    low = np.full(layers, ALL_BITS, dtype=np.uint32)
    limit = np.zeros(layers, dtype=np.int64)
    wanted = np.zeros(layers, dtype=np.int64)
    for layer in range(layers):
        begin, end = starts[layer], starts[layer + 1]
        kept = min(counts[layer], end - begin)
        if kept == 0:
            continue
        last = bits[begin + kept - 1]
        low[layer] = last
        if begin + kept < end and bits[begin + kept] == last:
            low[layer] = last + np.uint32(1)
            rank = begin + kept - 1
            while rank >= begin and bits[rank] == last:
                rank -= 1
            wanted[layer] = begin + kept - 1 - rank
    for chunk in range(count.size):
        layer = chunk_layer[chunk]
        if wanted[layer] == 0:
            continue
        raw = carray(simd.pointer_uint32(value_at[chunk]), (count[chunk],))
        index = carray(simd.pointer_int32(index_at[chunk]), (count[chunk],))
        for slot in range(count[chunk]):
            if (raw[slot] & np.uint32(0x7FFFFFFF)) + np.uint32(1) == low[layer]:
                wanted[layer] -= 1
                if wanted[layer] == 0:
                    limit[layer] = index[slot] + 1
                    break
    return low, limit
