"""Single entries traded between the open layers, so that little of a small budget is lost."""

from __future__ import annotations

import numpy as np

from cwmp.kernels.energy import EnergyTable, layer_energy, message_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.lines import Curves
from cwmp.kernels.reference import Floats, Integers
from cwmp.kernels.rounding import gain_of, gain_of_all, known

_LAYERS = 24


@compiled
def trade(
    table: EnergyTable,
    curves: Curves,
    message_j: float,
    budget_j: float,
    kept: Integers,
    price: float,
    window: int,
    width: int,
    enough: float,
) -> None:
    """Trade single entries between open layers for the best use of the whole budget.

    Dynamic programming over the first open layers, each within *window* of its count: of two
    partial sums the one that spends no less and captures no more is dropped, and so is what
    cannot beat *kept* even if the rest of the budget buys at *price*; of the others the *width*
    that give up least are kept. Nothing is done where no trade could win the share *enough*.
    """
    low, high, worth = _windows(table, curves, kept, price, window)
    base_j, base_gain = message_j, 0.0
    for layer in range(kept.size):
        if low[layer] == high[layer] and kept[layer] > 0:
            base_j += layer_energy(table, layer, kept[layer])
            base_gain += gain_of(table, curves, layer, kept[layer])
    captured = gain_of_all(table, curves, kept)
    gap = price * (budget_j - base_j) + base_gain + worth.sum() - captured
    if not gap > enough * captured:
        return
    traded = np.flatnonzero(high > low)
    span = 2 * window + 1
    parents = np.zeros((traded.size, width), np.int64)
    choices = np.zeros((traded.size, width), np.int64)
    state = np.zeros((3, width))  # joules, gain, given up
    grown = np.zeros((3, span * width))
    origin, choice = np.empty(span * width, np.int64), np.empty(span * width, np.int64)
    state[0, 0], state[1, 0] = base_j, base_gain
    count = 1
    least_j = np.zeros(traded.size + 1)
    for step in range(traded.size - 1, -1, -1):
        least_j[step] = least_j[step + 1] + layer_energy(table, traded[step], low[traded[step]])
    for step in range(traded.size):
        layer, number = traded[step], 0
        for k in range(low[layer], high[layer] + 1):
            more_j, gain = layer_energy(table, layer, k), gain_of(table, curves, layer, k)
            lost = worth[layer] - (gain - price * more_j)
            if lost >= gap:
                continue
            for one in range(count):
                spent_j = state[0, one] + more_j
                if state[2, one] + lost < gap and spent_j + least_j[step + 1] <= budget_j:
                    grown[0, number], grown[1, number] = spent_j, state[1, one] + gain
                    grown[2, number] = state[2, one] + lost
                    origin[number], choice[number] = one, k
                    number += 1
        if number == 0:
            return
        picked = undominated(grown, number)
        if picked.size > width:
            picked = picked[np.argsort(grown[2][picked], kind="mergesort")[:width]]
            picked = picked[np.argsort(grown[0][picked], kind="mergesort")]
        count = picked.size
        for one in range(count):
            state[:, one] = grown[:, picked[one]]
            parents[step, one], choices[step, one] = origin[picked[one]], choice[picked[one]]
    trial = kept.copy()
    for one in np.argsort(-state[1, :count], kind="mergesort"):
        if state[1, one] <= captured:
            return
        at = one
        for step in range(traded.size - 1, -1, -1):
            trial[traded[step]] = choices[step, at]
            at = parents[step, at]
        if message_energy(table, message_j, trial) <= budget_j:
            kept[:] = trial
            return


@compiled
def _windows(
    table: EnergyTable, curves: Curves, kept: Integers, price: float, window: int
) -> tuple[Integers, Integers, Floats]:
    """Each layer's least and largest count in a trade, and the best G - price E of a window."""
    low, high, worth = kept.copy(), kept.copy(), np.zeros(kept.size)
    windows = 0
    for layer in range(kept.size):
        most = known(curves, layer)
        if not 0 < kept[layer] <= most or most == 1 or windows == _LAYERS:
            continue
        windows += 1
        low[layer] = max(1, kept[layer] - window)
        high[layer] = min(most, kept[layer] + window)
        worth[layer] = -np.inf
        for k in range(low[layer], high[layer] + 1):
            value = gain_of(table, curves, layer, k) - price * layer_energy(table, layer, k)
            worth[layer] = max(worth[layer], value)
    return low, high, worth


@compiled
def undominated(grown: Floats, number: int) -> Integers:
    """The columns that capture more than every column that spends no more; by joules."""
    order = np.argsort(grown[0, :number], kind="mergesort")
    picked, kept, best = np.empty(number, np.int64), 0, -np.inf
    for one in order:
        if grown[1, one] > best:
            best = grown[1, one]
            picked[kept] = one
            kept += 1
    return picked[:kept]
