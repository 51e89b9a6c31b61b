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
