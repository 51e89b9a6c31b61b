"""The Lagrangian upper bound at a price, with exact joules, for curves that may be cut short."""

from __future__ import annotations

import numpy as np

from cwmp.kernels.energy import EnergyTable, layer_energy, sparse_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.lagrangian import count_above
from cwmp.kernels.lines import Curves, Lines
from cwmp.kernels.rounding import known

_STEPS = 64
_SLACK = 1e-12
_EPSILON = float(np.finfo(np.float64).eps)


@compiled
def payable(message_j: float, budget_j: float) -> float:
    """What a layer may cost: B - A, with room for the rounding of sums that just fit."""
    return budget_j - message_j + _SLACK * budget_j


@compiled
def certify(
    table: EnergyTable,
    curves: Curves,
    lines: Lines,
    message_j: float,
    budget_j: float,
    price: float,
) -> tuple[float, bool]:
    """price (B - A) + sum over layers of max_k (G - price E), rounded up.

    No selection within the budget captures more, whatever the price. A layer's curve may list
    fewer entries than the layer has: each entry that is not listed gains at most what the last
    listed one does. Where that does not rule them out at this price, everything that is not
    listed is added.

    Returns:
        The bound, and whether no layer had to be added to.
    """
    layers = lines.offsets.size - 1
    spendable_j, payable_j = budget_j - message_j, payable(message_j, budget_j)
    bound, gained, most, terms = price * spendable_j, 0.0, 0.0, curves.gains.size
    certified = True
    for layer in range(layers):
        upper, gain = _best_value(table, curves, lines, layer, price)
        most += curves.totals[layer]
        if _unlisted_pay(table, curves, layer, payable_j, price):
            listed = curves.gains[curves.offsets[layer + 1] - 1]
            upper += curves.totals[layer] - listed
            certified = False
        bound += upper
        gained += gain
    rounding = (terms + 2 * layers) * _EPSILON
    bound += rounding * (price * spendable_j + gained) + _EPSILON * price * budget_j
    return min(bound, most * (1 + rounding)), certified


@compiled
def _best_value(
    table: EnergyTable, curves: Curves, lines: Lines, layer: int, price: float
) -> tuple[float, float]:
    """max_k (G - price E) of a layer's listed counts, or slightly more, and its G.

    A line's value is concave in k and nowhere below the exact one, so that only counts around
    its best one, where it is above the best exact value so far, can do better.
    """
    best, gain, start = 0.0, 0.0, curves.offsets[layer]
    for line in range(lines.offsets[layer], lines.offsets[layer + 1]):
        if lines.first[line] == 0:
            value = curves.totals[layer] - price * lines.fixed_j[line]
            if value > best:
                best, gain = value, curves.totals[layer]
    limit = best
    for line in range(lines.offsets[layer], lines.offsets[layer + 1]):
        first, last, slope_j = lines.first[line], lines.last[line], lines.slope_j[line]
        if first == 0:
            continue
        middle = count_above(curves.gains, start, first, last, price * slope_j)
        for way in (-1, 1):
            k = middle + (way > 0)
            for step in range(_STEPS + 1):
                if not first <= k <= last:
                    break
                captured = curves.gains[start + k]
                outer = captured - price * (lines.fixed_j[line] + slope_j * k)
                if outer <= best:
                    break
                if step == _STEPS:  # a flat top: the line's own value will do
                    limit = max(limit, outer)
                    break
                value = captured - price * sparse_energy(table, layer, k)
                if value > best:
                    best, gain = value, captured
                k += way
    return max(best, limit), gain


@compiled
def _unlisted_pay(
    table: EnergyTable, curves: Curves, layer: int, payable_j: float, price: float
) -> bool:
    """Whether entries that the curve does not list could be worth their price.

    Past the K listed entries the gain rises by at most the last one's each, or what is known of
    those that are not, while the joules are concave between the knees of the update: it is
    enough to look at both ends of a piece.
    """
    k, size = known(curves, layer), table.parameters[layer]
    start = curves.offsets[layer]
    left = curves.totals[layer] - curves.gains[start + k]
    if k == size or left <= curves.totals[layer] * _EPSILON * (k + 1):
        return False
    if sparse_energy(table, layer, k + 1) > payable_j:  # the budget does not reach beyond them
        return False
    last = curves.unlisted[layer]
    if k > 0:
        last = min(last, curves.gains[start + k] - curves.gains[start + k - 1])
    elif layer_energy(table, layer, 1) > payable_j:
        return False
    if last == np.inf:
        return True
    now_j = sparse_energy(table, layer, k)
    begin, end = table.piece_offsets[layer], table.piece_offsets[layer + 1]
    for piece in range(begin, end):
        until = table.starts[piece + 1] - 1 if piece + 1 < end else size
        for more in (max(table.starts[piece], k + 1), until):
            if k < more <= until:
                cost_j = sparse_energy(table, layer, more) - now_j - table.byte_j[layer]
                if last * (more - k) > price * cost_j:
                    return True
    return False
