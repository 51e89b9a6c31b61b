"""Figures of merit as functions of how often each group counts.

A bootstrap over groups asks for the same figure hundreds of times with other multiplicities.
Prepared once, a figure of sums needs the sums of each group alone, and a figure of ranks the
sorted order, so that a million rows are scored in seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Figure = Callable[[Floats], float | None]
LEAST_SHARE = 1e-3
_MOST_RANKED = 10_000


def log_residuals(y: Floats, predicted: Floats) -> Floats:
    """log y - log f; a prediction of nothing counts as a thousandth of the truth."""
    return np.asarray(np.log(y) - np.log(np.maximum(predicted, LEAST_SHARE * y)))


def mean_of(values: Floats, index: Indices) -> Figure:
    """The mean over rows."""
    size, total = np.bincount(index).astype(np.float64), np.bincount(index, values)
    return lambda counts: float(counts @ total / (counts @ size))


def mape(y: Floats, f: Floats, index: Indices) -> Figure:
    """mean |f/y - 1|."""
    return mean_of(np.abs(f / y - 1), index)


def bias(y: Floats, f: Floats, index: Indices) -> Figure:
    """sum f / sum y - 1."""
    truth, guess = np.bincount(index, y), np.bincount(index, f)
    return lambda counts: float(counts @ guess / (counts @ truth) - 1)


def r2(y: Floats, f: Floats, index: Indices) -> Figure:
    """1 - SS_res / SS_tot of y."""
    return _r2(y, y - f, index)


def r2_log(y: Floats, f: Floats, index: Indices) -> Figure:
    """1 - SS_res / SS_tot of log y."""
    return _r2(np.log(y), log_residuals(y, f), index)


def median_ape(y: Floats, f: Floats, index: Indices) -> Figure:
    """median |f/y - 1|; the mean of the middle two of an even number."""
    error = np.abs(f / y - 1)
    value = float(np.median(error)) if error.size else None
    kept = _thin(index)
    index, error = index[kept], error[kept]
    order = np.argsort(error, kind="stable")
    group, ranked = index[order], error[order]

    def figure(counts: Floats) -> float | None:
        if (counts == 1).all():
            return value
        reached = np.cumsum(counts[group])
        if reached.size == 0 or reached[-1] == 0:
            return None
        middle = (reached[-1] + np.array([1.0, 2.0])) // 2
        return float(ranked[np.searchsorted(reached, middle)].mean())

    return figure


def spearman(y: Floats, f: Floats, index: Indices) -> Figure:
    """Pearson's correlation of mid-ranks; undefined where either is constant."""
    whole = _spearman(y, f, index)
    value = whole(np.ones(int(index.max(initial=-1)) + 1))
    if index.size > _MOST_RANKED:
        kept = _thin(index)
        whole = _spearman(y[kept], f[kept], index[kept])
    return lambda counts: value if (counts == 1).all() else whole(counts)


FIGURES = {
    "mape": mape,
    "median_ape": median_ape,
    "r2": r2,
    "r2_log": r2_log,
    "spearman": spearman,
    "bias": bias,
}


def _r2(y: Floats, residual: Floats, index: Indices) -> Figure:
    centred = y - (y.mean() if y.size else 0.0)
    sums = [np.bincount(index, v) for v in (np.ones_like(y), centred, centred**2, residual**2)]

    def figure(counts: Floats) -> float | None:
        size, first, second, missed = (float(counts @ total) for total in sums)
        total = second - first**2 / size
        # what is left of equal values after rounding is no spread
        return None if total <= 1e-12 * float(sums[2].sum()) or total <= 0 else 1 - missed / total

    return figure


def _spearman(y: Floats, f: Floats, index: Indices) -> Figure:
    places = [np.unique(values, return_inverse=True)[1].reshape(-1) for values in (y, f)]

    def figure(counts: Floats) -> float | None:
        weight = counts[index]
        total = weight.sum()
        ranks = []
        for place in places:
            ties = np.bincount(place, weight)
            ranks.append((np.cumsum(ties) - ties / 2)[place] - total / 2)
        squares = [float(weight @ rank**2) for rank in ranks]
        if min(squares) <= 0:
            return None
        return float(weight @ (ranks[0] * ranks[1]) / np.sqrt(squares[0] * squares[1]))

    return figure


def _thin(index: Indices) -> Indices:
    """Rows that are enough for an interval, spaced evenly by group; it is never narrower."""
    rows = np.arange(index.size)
    if index.size <= _MOST_RANKED:
        return rows
    order = np.argsort(index, kind="stable")
    return np.asarray(order[np.linspace(0, index.size - 1, _MOST_RANKED).astype(np.intp)])
