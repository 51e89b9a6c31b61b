"""Top-K: the largest entries, as many as the joules pay for."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from costmodels.costfile import CostFile
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import prepared
from cwmp.selectors.prefix import select_prefix
from cwmp.selectors.reading import read_in_place
from cwmp.selectors.reference import ReferenceTopK
from cwmp.selectors.search import Search
from cwmp.selectors.updates import AnyUpdate


class TopK:
    """Keep the entries of largest |g| over all layers, ties by index; the longest run that fits.

    Zeros are not sent. Layers that the budget cannot open are passed over.

    Args:
        costs: a cost file or prepared costs.
        threads: of a pass; ``None`` for as many as pay.

    >>> costs = SelectionCosts.linear({"a": (3,)}, {"a": 1.0})
    >>> update = {"a": np.array([0.5, -3.0, 1.0], dtype=np.float32)}
    >>> TopK(costs).select(update, budget_j=2.0).layers[0].values.tolist()
    [-3.0, 1.0]
    """

    name = "topk"

    def __init__(self, costs: CostFile | SelectionCosts, *, threads: int | None = None) -> None:
        self.costs = prepared(costs)
        self.threads = threads

    def __repr__(self) -> str:
        return f"TopK(threads={self.threads})"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used."""
        search = self._search
        reading = read_in_place(update, search.names, search.shapes)
        if reading is None:
            return ReferenceTopK(self.costs).select(update, budget_j)
        self.costs.check_budget(budget_j)
        return select_prefix(search, reading, np.ones(len(search.names)), budget_j)

    @cached_property
    def _search(self) -> Search:
        return Search(self.costs, self.threads)
