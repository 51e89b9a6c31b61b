"""Selection, slow and obvious: the order of the entries, and the longest prefix that fits.

Everything here is a pure function of arrays. Entries are numbered through all layers, in the
layers' order and then by position; |g| and scores are float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError

if TYPE_CHECKING:
    from cwmp.selectors.costs import SelectionCosts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def layer_weights(marginal_j: Floats, p: float, q: float) -> Floats:
    """(c_l / max c)^(q/p): dividing |g| by it ranks like |g|^p / c^q.

    |g|^p / c^q and |g| / c^(q/p) have the same order, and g^2 is never formed: it underflows
    for half precision and makes false ties. Divided by the largest, the weights are at most 1,
    so that no score underflows, and exactly 1 when all costs are equal.

    Raises:
        InputError: p is not positive, q is negative, or a cost is not a positive number.
    """
    if not (np.isfinite(p) and p > 0 and np.isfinite(q) and q >= 0):
        raise InputError(f"the score |g|^p / c^q needs p > 0 and q >= 0, not p={p}, q={q}")
    if not (np.isfinite(marginal_j).all() and (marginal_j > 0).all()):
        raise InputError("the marginal cost of every layer must be a positive number of joules")
    weights: Floats = (marginal_j / marginal_j.max()) ** (q / p)
    if not (weights > 0).all():
        raise InputError(f"costs this far apart cannot be ranked with p={p}, q={q}: lower q/p")
    return weights


def score_order(magnitudes: Floats, layer_of: Integers, weights: Floats) -> Integers:
    """Entries that are not zero, by falling |g| / w_l, then falling |g|, then number."""
    candidates = np.flatnonzero(magnitudes)
    kept = magnitudes[candidates]
    with np.errstate(over="ignore"):  # |g| near the largest float64: ties, told apart by |g|
        scores = kept / weights[layer_of[candidates]]
    order: Integers = candidates[np.lexsort((-kept, -scores))]  # stable, so by number at last
    return order


def largest_prefix(
    order: Integers,
    layer_of: Integers,
    costs: SelectionCosts,
    budget_j: float,
    base: Integers | None = None,
) -> int:
    """How many of the first entries of *order* fit in *budget_j*, on top of *base* entries.

    Energy never falls when an entry is added, so the answer is found by bisection; what it
    returns has been priced and found to fit (or is 0).
    """
    layers = len(costs.layers)
    already = np.zeros(layers, dtype=np.int64) if base is None else base

    def fits(length: int) -> bool:
        counts = already + np.bincount(layer_of[order[:length]], minlength=layers)
        return energy_of(counts, costs) <= budget_j

    low, high = 0, order.size
    if fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def energy_of(counts: Integers, costs: SelectionCosts) -> float:
    """``costs.energy_j(counts)``, the same number bit for bit, looked up."""
    if not counts.any():
        return 0.0
    spent_j = 0.0  # one by one: sum() compensates from Python 3.12 on
    for table, k in zip(costs.tables, counts, strict=True):
        spent_j += float(table[k])
    return costs.message_j + spent_j
