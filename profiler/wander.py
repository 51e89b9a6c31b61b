"""What wandered while a session ran: neighbours that are alike, costs that follow temperature.

Blocks come in random order, so that what wanders spreads over all cells alike; these say how much
there was of it. Everything is a small function over the blocks in the order of their measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.correlated import von_neumann_critical, von_neumann_ratio
from profiler.statistics import t_quantile

FEWEST_BLOCKS = 30
_LEAST_KELVIN = 1.0
_LEVEL = 0.01
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ThermalSlope:
    """How the power behind an operation's cost follows the device's temperature.

    Attributes:
        watts_per_k: joules a second of call, a kelvin: what leaks more when it is hotter.
        standard_error: of that.
        mean_c: the temperature to which costs are adjusted, the session's mean.
    """

    watts_per_k: float
    standard_error: float
    mean_c: float


def standardised(costs: ArrayLike, cell: ArrayLike) -> Floats:
    """Blocks' deviations from the mean of their cell, in that cell's standard deviations.

    Args:
        costs: joules a call by block, shape (n,).
        cell: each block's cell, shape (n,). Cells of fewer than three blocks, or without scatter,
            are left out.
    """
    y, which = np.asarray(costs, dtype=np.float64), np.asarray(cell)
    found = np.full(y.shape, np.nan)
    for one in np.unique(which):
        inside = which == one
        deviation = float(np.std(y[inside], ddof=1)) if inside.sum() >= 3 else 0.0
        if deviation > 0:
            found[inside] = (y[inside] - y[inside].mean()) / deviation
    kept: Floats = found[np.isfinite(found)]
    return kept


def correlation_remark(costs: ArrayLike, cell: ArrayLike) -> str | None:
    """A sentence where neighbours in time are more alike than one session in 20 by chance.

    By von Neumann's ratio (`profiler.correlated`) of the standardised blocks; ``None`` below
    `FEWEST_BLOCKS`. A random order keeps the intervals right for the session itself; what they do
    not know is how the machine differs from one session to the next.
    """
    values = standardised(costs, cell)
    if values.size < FEWEST_BLOCKS:
        return None
    ratio, critical = von_neumann_ratio(values), von_neumann_critical(values.size)
    if ratio >= critical:
        return None
    return (
        f"correlated: neighbouring blocks are alike (von Neumann's ratio {ratio:.2f}, below "
        f"{critical:.2f}): power wandered; intervals hold for this session, repeat it to see more"
    )


def thermal_slope(
    costs: ArrayLike, cell: ArrayLike, call_s: ArrayLike, temperature_c: ArrayLike, scale: ArrayLike
) -> ThermalSlope | None:
    """The slope of E_ij = m_i + g t_i (T_ij - T) + noise, by weighted least squares within cells.

    Args:
        costs: joules a call by block, shape (n,).
        cell: each block's cell i, shape (n,).
        call_s: t, seconds a call of its cell, shape (n,).
        temperature_c: T, of the device before the block, shape (n,).
        scale: standard deviation of a block of its cell, shape (n,).

    Returns:
        ``None`` where a temperature is missing, none moved by a kelvin, there are fewer than
        `FEWEST_BLOCKS` blocks, or the slope is not told from 0 at the 1 % level.
    """
    y, t, temperature, sd = (
        np.asarray(values, dtype=np.float64) for values in (costs, call_s, temperature_c, scale)
    )
    if y.size < FEWEST_BLOCKS or not (
        np.isfinite(temperature).all() and np.ptp(temperature) >= _LEAST_KELVIN
    ):
        return None
    mean_c = float(temperature.mean())
    _, which = np.unique(np.asarray(cell), return_inverse=True)
    x = _within(t * (temperature - mean_c) / sd, which)
    z = _within(y / sd, which)
    spread, degrees = float(x @ x), y.size - int(which.max()) - 2
    if not spread > 0 or degrees < 2:
        return None
    slope = float(x @ z) / spread
    error = sqrt(float(np.sum((z - slope * x) ** 2)) / degrees / spread)
    if abs(slope) <= t_quantile(1 - _LEVEL / 2, degrees) * error:
        return None
    return ThermalSlope(slope, error, mean_c)


def _within(values: Floats, which: NDArray[np.int64]) -> Floats:
    """*values* less the mean of their cell; equal scales within a cell keep this exact."""
    means = np.bincount(which, values) / np.bincount(which)
    centred: Floats = values - means[which]
    return centred
