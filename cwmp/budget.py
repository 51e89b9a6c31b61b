"""A joule budget as people write it: ``5%`` of the dense cost, ``2.5mJ``, ``0.001`` joules."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from profiler.errors import BudgetError

_UNITS_J = {"kJ": 1e3, "J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6, "μJ": 1e-6, "nJ": 1e-9}
_WRITTEN = re.compile(r"\s*([^\s%]*?)\s*(%|[kmuµμn]?J)?\s*")


@dataclass(frozen=True, slots=True)
class Budget:
    """What one update may cost.

    Attributes:
        amount: joules, or a fraction of the dense cost in (0, 1].
        relative: whether *amount* is a fraction.

    Raises:
        BudgetError: *amount* is not a positive number, or a fraction above 1.

    >>> Budget.parse("5%").joules(dense_j=2.0)
    0.1
    >>> Budget.parse("3 uJ")
    Budget(amount=3e-06, relative=False)
    """

    amount: float
    relative: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise BudgetError(f"the budget is {self}; it must be a positive number")
        if self.relative and self.amount > 1:
            raise BudgetError(f"the budget of {self} is above 100 %, which sends everything")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a percentage of the dense cost, or joules with or without a unit.

        Raises:
            BudgetError: *text* is neither, not positive, or above 100 %.
        """
        written = _WRITTEN.fullmatch(text)
        try:
            amount = float(written[1]) if written else None
        except ValueError:
            amount = None
        if written is None or amount is None:
            raise BudgetError(
                f"cannot read the budget {text!r}: write a share of the dense cost such as 5%, "
                "or joules such as 2.5mJ"
            )
        unit = written[2]
        if unit == "%":
            return cls(amount / 100, relative=True)
        return cls(amount * _UNITS_J[unit or "J"])

    def joules(self, dense_j: float) -> float:
        """The budget in joules where sending and applying everything costs *dense_j*."""
        return self.amount * dense_j if self.relative else self.amount

    def __str__(self) -> str:
        return f"{100 * self.amount:.6g}%" if self.relative else f"{self.amount:.6g} J"
