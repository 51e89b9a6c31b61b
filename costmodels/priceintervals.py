"""Intervals of prices: the prices of resampled groups, from a small factor of each group's rows."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from costmodels.estimators.folds import fold_numbers
from costmodels.estimators.leastsquares import (
    distinguishable,
    nonnegative_least_squares,
    relative_scale,
)
from profiler.statistics import t_quantile

Floats = NDArray[np.float64]
RESAMPLES = 200
_MOST_UNITS = 200
_TAILS = (0.025, 0.975)
_FLOOR = 1e-6


def price_intervals(
    X: Floats,
    y: Floats,
    group: NDArray[np.str_],
    kind: NDArray[np.str_] | None,
    seed: int,
) -> tuple[Floats, Floats]:
    """95 % intervals of the prices of `KindwiseNNLS`, shapes (p,), by resampling groups.

    Percentiles over resamples of G groups vary too little: they are moved away from the price by
    sqrt(G / (G - 1)) t_{G-1} / z (Hesterberg 2015, "What Teachers Should Know About the
    Bootstrap", The American Statistician 69). With one group nothing is known: (0, the price that
    would explain all of the energy by itself). More than 200 groups are gathered into 200.

    Each group enters as the triangular factor of its weighted rows [X / y, 1], p + 1 rows instead
    of thousands, so that a resample costs the same whatever the table's size.

    Args:
        X: priced features, shape (m, p).
        y: joules, positive, shape (m,).
        group: what is resampled, shape (m,).
        kind: each counts alike where given, as in the pooled fit.
        seed: of the draws.
    """
    weight = _weights(y, kind)
    part = fold_numbers(group, _MOST_UNITS, seed)
    units = int(part.max()) + 1
    design = np.column_stack([X, y]) * np.sqrt(weight)[:, None]
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(units + 1))
    factors = [
        np.linalg.qr(design[order[bounds[unit] : bounds[unit + 1]]], mode="r")
        for unit in range(units)
    ]
    value = _prices(np.concatenate(factors))
    if units < 2:
        with np.errstate(divide="ignore"):
            alone = np.where(X.any(axis=0), (weight @ y) / np.maximum(weight @ X, 1e-300), 0.0)
        return np.zeros_like(value), np.maximum(alone, value)
    generator = np.random.default_rng(seed)
    draws = [
        _prices(np.concatenate([factors[unit] for unit in generator.integers(0, units, units)]))
        for _ in range(RESAMPLES)
    ]
    away = np.quantile(draws, _TAILS, axis=0) - value
    stretch = sqrt(units / (units - 1)) * t_quantile(0.975, units - 1) / t_quantile(0.975, inf)
    low, high = value + stretch * away
    return np.maximum(np.minimum(low, value), 0.0), np.maximum(high, value)


def _weights(y: Floats, kind: NDArray[np.str_] | None) -> Floats:
    weight = relative_scale(y, np.ones_like(y), _FLOOR) ** -2
    if kind is not None:
        _, number = np.unique(kind, return_inverse=True)
        number = number.reshape(-1)
        weight = weight / np.bincount(number)[number]
    return np.asarray(weight)


def _prices(rows: Floats) -> Floats:
    design, y = rows[:, :-1], rows[:, -1]
    kept = distinguishable(design)
    prices = np.zeros(design.shape[1])
    prices[kept] = nonnegative_least_squares(design[:, kept], y, np.ones_like(y))
    return prices
