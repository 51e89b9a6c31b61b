"""What each layer does at a price of energy, and the price at which that fits the budget.

E_l(k) is the lowest of a few lines a + c k, so the best count at a price lambda is, on each
line, the number of entries with g^2 > lambda c: one binary search in the sorted gains. A line
is never above E_l where it holds, so the dual over lines bounds every selection.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cwmp.kernels.energy import (
    INDEX_LINES,
    EnergyTable,
    dense_energy,
    index_line,
)
from cwmp.kernels.jit import compiled
from cwmp.kernels.reference import Floats, Integers

_ROUNDS = 100
_SLACK = 1e-12


class Curves(NamedTuple):
    """What each layer's entries capture, best first.

    Attributes:
        gains: G_l(0), ..., G_l(K_l) of each layer, one after another; G_l(0) = 0.
        offsets: where each layer's gains start, and their number; (L + 1,).
        totals: sum of g^2 of each whole layer, at least G_l(K_l); (L,).
    """

    gains: Floats
    offsets: Integers
    totals: Floats


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


class Point(NamedTuple):
    """The minimum over the price of ``price * spendable_j + sum of the layers' best values``.

    Attributes:
        price, value: where it is, and the minimum.
        fits: whether any price makes the layers' choices fit.
        lines: each layer's line at the smallest price found at which they fit; -1 is closed.
        counts: each line's count there.
    """

    price: float
    value: float
    fits: bool
    lines: Integers
    counts: Integers


@compiled
def lines_of(table: EnergyTable, curves: Curves, spendable_j: float) -> Lines:
    """The lines of every layer, without the counts that cost more than *spendable_j*."""
    layers = table.parameters.size
    room = (table.starts.size + 1) * (INDEX_LINES + 1) + layers
    offsets = np.zeros(layers + 1, np.int64)
    energy = np.empty((2, room))
    span = np.empty((4, room), np.int64)
    index = np.empty((2, INDEX_LINES))
    total = 0
    for layer in range(layers):
        known = curves.offsets[layer + 1] - curves.offsets[layer] - 1
        byte_j, size = table.byte_j[layer], table.parameters[layer]
        for number in range(INDEX_LINES):
            index[0, number], index[1, number] = index_line(size, number)
        for piece in range(table.piece_offsets[layer], table.piece_offsets[layer + 1]):
            begin, end = table.starts[piece], known
            if piece + 1 < table.piece_offsets[layer + 1]:
                end = min(end, table.starts[piece + 1] - 1)
            at = begin
            while at <= end:
                line, until = _lowest_line(index, at, end)
                fixed_j = table.fixed_j[piece] + byte_j * (
                    table.header_bytes[layer] + index[0, line]
                )
                slope_j = table.slope_j[piece] + byte_j * (
                    table.value_bytes[layer] + index[1, line]
                )
                most = (spendable_j - fixed_j) / slope_j * (1 + _SLACK) + _SLACK
                if most < at:
                    break
                affordable = int(min(most, float(end)))
                energy[0, total], energy[1, total] = fixed_j, slope_j
                span[0, total], span[1, total] = at, min(until, affordable)
                span[2, total], span[3, total] = begin, affordable
                total += 1
                at = until + 1 if byte_j > 0 else end + 1
                if byte_j == 0:
                    span[1, total - 1] = affordable
        if dense_energy(table, layer) <= spendable_j * (1 + _SLACK) and curves.totals[layer] > 0:
            energy[0, total], energy[1, total] = dense_energy(table, layer), 0.0
            span[:, total] = 0
            total += 1
        offsets[layer + 1] = total
    return Lines(
        offsets,
        energy[0, :total].copy(),
        energy[1, :total].copy(),
        span[0, :total].copy(),
        span[1, :total].copy(),
        span[2, :total].copy(),
        span[3, :total].copy(),
        False,
    )


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


@compiled
def count_above(gains: Floats, start: int, low: int, high: int, threshold: float) -> int:
    """The largest k in *low*..*high* whose k-th entry gains more than *threshold*, or *low*."""
    while low < high:
        middle = (low + high + 1) // 2
        if gains[start + middle] - gains[start + middle - 1] > threshold:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def best_choices(
    curves: Curves,
    lines: Lines,
    price: float,
    least: Integers,
    most: Integers,
    chosen: Integers,
    counts: Integers,
) -> tuple[float, float]:
    """Each layer's best line and count at *price*, into *chosen* and *counts*.

    *least* and *most* are counts at a higher and at a lower price, which enclose what is looked
    for. The cheaper of equal choices is taken.

    Returns:
        The sum of G - price E over the layers, and the joules.
    """
    value, spent_j = 0.0, 0.0
    for layer in range(lines.offsets.size - 1):
        best = -np.inf if lines.forced and lines.offsets[layer] < lines.offsets[layer + 1] else 0.0
        cost_j, start = 0.0, curves.offsets[layer]
        chosen[layer] = -1
        for line in range(lines.offsets[layer], lines.offsets[layer + 1]):
            energy_j, gain = lines.fixed_j[line], curves.totals[layer]
            if lines.first[line] > 0:
                slope_j = lines.slope_j[line]
                k = count_above(curves.gains, start, least[line], most[line], price * slope_j)
                counts[line] = k
                energy_j += slope_j * k
                gain = curves.gains[start + k]
            worth = gain - price * energy_j
            if worth > best or (worth == best and energy_j < cost_j):
                best, cost_j = worth, energy_j
                chosen[layer] = line
        value += best
        spent_j += cost_j
    return value, spent_j


@compiled
def minimise(
    curves: Curves, lines: Lines, spendable_j: float, guess: float, tolerance: float
) -> Point:
    """Minimise the dual by the crossing of its tangents, from the price *guess* on.

    The dual is convex in the price, falls where the choices overspend and rises where they fit.
    The tangents at a price of either kind cross below it, at the next price to look at, and
    bound how much lower it can get; *tolerance* is relative to the value.
    """
    layers, number = lines.offsets.size - 1, lines.first.size
    chosen, counts = np.empty(layers, np.int64), np.zeros(number, np.int64)
    least, most = lines.first.copy(), lines.last.copy()
    least_chosen = np.full(layers, -1)
    low, low_value, low_slope = -1.0, np.inf, 0.0
    high, high_value, high_slope = np.inf, np.inf, 0.0
    price, step = guess, 1.25
    for _ in range(_ROUNDS):
        value, spent_j = best_choices(curves, lines, price, least, most, chosen, counts)
        value += price * spendable_j
        if spent_j <= spendable_j:
            high, high_value, high_slope = price, value, spendable_j - spent_j
            least[:], least_chosen[:] = counts, chosen
            if price == 0.0 or high_slope == 0.0:
                break
        else:
            low, low_value, low_slope = price, value, spendable_j - spent_j
            most[:] = counts
        if low < 0:
            price = high / step if step < 1e30 else 0.0
            step *= step
        elif high == np.inf:
            if low == 0.0:
                price = low_value / spendable_j
            else:
                price = low * step
                step *= step
            if not price < np.inf:
                break
        else:
            slopes = high_slope - low_slope
            crossing = (high_slope * (high - low) - (high_value - low_value)) / slopes
            least_value = low_value + low_slope * crossing
            lowest = min(low_value, high_value)
            price = low + crossing
            if lowest - least_value <= tolerance * lowest or not low < price < high:
                break
    best = low if low_value < high_value else high
    return Point(best, min(low_value, high_value), high < np.inf, least_chosen, least)
