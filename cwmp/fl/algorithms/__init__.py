"""Federated methods by name, one file each."""

from __future__ import annotations

from cwmp.fl.algorithms.base import Algorithm
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.payload import PayloadLayout
from cwmp.selectors import make_selector
from cwmp.selectors.costs import SelectionCosts

__all__ = ["Algorithm", "SparseAveraging", "make_algorithm"]


def make_algorithm(
    name: str, costs: SelectionCosts, layout: PayloadLayout, budget_j: float
) -> Algorithm:
    """Federated averaging with the selector called *name* at *budget_j* a client and round.

    Raises:
        InputError: no such method.
    """
    selector = make_selector(name, costs)
    return SparseAveraging(selector, budget_j, costs, layout, considers_all=name != "dense")
