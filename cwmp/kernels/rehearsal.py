"""The fixed-charge problem on a sample: about which entries a large update's pass has to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.curves import marginal_price
from cwmp.kernels.energy import EnergyTable
from cwmp.kernels.fixed_charge import solve
from cwmp.kernels.jit import compiled
from cwmp.kernels.lines import Curves
from cwmp.kernels.magnitudes import ALL_BITS, Bits, Floats
from cwmp.kernels.radix import sort_falling
from cwmp.kernels.sample import Lines, fetch, read_line, scale_of
from cwmp.kernels.scan import Integers, Sources
from cwmp.kernels.vectors import LANES
from cwmp.payload import LAYER_HEADER_BYTES

_CAUTION = 0.9
_AHEAD = 24
_LINES = 2**13


def rehearse(
    sources: Sources,
    lines: Lines,
    is_open: NDArray[np.bool_],
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> tuple[Bits, int]:
    """Thresholds below which no entry is likely to matter, and how many entries reach them.

    Each sampled entry stands for s_l entries of its layer, at s_l times the joules. At the
    price that the sample's own solution finds, an entry pays where g^2 > price * c; the least
    that one can cost in a layer, taken with some caution, gives the layer's threshold.
    """
    lines = Lines(*(part[:_LINES] for part in lines))
    bits, starts = _sampled(sources, lines, is_open)
    scale = scale_of(lines, lines.layer.size, table.parameters)
    gains, totals = _scaled_gains(bits, starts, scale)
    curves = Curves(gains, starts + np.arange(starts.size), totals, np.zeros_like(totals))
    scaled = _scaled(table, scale, np.diff(starts))
    counts, price, _, _ = solve(curves, scaled, message_j, budget_j)
    price = max(price, marginal_price(gains, curves.offsets, scaled, counts))
    low = thresholds(price, table, is_open)
    return low, int(_expected(bits, starts, scale, low))


def thresholds(price: float, table: EnergyTable, is_open: NDArray[np.bool_]) -> Bits:
    """|g| bits that an entry must reach to be worth *price* or little less; shape (L,)."""
    least_j = np.minimum.reduceat(table.slope_j, table.piece_offsets[:-1])
    least_j = least_j + table.byte_j * table.value_bytes
    limit = np.minimum(_CAUTION * np.sqrt(price * least_j), float(np.finfo(np.float32).max))
    bits = np.maximum(limit.astype(np.float32).view(np.uint32), 1)
    return np.where(is_open, bits, ALL_BITS).astype(np.uint32)


def _scaled(table: EnergyTable, scale: Floats, sampled: Integers) -> EnergyTable:
    """Charges of a sampled entry: bytes and slopes s_l times, the header but once."""
    pieces = np.repeat(scale, np.diff(table.piece_offsets))
    header_j = (scale - 1) * table.byte_j * LAYER_HEADER_BYTES
    return table._replace(
        starts=np.maximum((table.starts / pieces).astype(np.int64), 1),
        fixed_j=np.maximum(table.fixed_j - np.repeat(header_j, np.diff(table.piece_offsets)), 0.0),
        slope_j=table.slope_j * pieces,
        dense_j=np.maximum(table.dense_j - header_j, 0.0),
        byte_j=table.byte_j * scale,
        parameters=np.maximum(sampled, 1),
    )


@compiled
def _sampled(sources: Sources, lines: Lines, is_open: NDArray[np.bool_]) -> tuple[Bits, Integers]:
    """Bits of the sampled entries of open layers, sorted within each; and where layers start."""
    layers = is_open.size
    starts = np.zeros(layers + 1, dtype=np.int64)
    for line in range(lines.layer.size):
        if is_open[lines.layer[line]]:
            starts[lines.layer[line] + 1] += lines.size[line]
    for layer in range(layers):
        starts[layer + 1] += starts[layer]
    bits = np.empty(starts[layers], dtype=np.uint32)
    place = starts[:-1].copy()
    values = np.empty(LANES, dtype=np.float32)
    raw = values.view(np.uint32)
    for line in range(lines.layer.size):
        layer = lines.layer[line]
        if is_open[layer]:
            fetch(sources, lines, min(line + _AHEAD, lines.layer.size - 1))
            read_line(sources, lines, line, 0, values)
            for lane in range(lines.size[line]):
                bits[place[layer] + lane] = raw[lane] & np.uint32(0x7FFFFFFF)
            place[layer] += lines.size[line]
    other = np.empty_like(bits)
    for layer in range(layers):
        part = slice(starts[layer], starts[layer + 1])
        sort_falling(bits[part], other[part])
    return bits, starts


@compiled
def _scaled_gains(bits: Bits, starts: Integers, scale: Floats) -> tuple[Floats, Floats]:
    layers = scale.size
    gains = np.zeros(bits.size + layers, dtype=np.float64)
    totals = np.zeros(layers, dtype=np.float64)
    value = np.empty(1, dtype=np.uint32)
    view = value.view(np.float32)
    for layer in range(layers):
        for rank in range(starts[layer], starts[layer + 1]):
            value[0] = bits[rank]
            if np.isfinite(view[0]):
                totals[layer] += scale[layer] * np.float64(view[0]) * np.float64(view[0])
            gains[rank + layer + 1] = totals[layer]
    return gains, totals


@compiled
def _expected(bits: Bits, starts: Integers, scale: Floats, low: Bits) -> float:
    expected = 0.0
    for layer in range(scale.size):
        for rank in range(starts[layer], starts[layer + 1]):
            if bits[rank] >= low[layer]:
                expected += scale[layer]
    return expected
