"""Quantiles of Student's t, by SciPy where it is installed and by themselves where it is not.

A machine that measures may have torch and NumPy alone. With x = v / (v + t^2), the upper tail is
half a regularised incomplete beta function::

    P(T > t) = I_x(v/2, 1/2) / 2

evaluated by its continued fraction (Lentz's method; DLMF 8.17.22) and inverted by bisection.
Many degrees of freedom take the series around the normal quantile.
"""

from __future__ import annotations

from math import exp, inf, isnan, lgamma, log, log1p
from statistics import NormalDist

_TINY, _CLOSE, _TERMS = 1e-300, 4e-16, 10_000
_MANY_DEGREES = 1e5
"""From here on the series in 1 / degrees is exact to the last digits."""


def t_quantile(probability: float, degrees: float) -> float:
    """The *probability* quantile of Student's t with *degrees* of freedom; NaN outside both."""
    try:
        from scipy.special import stdtrit
    except ImportError:
        return exact_t_quantile(probability, degrees)
    return float(stdtrit(degrees, probability))


def exact_t_quantile(probability: float, degrees: float) -> float:
    """The same without SciPy; to 1e-9, relative, for tails above 1e-12."""
    if isnan(probability) or not (degrees > 0 and 0 <= probability <= 1):
        return float("nan")
    if probability == 0.5:
        return 0.0
    if probability < 0.5:
        return -_upper(probability, degrees)
    return _upper(1.0 - probability, degrees)


def _upper(tail: float, degrees: float) -> float:
    """The t > 0 above which *tail* < 1/2 lies."""
    if tail == 0:
        return inf
    if degrees >= _MANY_DEGREES:
        return _near_normal(-NormalDist().inv_cdf(tail), degrees)
    high = 1.0
    while _tail(high, degrees) > tail:
        high *= 2.0
    low = 0.0 if high == 1.0 else high / 2.0
    while True:
        middle = (low + high) / 2.0
        if middle in (low, high):
            return middle
        low, high = (middle, high) if _tail(middle, degrees) > tail else (low, middle)


def _near_normal(z: float, degrees: float) -> float:
    """Three terms of the Cornish-Fisher series (Abramowitz and Stegun 26.7.5)."""
    square = z * z
    first = (square + 1) / 4
    second = ((5 * square + 16) * square + 3) / 96
    third = (((3 * square + 19) * square + 17) * square - 15) / 384
    return z * (1 + first / degrees + second / degrees**2 + third / degrees**3)


def _tail(t: float, degrees: float) -> float:
    """P(T > t) for t > 0."""
    square = t * t
    a, b = degrees / 2.0, 0.5
    x, rest = degrees / (degrees + square), square / (degrees + square)
    log_x = -log1p(square / degrees)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log_x + b * log(rest))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(x, a, b) / a / 2.0
    return 0.5 - front * _fraction(rest, b, a) / b / 2.0


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction 1 / (1 + d1 / (1 + d2 / ...)) of I_x(a, b)."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + step * d)
            c = _away_from_zero(1.0 + step / c)
            value *= c * d
        if abs(c * d - 1.0) < _CLOSE:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
