"""E_l(k) as the lowest of a few lines a + c k.

A sparse update is linear between its knees, and an index code is nearly the lowest of a few
lines, so each layer's energy is too. A line is never above E_l where it is the lowest one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cwmp.kernels.energy import (
    INDEX_LINES,
    EnergyTable,
    dense_energy,
    index_line,
    sparse_energy,
)
from cwmp.kernels.jit import compiled
from cwmp.kernels.reference import Floats, Integers


class Curves(NamedTuple):
    """What each layer's entries capture, best first.

    Attributes:
        gains: G_l(0), ..., G_l(K_l) of each layer, one after another; G_l(0) = 0.
        offsets: where each layer's gains start, and their number; (L + 1,).
        totals: sum of g^2 of each whole layer, at least G_l(K_l); (L,).
        unlisted: no entry of the layer that is not listed has a larger g^2; infinite where that
            is not known; (L,).
    """

    gains: Floats
    offsets: Integers
    totals: Floats
    unlisted: Floats


class Lines(NamedTuple):
    """Lines a + c k of the layers' energies; layer l's are ``offsets[l]:offsets[l + 1]``.

    Attributes:
        fixed_j, slope_j: a and c; c = 0 for a layer sent whole.
        first, last: the counts for which this line is the lowest; ``first`` is 0 for a layer
            sent whole.
        reach_first, reach_last: the counts for which it is E_l or above.
        forced: whether every layer that has lines stays open, at a loss if need be.
    """

    offsets: Integers
    fixed_j: Floats
    slope_j: Floats
    first: Integers
    last: Integers
    reach_first: Integers
    reach_last: Integers
    forced: bool


@compiled
def lines_of(table: EnergyTable, curves: Curves, payable_j: float, short: int) -> Lines:
    """The lines of every layer, without the counts that cost more than *payable_j*.

    Whole bytes make E_l a little higher than its lines. A layer of at most *short* listed
    entries that pays for bytes gets a level line for each count instead, which is exact.
    """
    layers = table.parameters.size
    room = (table.starts.size + 1) * (INDEX_LINES + 1) + layers * (short + 1)
    offsets = np.zeros(layers + 1, np.int64)
    energy_j, span = np.empty((2, room)), np.zeros((4, room), np.int64)
    total = 0
    for layer in range(layers):
        known = curves.offsets[layer + 1] - curves.offsets[layer] - 1
        if table.byte_j[layer] > 0 and known <= short:
            for k in range(1, known + 1):
                exact_j = sparse_energy(table, layer, k)
                if exact_j <= payable_j:
                    energy_j[0, total], energy_j[1, total] = exact_j, 0.0
                    span[:, total] = k
                    total += 1
        else:
            total = _add_lines(table, layer, known, payable_j, energy_j, span, total)
        whole_j = dense_energy(table, layer)
        if whole_j <= payable_j and curves.totals[layer] > 0:
            energy_j[0, total], energy_j[1, total] = whole_j, 0.0
            span[:, total] = 0
            total += 1
        offsets[layer + 1] = total
    return Lines(
        offsets,
        energy_j[0, :total].copy(),
        energy_j[1, :total].copy(),
        span[0, :total].copy(),
        span[1, :total].copy(),
        span[2, :total].copy(),
        span[3, :total].copy(),
        False,
    )


@compiled
def _add_lines(
    table: EnergyTable,
    layer: int,
    known: int,
    payable_j: float,
    energy_j: Floats,
    span: Integers,
    total: int,
) -> int:
    """One line for each piece of the update and each line of the index code that is lowest in it.

    Returns:
        *total*, and how many were written from there on.
    """
    byte_j, size = table.byte_j[layer], table.parameters[layer]
    index = np.empty((2, INDEX_LINES))
    for number in range(INDEX_LINES):
        index[0, number], index[1, number] = index_line(size, number)
    for piece in range(table.piece_offsets[layer], table.piece_offsets[layer + 1]):
        begin, end, at, last = table.starts[piece], known, table.starts[piece], -1
        if piece + 1 < table.piece_offsets[layer + 1]:
            end = min(end, table.starts[piece + 1] - 1)
        while at <= end:
            line, until = _lowest_line(index, at, end) if byte_j > 0 else (0, end)
            sent = table.header_bytes[layer] + index[0, line]
            fixed_j = table.fixed_j[piece] + byte_j * sent
            slope_j = table.slope_j[piece] + byte_j * (table.value_bytes[layer] + index[1, line])
            most = (payable_j - fixed_j) / slope_j
            if most < at:
                break
            affordable = int(min(most, float(end)))
            if line != last:
                energy_j[0, total], energy_j[1, total] = fixed_j, slope_j
                span[0, total], span[2, total], span[3, total] = at, begin, affordable
                total += 1
            span[1, total - 1] = min(until, affordable)
            at, last = until + 1, line
    return total


@compiled
def _lowest_line(index: Floats, at: int, end: int) -> tuple[int, int]:
    """The index code's lowest line at count *at*, and the last count where it is."""
    best = 0
    for line in range(1, index.shape[1]):
        above = index[0, line] + index[1, line] * at - index[0, best] - index[1, best] * at
        if above < 0 or (above == 0 and index[1, line] < index[1, best]):
            best = line
    until = float(end)
    for line in range(index.shape[1]):
        if index[1, line] < index[1, best]:
            crossing = (index[0, line] - index[0, best]) / (index[1, best] - index[1, line])
            until = min(until, crossing)
    return best, max(at, int(until))
