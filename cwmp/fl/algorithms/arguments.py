"""The arguments of methods, read in one way and refused in one line."""

from __future__ import annotations

from math import isfinite

from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.selectors.base import Selector
from profiler.errors import InputError


def averaging(selector: Selector, name: MethodName, setting: Setting) -> SparseAveraging:
    """Federated averaging of what *selector* keeps, with the feedback of *name*."""
    return SparseAveraging(
        selector, setting.budget_j, setting.costs, setting.layout, feedback=name.feedback
    )


def refuse_feedback(name: MethodName, why: str) -> None:
    """Raise if *name* asks for feedback, which the method has no use for because of *why*.

    Raises:
        InputError: it does.
    """
    if name.feedback.remembers:
        raise InputError(f"{name.name} takes no feedback, {why}: write {name.name} without +")


def at_most(name: MethodName, count: int, usage: str) -> tuple[str, ...]:
    """The arguments of *name*.

    Raises:
        InputError: more than *count*.
    """
    if len(name.arguments) > count:
        raise InputError(f"cannot read the method {str(name)!r}: write {usage}")
    return name.arguments


def number(text: str, low: float, high: float, name: MethodName, usage: str) -> float:
    """*text* as a number in [low, high).

    Raises:
        InputError: it is not.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (isfinite(value) and low <= value < high):
        raise InputError(f"cannot read the method {str(name)!r}: write {usage}")
    return value
