"""What CWMP and Top-K capture in expectation, by the same candidates as the selectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwmp.gain.curves import Expected, ExpectedCurves, longest_prefix
from cwmp.gain.tails import Floats, Tail
from cwmp.kernels.reference import layer_weights
from cwmp.selectors.costs import SelectionCosts

_PRICE_RANGE = 1e-60
_PRICE_STEPS = 45


@dataclass(frozen=True, slots=True)
class Capture:
    """Sums of g^2 within one budget.

    Attributes:
        weighted, top: what CWMP (2, 1) and Top-K capture.
        bound: the Lagrangian dual of the expected curves, nowhere below *weighted*.
        total: over all entries.
        top_kept: entries of each layer that Top-K keeps; shape (L,).
    """

    weighted: float
    top: float
    bound: float
    total: float
    top_kept: Floats

    @property
    def gain(self) -> float:
        """CWMP's over Top-K's, never below 1: Top-K's prefix is one of CWMP's candidates."""
        if self.top == 0:
            return 1.0 if self.weighted == 0 else float("inf")
        return max(1.0, self.weighted / self.top)


def capture(curves: ExpectedCurves, budget_j: float, *, check: bool = True) -> Capture:
    """What both rules capture at *budget_j* joules.

    CWMP is the best of the prefix by g^2 / c, Top-K's own, and, where a cost is not linear,
    the layers' best counts at the dual price filled up in score order, and the prefix over
    the layers that are open just below that price (see `cwmp.selectors.CostWeighted`). Layers
    of which the budget does not pay for one entry are passed over, unless *check* is false.
    """
    spendable_j = budget_j - curves.message_j
    opens = _affordable(curves, spendable_j) if check else np.ones_like(curves.entries)
    weights = layer_weights(curves.marginal_j, 2, 1)
    top = longest_prefix(curves, np.ones_like(weights), spendable_j, opens)
    best = top.captured
    if weights.min() < 1:  # with equal costs it is Top-K's prefix
        best = max(best, longest_prefix(curves, weights, spendable_j, opens).captured)
    bound = best
    if not curves.linear:
        bound, priced = _priced(curves, weights, spendable_j, opens)
        best = max([best, *(found.captured for found in priced)])
    return Capture(best, top.captured, max(bound, best), _total(curves), top.kept)


def score_capture(costs: SelectionCosts, tail: Tail, budget_j: float, p: float, q: float) -> float:
    """The share of sum g^2 that the longest prefix by |g|^p / c^q captures.

    With linear costs that is all there is: (2, 1) is CWMP, (1, 1) the score |g| / c as the
    paper (arXiv 2603.22465) is reported, (1, 0) Top-K.

    Raises:
        InputError: exponents that cannot rank.

    >>> from cwmp.gain.tails import Laplace
    >>> costs = SelectionCosts.linear({"a": (10**6,), "b": (10**6,)}, {"a": 1.0, "b": 10.0})
    >>> scores = [(1, 0), (1, 1), (2, 1)]
    >>> [round(score_capture(costs, Laplace(), 0.05 * costs.dense_j, *s), 2) for s in scores]
    [0.42, 0.51, 0.58]
    """
    curves = ExpectedCurves.of(costs, tail)
    spendable_j = budget_j - curves.message_j
    weights = layer_weights(curves.marginal_j, p, q)
    opens = _affordable(curves, spendable_j)
    return longest_prefix(curves, weights, spendable_j, opens).captured / _total(curves)


def _affordable(curves: ExpectedCurves, spendable_j: float) -> Floats:
    """1 for the layers of which one entry can be paid, else 0."""
    return (curves.energy_j[:, 0] <= spendable_j).astype(np.float64)


def _total(curves: ExpectedCurves) -> float:
    return float(curves.entries @ curves.tail.moment(np.zeros_like(curves.entries)))


def _priced(
    curves: ExpectedCurves, weights: Floats, spendable_j: float, opens: Floats
) -> tuple[float, list[Expected]]:
    """The dual bound, and the candidates that the price of energy gives."""
    shares = (curves.counts / curves.entries[:, None]).T
    thresholds = curves.tail.quantile(shares)
    gain = (curves.entries * curves.tail.moment(thresholds)).T * opens[:, None]
    bound, fitting, over = _dual(gain, curves.energy_j, spendable_j)
    kept, wider = (fitting >= 0), (over >= 0)
    candidates = []
    if kept.any():
        base = thresholds[np.maximum(fitting, 0), np.arange(fitting.size)]
        candidates.append(
            longest_prefix(curves, weights, spendable_j, kept.astype(np.float64), base)
        )
    if wider.any():
        candidates.append(longest_prefix(curves, weights, spendable_j, wider.astype(np.float64)))
    return bound, candidates


def _dual(gain: Floats, energy_j: Floats, spendable_j: float) -> tuple[float, Floats, Floats]:
    """Minimise over the price: price * spendable + sum_l max(0, max_k G_l - price E_l).

    Returns:
        The minimum, and each layer's best column at the smallest price at which those fit and
        just below it; -1 for a layer left closed.
    """

    def best(price: float) -> tuple[Floats, float, float]:
        value = gain - price * energy_j
        column = value.argmax(axis=1)
        rows = np.arange(column.size)
        worth = value[rows, column]
        column = np.where(worth > 0, column, -1)
        spent_j = float(energy_j[rows, column] @ (worth > 0))
        return column, spent_j, price * spendable_j + float(worth.clip(0).sum())

    column, spent_j, bound = best(0.0)
    if spent_j <= spendable_j:
        return bound, column, column
    high = 2 * float((gain / energy_j).max())
    low = high * _PRICE_RANGE
    for _ in range(_PRICE_STEPS):
        middle = float(np.sqrt(low) * np.sqrt(high))
        if best(middle)[1] <= spendable_j:
            high = middle
        else:
            low = middle
    fits, over = best(high), best(low)
    return min(bound, fits[2], over[2]), fits[0], over[0]
