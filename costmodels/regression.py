"""The pooled regression of one operation: joules a call on physical features.

    E = sum_j  price_j x feature_j,    price_j >= 0,

by least squares on relative error over the cell means of all layers. A cell whose mean drowns
in its own error counts for less: the weight is 1 / (E^2 + s^2) with s^2 the noise model of
`costmodels.cells`. E is taken as fitted, not as the noisy mean, which would favour the cells that
came out low (`costmodels.estimators.relative.RelativeNNLS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from costmodels.cells import CellMean
from costmodels.features import Group, cell_features, feature_matrix
from costmodels.validation import Validation, leave_one_group_out, log_residuals, validate
from profiler.errors import InputError
from profiler.statistics import detect, t_quantile

Floats = NDArray[np.float64]
_RESAMPLES = 200
_TAILS = (0.025, 0.975)
_REFITS = 4
_FEWEST_GROUPS = 5
ON_LAYERS = ("update", "update.dense", "train")


@dataclass(frozen=True)
class Regression:
    """A fitted pooled regression.

    Attributes:
        group: which operation.
        prices: J per unit of each feature, shape (p,), not negative.
        cells: what it was fitted to.
        design: their features, shape (m, p).
    """

    group: Group
    prices: Floats
    cells: tuple[CellMean, ...]
    design: Floats

    def energy_j(
        self, pattern: str, k: Floats, *, parameters: int, dtype: str, macs: float | None = None
    ) -> Floats:
        """Predicted joules of a call, elementwise over *k*."""
        operation = self.group.partition(".")[0]
        rows = feature_matrix(operation, pattern, k, parameters=parameters, dtype=dtype, macs=macs)
        return np.asarray(rows @ self.prices)


def fit_regression(group: Group, cells: Sequence[CellMean]) -> Regression:
    """Fit the prices of *group* to *cells*.

    Raises:
        InputError: no cell has a positive mean, so that every price would be zero.
    """
    X, y, noise = arrays(cells)
    prices = fit_prices(X, y, noise)
    if not (prices > 0).any():
        raise InputError(
            f"no cost was seen for {group!r}: every cell is at or below zero; "
            "profile with more time or a finer meter"
        )
    return Regression(group, prices, tuple(cells), X)


def price_intervals(regression: Regression, seed: int) -> tuple[Floats, Floats, str]:
    """95 % intervals of the prices, shapes (p,), and how they were made.

    Percentiles of the prices of cell means that are redrawn within their errors: Student's, with
    each cell's own degrees of freedom. For operations on layers, with at least five signatures,
    also of resampled signatures, and the wider of both: redrawing does not know that layers
    differ from the regression, and resampling sees little where few signatures set a price.
    """
    X, y, noise = arrays(regression.cells)
    generator = np.random.default_rng(seed)
    errors = np.sqrt([cell.variance for cell in regression.cells])
    degrees = np.array([cell.degrees for cell in regression.cells])
    redrawn = (y + errors * generator.standard_t(degrees) for _ in range(_RESAMPLES))
    low, high = np.quantile([fit_prices(X, again, noise) for again in redrawn], _TAILS, axis=0)
    method = "cell means redrawn within their errors"
    labels = [cell.group for cell in regression.cells]
    if regression.group in ON_LAYERS and len(set(labels)) >= _FEWEST_GROUPS:
        between_low, between_high = _between_signatures(regression, labels, generator)
        low, high = np.minimum(low, between_low), np.maximum(high, between_high)
        method = f"{method} or layer signatures resampled, the wider,"
    return (
        np.minimum(low, regression.prices),
        np.maximum(high, regression.prices),
        f"{method} {_RESAMPLES} times, seed {seed}",
    )


def _between_signatures(
    regression: Regression, labels: Sequence[str], generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Percentiles over resampled layer signatures, expanded for their small number.

    A resample of G signatures varies too little and has normal tails, so that its percentiles
    are moved away from the price by sqrt(G / (G - 1)) t_{G-1} / z (Hesterberg 2015).
    """
    X, y, noise = arrays(regression.cells)
    units = [np.flatnonzero(np.array(labels) == name) for name in dict.fromkeys(labels)]
    count = len(units)
    draws = []
    for _ in range(_RESAMPLES):
        rows = np.concatenate([units[index] for index in generator.integers(0, count, count)])
        draws.append(fit_prices(X[rows], y[rows], noise[rows]))
    away = np.quantile(draws, _TAILS, axis=0) - regression.prices
    stretch = sqrt(count / (count - 1)) * t_quantile(0.975, count - 1) / t_quantile(0.975, inf)
    low, high = regression.prices + stretch * away
    return np.maximum(low, 0.0), high


def cross_validate(
    regression: Regression, seed: int, predicted: Floats | None = None
) -> tuple[Validation, dict[str, Floats]]:
    """Leave-one-group-out report, and the log residuals of each group's detected cells.

    Args:
        regression: what is tested.
        seed: of the bootstrap over groups.
        predicted: its cells as predicted without their group, where more than one regression
            was in the choice; by default by its own prices fitted to the other groups.
    """
    X, y, noise = arrays(regression.cells)
    groups = [cell.group for cell in regression.cells]
    if predicted is None:
        predicted = leave_one_group_out(fit_prices, X, y, noise, groups)
    detected = detected_cells(regression.cells)
    usable = detected & (y > 0) & np.isfinite(predicted)
    labels = np.asarray(groups)
    residuals = {
        name: log_residuals(y[usable & (labels == name)], predicted[usable & (labels == name)])
        for name in dict.fromkeys(groups)
        if (usable & (labels == name)).any()
    }
    return validate(y, predicted, detected, groups, seed), residuals


def detected_cells(cells: Sequence[CellMean]) -> NDArray[np.bool_]:
    """Which cells lie above their critical level."""
    return np.array(
        [
            detect(cell.mean_j, float(np.sqrt(cell.variance)), cell.degrees).detected
            for cell in cells
        ]
    )


def arrays(cells: Sequence[CellMean]) -> tuple[Floats, Floats, Floats]:
    """Features, means, and the variance of each as the noise model has it."""
    y = np.array([cell.mean_j for cell in cells])
    noise = np.array([cell.weight_variance for cell in cells])
    return cell_features(cells), y, noise


def fit_prices(X: Floats, y: Floats, noise: Floats) -> Floats:
    """Prices of at least zero by least squares on relative error, shape (p,)."""
    from costmodels.estimators.leastsquares import distinguishable
    from costmodels.estimators.relative import RelativeNNLS

    kept = distinguishable(X)
    prices = np.zeros(X.shape[1])
    found = RelativeNNLS(refits=_REFITS).fit(X[:, kept], y, variance=noise)
    prices[kept] = found.coef_
    return prices
