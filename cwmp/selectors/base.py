"""What a selector is: costs prepared once, then one selection a round."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cwmp.selection import Selection, Update


class Selector(Protocol):
    """A rule that spends a joule budget on entries of an update."""

    @property
    def name(self) -> str: ...

    def select(
        self, update: Update, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """Keep the entries of *update* that the rule prefers, within *budget_j* joules.

        Raises:
            BudgetError: the budget is not positive, not finite, above the dense cost, or too
                small to open any layer.
            LayerMismatchError: the update's layers are not the costs' layers.
            UpdateError: the update holds NaN or inf, or a layer without entries.
        """
        ...
