"""What each layer does at a price of energy, and the price at which that fits the budget.

The best count at a price lambda is, on a line a + c k, the number of entries with
g^2 > lambda c: one binary search in the sorted gains.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cwmp.kernels.jit import compiled
from cwmp.kernels.lines import Curves, Lines
from cwmp.kernels.reference import Floats, Integers

_ROUNDS = 100


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
