"""The pooled regression of one operation: joules a call on physical features.

    E = sum_j  price_j x feature_j,    price_j >= 0,

by least squares on relative error over the cell means of all layers. A cell whose mean drowns
in its own error counts for less: the weight is y^2 / (y^2 + s^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodels.cells import CellMean
from costmodels.features import Group, cell_features, feature_matrix
from costmodels.validation import Validation, leave_one_group_out, log_residuals, validate
from profiler.errors import InputError
from profiler.statistics import detect

Floats = NDArray[np.float64]
_RESAMPLES = 200
_FEWEST_GROUPS = 5
_ON_LAYERS = ("update", "update.dense", "train")


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
    X, y, weight = _arrays(cells)
    prices = _fit(X, y, weight)
    if not (prices > 0).any():
        raise InputError(
            f"no cost was seen for {group!r}: every cell is at or below zero; "
            "profile with more time or a finer meter"
        )
    return Regression(group, prices, tuple(cells), X)


def price_intervals(regression: Regression, seed: int) -> tuple[Floats, Floats, str]:
    """95 % intervals of the prices, shapes (p,), and how they were made.

    Percentiles over seeded resamples: of layer signatures, for operations on layers; for
    messages, and with fewer than five signatures, of the cell means within their errors.
    """
    X, y, weight = _arrays(regression.cells)
    labels = np.array([cell.group for cell in regression.cells])
    names = list(dict.fromkeys(labels.tolist()))
    generator = np.random.default_rng(seed)
    draws = []
    if regression.group in _ON_LAYERS and len(names) >= _FEWEST_GROUPS:
        method = "layer signatures resampled"
        units = [np.flatnonzero(labels == name) for name in names]
        for _ in range(_RESAMPLES):
            chosen = generator.integers(0, len(units), len(units))
            rows = np.concatenate([units[index] for index in chosen])
            draws.append(_fit(X[rows], y[rows], weight[rows]))
    else:
        method = "cell means redrawn within their errors"
        errors = np.sqrt([cell.variance for cell in regression.cells])
        for _ in range(_RESAMPLES):
            draws.append(_fit(X, y + errors * generator.standard_normal(y.size), weight))
    low, high = np.quantile(np.stack(draws), [0.025, 0.975], axis=0)
    return (
        np.minimum(low, regression.prices),
        np.maximum(high, regression.prices),
        f"{method} {_RESAMPLES} times, seed {seed}",
    )


def cross_validate(regression: Regression, seed: int) -> tuple[Validation, dict[str, Floats]]:
    """Leave-one-group-out report, and the log residuals of each group's detected cells."""
    X, y, weight = _arrays(regression.cells)
    groups = [cell.group for cell in regression.cells]
    predicted = leave_one_group_out(_fit, X, y, weight, groups)
    detected = np.array(
        [
            detect(cell.mean_j, float(np.sqrt(cell.variance)), cell.degrees).detected
            for cell in regression.cells
        ]
    )
    usable = detected & (y > 0) & np.isfinite(predicted)
    labels = np.asarray(groups)
    residuals = {
        name: log_residuals(y[usable & (labels == name)], predicted[usable & (labels == name)])
        for name in dict.fromkeys(groups)
        if (usable & (labels == name)).any()
    }
    return validate(y, predicted, detected, groups, seed), residuals


def _arrays(cells: Sequence[CellMean]) -> tuple[Floats, Floats, Floats]:
    y = np.array([cell.mean_j for cell in cells])
    variance = np.array([cell.weight_variance for cell in cells])
    return cell_features(cells), y, y**2 / (y**2 + variance)


def _fit(X: Floats, y: Floats, weight: Floats) -> Floats:
    from costmodels.estimators import RelativeNNLS

    kept = _distinguishable(X)
    prices = np.zeros(X.shape[1])
    prices[kept] = RelativeNNLS().fit(X[:, kept], y, sample_weight=weight).coef_
    return prices


def _distinguishable(X: Floats) -> list[int]:
    """Columns of which none is proportional to a later one in these rows."""
    norm = np.maximum(np.linalg.norm(X, axis=0), 1e-300)
    alike = np.abs((X / norm).T @ (X / norm)) > 1.0 - 1e-12
    return [j for j in range(X.shape[1]) if not alike[j, j + 1 :].any()]
