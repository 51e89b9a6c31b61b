"""The rules, slow and obvious: every entry sorted, every candidate priced.

`CostWeighted` and `TopK` are tested against these and hand them what their kernels do not read
(float64).

The rule of cost-weighted magnitude pruning (arXiv 2603.22465): maximise the sum of g^2 kept
under a budget of joules, here with the fixed cost of touching a layer, the bytes that a
density really takes and the message's own charge in the account.
"""

from __future__ import annotations

import numpy as np

from costmodels.costfile import CostFile
from cwmp.kernels.dual import Curve, DualPoint, curves_of, minimise_dual
from cwmp.kernels.reference import Integers, largest_prefix, layer_weights, score_order
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import affordable, longest_prefix, prepared, selection_of
from cwmp.selectors.fixed_counts import fixed_charge_entries
from cwmp.selectors.updates import AnyUpdate, FlatUpdate, read_update

TIGHT = 1 - 1e-4
"""A certificate that leaves Top-K's selection too little to win."""
_NOISE = 1e-12


class ReferenceCostWeighted:
    """Keep the entries of highest score |g|^p / c^q; zeros are not sent.

    c is the layer's marginal joules of one entry, its index included. Ties go to the larger
    |g|, then to the lower index, so that equal linear costs give Top-K's set exactly.

    (2, 1), the default, is greedy for sum g^2 and carries a bound (`cwmp.bounds`) that holds
    for every selection within the budget. It is the best of several candidates: the longest
    prefix of the score, which is at most one entry's g^2 short of the best where E_l(k) is
    linear; Top-K's own selection, so that it never captures less than Top-K; and, where
    opening a layer has a fixed cost or bytes depend on the density, what the price of energy
    selects, which is each layer's own best count at the smallest price that fits, with the
    rest of the budget spent by score in the layers that are open, the prefix over the layers
    that are open just below that price, and the counts of `cwmp.kernels.fixed_charge`, which
    are nearly the best. A gap to the bound can remain.

    (1, 1) is the score as the paper is reported, (1, 0) is Top-K. They are prefixes of their
    order and carry no bound: the one on sum g^2 is not what they aim for ((1, 1) is greedy
    for sum |g|).

    Args:
        costs: a cost file or prepared costs.
        p, q: the exponents; p > 0, q >= 0.

    Raises:
        InputError: exponents or costs that cannot rank.

    >>> import numpy as np
    >>> costs = SelectionCosts.linear({"a": (2,), "b": (2,)}, {"a": 1.0, "b": 4.0})
    >>> update = {"a": np.array([0.5, 3.0]), "b": np.array([4.0, 0.1])}
    >>> selection = ReferenceCostWeighted(costs).select(update, budget_j=2.0)
    >>> [(layer.name, layer.indices.tolist()) for layer in selection.layers]
    [('a', [0, 1])]
    """

    def __init__(self, costs: CostFile | SelectionCosts, p: float = 2, q: float = 1) -> None:
        self.costs = prepared(costs)
        self.p = p
        self.q = q
        marginal_j = np.array([layer.marginal_j for layer in self.costs.layers])
        self._weights = layer_weights(marginal_j, p, q)

    @property
    def name(self) -> str:
        """``cwmp``, with the exponents where they are not (2, 1)."""
        return "cwmp" if (self.p, self.q) == (2, 1) else f"cwmp:{self.p:g},{self.q:g}"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used."""
        flat = read_update(update, self.costs)
        self.costs.check_budget(budget_j)
        order = score_order(flat.magnitudes, flat.layer_of, self._weights)
        order = affordable(order, flat, self.costs, budget_j)
        prefix = order[: largest_prefix(order, flat.layer_of, self.costs, budget_j)]
        if self.p != 2 * self.q:
            return selection_of(prefix, flat, self.costs, budget_j)
        curves = curves_of(order, flat.magnitudes, flat.layer_of, self.costs)
        dual = minimise_dual(curves, self.costs.message_j, budget_j)
        if self.costs.is_linear:
            own = selection_of(
                prefix, flat, self.costs, budget_j, bound=dual.bound, price=dual.price
            )
            if own.captured >= TIGHT * dual.bound:
                return own
        by_size = score_order(flat.magnitudes, flat.layer_of, np.ones(len(self.costs.layers)))
        candidates = [prefix, longest_prefix(by_size, flat, self.costs, budget_j)]
        if not all(layer.is_linear for layer in self.costs.layers):
            candidates += self._priced(order, flat, curves, dual, budget_j)
            candidates.append(fixed_charge_entries(curves, self.costs, budget_j))
        return best_of(
            [
                selection_of(kept, flat, self.costs, budget_j, bound=dual.bound, price=dual.price)
                for kept in candidates
            ]
        )

    def _priced(
        self,
        order: Integers,
        flat: FlatUpdate,
        curves: list[Curve],
        dual: DualPoint,
        budget_j: float,
    ) -> tuple[Integers, Integers]:
        """What the price selects, filled up; and the prefix over one layer more at the margin."""
        layer_of, base = flat.layer_of, dual.counts
        chosen = np.concatenate([c.ranked[:k] for c, k in zip(curves, base, strict=True)])
        rest = order[(base > 0)[layer_of[order]] & ~np.isin(order, chosen)]
        more = largest_prefix(rest, layer_of, self.costs, budget_j, base)
        wider = order[(dual.overspent > 0)[layer_of[order]]]
        length = largest_prefix(wider, layer_of, self.costs, budget_j)
        return np.concatenate((chosen, rest[:more])), wider[:length]


def best_of(selections: list[Selection]) -> Selection:
    """The selection that captures most; the earlier one unless by more than rounding."""
    best = selections[0]
    for selection in selections[1:]:
        if selection.captured > best.captured * (1 + _NOISE):
            best = selection
    return best


class ReferenceTopK:
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
