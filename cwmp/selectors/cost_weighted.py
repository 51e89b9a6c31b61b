"""CWMP: entries by what they capture for what they cost.

The rule of cost-weighted magnitude pruning (arXiv 2603.22465): maximise the sum of g^2 kept
under a budget of joules, here with the fixed cost of touching a layer, the bytes that a
density really takes and the message's own charge in the account.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from costmodels.costfile import CostFile
from cwmp.kernels.reference import layer_weights
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import prepared
from cwmp.selectors.fixed_charge import select_fixed_charge
from cwmp.selectors.kernel_rule import KernelRule
from cwmp.selectors.prefix import best_of, select_prefix
from cwmp.selectors.reading import Reading
from cwmp.selectors.reference import TIGHT, ReferenceCostWeighted

_LEAST_WEIGHT = 1e-260
"""Below it |g| / w can overflow; such costs take the reference path."""


class CostWeighted(KernelRule):
    """Keep the entries of highest score |g|^p / c^q; zeros are not sent.

    c is the layer's marginal joules of one entry, its index included. Ties go to the larger
    |g|, then to the lower index, so that equal linear costs give Top-K's set exactly.

    (2, 1), the default, is greedy for sum g^2 and carries a bound (`cwmp.bounds`) that holds
    for every selection within the budget. Where E_l(k) is linear it is the longest prefix of
    the score, at most one entry's g^2 short of the best. Where opening a layer has a fixed cost
    or bytes depend on the density, counts are chosen layer by layer
    (`cwmp.kernels.fixed_charge`), and a gap to the bound can remain. With linear costs Top-K's
    own selection is tried wherever it could be better by more than one part in 10,000.

    (1, 1) is the score as the paper is reported, greedy for sum |g|: its certificate is of
    that sum. Other exponents are prefixes of their order without a bound; (1, 0) is Top-K.

    Updates are read where they lie, in one pass of `threads` threads, and what is selected does
    not depend on their number. float64 updates take the slow reference path.

    Args:
        costs: a cost file or prepared costs.
        p, q: the exponents; p > 0, q >= 0.
        threads: of a pass; ``None`` for as many as pay.

    Raises:
        InputError: exponents or costs that cannot rank.

    >>> import numpy as np
    >>> costs = SelectionCosts.linear({"a": (2,), "b": (2,)}, {"a": 1.0, "b": 4.0})
    >>> update = {"a": np.array([0.5, 3.0]), "b": np.array([4.0, 0.1])}
    >>> selection = CostWeighted(costs).select(update, budget_j=2.0)
    >>> [(layer.name, layer.indices.tolist()) for layer in selection.layers]
    [('a', [0, 1])]
    """

    def __init__(
        self,
        costs: CostFile | SelectionCosts,
        p: float = 2,
        q: float = 1,
        *,
        threads: int | None = None,
    ) -> None:
        super().__init__(prepared(costs), threads)
        self.p = p
        self.q = q
        marginal_j = np.array([layer.marginal_j for layer in self.costs.layers])
        self._weights = layer_weights(marginal_j, p, q)
        self._ranks_in_float64 = bool(self._weights.min() > _LEAST_WEIGHT)

    def __repr__(self) -> str:
        return f"CostWeighted(p={self.p:g}, q={self.q:g}, threads={self.threads})"

    @property
    def name(self) -> str:
        """``cwmp``, with the exponents where they are not (2, 1)."""
        return "cwmp" if (self.p, self.q) == (2, 1) else f"cwmp:{self.p:g},{self.q:g}"

    def _choose(self, reading: Reading, budget_j: float) -> Selection:
        search = self._search_of(reading)
        greedy_for_squares = self.p == 2 * self.q
        if greedy_for_squares and not self.costs.is_linear:
            return select_fixed_charge(search, reading, budget_j)
        power = 2 if greedy_for_squares else 1 if self.p == self.q else None
        own = select_prefix(search, reading, self._weights, budget_j, power=power)
        if not greedy_for_squares or (own.certificate or 0.0) >= TIGHT:
            return own
        ones = np.ones_like(self._weights)
        top = select_prefix(search, reading.summed(), ones, budget_j)
        return best_of(own, replace(top, bound=own.bound, price=own.price))

    @property
    def _reference(self) -> ReferenceCostWeighted:
        return ReferenceCostWeighted(self.costs, self.p, self.q)
