"""The Lagrangian dual of selection: the price of energy and the bound that it proves.

Slow and obvious. A *curve* is what one layer offers: G_l(k), the sum of its k largest g^2,
against E_l(k), its joules for k entries, k = 0, 1, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cwmp.kernels.reference import Floats, Integers

if TYPE_CHECKING:
    from cwmp.selectors.costs import SelectionCosts

_PRICE_RANGE = 1e-60
_PRICE_STEPS = 80


@dataclass(frozen=True, slots=True)
class Curve:
    """One layer's entries, best first, with what the first k capture and cost.

    Attributes:
        ranked: entry numbers by falling |g|, then number; shape (K,).
        gain: G(k), k = 0..K.
        energy_j: E(k), k = 0..K.
    """

    ranked: Integers
    gain: Floats
    energy_j: Floats


def curves_of(
    order: Integers, magnitudes: Floats, layer_of: Integers, costs: SelectionCosts
) -> list[Curve]:
    """Each layer's curve over the entries of *order*, which ranks by |g| within a layer."""
    layers = layer_of[order]
    by_layer = order[np.argsort(layers, kind="stable")]
    ends = np.cumsum(np.bincount(layers, minlength=len(costs.layers)))
    return [
        Curve(
            ranked,
            np.concatenate(([0.0], np.cumsum(magnitudes[ranked] ** 2))),
            table[: ranked.size + 1],
        )
        for ranked, table in zip(np.split(by_layer, ends[:-1]), costs.tables, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class DualPoint:
    """The minimum of the Lagrangian dual.

    Attributes:
        bound: no selection within the budget captures more.
        price: the smallest price, in g^2 per joule, at which the layers' own best counts fit.
        counts: those counts.
        overspent: the best counts just below the price, which do not fit; `counts` again
            where everything fits.
    """

    bound: float
    price: float
    counts: Integers
    overspent: Integers


def minimise_dual(curves: list[Curve], message_j: float, budget_j: float) -> DualPoint:
    """Minimise over the price of energy lambda >= 0::

        D(lambda) = lambda (B - A) + sum_l max_k ( G_l(k) - lambda E_l(k) )

    with A the message's own joules. Any lambda gives an upper bound on what a selection
    within B captures: there sum_l E_l <= B - A, so its gain is at most its Lagrangian, which
    is at most D. D is convex with slope (B - A) - sum_l E_l(k_l(lambda)): it falls where the
    layers' best counts overspend and rises where they fit, so that bisecting on "do they fit"
    finds its minimum.

    Fixed costs and concave byte sizes are taken exactly; with every E_l linear it is the
    bound of the fractional knapsack.
    """

    def fits(counts: Integers) -> bool:
        spent_j = 0.0
        for curve, k in zip(curves, counts, strict=True):
            spent_j += float(curve.energy_j[k])
        return message_j + spent_j <= budget_j

    everything = _best_counts(0.0, curves)
    if fits(everything):
        bound = _dual(0.0, curves, message_j, budget_j)
        return DualPoint(bound, 0.0, everything, everything)
    best_ratios = [(c.gain[1:] / c.energy_j[1:]).max() for c in curves if c.ranked.size]
    high = 2 * float(max(best_ratios))  # nothing is worth this price
    low = high * _PRICE_RANGE
    for _ in range(_PRICE_STEPS):
        middle = float(np.sqrt(low) * np.sqrt(high))  # prices span decades
        if not low < middle < high:
            break
        if fits(_best_counts(middle, curves)):
            high = middle
        else:
            low = middle
    bound = min(_dual(price, curves, message_j, budget_j) for price in (0.0, low, high))
    return DualPoint(bound, high, _best_counts(high, curves), _best_counts(low, curves))


def _best_counts(price: float, curves: list[Curve]) -> Integers:
    """k_l(lambda): each layer's smallest best count at *price*."""
    best = [np.argmax(curve.gain - price * curve.energy_j) for curve in curves]
    return np.array(best, dtype=np.int64)


def _dual(price: float, curves: list[Curve], message_j: float, budget_j: float) -> float:
    """D(price), rounded up.

    A cumulative sum of n terms errs by at most n epsilon of what the terms add up to, and the
    difference of budget and message by epsilon of the budget.
    """
    spendable_j = budget_j - message_j
    pairs = list(zip(curves, _best_counts(price, curves), strict=True))
    gained = sum(float(curve.gain[k]) for curve, k in pairs)
    priced = sum(float(curve.gain[k] - price * curve.energy_j[k]) for curve, k in pairs)
    epsilon = float(np.finfo(np.float64).eps)
    rounding = epsilon * sum(curve.gain.size for curve in curves) * (price * spendable_j + gained)
    return price * spendable_j + priced + rounding + epsilon * price * budget_j
