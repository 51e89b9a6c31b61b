"""The rule for entries with costs of their own, slow and obvious: every entry scored and sorted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.element_costs import ElementCosts
from cwmp.selectors.updates import (
    AnyUpdate,
    as_array,
    check_names,
    check_shape,
    check_values,
    sum_of_squares,
)
from profiler.errors import BudgetError, InputError

_EPSILON = float(np.finfo(np.float64).eps)


class ReferenceElementWeighted:
    """See `cwmp.selectors.element_weighted.ElementWeighted`, which is tested against this.

    Args:
        costs: what each entry charges.
        p, q: the exponents; p > 0, q >= 0.

    Raises:
        InputError: exponents that cannot rank.
    """

    def __init__(self, costs: ElementCosts, p: float = 2, q: float = 1) -> None:
        check_exponents(p, q)
        self.costs = costs
        self.p = p
        self.q = q

    @property
    def name(self) -> str:
        return name_of(self.p, self.q)

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used."""
        values = _read(update, self.costs)
        self.costs.check_budget(budget_j)
        budget = self.costs.quanta_within(budget_j)
        size = np.abs(np.concatenate([array.astype(np.float64) for array in values]))
        cost = np.concatenate([x.reshape(-1) for x in self.costs.quanta.values()]).astype(np.int64)
        order = np.flatnonzero((size > 0) & (cost <= budget))
        if not order.size and size.any():
            raise pays_for_nothing(budget_j)
        with np.errstate(over="ignore"):
            score = size[order] / weights(cost[order], self.p, self.q)
        order = order[np.lexsort((-size[order], -score))]  # stable, so by number at last
        spent = np.cumsum(cost[order])
        length = int(np.searchsorted(spent, budget, side="right"))
        kept = np.sort(order[:length])
        following = None
        if length < order.size:
            entry = order[length]
            following = Following(float(size[entry]), int(cost[entry]))
        paid = int(spent[length - 1]) if length else 0
        selection = _selection(values, kept, self.costs, paid, budget_j)
        return certified(selection, self.costs, (self.p, self.q), paid, following)


@dataclass(frozen=True)
class Following:
    """The first entry left out: |g| and its cost in quanta."""

    size: float
    cost: int


def check_exponents(p: float, q: float) -> None:
    """Raise unless |g|^p / c^q ranks.

    Raises:
        InputError: p is not positive, or q is negative.
    """
    if not (np.isfinite(p) and p > 0 and np.isfinite(q) and q >= 0):
        raise InputError(f"the score |g|^p / c^q needs p > 0 and q >= 0, not p={p}, q={q}")


def name_of(p: float, q: float) -> str:
    """``elements``, with the exponents where they are not (2, 1)."""
    return "elements" if (p, q) == (2, 1) else f"elements:{p:g},{q:g}"


def weights(cost: NDArray[np.int64], p: float, q: float) -> NDArray[np.float64]:
    """c^(q/p): dividing |g| by it ranks like |g|^p / c^q. Roots are correctly rounded."""
    wide = cost.astype(np.float64)
    if q == 0:
        return np.ones_like(wide)
    if p == q:
        return wide
    return np.sqrt(wide) if p == 2 * q else wide ** (q / p)


def pays_for_nothing(budget_j: float) -> BudgetError:
    """The error of a budget that pays for no entry in which something is left to send."""
    return BudgetError(
        f"infeasible: the budget of {budget_j:.4g} J pays for no entry of the update that is "
        "not zero"
    )


def certified(
    selection: Selection,
    costs: ElementCosts,
    exponents: tuple[float, float],
    paid: int,
    following: Following | None,
) -> Selection:
    """*selection* with Dantzig's bound: what is kept, and of the next entry what still fits.

    Args:
        paid: quanta of the kept entries.
        following: the first entry left out; ``None`` if all that can be paid alone are kept.
    """
    p, q = exponents
    if p not in (q, 2 * q):
        return selection
    power = 1 if p == q else 2
    reached = selection.captured
    if power == 1:
        reached = sum(float(np.abs(x.values).sum(dtype=np.float64)) for x in selection.layers)
    per_quantum, left = 0.0, 0
    if following is not None:
        per_quantum = following.size**power / following.cost
        left = costs.quanta_within(selection.budget_j) - paid
    rounding = 1 + (selection.entries + 64) * _EPSILON
    return replace(
        selection,
        bound=(reached + per_quantum * left) * rounding,
        price=per_quantum / costs.quantum_j,
        reached=reached if power == 1 else None,
    )


def _read(update: AnyUpdate, costs: ElementCosts) -> list[NDArray[Any]]:
    check_names(update, list(costs.quanta))
    values = []
    for name, quanta in costs.quanta.items():
        array = as_array(name, update[name])
        check_shape(name, array.shape, quanta.shape)
        check_values(name, array)
        values.append(array.reshape(-1))
    return values


def _selection(
    values: list[NDArray[Any]],
    kept: NDArray[np.int64],
    costs: ElementCosts,
    paid: int,
    budget_j: float,
) -> Selection:
    starts = np.cumsum([0, *(array.size for array in values)])
    cuts = np.searchsorted(kept, starts)
    layers = []
    for number, (name, quanta) in enumerate(costs.quanta.items()):
        indices = kept[cuts[number] : cuts[number + 1]] - starts[number]
        if indices.size:
            chosen = values[number][indices]
            layers.append(LayerSelection(name, quanta.shape, indices, chosen))
    return Selection(
        layers=tuple(layers),
        energy_j=costs.energy_j(paid),
        budget_j=budget_j,
        captured=sum(sum_of_squares(layer.values) for layer in layers),
        total=sum(sum_of_squares(array) for array in values),
    )
