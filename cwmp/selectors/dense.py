"""Dense: everything, what a budget of 100 % pays for."""

from __future__ import annotations

import numpy as np

from costmodels.costfile import CostFile
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import prepared
from cwmp.selectors.updates import AnyUpdate, read_update
from profiler.errors import BudgetError


class Dense:
    """Keep every entry, zeros included, each layer whole, at ``costs.dense_j`` joules.

    A layer goes out dense even where its entries one by one would cost less: this is what
    every budget is a share of.

    >>> costs = SelectionCosts.linear({"w": (3,)}, {"w": 2.0}, message_j=1.0)
    >>> selection = Dense(costs).select({"w": np.array([3.0, 0.0, 1.0])}, budget_j=7.0)
    >>> selection.entries, selection.energy_j
    (3, 7.0)
    """

    name = "dense"

    def __init__(self, costs: CostFile | SelectionCosts) -> None:
        self.costs = prepared(costs)

    def __repr__(self) -> str:
        return f"Dense({len(self.costs.layers)} layers)"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used.

        Raises:
            BudgetError: *budget_j* is less than the dense cost, on top of the usual.
        """
        flat = read_update(update, self.costs)
        self.costs.check_budget(budget_j)
        if budget_j < self.costs.dense_j:
            raise BudgetError(
                f"infeasible: dense sends everything for {self.costs.dense_j:.4g} J; "
                f"the budget is {budget_j:.4g} J"
            )
        layers = tuple(
            LayerSelection(x.name, x.shape, np.arange(x.parameters), values, x.whole_form)
            for x, values in zip(self.costs.layers, flat.values, strict=True)
        )
        return Selection(layers, self.costs.dense_j, budget_j, flat.total, flat.total)
