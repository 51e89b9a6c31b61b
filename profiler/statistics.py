"""The formulas of the method, each a small pure function over arrays.

Sources: Stein (1945) for the two-stage block count; Currie (1968) for critical level and
detection capability; Welch (1947) and Satterthwaite (1946) for degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.errors import InputError
from profiler.student import t_quantile as t_quantile


def edge_standard_error_j(power_w: float, period_s: float) -> float:
    """Standard error of a window whose two edges fall anywhere in a counter's step.

    Each edge is off by a uniform share of one step P tau, variance (P tau)^2 / 12; two of
    them give P tau / sqrt(6).
    """
    return abs(power_w) * period_s / sqrt(6.0)


def stein_blocks(pilot_sd: float, pilot_blocks: int, half_width: float, level: float = 0.95) -> int:
    """Blocks in all, pilot included, for a half-width fixed before the pilot was seen.

    B = max(n0, ceil((t_{n0-1} s / w)^2)). The interval later keeps the pilot's s and its
    n0 - 1 degrees of freedom; then it covers exactly for normal differences.

    Raises:
        InputError: fewer than two pilot blocks, or a width that is not positive.
    """
    if pilot_blocks < 2 or not half_width > 0:
        raise InputError(f"Stein's rule needs 2 pilot blocks and a width > 0, got {half_width}")
    t = t_quantile(0.5 + level / 2, pilot_blocks - 1)
    return max(pilot_blocks, ceil((t * pilot_sd / half_width) ** 2))


@dataclass(frozen=True, slots=True)
class Detection:
    """A difference against what the set-up can see.

    Attributes:
        difference: the estimate; may be negative.
        standard_error: of the estimate.
        critical: L_C = t95 s, one-sided: above it the difference is detected.
        capability: L_D = (t95 + t80) s: what would have been detected 4 times in 5.
        upper_limit: max(d, 0) + t95 s.
    """

    difference: float
    standard_error: float
    critical: float
    capability: float
    upper_limit: float

    @property
    def detected(self) -> bool:
        return self.difference > self.critical


def detect(difference: float, standard_error: float, degrees: float) -> Detection:
    """Critical level, detection capability and upper limit of a difference."""
    t95, t80 = t_quantile(0.95, degrees), t_quantile(0.80, degrees)
    return Detection(
        difference=difference,
        standard_error=standard_error,
        critical=t95 * standard_error,
        capability=(t95 + t80) * standard_error,
        upper_limit=max(difference, 0.0) + t95 * standard_error,
    )


@dataclass(frozen=True, slots=True)
class Line:
    """E(k) = a + c k fitted to cell means, with what is known of its error.

    Attributes:
        a, c: intercept and slope.
        se_a, se_c: their standard errors.
        degrees_a, degrees_c: effective degrees of freedom (Satterthwaite).
        lack_of_fit: weighted residual sum of squares; chi-square with *lack_degrees* when a
            line is right and the cells' variances are known; ``None`` if untestable.
        lack_degrees: distinct k minus two.
    """

    a: float
    c: float
    se_a: float
    se_c: float
    degrees_a: float
    degrees_c: float
    lack_of_fit: float | None
    lack_degrees: int

    def interval_a(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided Student interval of a."""
        return _interval(self.a, self.se_a, self.degrees_a, level)

    def interval_c(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided Student interval of c."""
        return _interval(self.c, self.se_c, self.degrees_c, level)


def fit_line(
    k: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    degrees: ArrayLike,
    weights: ArrayLike | None = None,
    most_degrees: float = inf,
) -> Line:
    """Weighted least squares of cell means on k.

    Args:
        k: abscissae, shape (m,), at least two distinct.
        mean: cell means of the energy a call, shape (m,).
        variance: squared standard errors of those means, positive, shape (m,).
        degrees: degrees of freedom behind each variance, shape (m,).
        weights: w, positive, shape (m,); by default 1/variance. Weights that do not depend on
            each cell's own few blocks keep the errors honest, see `costmodels.cells`.
        most_degrees: of freedom in all. Satterthwaite takes the variances for independent;
            where they rest on a common estimate they have its degrees together, not each.

    With w = 1/variance or as given, the estimates are linear in the means, a = sum alpha_j y_j and
    c = sum gamma_j y_j; so Var = sum alpha_j^2 v_j and, after Satterthwaite, the degrees of
    freedom are Var^2 / sum((alpha_j^2 v_j)^2 / degrees_j).

    Raises:
        InputError: fewer than two distinct k, or a variance that is not positive.
    """
    x, y, v, nu = (np.asarray(values, dtype=np.float64) for values in (k, mean, variance, degrees))
    distinct = np.unique(x).size
    if distinct < 2:
        raise InputError("a line E(k) = a + c k needs at least two different k")
    if not (np.isfinite(v).all() and (v > 0).all()):
        raise InputError("every cell needs a positive variance to weight it by")
    w = 1.0 / v if weights is None else np.asarray(weights, dtype=np.float64)
    centre = float(np.sum(w * x) / np.sum(w))
    spread = float(np.sum(w * (x - centre) ** 2))
    gamma = w * (x - centre) / spread
    alpha = w / np.sum(w) - centre * gamma
    a, c = float(alpha @ y), float(gamma @ y)
    testable = distinct > 2
    return Line(
        a=a,
        c=c,
        se_a=sqrt(float(alpha**2 @ v)),
        se_c=sqrt(float(gamma**2 @ v)),
        degrees_a=min(_satterthwaite(alpha**2 * v, nu), most_degrees),
        degrees_c=min(_satterthwaite(gamma**2 * v, nu), most_degrees),
        lack_of_fit=float(np.sum(w * (y - a - c * x) ** 2)) if testable else None,
        lack_degrees=distinct - 2,
    )


def _satterthwaite(parts: NDArray[np.float64], degrees: NDArray[np.float64]) -> float:
    return float(np.sum(parts) ** 2 / np.sum(parts**2 / degrees))


def _interval(value: float, error: float, degrees: float, level: float) -> tuple[float, float]:
    half = t_quantile(0.5 + level / 2, degrees) * error
    return value - half, value + half
