"""From an order of entries and a budget to a selection: what every rule shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from costmodels.costfile import CostFile
from cwmp.kernels.reference import largest_prefix
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.updates import FlatUpdate, sum_of_squares
from profiler.errors import BudgetError

Integers = NDArray[np.int64]


def prepared(costs: CostFile | SelectionCosts) -> SelectionCosts:
    """*costs* ready for selection; a cost file is trusted to price the model's layers.

    Raises:
        InputError: the file holds no update or send costs.
    """
    return SelectionCosts.from_cost_file(costs) if isinstance(costs, CostFile) else costs


def affordable(
    order: Integers, flat: FlatUpdate, costs: SelectionCosts, budget_j: float
) -> Integers:
    """*order* without the layers of which not even one entry fits in the budget.

    Raises:
        BudgetError: nothing is left although *order* named entries.
    """
    opens = np.array(
        [costs.message_j + float(layer.energy_j(1)) <= budget_j for layer in costs.layers]
    )
    left: Integers = order[opens[flat.layer_of[order]]]
    if order.size and not left.size:
        raise BudgetError(
            f"infeasible: the budget of {budget_j:.4g} J opens no layer in which the update "
            "has an entry that is not zero"
        )
    return left


def longest_prefix(
    order: Integers, flat: FlatUpdate, costs: SelectionCosts, budget_j: float
) -> Integers:
    """The entries of the longest affordable prefix of *order* within the budget."""
    candidates = affordable(order, flat, costs, budget_j)
    return candidates[: largest_prefix(candidates, flat.layer_of, costs, budget_j)]


def selection_of(
    kept: Integers,
    flat: FlatUpdate,
    costs: SelectionCosts,
    budget_j: float,
    *,
    bound: float | None = None,
    price: float | None = None,
) -> Selection:
    """The selection of the entries *kept*.

    A layer that is cheaper as one dense vector is kept whole: the rest of it rides for free.
    """
    kept = np.sort(kept)
    cuts = np.searchsorted(kept, flat.starts)
    layers, counts = [], []
    for number, layer in enumerate(costs.layers):
        indices = kept[cuts[number] : cuts[number + 1]] - flat.starts[number]
        form = layer.form(indices.size)
        if form == "dense":
            indices = np.arange(layer.parameters)
        counts.append(indices.size)
        if indices.size:
            values = flat.values[number][indices]
            layers.append(LayerSelection(layer.name, layer.shape, indices, values, form))
    return Selection(
        layers=tuple(layers),
        energy_j=costs.energy_j(counts),
        budget_j=budget_j,
        captured=sum(sum_of_squares(layer.values) for layer in layers),
        total=flat.total,
        bound=bound,
        price=price,
    )
