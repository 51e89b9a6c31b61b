"""Calibration rows of `costmodels.transfer.core`: checked, and told from what drowns in noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.errors import InputError

Floats = NDArray[np.float64]
FEWEST_ROWS = 3
LEAST_SPREAD_LOG = 0.005
"""No model is believed to be better than half a percent on what it did not see."""
_UNINFORMATIVE = 0.5
_REWEIGHTED = 20
_PARTS_REWEIGHTED = 5
_CLEAR = 0.25
_PARTS_APART = 3.0


@dataclass(frozen=True)
class Rows:
    """Calibration rows of device B beside what A's model says of them; checked when made.

    Attributes:
        contributions: c, joules a call by part of A's price, shape (m, p); a row's sum is what
            A would pay.
        energy_j: y, joules a call on B, shape (m,).
        variance_j2: squared standard error of y, shape (m,).
        spread_log: s, standard deviation of log y_A - log f_A on layers left out, shape (m,).
        layers: what shares a misfit, shape (m,).
        shared: rho, from 0 to 1.
        groups: the group (operation) of each part, shape (p,).
    """

    contributions: Floats
    energy_j: Floats
    variance_j2: Floats
    spread_log: Floats
    layers: NDArray[np.intp]
    shared: float
    groups: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        contributions: ArrayLike,
        energy_j: ArrayLike,
        *,
        variance_j2: ArrayLike = 0.0,
        spread_log: ArrayLike = 0.1,
        layers: ArrayLike | None = None,
        shared: float = 0.0,
        groups: ArrayLike | None = None,
    ) -> Rows:
        """Check, broadcast and number the labels.

        Raises:
            InputError: shapes that differ, NaN, a negative contribution, variance or spread, a
                row that A prices at nothing, or fewer than 3 rows.
        """
        parts = np.asarray(contributions, dtype=np.float64)
        energy = np.asarray(energy_j, dtype=np.float64)
        if parts.ndim != 2 or energy.shape != parts.shape[:1]:
            raise InputError(
                f"contributions of shape {parts.shape} do not fit energies of {energy.shape}"
            )
        m, p = parts.shape
        if m < FEWEST_ROWS:
            raise InputError(
                f"{m} calibration rows are too few to correct a model: give at least "
                f"{FEWEST_ROWS}, better 20"
            )
        for name, values in (("energies", energy), ("contributions", parts)):
            if not np.isfinite(values).all():
                raise InputError(f"the calibration's {name} hold NaN or infinity; drop those rows")
        if (parts < 0).any():
            raise InputError("a part of the price is negative: give prices and features above zero")
        if not (parts.sum(axis=1) > 0).all():
            row = int(np.argmin(parts.sum(axis=1)))
            raise InputError(f"the model of the first device prices row {row} at nothing")
        try:
            variance, spread = (
                np.broadcast_to(np.asarray(given, dtype=np.float64), (m,))
                for given in (variance_j2, spread_log)
            )
        except ValueError as error:
            raise InputError(f"give one variance and one spread for each of {m} rows") from error
        if not ((variance >= 0) & np.isfinite(variance)).all():
            raise InputError("a variance of the calibration is negative or not finite")
        if not ((spread >= 0) & np.isfinite(spread)).all() or not 0 <= shared <= 1:
            raise InputError("spreads are finite and at least 0, their shared part from 0 to 1")
        labels = (
            np.arange(m)
            if layers is None
            else np.unique(np.asarray(layers), return_inverse=True)[1]
        )
        kinds = (
            np.zeros(p, np.intp)
            if groups is None
            else np.unique(np.asarray(groups), return_inverse=True)[1]
        )
        if labels.shape != (m,) or kinds.shape != (p,):
            raise InputError(
                f"give one layer for each of {m} rows and one group for each of {p} parts"
            )
        return cls(
            parts, energy, variance, np.maximum(spread, LEAST_SPREAD_LOG), labels, shared, kinds
        )


def informative_rows(rows: Rows) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Which rows speak, their log energies, and the variance of these by noise.

    A row is judged by what is expected of it, s f_i with the common scale s of all rows, never
    by its own outcome: leaving out what came out low would raise the scale. A part that B pays
    far more for than the common scale says would have all its rows left out so; they are kept
    where parts scaled one by one expect them, and they came out, at four times their noise.
    """
    f = rows.contributions.sum(axis=1)
    y, variance = rows.energy_j, rows.variance_j2
    scale = float(np.median(y / f))
    for _ in range(_REWEIGHTED):
        if not scale > 0:
            raise InputError(
                "the calibration blocks are at or below zero: nothing was measured on this "
                "device; calibrate with more time or a finer meter"
            )
        weight = 1.0 / (scale**2 * f**2 * rows.spread_log**2 + variance)
        scale = float(np.sum(weight * f * y) / np.sum(weight * f**2))
    if not scale > 0:
        raise InputError(
            "the calibration blocks are at or below zero: nothing was measured on this "
            "device; calibrate with more time or a finer meter"
        )
    common = variance / (scale * f) ** 2
    expected = _scaled_by_part(rows, scale)
    noise = variance / np.maximum(scale * f, expected) ** 2
    least = np.minimum(expected, np.maximum(y, 0.0))
    clear = variance < (_CLEAR * least) ** 2
    kept = np.asarray((common < _UNINFORMATIVE**2) | clear)
    if kept.sum() < FEWEST_ROWS:
        raise InputError(
            f"{int(kept.sum())} of {y.size} calibration rows stand out of their noise where "
            f"{FEWEST_ROWS} are needed: calibrate with more time or a finer meter"
        )
    if (y[kept] <= 0).any():
        row = int(np.flatnonzero(kept)[np.argmax(y[kept] <= 0)])
        raise InputError(
            f"calibration row {row} came out at {y[row]:.3g} J where about {scale * f[row]:.3g} J "
            "were to be expected and the noise is small: drop it or measure it again"
        )
    # the mean of log y is low by half its relative variance
    return kept, np.log(y[kept]) + 0.5 * noise[kept], noise[kept]


def _scaled_by_part(rows: Rows, scale: float) -> Floats:
    """Expected joules where each part has a scale of its own, weakly held to the common one, (m,).

    Least squares in J with theta >= 0, where rows drown in noise without a logarithm to break::

        sum_i (y_i - theta . c_i)^2 / (v_i + s_i^2 E_i^2) + sum_j ((theta_j / scale - 1) / 3)^2
    """
    from scipy.optimize import nnls

    parts = rows.contributions * scale
    expected = parts.sum(axis=1)
    hold = np.eye(parts.shape[1]) / _PARTS_APART
    for _ in range(_PARTS_REWEIGHTED):
        error = np.sqrt(rows.variance_j2 + (rows.spread_log * expected) ** 2)
        design = np.vstack([parts / error[:, None], hold])
        theta, _ = nnls(design, np.concatenate([rows.energy_j / error, hold.sum(axis=1)]))
        # a row that nothing is left of would be taken for exact in the next round
        expected = np.maximum(parts @ theta, 1e-3 * parts.sum(axis=1))
    return np.asarray(expected)
