"""From what bursts offer to whole entries within the budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cwmp.kernels.bursts import best_step
from cwmp.kernels.choice import choose
from cwmp.kernels.reference import Integers
from cwmp.selectors.burst_costs import BurstCosts
from cwmp.selectors.burst_offers import Offer, menus_of

_ULPS = 4 * float(np.finfo(np.float64).eps)
_FILLS = 64
_FEW = 512
_NOISE = 1e-12

Kept = list[Integers]
"""How many entries of each candidate burst are kept, one array a layer."""


def spendable(budget_j: float, costs: BurstCosts) -> float:
    """B - A, or a few roundings more, so that what exactly fits is not lost."""
    return budget_j - costs.message_j + _ULPS * budget_j


def kept_within(offers: Sequence[Offer], costs: BurstCosts, budget_j: float) -> Kept:
    """Entries that capture nearly the most within *budget_j*.

    Where there are few bursts a budget may pay for a part of a lump only: then lumps of 1, 2, 4,
    ... entries at most are tried too, and each touched burst is given up for what its joules buy
    elsewhere, while that captures more.
    """
    best = _bought(offers, costs, budget_j)
    if sum(offer.squares.shape[0] for offer in offers) > _FEW:
        return best
    most = 1
    while most < max(offer.squares.shape[1] for offer in offers):
        capped = [offer.with_lumps_of(most) for offer in offers]
        best = max(best, _bought(capped, costs, budget_j), key=lambda kept: _captured(offers, kept))
        most *= 2
    return _exchanged(offers, costs, budget_j, best)


def _bought(offers: Sequence[Offer], costs: BurstCosts, budget_j: float) -> Kept:
    menus = menus_of([(offer.joules, offer.gains) for offer in offers])
    for limit_j in (spendable(budget_j, costs), (budget_j - costs.message_j) * (1 - _ULPS)):
        items = choose(menus, limit_j) - menus.offsets[:-1]
        kept = [offer.kept(int(count)) for offer, count in zip(offers, items, strict=True)]
        if _energy_j(offers, costs, kept) <= budget_j:
            return _filled(offers, costs, budget_j, kept)
    return [np.zeros_like(one) for one in kept]


def _filled(offers: Sequence[Offer], costs: BurstCosts, budget_j: float, kept: Kept) -> Kept:
    """*kept*, and then what gains most in one burst, again and again; changes it in place."""
    for _ in range(_FILLS):
        spent_j = sum(offer.spent_j(one) for offer, one in zip(offers, kept, strict=True))
        left_j = spendable(budget_j, costs) - spent_j
        most, where, row, count = 0.0, -1, -1, 0
        for number, (offer, one) in enumerate(zip(offers, kept, strict=True)):
            price = offer.price
            here_j = left_j if one.any() else left_j - price.opening_j
            if here_j < price.entry_j:
                continue
            step = best_step(offer.squares, one, here_j, price.burst_j, price.entry_j)
            if step[0] > most:
                most, row, count = step
                where = number
        if where < 0:
            break
        before, kept[where][row] = kept[where][row], count
        if _energy_j(offers, costs, kept) > budget_j:  # by a rounding
            kept[where][row] = before
            break
    return kept


def _exchanged(offers: Sequence[Offer], costs: BurstCosts, budget_j: float, best: Kept) -> Kept:
    captured = _captured(offers, best)
    places = [(number, int(row)) for number, one in enumerate(best) for row in np.flatnonzero(one)]
    for number, row in places:
        for fewer in (0, int(best[number][row]) - 1):
            if not 0 <= fewer < best[number][row]:  # given up since
                continue
            trial = [one.copy() for one in best]
            trial[number][row] = fewer
            trial = _filled(offers, costs, budget_j, trial)
            now = _captured(offers, trial)
            if now > captured * (1 + _NOISE):
                best, captured = trial, now
    return best


def _captured(offers: Sequence[Offer], kept: Kept) -> float:
    return sum(offer.captured(one) for offer, one in zip(offers, kept, strict=True))


def _energy_j(offers: Sequence[Offer], costs: BurstCosts, kept: Kept) -> float:
    bursts = [int(np.count_nonzero(one)) for one in kept]
    return costs.energy_j(bursts, [int(one.sum()) for one in kept])
