"""Federated methods by name, one file each.

A file of this folder makes one method, or one family that differs by a rule: it cites its
paper at the top, gives the formula, and has a function that takes a `MethodName` and a
`Setting`. A package of yours adds one with an entry point in the group ``cwmp.methods``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from cwmp.fl.algorithms.base import Algorithm
from cwmp.fl.algorithms.setting import Feedback, MethodName, Setting
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.payload import PayloadLayout
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError

__all__ = [
    "METHODS",
    "Algorithm",
    "Feedback",
    "MethodName",
    "Setting",
    "SparseAveraging",
    "build_method",
    "make_algorithm",
]

MethodFactory = Callable[[MethodName, Setting], Algorithm]

METHODS: Mapping[str, str] = {
    "dense": "dense",
    "topk": "topk",
    "random": "sparse",
    "cwmp": "cost_weighted",
    "cwmp-price": "price",
    "prunefl": "prunefl",
    "dgc": "dgc",
    "hard": "hard",
    "atomo": "atomo",
    "evofed": "evofed",
    "fedmd": "distill",
    "kta": "distill",
    "cahfp": "cahfp",
    "spfl": "spfl",
    "kernel": "kernel",
}
"""Name -> the file of this folder whose ``make`` builds it; loaded when it is asked for."""
_GROUP = "cwmp.methods"


def build_method(text: str, setting: Setting) -> Algorithm:
    """The method written as *text* (see `MethodName`) for one device of a federation.

    Raises:
        InputError: no such method, arguments it does not take, or a setting it cannot work in.
    """
    name = MethodName.parse(text)
    if name.name in METHODS:
        module = import_module(f"cwmp.fl.algorithms.{METHODS[name.name]}")
        return cast("MethodFactory", module.make)(name, setting)
    plugins = {point.name: point for point in entry_points(group=_GROUP)}
    if name.name in plugins:
        return cast("MethodFactory", plugins[name.name].load())(name, setting)
    selectors = {point.name for point in entry_points(group="cwmp.selectors")}
    if name.name in selectors:
        from cwmp.fl.algorithms import sparse

        return sparse.make(name, setting)
    known = ", ".join([*METHODS, *plugins, *sorted(selectors)])
    raise InputError(f"unknown method {name.name!r}; choose from {known}")


def make_algorithm(
    name: str, costs: SelectionCosts, layout: PayloadLayout, budget_j: float
) -> Algorithm:
    """`build_method` where costs, layout and budget are all that matters.

    Raises:
        InputError: no such method.
    """
    return build_method(name, Setting(costs, layout, budget_j))
