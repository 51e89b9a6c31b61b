"""Nearly the best option of each layer: open sets tried one change at a time, then trades.

Works on the menus of `cwmp.kernels.menus`. Nothing is random; what is returned has been priced
and fits.
"""

from __future__ import annotations

import numpy as np

from cwmp.kernels.jit import compiled
from cwmp.kernels.menus import (
    Edges,
    Menus,
    captured_by,
    edges_of,
    fill,
    relaxed,
    spent,
    take,
)
from cwmp.kernels.reference import Integers
from cwmp.kernels.trade import undominated

_ROUNDS = 8
_TOGGLES = 24
_SMALL = 4096
_NOISE, _LARGE_NOISE = 1e-12, 1e-6  # shares of what is captured that are not worth a search


@compiled
def choose(menus: Menus, spendable_j: float) -> Integers:
    """An option of each layer, as a position in the menus, that together fit *spendable_j*.

    1. The greedy choice along the hulls, with the rest of the budget spent.
    2. Layers opened or closed one at a time where that could pay, and the hulls of the open ones
       followed anew; the best change is made, while there is one.
    3. Options near the price of energy traded between layers by dynamic programming. Exact
       where no more than a few hundred partial choices could still beat what is in hand.
    """
    layers = menus.offsets.size - 1
    everything = menus.offsets[1:] - 1
    if spent(menus, everything) <= spendable_j:
        return everything
    edges = edges_of(menus, spendable_j, False)
    _, price, bound = relaxed(edges, spendable_j)
    chosen = menus.offsets[:-1].copy()
    take(menus, edges, chosen, np.zeros(layers, np.int64), spendable_j)
    fill(menus, chosen, spendable_j)
    most = captured_by(menus, chosen)
    enough = _NOISE if menus.joules.size <= _SMALL else _LARGE_NOISE
    if bound - most <= enough * bound:
        return chosen
    opened = edges_of(menus, spendable_j, True)
    chosen = _open_sets(menus, opened, chosen, price, spendable_j)
    window, width = (64, 256) if menus.joules.size <= _SMALL else (32, 128)
    _trade(menus, chosen, price, spendable_j, window, width)
    fill(menus, chosen, spendable_j)
    return chosen


@compiled
def _open_sets(
    menus: Menus, opened: Edges, chosen: Integers, price: float, spendable_j: float
) -> Integers:
    layers = chosen.size
    worth = np.zeros(layers)
    for layer in range(layers):
        options = slice(menus.offsets[layer] + 1, menus.offsets[layer + 1])
        if menus.offsets[layer + 1] - menus.offsets[layer] > 1:
            worth[layer] = abs((menus.gains[options] - price * menus.joules[options]).max())
        else:
            worth[layer] = np.inf
    nearest = np.argsort(worth, kind="mergesort")[:_TOGGLES]
    best, most = chosen, captured_by(menus, chosen)
    for _ in range(_ROUNDS):
        is_open = best > menus.offsets[:-1]
        found, captured = best, most
        for layer in nearest:
            if worth[layer] == np.inf:
                continue
            is_open[layer] = not is_open[layer]
            trial = np.where(is_open, menus.offsets[:-1] + 1, menus.offsets[:-1])
            if spent(menus, trial) <= spendable_j:
                closed = np.where(is_open, 0, 1)
                take(menus, opened, trial, closed, spendable_j)
                fill(menus, trial, spendable_j)
                if captured_by(menus, trial) > captured * (1 + _NOISE):
                    found, captured = trial, captured_by(menus, trial)
            is_open[layer] = not is_open[layer]
        if found is best:
            break
        best, most = found, captured
    return best


@compiled
def _trade(
    menus: Menus, chosen: Integers, price: float, spendable_j: float, window: int, width: int
) -> None:
    """Dynamic programming over options near the best at *price*; changes *chosen* if it can.

    Of two partial choices the one that spends no less and captures no more is dropped, and so
    is what cannot beat *chosen* even if the rest of the budget buys at *price*.
    """
    layers = chosen.size
    best, gap = np.empty(layers), price * spendable_j - captured_by(menus, chosen)
    for layer in range(layers):
        part = slice(menus.offsets[layer], menus.offsets[layer + 1])
        best[layer] = (menus.gains[part] - price * menus.joules[part]).max()
        gap += best[layer]
    state, count = np.zeros((3, width)), 1  # joules, gain, given up
    parents = np.zeros((layers, width), np.int64)
    choices = np.zeros((layers, width), np.int64)
    span = 2 * window + 2
    grown = np.zeros((3, span * width))
    origin, choice = np.empty(span * width, np.int64), np.empty(span * width, np.int64)
    for layer in range(layers):
        number = 0
        for option in _near(menus, layer, price, best[layer], gap, window):
            more_j, gain = menus.joules[option], menus.gains[option]
            lost = best[layer] - (gain - price * more_j)
            for one in range(count):
                if state[2, one] + lost < gap and state[0, one] + more_j <= spendable_j:
                    grown[0, number] = state[0, one] + more_j
                    grown[1, number] = state[1, one] + gain
                    grown[2, number] = state[2, one] + lost
                    origin[number], choice[number] = one, option
                    number += 1
        if number == 0:
            return
        picked = undominated(grown, number)
        if picked.size > width:
            picked = picked[np.argsort(grown[2][picked], kind="mergesort")[:width]]
        count = picked.size
        for one in range(count):
            state[:, one] = grown[:, picked[one]]
            parents[layer, one], choices[layer, one] = origin[picked[one]], choice[picked[one]]
    at = np.argmax(state[1, :count])
    if state[1, at] <= captured_by(menus, chosen):
        return
    trial = chosen.copy()
    for layer in range(layers - 1, -1, -1):
        trial[layer] = choices[layer, at]
        at = parents[layer, at]
    if spent(menus, trial) <= spendable_j:
        chosen[:] = trial


@compiled
def _near(menus: Menus, layer: int, price: float, best: float, gap: float, window: int) -> Integers:
    """Nothing, and the options around the best one, that give up less than *gap* at *price*."""
    start, stop = menus.offsets[layer], menus.offsets[layer + 1]
    middle = start
    for option in range(start, stop):
        if menus.gains[option] - price * menus.joules[option] == best:
            middle = option
            break
    found, size = np.empty(2 * window + 2, np.int64), 0
    first, last = max(start, middle - window), min(stop - 1, middle + window)
    if first > start:
        first -= 1
    for place in range(first, last + 1):
        option = start if place == first else place
        if best - (menus.gains[option] - price * menus.joules[option]) < gap:
            found[size] = option
            size += 1
    return found[:size]
