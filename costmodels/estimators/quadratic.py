"""A smooth surface through scattered values: a quadratic, held back by a ridge penalty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, eq=False)
class Quadratic:
    """r(z) = c_0 + sum_i c_i u_i + sum_{i <= j} c_ij u_i u_j  with  u = (z - centre) / spread.

    Attributes:
        centre, spread: of each column, shape (q,); spreads are positive.
        intercept: c_0.
        coef: c_i, then c_ij row by row, shape (q + q (q + 1) / 2,).
    """

    centre: Floats
    spread: Floats
    intercept: float
    coef: Floats

    def predict(self, Z: Floats) -> Floats:
        """r of each row of *Z*, shape (m, q) -> (m,)."""
        found = np.empty(len(Z))
        for at in range(0, len(Z), _ROWS_AT_ONCE):
            rows = slice(at, at + _ROWS_AT_ONCE)
            found[rows] = _terms((Z[rows] - self.centre) / self.spread) @ self.coef
        return found + self.intercept


def terms_of(columns: int) -> int:
    """How many coefficients a quadratic of so many columns has, the intercept left out."""
    return columns + columns * (columns + 1) // 2


def fit_quadratic(Z: Floats, r: Floats, weight: Floats, penalty: float) -> Quadratic:
    """Minimise  sum_i w_i (r_i - r(z_i))^2 + penalty * mean(w) * |c|^2  without the intercept.

    Args:
        Z: shape (m, q); columns that do not vary take no part.
        r: shape (m,).
        weight: at least zero, shape (m,).
        penalty: ridge penalty on standardised columns, in rows.
    """
    share = weight / weight.sum()
    centre = share @ Z
    spread = np.sqrt(share @ (Z - centre) ** 2)
    varies = spread > 1e-9 * np.maximum(np.abs(centre), 1.0)
    spread = np.where(varies, spread, 1.0)
    A = _terms(np.where(varies, (Z - centre) / spread, 0.0))
    middle = share @ A
    B, level = A - middle, float(share @ r)
    normal = (B * weight[:, None]).T @ B + penalty * float(weight.mean()) * np.eye(A.shape[1])
    coef = np.linalg.solve(normal, (B * weight[:, None]).T @ (r - level))
    return Quadratic(centre, spread, level - float(middle @ coef), coef)


def _terms(U: Floats) -> Floats:
    first, second = np.triu_indices(U.shape[1])
    return np.concatenate([U, U[:, first] * U[:, second]], axis=1)
