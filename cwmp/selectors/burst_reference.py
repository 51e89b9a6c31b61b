"""Selection by memory burst, slow and obvious: every burst looked at, at every price tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwmp.kernels.reference import Floats
from cwmp.selection import Update
from cwmp.selectors.burst_costs import BurstCosts, BurstPrice

_RANGE, _STEPS = 1e-15, 90


@dataclass(frozen=True, slots=True)
class BurstsAtPrice:
    """What is worth its joules at a price of energy.

    Attributes:
        kept: which entries of each layer; boolean, flat.
        energy_j, captured: their joules, the message's own included, and their g^2.
        worth: captured - price * joules, the message's own apart.
    """

    kept: tuple[np.ndarray, ...]
    energy_j: float
    captured: float
    worth: float


def at_price(update: Update, costs: BurstCosts, price: float) -> BurstsAtPrice:
    """Keep entries, bursts and layers that are worth more than they cost at *price*."""
    kept, bursts, entries, captured = [], [], [], 0.0
    for layer in costs.layers:
        squares = np.asarray(update[layer.name], dtype=np.float64).reshape(-1) ** 2
        chosen = _worth_it(squares, layer, price)
        kept.append(chosen)
        starts = range(0, squares.size, layer.burst_entries)
        bursts.append(sum(int(chosen[at : at + layer.burst_entries].any()) for at in starts))
        entries.append(int(chosen.sum()))
        captured += float(squares[chosen].sum())
    energy_j = costs.energy_j(bursts, entries)
    spent_j = energy_j - costs.message_j if any(entries) else 0.0
    return BurstsAtPrice(tuple(kept), energy_j, captured, captured - price * spent_j)


def _worth_it(squares: Floats, layer: BurstPrice, price: float) -> np.ndarray:
    chosen = np.zeros(squares.size, dtype=bool)
    surplus = 0.0
    for start in range(0, squares.size, layer.burst_entries):
        burst = squares[start : start + layer.burst_entries]
        worth = burst - price * layer.entry_j
        value = worth[worth > 0].sum() - price * layer.burst_j
        if value > 0:
            chosen[start : start + layer.burst_entries] = worth > 0
            surplus += value
    return chosen if surplus > price * layer.opening_j else np.zeros_like(chosen)


def minimise_burst_dual(
    update: Update, costs: BurstCosts, budget_j: float
) -> tuple[float, BurstsAtPrice]:
    """The minimum over the price of lambda (B - A) + worth, and what the price there keeps.

    The first bounds what any selection within the budget captures; the second fits.
    """
    spendable_j = budget_j - costs.message_j
    free = at_price(update, costs, 0.0)
    if free.energy_j <= budget_j:
        return free.worth, free
    total = free.captured
    high = 2 * total / min(layer.entry_j for layer in costs.layers)
    low, best = high * _RANGE, total
    for _ in range(_STEPS):
        middle = float(np.sqrt(low) * np.sqrt(high))
        here = at_price(update, costs, middle)
        best = min(best, middle * spendable_j + here.worth)
        if here.energy_j <= budget_j:
            high = middle
        else:
            low = middle
    return best, at_price(update, costs, high)
