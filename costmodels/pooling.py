"""What the other layers suggest where a layer's own measurement says too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from costmodels.curves import Curve, Quantity
from costmodels.features import group_of
from costmodels.regression import Regression, fit_regression
from profiler.errors import InputError
from profiler.statistics import detect


@dataclass(frozen=True)
class Pool:
    """The curves of one operation (random and clustered together), as a source of prices.

    `suggest` asks the pooled regression for the layer's own features first, then takes the
    median of the detected estimates. It never suggests zero; ``None`` when nothing at all was
    detected.
    """

    regression: Regression | None
    median_a_j: float | None
    median_c_j: float | None

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> Pool:
        """Pool *curves*, which are of one operation."""
        cells = [cell for curve in curves for cell in curve.cells]
        usable = [cell for cell in cells if cell.operation != "train" or cell.macs is not None]
        regression = None
        if usable:
            try:
                regression = fit_regression(
                    group_of(usable[0].operation, usable[0].pattern), usable
                )
            except InputError:  # nothing above zero anywhere: no suggestion from here
                regression = None
        first = [curve.segments[0] for curve in curves]
        return cls(
            regression,
            _median([segment.a for segment in first]),
            _median([segment.c for segment in first]),
        )

    def suggest(self, curve: Curve) -> tuple[float | None, float | None]:
        """Positive J a call and J an entry for the layer of *curve*, or ``None``."""
        a, c = self._from_regression(curve)
        return a or self.median_a_j, c or self.median_c_j

    def _from_regression(self, curve: Curve) -> tuple[float | None, float | None]:
        cell = curve.cells[0]
        if self.regression is None or (cell.operation == "train" and cell.macs is None):
            return None, None
        k_max = curve.k_max if curve.k_max > curve.k_min else curve.k_min + 1
        low_j, high_j = self.regression.energy_j(
            cell.pattern,
            np.array([curve.k_min, k_max], dtype=np.float64),
            parameters=cell.parameters,
            dtype=cell.dtype,
            macs=None if cell.macs is None else cell.macs / cell.k,
        )
        c = float(high_j - low_j) / (k_max - curve.k_min)
        a = float(low_j) - c * curve.k_min
        negligible = 1e-9 * float(high_j)  # what rounding leaves of a price of zero
        return (a if a > negligible else None), (c if c * k_max > negligible else None)


def _median(quantities: Sequence[Quantity | None]) -> float | None:
    detected = [
        quantity.value
        for quantity in quantities
        if quantity is not None
        and detect(quantity.value, quantity.error, quantity.degrees).detected
    ]
    return median(detected) if detected else None
