"""Selection with a fixed cost for each layer: how many entries of each layer to keep.

In a layer the best k entries are its k largest, so the unknowns are counts::

    maximise  sum_l G_l(k_l)   subject to   A + sum_l E_l(k_l) <= B

with G_l concave (cumulative g^2, sorted) and E_l(k) the lowest of a few lines a + c k for k > 0
and 0 at k = 0. Which layers are opened, and in which form, is the hard part; given that, the
counts follow from one price of energy.

1. The Lagrangian dual gives the price and the certificate (`lagrangian`, `certificate`).
2. Around a price, combinations of open layers are ranked by an estimate (`open_sets`), the best
   of them priced anew to the budget, and those that could beat what is in hand rounded to whole
   entries (`rounding`, `trade`). That is repeated around the best one's own price.

Nothing here is random, and every count returned has been priced exactly and fits.
"""

from __future__ import annotations

import numpy as np

from cwmp.kernels.certificate import certify
from cwmp.kernels.energy import EnergyTable, message_energy, sparse_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.lagrangian import Curves, Lines, count_above, lines_of, minimise
from cwmp.kernels.open_sets import forms_at, lines_for, propose
from cwmp.kernels.reference import Floats, Integers
from cwmp.kernels.rounding import fill, gain_of_all, known, repair
from cwmp.kernels.trade import trade

_ROUNDS = 4
_PRICED = 24
_SMALL = 4096
_SEARCHES = 32
_LOOSE, _TIGHT = 1e-7, 1e-10
_RANGE = 1e-18


@compiled
def solve(
    gains: Floats,
    offsets: Integers,
    totals: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> tuple[Integers, float, float, bool]:
    """Counts that capture nearly the most within *budget_j*, and the bound that certifies them.

    Args:
        gains: for each layer G_l(0) = 0, ..., G_l(K_l), one layer after another: the cumulative
            sum of its g^2, largest first. K_l may be less than n_l.
        offsets: where each layer's gains start, and their number; (L + 1,).
        totals: sum of g^2 of each whole layer; (L,).
        table: the layers' energies.
        message_j: A, charged once.
        budget_j: B.

    Returns:
        Counts, shape (L,): k_l <= K_l entries, or n_l for the whole layer; all 0 if nothing
        fits. The price of energy in g^2 per joule at the dual's minimum. The bound: no
        selection within *budget_j* captures more. Whether the bound needed nothing of the
        entries that the curves do not list (it holds either way).
    """
    curves = Curves(gains, offsets, totals)
    spendable_j = budget_j - message_j
    best = np.zeros(totals.size, np.int64)
    total = totals.sum()
    if not (spendable_j > 0 and total > 0):
        return best, 0.0, max(total, 0.0) * (spendable_j > 0), True
    lines = lines_of(table, curves, spendable_j)
    dual = minimise(curves, lines, False, spendable_j, total / spendable_j, 1e-10)
    bound, certified = certify(table, curves, lines, spendable_j, dual.price)

    window, width, enough = (8, 128, 1e-12) if gains.size <= _SMALL else (3, 32, 1e-6)
    captured = 0.0
    for seed in range(3):
        if seed == 0:
            kept = _whole_counts(table, lines, dual.lines, dual.counts)
        else:
            kept = _threshold_counts(curves, table, lines, seed == 1, message_j, budget_j)
        repair(table, curves, message_j, budget_j, kept)
        fill(table, curves, message_j, budget_j, kept)
        trade(table, curves, message_j, budget_j, kept, dual.price, window, width, enough)
        if gain_of_all(table, curves, kept) > captured:
            best, captured = kept, gain_of_all(table, curves, kept)

    price = dual.price
    for _ in range(_ROUNDS):
        forms = forms_at(curves, lines, price)
        value = price * spendable_j
        for layer in range(totals.size):
            value += forms.worth[layer].max()
        gap = min(value, bound) - captured
        if gap <= enough * captured:
            break
        combinations, _free = propose(forms, price, spendable_j, value - captured, width)
        number = min(combinations.shape[0], _PRICED)
        values, found = np.full(number, -np.inf), price
        improved = False
        prices = np.empty(number)
        for one in range(number):
            chosen = lines_for(lines, forms, combinations[one], False)
            point = minimise(curves, chosen, True, spendable_j, price, _LOOSE)
            prices[one] = point.price
            if point.fits:
                values[one] = point.value
        for one in np.argsort(-values, kind="mergesort"):
            if values[one] <= captured * (1 + enough):
                break
            chosen = lines_for(lines, forms, combinations[one], True)
            roundable_j = spendable_j - _rounded_up(table, chosen)
            point = minimise(curves, chosen, True, roundable_j, prices[one], _TIGHT)
            if not point.fits:
                continue
            kept = _whole_counts(table, chosen, point.lines, point.counts)
            repair(table, curves, message_j, budget_j, kept)
            fill(table, curves, message_j, budget_j, kept)
            trade(table, curves, message_j, budget_j, kept, point.price, window, width, enough)
            now = gain_of_all(table, curves, kept)
            if now > captured:
                best, captured, found = kept, now, point.price
                improved = True
        if not improved:
            break
        price = found
    return best, dual.price, bound, certified


@compiled
def _whole_counts(table: EnergyTable, lines: Lines, chosen: Integers, counts: Integers) -> Integers:
    """Each layer's count on its chosen line; n_l for a layer sent whole."""
    kept = np.zeros(chosen.size, np.int64)
    for layer in range(chosen.size):
        if chosen[layer] >= 0:
            whole = lines.first[chosen[layer]] == 0
            kept[layer] = table.parameters[layer] if whole else counts[chosen[layer]]
    return kept


@compiled
def _rounded_up(table: EnergyTable, lines: Lines) -> float:
    """What whole bytes can cost over the lines: one each in every layer that has a line."""
    rounded_j = 0.0
    for layer in range(table.byte_j.size):
        if lines.offsets[layer] < lines.offsets[layer + 1]:
            rounded_j += table.byte_j[layer]
    return rounded_j


@compiled
def _threshold_counts(
    curves: Curves,
    table: EnergyTable,
    lines: Lines,
    by_size: bool,
    message_j: float,
    budget_j: float,
) -> Integers:
    """As many entries as fit over one threshold for all layers, of g^2 or of g^2 / c."""
    layers = curves.totals.size
    most, least = np.zeros(layers, np.int64), np.zeros(layers, np.int64)
    weight, high = np.ones(layers), 0.0
    for layer in range(layers):
        start = curves.offsets[layer]
        most[layer] = known(curves, layer)
        if lines.offsets[layer] == lines.offsets[layer + 1]:
            most[layer] = 0
        if most[layer] > 0:
            if not by_size:
                weight[layer] = sparse_energy(table, layer, 2) - sparse_energy(table, layer, 1)
            high = max(high, (curves.gains[start + 1] - curves.gains[start]) / weight[layer])
    if message_energy(table, message_j, most) <= budget_j:
        return most
    low, middle = high * _RANGE, np.zeros(layers, np.int64)
    for _ in range(_SEARCHES):
        threshold = np.sqrt(low) * np.sqrt(high)
        for layer in range(layers):
            middle[layer] = count_above(
                curves.gains,
                curves.offsets[layer],
                least[layer],
                most[layer],
                threshold * weight[layer],
            )
        if message_energy(table, message_j, middle) <= budget_j:
            high = threshold
            least[:] = middle
        else:
            low = threshold
            most[:] = middle
    return least
