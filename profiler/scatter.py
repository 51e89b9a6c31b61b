"""How much a block scatters: one noise model for an operation, and what it lends to each cell.

A window's joules scatter by the counter's steps, a fixed amount, and by power that wanders, more
in a longer window. With n calls a block that take t seconds each, a block's joules a call have::

    v(n, t) = v0 / n^2 + p^2 t^2        v0 in J^2, p in W

fitted to the cells' own variances s_i^2. A cell's s_i^2 from a pilot of two to six blocks is so
uncertain that its Student interval is wide (t = 12.7 on one degree of freedom); what all cells of
the operation have in common is known well. Both are joined as Smyth (2004) does: with s_i^2 / v_i
distributed as s0^2 F(d_i, d0) over the cells,

    s~_i^2 = v_i (d0 s0^2 + d_i s_i^2 / v_i) / (d0 + d_i)       on d0 + d_i degrees of freedom

where d0 and s0^2 are estimated from the logarithms of the ratios: cells that scatter alike give a
large d0 and share their degrees; cells that do not give a small one and stand alone. The moderated
t statistic is exact under that model on average over the cells. A few cells always look unlike each
other a little: they stand alone only where chance would show as much in less than one case of 100.

Source: G. K. Smyth, Linear models and empirical Bayes methods for assessing differential
expression in microarray experiments, Stat. Appl. Genet. Mol. Biol. 3 (2004), sections 4 and 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_REWEIGHTINGS = 10
_UNLIKE_LENGTHS = 1.5
_LEAST_RATIO = 1e-5
_ONE_SIDED_5, _ONE_SIDED_1 = 1.645, 2.326
_LOG_KURTOSIS = 4.0
"""Excess kurtosis of log chi-square on one degree of freedom; on more it is smaller."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """The noise model of one operation's blocks.

    Attributes:
        counter_j2: v0, variance of a block from the counter's steps, J^2.
        power_w2: p^2, variance that grows with a call's length squared, W^2.
        degrees: degrees of freedom behind both.
        prior_degrees: d0 > 0; small where cells lend each other little, inf where all are alike.
        prior_ratio: s0^2, about 1.
    """

    counter_j2: float
    power_w2: float
    degrees: float
    prior_degrees: float
    prior_ratio: float

    def variance(self, repetitions: ArrayLike, call_s: ArrayLike) -> Floats:
        """v(n, t): of one block's joules a call, J^2, elementwise; always positive."""
        n, t = np.asarray(repetitions, dtype=float), np.asarray(call_s, dtype=float)
        return np.maximum(self.counter_j2 / n**2 + self.power_w2 * t**2, 1e-40)

    def moderate(
        self, variance: ArrayLike, degrees: ArrayLike, model: ArrayLike
    ) -> tuple[Floats, Floats]:
        """s~^2 and its degrees of freedom, elementwise.

        A cell without a variance of its own gets the prior's, or the model's where that is more.

        Args:
            variance: s_i^2, of one block's joules a call, shape (m,).
            degrees: d_i; 0 where a cell has no variance of its own, shape (m,).
            model: v_i, from `variance`, shape (m,).
        """
        s2, d = np.asarray(variance, dtype=float), np.asarray(degrees, dtype=float)
        v = np.asarray(model, dtype=float)
        if self.prior_degrees == inf:
            return self.prior_ratio * v, np.full(s2.shape, self.degrees)
        total = self.prior_degrees + d
        joined = (self.prior_degrees * self.prior_ratio * v + d * s2) / total
        lent = np.maximum(self.prior_ratio, 1.0) * v
        known = d > 0
        degrees_known = np.where(known, total, np.maximum(total, 1.0))
        return np.where(known, joined, lent), np.minimum(degrees_known, self.degrees)


def fit_scatter(
    variance: ArrayLike, degrees: ArrayLike, repetitions: ArrayLike, call_s: ArrayLike
) -> Scatter:
    """The noise model of the cells of one operation.

    Args:
        variance: s_i^2 of one block's joules a call, not negative, shape (m,).
        degrees: degrees of freedom behind each, positive, shape (m,).
        repetitions: calls a block, shape (m,).
        call_s: seconds a call, shape (m,).

    v0 and p^2 by the gamma likelihood's reweighting, w = degrees / v^2; the prior by the moments of
    log(s_i^2 / v_i), with trigamma(d0 / 2) = the variance that chance leaves unexplained. Where all
    windows are of about one length p^2 is part of v0: told apart by chance alone, the model would
    follow single cells.
    """
    s2, d, n, t = (np.asarray(x, dtype=float) for x in (variance, degrees, repetitions, call_s))
    columns = np.column_stack([1.0 / n**2, t**2])
    lengths_s = n * t
    if lengths_s.max() < _UNLIKE_LENGTHS * lengths_s.min():
        columns[:, 1] = 0.0  # windows of one length: the two terms are one
    floor = max(float(np.max(s2 * n**2)), 1e-40) * 1e-12 / n**2
    model = np.maximum(s2, floor)
    v0 = p2 = 0.0
    for _ in range(_REWEIGHTINGS):
        v0, p2 = _two_nonnegative(columns, s2, d / model**2)
        model = np.maximum(columns @ [v0, p2], floor)
    ratio = s2 / model
    prior_degrees, prior_ratio = _prior(ratio, d)
    return Scatter(v0, p2, float(d.sum()), prior_degrees, prior_ratio)


def looks_larger(ratio: float, degrees: float, other_degrees: float) -> bool:
    """Whether a ratio of two variances is above the 95 % point of F(degrees, other_degrees).

    By Paulson's normal approximation of the cube root (1942), good to a percent from 3 degrees on.
    """
    ninth, other = 2 / (9 * degrees), 2 / (9 * other_degrees)
    root = max(ratio, 0.0) ** (1 / 3)
    z = ((1 - other) * root - (1 - ninth)) / np.sqrt(other * root**2 + ninth)
    return bool(z > _ONE_SIDED_5)


def _prior(ratio: Floats, degrees: Floats) -> tuple[float, float]:
    """d0 and s0^2 of ratio ~ s0^2 F(d, d0); see Smyth (2004), section 6.2."""
    count = ratio.size
    pooled = float(np.sum(degrees * ratio) / np.sum(degrees))
    if count < 2 or pooled <= 0:
        return inf, pooled or 1.0
    safe = np.maximum(ratio, _LEAST_RATIO * (float(np.median(ratio)) or pooled))
    e = np.log(safe) - digamma(degrees / 2) + np.log(degrees / 2)
    chance = float(np.mean(trigamma(degrees / 2)))
    unexplained = float(np.var(e, ddof=1)) - chance
    if unexplained <= _ONE_SIDED_1 * chance * np.sqrt(_LOG_KURTOSIS / count + 2 / (count - 1)):
        return inf, pooled
    half = _inverse_trigamma(unexplained)
    shift = float(digamma(np.array([half]))[0]) - float(np.log(half))
    return 2 * half, float(np.exp(np.mean(e) + shift))


def _two_nonnegative(columns: Floats, y: Floats, weight: Floats) -> tuple[float, float]:
    """Weighted least squares with two coefficients, neither negative."""
    gram = columns.T @ (weight[:, None] * columns)
    right = columns.T @ (weight * y)
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    gram, right = gram / np.outer(scale, scale), right / scale
    determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] ** 2
    if determinant > 1e-9:
        first = (right[0] * gram[1, 1] - right[1] * gram[0, 1]) / determinant
        second = (right[1] * gram[0, 0] - right[0] * gram[0, 1]) / determinant
        if first >= 0 and second >= 0:
            return float(first / scale[0]), float(second / scale[1])
    alone = np.maximum(right / np.maximum(np.diag(gram), 1e-300), 0.0)
    if right[0] * alone[0] >= right[1] * alone[1]:  # which explains more by itself
        return float(alone[0] / scale[0]), 0.0
    return 0.0, float(alone[1] / scale[1])


def digamma(x: Floats) -> Floats:
    """d log Gamma / dx for x > 0: recurrence up to 8, then the asymptotic series."""
    x = np.array(x, dtype=float)
    shift = np.zeros_like(x)
    while (low := x < 8).any():
        shift -= np.where(low, 1 / x, 0.0)
        x = np.where(low, x + 1, x)
    i = 1 / x**2
    return shift + np.log(x) - 0.5 / x - i * (1 / 12 - i * (1 / 120 - i * (1 / 252 - i / 240)))


def trigamma(x: Floats) -> Floats:
    """The derivative of `digamma`, likewise."""
    x = np.array(x, dtype=float)
    shift = np.zeros_like(x)
    while (low := x < 8).any():
        shift += np.where(low, 1 / x**2, 0.0)
        x = np.where(low, x + 1, x)
    i = 1 / x**2
    series = 1 + 0.5 / x + i * (1 / 6 - i * (1 / 30 - i * (1 / 42 - i / 30)))
    return shift + series / x


def _inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = value, by bisection on a logarithmic scale."""
    low, high = -30.0, 30.0
    for _ in range(200):
        middle = (low + high) / 2
        above = float(trigamma(np.array([np.exp(middle)]))[0]) > value
        low, high = (middle, high) if above else (low, middle)
    return float(np.exp((low + high) / 2))
