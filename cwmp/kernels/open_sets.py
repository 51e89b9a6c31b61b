"""Which layers to open: closed, entry by entry or whole, for each layer.

At a reference price each layer's form is worth G - price E, and the dual takes the best of
each. A combination of forms is short of the dual by what it gives up, and by what it would cost
to bring its joules to the budget: if its spending falls by h joules a unit of price, moving it by
x joules costs about x^2 / 2 h. Combinations are ranked by that estimate, and built up layer by
layer with the best few kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cwmp.kernels.jit import compiled
from cwmp.kernels.lagrangian import count_above
from cwmp.kernels.lines import Curves, Lines
from cwmp.kernels.reference import Floats, Integers

CLOSED, SPARSE, WHOLE = 0, 1, 2

_STEP = 1.1


class Forms(NamedTuple):
    """Each layer's forms at a price; (L, 3) but for the last.

    Attributes:
        worth: G - price E; minus infinity where there is no such form.
        energy_j: E.
        line: the form's line, -1 if closed.
        bend_j: joules that the sparse form spends less for a unit of price more; (L,).
    """

    worth: Floats
    energy_j: Floats
    line: Integers
    bend_j: Floats


@compiled
def forms_at(curves: Curves, lines: Lines, price: float) -> Forms:
    """What each form of each layer is worth at *price*."""
    layers = lines.offsets.size - 1
    worth, energy_j = np.full((layers, 3), -np.inf), np.zeros((layers, 3))
    line_of = np.full((layers, 3), -1)
    bend_j = np.zeros(layers)
    for layer in range(layers):
        worth[layer, CLOSED] = 0.0
        start = curves.offsets[layer]
        for line in range(lines.offsets[layer], lines.offsets[layer + 1]):
            form, spent_j, gain = WHOLE, lines.fixed_j[line], curves.totals[layer]
            if lines.first[line] > 0:
                first, last = lines.first[line], lines.last[line]
                slope_j = lines.slope_j[line]
                k = count_above(curves.gains, start, first, last, price * slope_j)
                form, gain = SPARSE, curves.gains[start + k]
                spent_j += slope_j * k
            if gain - price * spent_j > worth[layer, form]:
                worth[layer, form] = gain - price * spent_j
                energy_j[layer, form] = spent_j
                line_of[layer, form] = line
        line = line_of[layer, SPARSE]
        if line >= 0:
            first, last = lines.reach_first[line], lines.reach_last[line]
            slope_j = lines.slope_j[line]
            dear = count_above(curves.gains, start, first, last, price * _STEP * slope_j)
            cheap = count_above(curves.gains, start, dear, last, price / _STEP * slope_j)
            if price > 0:
                bend_j[layer] = (cheap - dear) * slope_j / (price * (_STEP - 1 / _STEP))
    return Forms(worth, energy_j, line_of, bend_j)


@compiled
def _moving(left_j: float, bend_j: float, price: float) -> float:
    """What it costs to bring spending to the budget, *left_j* of which is not spent."""
    if left_j >= 0:
        if left_j >= price * bend_j:  # even at a price of 0 there is some left
            return price * left_j - bend_j * price * price / 2
        return left_j * left_j / (2 * bend_j)
    return left_j * left_j / (2 * bend_j) if bend_j > 0 else np.inf


@compiled
def propose(forms: Forms, price: float, spendable_j: float, gap: float, width: int) -> Integers:
    """Combinations of forms that may come within *gap* of the dual at *price*.

    Args:
        gap: a form that gives up more than this cannot be part of a better selection.
        width: how many combinations are kept at each layer.

    Returns:
        The combinations, at most *width*, best estimate first; shape (C, L).
    """
    layers = forms.bend_j.size
    base = np.empty(layers, np.int64)
    left_j, bend_j = spendable_j, 0.0
    lump_j = np.zeros(layers)
    for layer in range(layers):
        best = np.argmax(forms.worth[layer])
        base[layer] = best
        left_j -= forms.energy_j[layer, best]
        bend_j += forms.bend_j[layer] if best == SPARSE else 0.0
        for form in range(3):
            if form != best and forms.worth[layer, best] - forms.worth[layer, form] < gap:
                change_j = abs(forms.energy_j[layer, form] - forms.energy_j[layer, best])
                lump_j[layer] = max(lump_j[layer], change_j)
    order = np.argsort(-lump_j, kind="mergesort")
    free = order[: np.count_nonzero(lump_j)]

    kept = 1
    state = np.zeros((3, width))  # given up, left, bend
    state[1, 0], state[2, 0] = left_j, bend_j
    grown, rank = np.zeros((3, 3 * width)), np.empty(3 * width)
    origin, choice = np.empty(3 * width, np.int64), np.empty(3 * width, np.int64)
    parents = np.zeros((free.size, width), np.int64)
    choices = np.zeros((free.size, width), np.int64)
    for step in range(free.size):
        layer, best = free[step], base[free[step]]
        number = 0
        for one in range(kept):
            for form in range(3):
                lost = forms.worth[layer, best] - forms.worth[layer, form] + state[0, one]
                if lost >= gap and form != best:
                    continue
                bend_change = forms.bend_j[layer] * ((form == SPARSE) - 1.0 * (best == SPARSE))
                grown[0, number] = lost
                grown[1, number] = (
                    state[1, one] - forms.energy_j[layer, form] + forms.energy_j[layer, best]
                )
                grown[2, number] = max(state[2, one] + bend_change, 0.0)
                rank[number] = lost + _moving(grown[1, number], grown[2, number], price)
                origin[number], choice[number] = one, form
                number += 1
        picked = np.argsort(rank[:number], kind="mergesort")[:width]
        kept = picked.size
        for one in range(kept):
            state[:, one] = grown[:, picked[one]]
            parents[step, one], choices[step, one] = origin[picked[one]], choice[picked[one]]

    combinations = np.empty((kept, layers), np.int64)
    for one in range(kept):
        combinations[one] = base
        at = one
        for step in range(free.size - 1, -1, -1):
            combinations[one, free[step]] = choices[step, at]
            at = parents[step, at]
    return combinations


@compiled
def lines_for(lines: Lines, forms: Forms, combination: Integers, exact: bool) -> Lines:
    """The lines of the layers that *combination* opens, each in its form.

    One line a layer, as far as it reaches; or, *exact*, all lines of that form.
    """
    layers = combination.size
    offsets = np.zeros(layers + 1, np.int64)
    picked = np.empty(lines.first.size, np.int64)
    number = 0
    for layer in range(layers):
        line = forms.line[layer, combination[layer]]
        if line >= 0 and exact and combination[layer] == SPARSE:
            for other in range(lines.offsets[layer], lines.offsets[layer + 1]):
                if lines.first[other] > 0:
                    picked[number] = other
                    number += 1
        elif line >= 0:
            picked[number] = line
            number += 1
        offsets[layer + 1] = number
    picked = picked[:number]
    reach_first, reach_last = lines.reach_first[picked], lines.reach_last[picked]
    first = lines.first[picked] if exact else reach_first
    last = lines.last[picked] if exact else reach_last
    return Lines(
        offsets,
        lines.fixed_j[picked],
        lines.slope_j[picked],
        first,
        last,
        reach_first,
        reach_last,
        True,
    )
