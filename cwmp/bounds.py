"""What a budget can capture at most, the price of energy, and how far costs are spread."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from costmodels.costfile import CostFile
from cwmp.kernels.dual import curves_of, minimise_dual
from cwmp.kernels.reference import Floats, score_order
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import affordable, prepared
from cwmp.selectors.updates import AnyUpdate, read_update
from profiler.errors import InputError


def captured_bound(
    update: AnyUpdate, costs: CostFile | SelectionCosts, budget_j: float
) -> tuple[float, float]:
    """An upper limit on the sum of g^2 that any selection within *budget_j* captures.

    It is the minimum over the price of energy of the Lagrangian dual, see
    `cwmp.kernels.dual.minimise_dual`, with fixed costs and byte sizes taken exactly. Layers
    of which the budget does not pay for one entry are left out.

    Returns:
        The bound, and the price in g^2 per joule at which it is reached.

    Raises:
        BudgetError, LayerMismatchError, UpdateError: as for selection.

    >>> costs = SelectionCosts.linear({"w": (3,)}, {"w": 1.0})
    >>> bound, price = captured_bound({"w": np.array([3.0, 2.0, 1.0])}, costs, budget_j=1.5)
    >>> round(bound, 6), round(price, 6)
    (11.0, 4.0)
    """
    costs = prepared(costs)
    flat = read_update(update, costs)
    costs.check_budget(budget_j)
    by_size = score_order(flat.magnitudes, flat.layer_of, np.ones(len(costs.layers)))
    order = affordable(by_size, flat, costs, budget_j)
    curves = curves_of(order, flat.magnitudes, flat.layer_of, costs)
    point = minimise_dual(curves, costs.message_j, budget_j)
    return point.bound, point.price


def fractional_knapsack_bound(
    squares: ArrayLike, entry_j: ArrayLike, budget_j: float
) -> tuple[float, float]:
    """The same for linear costs in closed form: Dantzig's bound of the 0-1 knapsack.

    Entries that cost more than the budget are dropped; the rest are taken by falling
    g^2 / c until the budget is spent, the last one in part. ``captured_bound`` must agree.

    Args:
        squares: g^2 of each entry; shape (N,).
        entry_j: joules of each entry, positive; shape (N,).
        budget_j: joules, the message's own charge taken off.

    Returns:
        The bound, and g^2 / c of the entry in part (0 if all fit).

    Raises:
        InputError: lengths that differ, a square or budget that is negative, a cost that is not
            positive, or anything that is NaN or infinite.

    >>> fractional_knapsack_bound([9.0, 4.0, 1.0], [1.0, 1.0, 1.0], budget_j=1.5)
    (11.0, 4.0)
    """
    gain = np.asarray(squares, dtype=np.float64)
    cost = np.asarray(entry_j, dtype=np.float64)
    _check_knapsack(gain, cost, budget_j)
    gain, cost = gain[cost <= budget_j], cost[cost <= budget_j]
    order = np.argsort(-gain / cost, kind="stable")
    bound, left_j = 0.0, budget_j
    for entry in order:
        if cost[entry] > left_j:
            price = float(gain[entry] / cost[entry])
            return bound + price * left_j, price
        bound += float(gain[entry])
        left_j -= float(cost[entry])
    return bound, 0.0


def _check_knapsack(gain: Floats, cost: Floats, budget_j: float) -> None:
    if gain.ndim != 1 or gain.shape != cost.shape:
        raise InputError(
            f"squares of shape {gain.shape} and costs of shape {cost.shape}: give one of each an "
            "entry"
        )
    if not (np.isfinite(gain).all() and (gain >= 0).all()):
        raise InputError("a square is negative, NaN or infinite: pass g^2 of finite entries")
    if not (np.isfinite(cost).all() and (cost > 0).all()):
        raise InputError("an entry's joules are not positive and finite: its density has no limit")
    if not (isfinite(budget_j) and budget_j >= 0):
        raise InputError(f"the budget is {budget_j} J; it must be a number of joules, 0 or more")


@dataclass(frozen=True, slots=True)
class CostSpread:
    """How much an entry's joules differ within a model: what cost-weighted selection lives on.

    Attributes:
        lowest_j, median_j, highest_j: marginal joules of an entry, layers counted once.
        ratio: highest over lowest.
        weighted_variation: standard deviation over mean, entries counted once.
        fixed_entries: the median over layers of the joules of opening the layer, in entries.
    """

    lowest_j: float
    median_j: float
    highest_j: float
    ratio: float
    weighted_variation: float
    fixed_entries: float


def cost_spread(costs: CostFile | SelectionCosts) -> CostSpread:
    """The spread of the marginal costs over a model's layers, and the weight of fixed costs.

    >>> spread = cost_spread(SelectionCosts.linear({"a": (2,), "b": (2,)}, {"a": 1.0, "b": 3.0}))
    >>> spread.ratio, spread.weighted_variation, spread.fixed_entries
    (3.0, 0.5, 0.0)
    """
    costs = prepared(costs)
    marginal_j = np.array([layer.marginal_j for layer in costs.layers])
    opening_j = np.array([float(layer.energy_j(1)) for layer in costs.layers]) - marginal_j
    entries = np.array([layer.parameters for layer in costs.layers], dtype=np.float64)
    mean = np.average(marginal_j, weights=entries)
    variance = np.average((marginal_j - mean) ** 2, weights=entries)
    return CostSpread(
        lowest_j=float(marginal_j.min()),
        median_j=float(np.median(marginal_j)),
        highest_j=float(marginal_j.max()),
        ratio=float(marginal_j.max() / marginal_j.min()),
        weighted_variation=float(np.sqrt(variance) / mean),
        fixed_entries=float(np.median(np.maximum(opening_j, 0) / marginal_j)),
    )
