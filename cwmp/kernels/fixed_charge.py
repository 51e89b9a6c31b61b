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

import math
from typing import NamedTuple

import numpy as np

from cwmp.kernels.certificate import certify, payable
from cwmp.kernels.energy import EnergyTable, message_energy, sparse_energy
from cwmp.kernels.jit import compiled
from cwmp.kernels.lagrangian import count_above, minimise
from cwmp.kernels.lines import Curves, Lines, lines_of
from cwmp.kernels.open_sets import forms_at, lines_for, propose
from cwmp.kernels.reference import Integers
from cwmp.kernels.rounding import fill, gain_of_all, known, repair
from cwmp.kernels.trade import trade

_ROUNDS = 4
_PRICED = 24
_SMALL = 4096
_SEARCHES = 32
_SHORT = 64
_EXACT, _TIGHT, _LOOSE = 1e-14, 1e-10, 1e-7
_RANGE = 1e-18
_LARGEST_POWER = 400


class _Problem(NamedTuple):
    """What is asked, and how hard to look.

    Attributes:
        window, width: of `trade`; *width* also of `propose`.
        enough: a share of what is captured that is not worth a search.
    """

    table: EnergyTable
    curves: Curves
    lines: Lines
    message_j: float
    budget_j: float
    window: int
    width: int
    enough: float


@compiled
def solve(
    curves: Curves, table: EnergyTable, message_j: float, budget_j: float
) -> tuple[Integers, float, float, bool]:
    """Counts that capture nearly the most within *budget_j*, and the bound that certifies them.

    Args:
        curves: for each layer the cumulative sum of its g^2, largest first; the K_l entries
            that it lists may be fewer than the layer's n_l.
        table: the layers' energies.
        message_j: A, charged once.
        budget_j: B.

    Returns:
        Counts, shape (L,): k_l <= K_l entries, or n_l for the whole layer; all 0 if nothing
        fits. The price of energy in g^2 per joule at the dual's minimum. The bound: no
        selection within *budget_j* captures more. Whether the bound needed nothing of the
        entries that the curves do not list (it holds either way).
    """
    spendable_j, total = budget_j - message_j, curves.totals.sum()
    if not (spendable_j > 0 and total > 0):
        return np.zeros(curves.totals.size, np.int64), 0.0, 0.0, True
    scale, power = 1.0, math.frexp(total)[1]
    if abs(power) > _LARGEST_POWER:  # prices would leave the range of float64
        scale = 2.0 ** min(max(-power, -1000), 1000)
        curves = Curves(
            curves.gains * scale, curves.offsets, curves.totals * scale, curves.unlisted * scale
        )
    lines = lines_of(table, curves, payable(message_j, budget_j), 0)
    exact = lines_of(table, curves, payable(message_j, budget_j), _SHORT)
    guess = curves.totals.sum() / spendable_j
    dual = minimise(curves, exact, spendable_j, guess, _EXACT)
    bound, certified = certify(table, curves, exact, message_j, budget_j, dual.price)
    small = curves.gains.size <= _SMALL
    window, width, enough = (8, 128, 1e-12) if small else (3, 32, 1e-6)
    problem = _Problem(table, curves, lines, message_j, budget_j, window, width, enough)

    best, captured = np.zeros(curves.totals.size, np.int64), 0.0
    for seed in range(3):
        if seed == 0:
            kept = _whole_counts(table, exact, dual.lines, dual.counts)
        else:
            kept = _threshold_counts(problem, seed == 1)
        now = _make_best(problem, kept, dual.price)
        if now > captured:
            best, captured = kept, now

    price = dual.price
    for _ in range(_ROUNDS):
        if bound - captured <= enough * captured:
            break
        kept, now, found = _improve(problem, captured, price)
        if not now > captured:
            break
        best, captured, price = kept, now, found
    return best, dual.price / scale, bound / scale, certified


@compiled
def _improve(problem: _Problem, captured: float, price: float) -> tuple[Integers, float, float]:
    """The best counts over combinations of open layers around *price*.

    Returns:
        The counts, what they capture (no more than *captured* if nothing better is found), and
        the price at which they were found.
    """
    table, curves, lines = problem.table, problem.curves, problem.lines
    spendable_j = problem.budget_j - problem.message_j
    best, found = np.zeros(curves.totals.size, np.int64), price
    forms = forms_at(curves, lines, price)
    gap = price * spendable_j - captured
    for layer in range(best.size):
        gap += forms.worth[layer].max()
    combinations = propose(forms, price, spendable_j, gap, problem.width)[:_PRICED]
    values, prices = np.full(len(combinations), -np.inf), np.zeros(len(combinations))
    for one in range(len(combinations)):
        chosen = lines_for(lines, forms, combinations[one], False)
        point = minimise(curves, chosen, spendable_j, price, _LOOSE)
        prices[one] = point.price
        if point.fits:
            values[one] = point.value
    for one in np.argsort(-values, kind="mergesort"):
        if values[one] <= captured * (1 + problem.enough):
            break
        chosen = lines_for(lines, forms, combinations[one], True)
        roundable_j = spendable_j - _rounded_up(table, chosen)
        point = minimise(curves, chosen, roundable_j, prices[one], _TIGHT)
        if not point.fits:
            point = minimise(curves, chosen, spendable_j, prices[one], _TIGHT)
        kept = _whole_counts(table, chosen, point.lines, point.counts)
        now = _make_best(problem, kept, point.price)
        if now > captured:
            best, captured, found = kept, now, point.price
    return best, captured, found


@compiled
def _make_best(problem: _Problem, kept: Integers, price: float) -> float:
    """Make *kept* fit and spend the whole budget; what it then captures."""
    table, curves, _, message_j, budget_j, window, width, enough = problem
    repair(table, curves, message_j, budget_j, kept)
    fill(table, curves, message_j, budget_j, kept)
    trade(table, curves, message_j, budget_j, kept, price, window, width, enough)
    return gain_of_all(table, curves, kept)


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
def _threshold_counts(problem: _Problem, by_size: bool) -> Integers:
    """As many entries as fit over one threshold for all layers, of g^2 or of g^2 / c."""
    table, curves, lines, message_j, budget_j, _, _, _ = problem
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
