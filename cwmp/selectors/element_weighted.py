"""CWMP where every entry has its own cost."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.element_costs import ElementCosts
from cwmp.selectors.element_reference import (
    Following,
    ReferenceElementWeighted,
    certified,
    check_exponents,
    name_of,
    pays_for_nothing,
)
from cwmp.selectors.element_search import ElementSearch
from cwmp.selectors.reading import Reading, read_in_place
from cwmp.selectors.updates import AnyUpdate


class ElementWeighted:
    """Keep the entries of highest score |g|^p / c^q, the longest prefix that the budget pays for.

    Scores are compared as |g| / c^(q/p) in float64, c in quanta; ties go to the larger |g|, then
    to the earlier layer, then to the lower index, so that equal costs give Top-K's set exactly.
    Zeros are not sent, and entries that cost more than the whole budget are passed over.

    (2, 1), the default, is greedy for sum g^2 and at most one entry's g^2 short of the best
    selection; (1, 1) is greedy for sum |g|. Both carry Dantzig's bound on that sum over all
    selections within the budget. Other exponents carry none; (1, 0) is Top-K.

    Updates are read where they lie, in one pass of `threads` threads; costs are integers, and what
    is selected does not depend on the number of threads. float64 updates, and exponents other
    than q = 0, p = q and p = 2q, take the slow reference path.

    Args:
        costs: what each entry charges.
        p, q: the exponents; p > 0, q >= 0.
        threads: of a pass; ``None`` for as many as pay.

    Raises:
        InputError: exponents that cannot rank.

    >>> costs = ElementCosts({"a": np.array([1, 9, 1, 4], dtype=np.uint16)}, quantum_j=1.0)
    >>> update = {"a": np.array([0.5, 4.0, -2.0, 3.0], dtype=np.float32)}
    >>> selection = ElementWeighted(costs).select(update, budget_j=5.0)
    >>> selection.layers[0].indices.tolist(), selection.energy_j, selection.certificate > 0.99
    ([2, 3], 5.0, True)
    """

    def __init__(
        self, costs: ElementCosts, p: float = 2, q: float = 1, *, threads: int | None = None
    ) -> None:
        check_exponents(p, q)
        self.costs = costs
        self.p = p
        self.q = q
        self.threads = threads

    def __repr__(self) -> str:
        return f"ElementWeighted(p={self.p:g}, q={self.q:g}, threads={self.threads})"

    @property
    def name(self) -> str:
        """``elements``, with the exponents where they are not (2, 1)."""
        return name_of(self.p, self.q)

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used."""
        shapes = [array.shape for array in self.costs.quanta.values()]
        reading = read_in_place(update, list(self.costs.quanta), shapes)
        if reading is None or not (self.q == 0 or self.p in (self.q, 2 * self.q)):
            return ReferenceElementWeighted(self.costs, self.p, self.q).select(update, budget_j)
        self.costs.check_budget(budget_j)
        return self._select(reading, budget_j)

    @cached_property
    def _search(self) -> ElementSearch:
        exponent = 0 if self.q == 0 else 2 if self.p == self.q else 1
        return ElementSearch(self.costs, exponent, self.threads)

    def _select(self, reading: Reading, budget_j: float) -> Selection:
        search = self._search
        prefix = search.prefix(reading, self.costs.quanta_within(budget_j))
        kept = prefix.kept
        if not kept.index.size and prefix.total > 0:
            raise pays_for_nothing(budget_j)
        layers = []
        for number in np.flatnonzero(np.diff(kept.ends)).tolist():
            part = slice(int(kept.ends[number]), int(kept.ends[number + 1]))
            values = reading.narrowed(number, kept.value[part])
            name, shape = search.names[number], search.shapes[number]
            layers.append(LayerSelection(name, shape, kept.index[part], values))
        selection = Selection(
            layers=tuple(layers),
            energy_j=self.costs.energy_j(prefix.spent),
            budget_j=budget_j,
            captured=float(kept.captured.sum()),
            total=prefix.total,
        )
        following = None
        if prefix.following is not None:
            bits = np.array(prefix.following.bits, dtype=np.uint32)
            following = Following(float(bits.view(np.float32)), prefix.following.cost)
        return certified(selection, self.costs, (self.p, self.q), prefix.spent, following)
