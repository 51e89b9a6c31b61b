"""How much the cost of an entry differs between layers: what decides if weighing pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodels.costfile import CostFile, Estimate
from profiler.errors import InputError


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of c over the layers of a cost file.

    Attributes:
        layers: how many layers have a c.
        undetected: how many of those are below detection and so pooled.
        lowest_j, highest_j: J an entry, of the cheapest and dearest layer.
        p10_j, p90_j: the same at 10 % and 90 % of the model's parameters, layers in order of c.
        p_equal: how likely estimates this far apart are if all layers have one c (Cochran's Q
            over the detected ones); ``None`` with fewer than two of them.
    """

    layers: int
    undetected: int
    lowest_j: float
    highest_j: float
    p10_j: float
    p90_j: float
    p_equal: float | None

    @property
    def ratio(self) -> float:
        """Dearest to cheapest layer."""
        return self.highest_j / self.lowest_j

    @property
    def parameter_ratio(self) -> float:
        """The same between 90 % and 10 % of the parameters: small odd layers count little."""
        return self.p90_j / self.p10_j


def marginal_spread(costs: CostFile, pattern: str = "random") -> Spread:
    """The spread of the marginal update cost c at low density.

    Args:
        costs: the cost file.
        pattern: which index pattern's c.

    Raises:
        InputError: no layer has an update cost for *pattern*.
    """
    found = [
        (layer.parameters, cost.pieces[0].c_j)
        for layer in costs.layers
        if (cost := layer.find("update", pattern)) is not None
    ]
    if not found:
        raise InputError(f"no layer has an update cost for {pattern} indices")
    slopes = np.array([c.value for _, c in found])
    order = np.argsort(slopes)
    share = np.cumsum([found[index][0] for index in order]) / sum(n for n, _ in found)
    at = [float(slopes[order][np.searchsorted(share, q - 1e-12)]) for q in (0.1, 0.9)]
    return Spread(
        layers=len(found),
        undetected=sum(c.below_detection for _, c in found),
        lowest_j=float(slopes.min()),
        highest_j=float(slopes.max()),
        p10_j=at[0],
        p90_j=at[1],
        p_equal=_p_equal([c for _, c in found if not c.below_detection]),
    )


def _p_equal(slopes: Sequence[Estimate]) -> float | None:
    """Q = sum_l (c_l - mean)^2 / s_l^2 against chi-square with L - 1 degrees.

    s_l is the interval's upper half over 1.96, too large where the interval is Student's, so
    that noise is not taken for a spread.
    """
    from scipy.special import chdtrc

    if len(slopes) < 2:
        return None
    value = np.array([c.value for c in slopes])
    error = np.maximum([(c.high - c.value) / 1.96 for c in slopes], 1e-12 * value)
    weight = error**-2
    mean = float(weight @ value / weight.sum())
    return float(chdtrc(len(slopes) - 1, float(weight @ (value - mean) ** 2)))
