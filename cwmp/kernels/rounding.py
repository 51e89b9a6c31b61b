"""From lines to whole entries: exact joules, and the rest of the budget spent.

A layer's *kept* count k is its k best entries, or n_l for the whole layer. Joules here are the
declared ones, never a line's.
"""

from __future__ import annotations

import numpy as np

from cwmp.kernels.energy import (
    EnergyTable,
    dense_energy,
    layer_energy,
    message_energy,
    sparse_energy,
)
from cwmp.kernels.jit import compiled
from cwmp.kernels.lines import Curves
from cwmp.kernels.reference import Integers

_BYTE = 8
_SLACK = 1e-12  # differences of joules are looked at with so much room, sums exactly


@compiled
def known(curves: Curves, layer: int) -> int:
    """K_l: how many of a layer's entries the curves list."""
    return curves.offsets[layer + 1] - curves.offsets[layer] - 1  # type: ignore[no-any-return]


@compiled
def gain_of(table: EnergyTable, curves: Curves, layer: int, k: int) -> float:
    """What *k* kept entries capture: the whole layer where it goes out dense."""
    dense = k > known(curves, layer)
    if not dense and k > 0:
        dense = dense_energy(table, layer) < sparse_energy(table, layer, k)
    if dense:
        return curves.totals[layer]  # type: ignore[no-any-return]
    return curves.gains[curves.offsets[layer] + k]  # type: ignore[no-any-return]


@compiled
def gain_of_all(table: EnergyTable, curves: Curves, kept: Integers) -> float:
    """What all layers capture together."""
    captured = 0.0
    for layer in range(kept.size):
        captured += gain_of(table, curves, layer, kept[layer])
    return captured


@compiled
def _entry_energy(table: EnergyTable, curves: Curves, layer: int, k: int) -> float:
    """Joules of an entry after *k*, as a mean over eight: index bits make whole bytes together."""
    more = min(_BYTE, known(curves, layer) - k)
    return (layer_energy(table, layer, k + more) - layer_energy(table, layer, k)) / more


@compiled
def _density(table: EnergyTable, curves: Curves, layer: int, k: int, left_j: float) -> float:
    """g^2 a joule of one entry more than *k* in an open layer; 0 where there is or fits none."""
    if k == 0 or k >= known(curves, layer):
        return 0.0
    if not layer_energy(table, layer, k + 1) - layer_energy(table, layer, k) <= left_j:
        return 0.0
    start = curves.offsets[layer] + k
    gain = curves.gains[start + 1] - curves.gains[start]
    entry_j = _entry_energy(table, curves, layer, k)
    return gain / entry_j if entry_j > 0 else np.inf


@compiled
def _longest(
    table: EnergyTable, curves: Curves, layer: int, k: int, left_j: float, density: float
) -> int:
    """The largest count from *k* on that *left_j* pays, of entries of at least *density*.

    The first one more is taken whatever its density, if it can be paid.
    """
    now_j, start, low = layer_energy(table, layer, k), curves.offsets[layer], k
    high, step = known(curves, layer), 1
    while low < high:  # doubling, then halving
        middle = min(low + step, high)
        more_j = layer_energy(table, layer, middle) - now_j
        entry_j = _entry_energy(table, curves, layer, middle - 1)
        gain = curves.gains[start + middle] - curves.gains[start + middle - 1]
        if more_j <= left_j and (middle == k + 1 or gain >= density * entry_j):
            low = middle
            step *= 2
        else:
            high = middle - 1
            step = max((high - low + 1) // 2, 1)
    return low


@compiled
def repair(
    table: EnergyTable, curves: Curves, message_j: float, budget_j: float, kept: Integers
) -> None:
    """Make *kept* fit: whole where that is cheaper, then without what buys least for its joules.

    Takes one entry at a time, or a whole layer.
    """
    for layer in range(kept.size):
        if kept[layer] > 0:
            spent_j = sparse_energy(table, layer, kept[layer])
            if dense_energy(table, layer) < spent_j:
                kept[layer] = table.parameters[layer]
    while message_energy(table, message_j, kept) > budget_j:
        worst, least = -1, np.inf
        for layer in range(kept.size):
            k = kept[layer]
            if k > 0:
                fewer = k - 1 if k <= known(curves, layer) else 0
                saved_j = layer_energy(table, layer, k) - layer_energy(table, layer, fewer)
                lost = gain_of(table, curves, layer, k) - gain_of(table, curves, layer, fewer)
                if worst < 0 or lost < least * saved_j:
                    worst, least = layer, lost / saved_j
        kept[worst] = kept[worst] - 1 if kept[worst] <= known(curves, worst) else 0


@compiled
def fill(
    table: EnergyTable, curves: Curves, message_j: float, budget_j: float, kept: Integers
) -> None:
    """Spend what is left: by g^2 a joule in open layers, then the largest step that fits."""
    layers = kept.size
    left_j = budget_j - message_energy(table, message_j, kept) + _SLACK * budget_j
    density = np.empty(layers)
    for layer in range(layers):
        density[layer] = _density(table, curves, layer, kept[layer], left_j)
    while True:
        best = int(np.argmax(density))
        if density[best] <= 0:
            break
        density[best] = 0.0
        before, rival = kept[best], density.max()
        kept[best] = _longest(table, curves, best, before, left_j, rival)
        left_j -= layer_energy(table, best, kept[best]) - layer_energy(table, best, before)
        density[best] = _density(table, curves, best, kept[best], left_j)
    repair(table, curves, message_j, budget_j, kept)
    while _open_one(table, curves, message_j, budget_j, kept):
        pass


@compiled
def _open_one(
    table: EnergyTable, curves: Curves, message_j: float, budget_j: float, kept: Integers
) -> bool:
    """Make the one step to a new form, or within one, that gains most; whether there was one."""
    spent_j = message_energy(table, message_j, kept)
    left_j = budget_j - (spent_j if spent_j > 0 else message_j) + _SLACK * budget_j
    most, where, new = 0.0, -1, 0
    for layer in range(kept.size):
        k, size = kept[layer], table.parameters[layer]
        if k == size:
            continue
        now = gain_of(table, curves, layer, k)
        target = _longest(table, curves, layer, k, left_j, 0.0)
        whole_fits = dense_energy(table, layer) - layer_energy(table, layer, k) <= left_j
        for new_count in (target, target - 1, size if whole_fits else k):
            gain = gain_of(table, curves, layer, new_count) - now if new_count > k else 0.0
            if gain > most:
                kept[layer] = new_count
                if message_energy(table, message_j, kept) <= budget_j:
                    most, where, new = gain, layer, new_count
                kept[layer] = k
    if where >= 0:
        kept[where] = new
    return where >= 0
