"""One density for all layers: the largest that a joule budget pays for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cwmp.selectors.costs import SelectionCosts
from profiler.errors import BudgetError

_LEAST = 1e-15
_HALVINGS = 60


def largest_share(energy_j: Callable[[float], float], budget_j: float) -> float:
    """The largest s in (0, 1] with energy_j(s) <= *budget_j*, by bisection.

    Args:
        energy_j: joules at a share; it never falls.

    Returns:
        A share that has been priced and found to fit, within 2^-60 of the largest.

    Raises:
        BudgetError: not even the least share fits, which is one atom of every layer.
    """
    if energy_j(1.0) <= budget_j:
        return 1.0
    low, high = _LEAST, 1.0
    least_j = energy_j(low)
    if least_j > budget_j:
        raise BudgetError(
            f"infeasible: the budget of {budget_j:.4g} J does not open every layer, which takes "
            f"{least_j:.4g} J at one entry or atom each; a method that shares one density among "
            "the layers needs that"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if energy_j(middle) <= budget_j:
            low = middle
        else:
            high = middle
    return low


def counts_at(share: float, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """ceil(share * n) of each size, at least 1; shape as *sizes*."""
    counts: NDArray[np.int64] = np.clip(np.ceil(share * sizes).astype(np.int64), 1, sizes)
    return counts


@lru_cache(maxsize=16)
def common_counts(costs: SelectionCosts, budget_j: float) -> tuple[int, ...]:
    """k_l = ceil(s n_l) entries of each layer, with the largest s that *budget_j* pays for.

    Raises:
        BudgetError: the budget cannot be spent, or does not pay for one entry of each layer.
    """
    costs.check_budget(budget_j)
    sizes = np.array([layer.parameters for layer in costs.layers], dtype=np.int64)
    share = largest_share(lambda s: costs.energy_j(counts_at(s, sizes)), budget_j)
    return tuple(counts_at(share, sizes).tolist())
