"""PruneFL's rule (Jiang et al., arXiv 1909.12326) with joules in place of seconds.

The paper keeps the parameters that maximise the gain a second of a round::

    Gamma(S) = sum over S of g_i^2 / (T0 + sum over S of t_i)

greedy by g_i^2 / t_i, with one coefficient t for the entries of a layer and T0 for what a round
takes whatever is kept. For additive t that is optimal: adding i raises the ratio iff g_i^2 / t_i
is above it, so that the best set is a prefix of the order.

Here t_i is the layer's marginal joules, `LayerPrice.marginal_j`, and T0 the message's own charge
A. The prefix stops **at the best ratio, or at the budget** where that comes first; fixed charges
of layers are paid (the budget holds) but not foreseen, as in the paper. So it may leave joules
unspent where the others do not: that is the rule. In the paper T0 holds the round's computation;
here the smaller A is, the sooner the ratio is best, and with A = 0 (constructed costs) a single
entry is sent: tables of studies say how much of the budget a method declares. The paper prunes
the model with it; here it reduces updates, like everything it is compared with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.algorithms.arguments import at_most, averaging
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.kernels.reference import layer_weights, score_order
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import longest_prefix, selection_of
from cwmp.selectors.updates import AnyUpdate, as_joules, read_update


class GainPerCost:
    """Keep the set of largest sum g^2 / (A + sum c), as far as the budget goes.

    >>> costs = SelectionCosts.linear({"w": (3,)}, {"w": 1.0}, message_j=1.0)
    >>> update = {"w": np.array([3.0, 2.5, 1.0])}
    >>> kept = GainPerCost(costs).select(update, budget_j=4.0)  # 4.5, 5.08, then 4.06 a joule
    >>> kept.layers[0].indices.tolist()
    [0, 1]
    """

    name = "prunefl"

    def __init__(self, costs: SelectionCosts) -> None:
        self.costs = costs
        self._marginal_j = np.array([layer.marginal_j for layer in costs.layers])
        self._weights = layer_weights(self._marginal_j, 2, 1)

    def __repr__(self) -> str:
        return f"GainPerCost({len(self.costs.layers)} layers)"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used."""
        budget_j = as_joules(budget_j)
        flat = read_update(update, self.costs)
        self.costs.check_budget(budget_j)
        order = score_order(flat.magnitudes, flat.layer_of, self._weights)
        affordable = longest_prefix(order, flat, self.costs, budget_j)
        paid_j = self._marginal_j[flat.layer_of[affordable]]
        best = best_prefix(flat.magnitudes[affordable], paid_j, self.costs.message_j)
        return selection_of(affordable[:best], flat, self.costs, budget_j)


def best_prefix(magnitudes: NDArray[np.float64], cost: NDArray[np.float64], base: float) -> int:
    """The length of the prefix of largest sum |g|^2 / (base + sum cost); the shortest of equals."""
    if not magnitudes.size:
        return 0
    scale = magnitudes.max() or 1.0  # so that g^2 neither under- nor overflows
    gain = np.cumsum(np.square(magnitudes / scale))
    return 1 + int(np.argmax(gain / (base + np.cumsum(cost))))


def make(name: MethodName, setting: Setting) -> SparseAveraging:
    """``prunefl``.

    Raises:
        InputError: arguments.
    """
    at_most(name, 0, "prunefl")
    return averaging(GainPerCost(setting.costs), name, setting)
