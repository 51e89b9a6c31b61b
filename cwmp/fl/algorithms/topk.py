"""Top-K over the whole model, or tensor by tensor (``topk:tensor``).

``topk`` keeps the longest run of falling |g| over all layers that the budget pays for
(`cwmp.selectors.top_k`). ``topk:tensor`` keeps of each layer l its k_l = ceil(s n_l) largest, one
density s for all, as compression is applied layer by layer (Lin et al. 2018, arXiv 1712.01887;
Alistarh et al. 2018, arXiv 1809.10505). How the joules are shared follows: s is the largest at
which all k_l fit, found by bisection over `SelectionCosts.energy_j`. What is left, less than the
step to the next density, is not spent. A budget below one entry of each layer is infeasible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from costmodels.costfile import CostFile
from cwmp.fl.algorithms import sparse
from cwmp.fl.algorithms.arguments import averaging
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.shares import common_counts
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import prepared, selection_of
from cwmp.selectors.updates import AnyUpdate, as_joules, read_update
from profiler.errors import InputError


class TensorTopK:
    """Keep the ceil(s n_l) largest |g| of each layer, ties by index; zeros are not sent.

    >>> costs = SelectionCosts.linear({"a": (4,), "b": (2,)}, {"a": 1.0, "b": 1.0})
    >>> update = {"a": np.array([9.0, 8.0, 7.0, 6.0]), "b": np.array([0.1, 0.2])}
    >>> kept = TensorTopK(costs).select(update, budget_j=3.0)
    >>> [(layer.name, layer.indices.tolist()) for layer in kept.layers]
    [('a', [0, 1]), ('b', [1])]
    """

    name = "topk:tensor"

    def __init__(self, costs: CostFile | SelectionCosts) -> None:
        self.costs = prepared(costs)

    def __repr__(self) -> str:
        return f"TensorTopK({len(self.costs.layers)} layers)"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used.

        Raises:
            BudgetError: less than one entry of each layer, on top of the usual.
        """
        budget_j = as_joules(budget_j)
        flat = read_update(update, self.costs)
        counts = common_counts(self.costs, budget_j)
        kept = [
            start + largest(flat.magnitudes[start:stop], k)
            for start, stop, k in zip(flat.starts, flat.starts[1:], counts, strict=False)
        ]
        return selection_of(np.concatenate(kept), flat, self.costs, budget_j)


def largest(magnitudes: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The places of the *k* largest that are not zero, ties by index; ascending."""
    limit = np.partition(magnitudes, magnitudes.size - k)[magnitudes.size - k]
    above = np.flatnonzero(magnitudes > limit)
    if limit == 0:
        return above
    equal = np.flatnonzero(magnitudes == limit)[: k - above.size]
    return np.sort(np.concatenate((above, equal)))


def make(name: MethodName, setting: Setting) -> SparseAveraging:
    """``topk`` or ``topk:tensor``.

    Raises:
        InputError: other arguments.
    """
    if not name.arguments:
        return sparse.make(name, setting)
    if name.arguments != ("tensor",):
        raise InputError(f"cannot read the method {str(name)!r}: write topk or topk:tensor")
    return averaging(TensorTopK(setting.costs), name, setting)
