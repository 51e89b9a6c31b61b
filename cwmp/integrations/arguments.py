"""Budgets and rules as people give them, read or refused when an integration is made."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

from cwmp.budget import Budget
from cwmp.selectors.base import Selector
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import BudgetError, InputError

AnyBudget = Budget | str | float
"""A `Budget`, one as `Budget.parse` reads it (``"5%"``, ``"2 mJ"``), or joules."""

Rule = Callable[[SelectionCosts], Selector]
"""Makes a selector from the prices of what it selects from, e.g. `CostWeighted`."""


def budget_of(given: AnyBudget) -> Budget:
    """The budget that is meant.

    Raises:
        BudgetError: it cannot be read, or is not positive.

    >>> budget_of("5%"), budget_of(2e-3)
    (Budget(amount=0.05, relative=True), Budget(amount=0.002, relative=False))
    """
    if isinstance(given, Budget):
        return given
    if isinstance(given, str):
        return Budget.parse(given)
    if isinstance(given, Real) and not isinstance(given, bool):
        return Budget(float(given))
    raise BudgetError(
        f"the budget is of type {type(given).__name__}: give a share such as '5%', joules such as "
        "0.002, or a Budget"
    )


def rule_of(given: Rule) -> Rule:
    """The same rule, if it can make selectors.

    Raises:
        InputError: it is a name, a selector that is made already, or cannot be called.
    """
    if callable(given):
        return given
    said = repr(given) if isinstance(given, str) else f"of type {type(given).__name__}"
    raise InputError(
        f"the rule is {said}: give what makes a selector from costs, such as the class cwmp.TopK"
    )
