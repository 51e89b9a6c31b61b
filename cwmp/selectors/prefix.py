"""The longest prefix of a score within the budget, and its bound where costs are linear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cwmp.kernels.crossing import Cut
from cwmp.kernels.magnitudes import Floats
from cwmp.selection import Selection
from cwmp.selectors.reading import Reading
from cwmp.selectors.search import Search
from profiler.errors import BudgetError

_NOISE = 1e-12
_EPSILON = float(np.finfo(np.float64).eps)
_ULPS = 4 * _EPSILON
"""What adding up joules beside a large message charge can lose, of the budget."""


def select_prefix(
    search: Search, reading: Reading, weights: Floats, budget_j: float, power: int | None = None
) -> Selection:
    """Keep the longest prefix of falling |g| / w_l that the budget pays for.

    Args:
        weights: w_l; where the score is |g|^p / c^q, c^(q/p) but for a factor.
        power: with linear costs, certify that no selection has a larger sum of |g|^power; the
            weights must be those of the score |g|^power / c. ``None`` for no certificate.

    Raises:
        BudgetError: the update has entries, but none that the budget pays for.
        UpdateError: the update holds NaN or inf.
    """
    open_weights = search.affordable(weights, budget_j)
    done, cut = search.prefix(reading, open_weights, budget_j)
    try:
        if not cut.counts.any() and done.total[np.isinf(open_weights)].any():
            raise unaffordable(budget_j)
        selection = search.selection(done, cut, budget_j)
    finally:
        search.release(done)
    if power is None or not search.costs.is_linear:
        return selection
    return _certified(selection, cut, search, budget_j, power)


def unaffordable(budget_j: float) -> BudgetError:
    """The error of a budget that opens no layer in which something is left to send."""
    return BudgetError(
        f"infeasible: the budget of {budget_j:.4g} J opens no layer in which the update "
        "has an entry that is not zero"
    )


def best_of(*selections: Selection) -> Selection:
    """The selection that captures most; the earlier one unless by more than rounding."""
    best = selections[0]
    for selection in selections[1:]:
        if selection.captured > best.captured * (1 + _NOISE):
            best = selection
    return best


def _certified(
    selection: Selection, cut: Cut, search: Search, budget_j: float, power: int
) -> Selection:
    """With Dantzig's bound: what is kept, and of the first entry left out what still fits."""
    reached = selection.captured
    if power == 1:
        reached = sum(float(np.abs(x.values).sum(dtype=np.float64)) for x in selection.layers)
    price = 0.0
    if cut.next_layer >= 0:
        next_value = float(np.array(cut.next_bits, dtype=np.uint32).view(np.float32))
        price = next_value**power / search.costs.layers[cut.next_layer].marginal_j
    spent_j = selection.energy_j if selection.layers else search.costs.message_j
    rounding = 1 + (selection.entries + 64) * _EPSILON
    return replace(
        selection,
        bound=(reached + price * (max(budget_j - spent_j, 0.0) + _ULPS * budget_j)) * rounding,
        price=price,
        reached=reached if power == 1 else None,
    )
