"""Weighted least squares with coefficients of at least zero, scaled so that units do not matter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def nonnegative_least_squares(X: Floats, y: Floats, weight: Floats) -> Floats:
    """b >= 0 that minimises sum_i weight_i (y_i - x_i . b)^2, shape (p,).

    Rows are scaled by the square root of their weight, columns to norm one; a QR factorisation
    leaves p + 1 rows for the active-set solver, so that a million rows cost one pass. A column
    of zeros gets b = 0. Source: Lawson and Hanson (1974), chapter 23.

    Args:
        X: shape (m, p).
        y: shape (m,).
        weight: at least zero, shape (m,).
    """
    from scipy.optimize import nnls

    row = np.sqrt(weight)
    design = X * row[:, None]
    norm = np.linalg.norm(design, axis=0)
    used = norm > 0
    b = np.zeros(X.shape[1])
    if not used.any():  # some versions of the solver fail on no columns
        return b
    augmented = np.column_stack([design[:, used] / norm[used], y * row])
    reduced = np.asarray(np.linalg.qr(augmented, mode="r"))
    solution, _ = nnls(reduced[:, :-1], reduced[:, -1])
    b[used] = solution / norm[used]
    return b


def relative_scale(
    y: Floats, weight: Floats, relative_floor: float, kind: Floats | None = None
) -> Floats:
    """max(|y|, floor), never zero; the floor is a share of the weighted mean of a kind's |y|."""
    if kind is not None:
        scale = np.empty_like(y)
        for code in np.unique(kind):
            rows = kind == code
            scale[rows] = relative_scale(y[rows], weight[rows], relative_floor)
        return scale
    size = np.abs(y)
    floor = relative_floor * float(weight @ size) / max(float(weight.sum()), 1e-300)
    if floor == 0:
        counted = size[(weight > 0) & (size > 0)]
        floor = float(counted.min()) if counted.size else 1.0
    return np.maximum(size, floor)


def prices_of(design: Floats, y: Floats, weight: Floats) -> Floats:
    """b >= 0 of weighted least squares; 0 for a column proportional to a later one."""
    kept = distinguishable(design * np.sqrt(weight)[:, None])
    prices = np.zeros(design.shape[1])
    prices[kept] = nonnegative_least_squares(design[:, kept], y, weight)
    return prices


def distinguishable(design: Floats) -> list[int]:
    """Columns that are not all zero and of which none is proportional to a later one."""
    norm = np.linalg.norm(design, axis=0)
    unit = design / np.where(norm > 0, norm, 1.0)
    alike = np.abs(unit.T @ unit) > 1.0 - 1e-12
    return [j for j in range(norm.size) if norm[j] > 0 and not alike[j, j + 1 :].any()]
