"""What an engine is: it moves bytes between clients and a server; it knows no method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from cwmp.fl.algorithms.base import Algorithm
from cwmp.fl.rounds import Federation, RoundRecord


class Engine(Protocol):
    """Runs a federation round by round."""

    def run(self, federation: Federation, algorithm: Algorithm) -> Iterator[RoundRecord]:
        """Yield a record as each round ends.

        Raises:
            BudgetError: the method's budget opens no layer.
            UpdateError: training diverged.
            PayloadError: a payload was refused; the model is as the last round left it.
        """
        ...
