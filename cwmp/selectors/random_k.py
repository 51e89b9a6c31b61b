"""Random-K: entries drawn without looking, as many as the joules pay for."""

from __future__ import annotations

import numpy as np

from costmodels.costfile import CostFile
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import longest_prefix, prepared, selection_of
from cwmp.selectors.updates import AnyUpdate, read_update
from profiler.errors import InputError


class RandomK:
    """Keep the longest run of a random permutation of all entries that fits.

    It does not look at the values, so zeros are drawn like any entry. Layers that the budget
    cannot open are passed over.

    >>> costs = SelectionCosts.linear({"w": (9,)}, {"w": 1.0})
    >>> update = {"w": np.arange(9, dtype=np.float32)}
    >>> rule = RandomK(costs)
    >>> rule.select(update, budget_j=4.5, generator=np.random.default_rng(0)).entries
    4
    """

    name = "random"

    def __init__(self, costs: CostFile | SelectionCosts) -> None:
        self.costs = prepared(costs)

    def __repr__(self) -> str:
        return f"RandomK({len(self.costs.layers)} layers)"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`.

        Raises:
            InputError: no *generator*, on top of what every selector raises.
        """
        if generator is None:
            raise InputError(
                "random selection draws from a seeded generator: "
                "pass generator=numpy.random.default_rng(seed)"
            )
        flat = read_update(update, self.costs)
        self.costs.check_budget(budget_j)
        order = generator.permutation(flat.magnitudes.size)
        kept = longest_prefix(order, flat, self.costs, budget_j)
        return selection_of(kept, flat, self.costs, budget_j)
