"""Top-K: the largest entries, as many as the joules pay for."""

from __future__ import annotations

import numpy as np

from costmodels.costfile import CostFile
from cwmp.kernels.reference import score_order
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import longest_prefix, prepared, selection_of
from cwmp.selectors.updates import AnyUpdate, read_update


class TopK:
    """Keep the entries of largest |g| over all layers, ties by index; the longest run that fits.

    Zeros are not sent. Layers that the budget cannot open are passed over.
    """

    name = "topk"

    def __init__(self, costs: CostFile | SelectionCosts) -> None:
        self.costs = prepared(costs)

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used."""
        flat = read_update(update, self.costs)
        self.costs.check_budget(budget_j)
        order = score_order(flat.magnitudes, flat.layer_of, np.ones(len(self.costs.layers)))
        kept = longest_prefix(order, flat, self.costs, budget_j)
        return selection_of(kept, flat, self.costs, budget_j)
