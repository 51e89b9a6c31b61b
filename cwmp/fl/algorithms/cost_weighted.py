"""Cost-weighted magnitude pruning (arXiv 2603.22465): max sum g^2 under a budget of joules.

``cwmp`` is the rule of `cwmp.selectors.CostWeighted` with the score g^2/c: with fixed charges it
chooses counts layer by layer (``cwmp:fixed`` is another name for it); ``cwmp:1,1`` is the score
|g|/c as the paper is reported, and ``cwmp:P,Q`` any other. ``cwmp:marginal`` knows marginal costs
alone: it ranks by g^2/c and takes the longest prefix that the true joules, fixed charges and all,
pay for. It shows what an account of fixed charges is worth; without them it is ``cwmp``. One price
for all clients and rounds is ``cwmp-price``, a file of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cwmp.fl.algorithms import sparse
from cwmp.fl.algorithms.arguments import averaging
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.kernels.reference import layer_weights, score_order
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import longest_prefix, selection_of
from cwmp.selectors.updates import AnyUpdate, as_joules, read_update


class MarginalPrefix:
    """The longest prefix of falling g^2 / c_l that fits: fixed charges are paid, not foreseen.

    Layers that the budget cannot open are passed over; zeros are not sent. c_l is
    `LayerPrice.marginal_j`.
    """

    name = "cwmp:marginal"

    def __init__(self, costs: SelectionCosts) -> None:
        self.costs = costs
        marginal_j = np.array([layer.marginal_j for layer in costs.layers])
        self._weights = layer_weights(marginal_j, 2, 1)

    def __repr__(self) -> str:
        return f"MarginalPrefix({len(self.costs.layers)} layers)"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used."""
        budget_j = as_joules(budget_j)
        flat = read_update(update, self.costs)
        self.costs.check_budget(budget_j)
        order = score_order(flat.magnitudes, flat.layer_of, self._weights)
        kept = longest_prefix(order, flat, self.costs, budget_j)
        return selection_of(kept, flat, self.costs, budget_j)


def make(name: MethodName, setting: Setting) -> SparseAveraging:
    """``cwmp``, ``cwmp:P,Q``, ``cwmp:fixed`` or ``cwmp:marginal``.

    Raises:
        InputError: other arguments, or exponents or costs that cannot rank.
    """
    if name.arguments == ("marginal",):
        return averaging(MarginalPrefix(setting.costs), name, setting)
    if name.arguments == ("fixed",):
        name = replace(name, arguments=())
    return sparse.make(name, setting)
