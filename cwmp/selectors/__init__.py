"""Rules that spend a joule budget on the entries of an update, one file each.

On the command line a rule goes by its name in `SELECTORS`. A package of yours adds one with
an entry point in the group ``cwmp.selectors``: a callable that takes the costs and returns a
`cwmp.selectors.base.Selector`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import entry_points
from typing import cast

from costmodels.costfile import CostFile
from cwmp.selectors.base import Selector
from cwmp.selectors.cost_weighted import CostWeighted
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.dense import Dense
from cwmp.selectors.element_costs import ElementCosts
from cwmp.selectors.element_weighted import ElementWeighted
from cwmp.selectors.random_k import RandomK
from cwmp.selectors.top_k import TopK
from profiler.errors import InputError

__all__ = [
    "SELECTORS",
    "CostWeighted",
    "Dense",
    "ElementCosts",
    "ElementWeighted",
    "RandomK",
    "TopK",
    "make_selector",
]

SelectorFactory = Callable[[CostFile | SelectionCosts], Selector]

SELECTORS: Mapping[str, SelectorFactory] = {
    "dense": Dense,
    "topk": TopK,
    "random": RandomK,
    "cwmp": CostWeighted,
}
_GROUP = "cwmp.selectors"


def make_selector(name: str, costs: CostFile | SelectionCosts) -> Selector:
    """The rule called *name*: of `SELECTORS`, an entry point's, or ``cwmp:p,q`` with exponents.

    Rules that need more than the costs of a cost file have no name: `PriceSelector` takes a price,
    `ElementWeighted` costs by the entry, `BurstWeighted` costs by the burst, `BlockWeighted`
    blocks, `Refined` another rule and a payload's layout.

    Raises:
        InputError: no such rule, or exponents that are not two numbers.

    >>> costs = SelectionCosts.linear({"a": (2,)}, {"a": 1e-9})
    >>> make_selector("cwmp:1,1", costs).name
    'cwmp:1,1'
    """
    return _find(name)(costs)


def _find(name: str) -> SelectorFactory:
    if name in SELECTORS:
        return SELECTORS[name]
    if name.startswith("cwmp:"):
        p, q = _exponents(name)
        return partial(CostWeighted, p=p, q=q)
    plugins = {point.name: point for point in entry_points(group=_GROUP)}
    if name in plugins:
        return cast("SelectorFactory", plugins[name].load())
    known = ", ".join([*SELECTORS, *plugins])
    raise InputError(f"unknown method {name!r}; choose from {known}, or cwmp:p,q")


def _exponents(name: str) -> tuple[float, float]:
    try:
        p, q = (float(part) for part in name.removeprefix("cwmp:").split(","))
    except ValueError as error:
        raise InputError(
            f"cannot read the method {name!r}: write the exponents of |g|^p / c^q as cwmp:1,1"
        ) from error
    return p, q
