"""Counts of each layer where opening one has a price, over the kernels' candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.curves import Ranked, cut_of, marginal_price, ranked
from cwmp.kernels.energy import dense_forms
from cwmp.kernels.fixed_charge import solve
from cwmp.kernels.lines import Curves
from cwmp.kernels.magnitudes import ALL_BITS, Bits, Floats
from cwmp.kernels.rehearsal import rehearse, thresholds
from cwmp.selection import Selection
from cwmp.selectors.prefix import unaffordable
from cwmp.selectors.reading import Reading
from cwmp.selectors.search import Search

_SMALL = 2**17
_ATTEMPTS = 3


def select_fixed_charge(search: Search, reading: Reading, budget_j: float) -> Selection:
    """Keep what `cwmp.kernels.fixed_charge.solve` chooses, certified by its bound.

    A small update is ranked whole. Of a large one only what lies above thresholds, guessed from
    a sample; where the solver cannot rule out that an entry below them matters, they fall to
    those of its own price, and in the end to nothing.

    Raises:
        BudgetError: the update has entries, but none that the budget pays for.
        UpdateError: the update holds NaN or inf.
    """
    open_weights = search.affordable(np.ones(len(search.names)), budget_j)
    is_open = np.isfinite(open_weights)
    low, expected = _first_thresholds(search, reading, is_open, budget_j)
    for attempt in range(_ATTEMPTS):
        done = search.scan(reading, low, expected)
        order = ranked(done.found, is_open.size)
        totals = np.where(is_open, _totals(done.total, order, low), 0.0)
        curves = Curves(order.gains, order.offsets, totals, _squares(low, is_open))
        everything = np.diff(order.offsets) - 1
        if is_open.all() and _affords(search, everything, low, budget_j):
            counts, price, bound = everything, 0.0, float(totals.sum())
            break
        counts, price, bound, listed = solve(curves, search.table, search.costs.message_j, budget_j)
        price = max(price, marginal_price(order.gains, order.offsets, search.table, counts))
        if listed or attempt == _ATTEMPTS - 1:
            break
        search.release(done)
        reading, expected = done.reading, 2 * done.found.kept
        # More entries to choose from can only raise the price: its own threshold is low enough.
        low = thresholds(price if attempt == 0 else 0.0, search.table, is_open)
    try:
        if not totals.any() and done.total.any():
            raise unaffordable(budget_j)
        dense = dense_forms(search.table, counts)
        cut = cut_of(done.found, order, counts, dense)
        return search.selection(done, cut, budget_j, bound=bound, price=price)
    finally:
        search.release(done)


def _affords(search: Search, counts: NDArray[np.int64], low: Bits, budget_j: float) -> bool:
    """Whether all that is not zero is listed and fits.

    The solver would stop earlier: where sums of g^2 are rounded, the smallest entries add nothing.
    """
    return bool((low <= 1).all()) and 0 < search.costs.energy_j(counts) <= budget_j


def _first_thresholds(
    search: Search, reading: Reading, is_open: NDArray[np.bool_], budget_j: float
) -> tuple[Bits, int]:
    """Which entries the pass keeps, and about how many."""
    entries = int(search.table.parameters.sum())
    if entries <= _SMALL:
        return np.where(is_open, 1, ALL_BITS).astype(np.uint32), entries
    sources, lines = search.sampled(reading)
    return rehearse(sources, lines, is_open, search.table, search.costs.message_j, budget_j)


def _totals(total: Floats, order: Ranked, low: Bits) -> Floats:
    """Sum of g^2 of each layer: that of its candidates where they are all there is.

    So what is chosen does not turn on the order in which *total* was added up.
    """
    listed = order.gains[order.offsets[1:] - 1]
    return np.where(low == 1, listed, np.maximum(total, listed))


def _squares(low: Bits, is_open: NDArray[np.bool_]) -> Floats:
    """What the entries below each layer's threshold do not reach in g^2; 0 in closed layers."""
    value = np.where(is_open, low, 0).astype(np.uint32).view(np.float32).astype(np.float64)
    return value * value
