"""What the fixed-charge solver keeps of a sorted update."""

from __future__ import annotations

import numpy as np

from cwmp.kernels.dual import Curve
from cwmp.kernels.energy import energy_table
from cwmp.kernels.fixed_charge import solve
from cwmp.kernels.lines import Curves
from cwmp.kernels.reference import Integers
from cwmp.selectors.costs import SelectionCosts


def fixed_charge_entries(curves: list[Curve], costs: SelectionCosts, budget_j: float) -> Integers:
    """The entries that `cwmp.kernels.fixed_charge.solve` keeps, of those that *curves* rank."""
    sizes = [curve.gain.size for curve in curves]
    listed = Curves(
        np.concatenate([curve.gain for curve in curves]),
        np.cumsum([0, *sizes], dtype=np.int64),
        np.array([curve.gain[-1] for curve in curves]),
        np.zeros(len(curves)),
    )
    counts, _, _, _ = solve(listed, energy_table(costs), costs.message_j, budget_j)
    return np.concatenate([c.ranked[:k] for c, k in zip(curves, counts, strict=True)])
