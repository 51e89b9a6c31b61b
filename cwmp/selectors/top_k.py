"""Top-K: the largest entries, as many as the joules pay for."""

from __future__ import annotations

import numpy as np

from costmodels.costfile import CostFile
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import prepared
from cwmp.selectors.kernel_rule import KernelRule
from cwmp.selectors.prefix import select_prefix
from cwmp.selectors.reading import Reading
from cwmp.selectors.reference import ReferenceTopK


class TopK(KernelRule):
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
        super().__init__(prepared(costs), threads)

    def __repr__(self) -> str:
        return f"TopK(threads={self.threads})"

    def _choose(self, reading: Reading, budget_j: float) -> Selection:
        ones = np.ones(len(self.costs.layers))
        return select_prefix(self._search_of(reading), reading, ones, budget_j)

    @property
    def _reference(self) -> ReferenceTopK:
        return ReferenceTopK(self.costs)
