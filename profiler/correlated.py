"""The mean of runs made one after the other, when each resembles the one before.

Student's interval takes runs for independent. A machine that warms up, or another load that comes
and goes, makes neighbours alike; the interval is then too narrow. Neighbours are compared by von
Neumann's ratio (1941)::

    eta = sum_i (x_(i+1) - x_i)^2 / sum_i (x_i - mean)^2

which for n independent normal values has mean 2 and variance 4 (n - 2) / (n^2 - 1); a ratio below
2 - 1.645 sd is one in 20 of those. Where it is that low, and n >= 10, the interval is the fixed-b
one of Kiefer and Vogelsang (Econometric Theory 21, 2005) with Bartlett's kernel over every lag::

    half = 4.813 sqrt(omega / n),   omega = 2 / n^2 sum_(j<n) (sum_(i<=j) (x_i - mean))^2

where omega is sum_k (1 - |k| / n) gamma_k by another name, and 4.813 their 97.5 % point
1.9600 + 2.9694 b + 0.4160 b^2 - 0.5324 b^3 at b = 1. It holds for independent values too: simulated
with 100,000 runs each, it covers 94.7, 95.0 and 95.1 % for n = 12, 30 and 60.

Coverage of the mean of an AR(1) process by a nominal 95 % interval, 20,000 simulated runs each:

========  ====  =======  ==================
rho       n     Student  `interval_of_mean`
========  ====  =======  ==================
0         12    95.0     95.2
0         30    94.8     95.0
0         60    95.2     95.5
0.3       12    85.9     87.7
0.3       30    85.8     90.2
0.3       60    85.5     92.5
0.5       12    75.2     81.6
0.5       30    74.1     89.3
0.5       60    74.0     93.3
0.7       12    58.3     74.5
0.7       30    57.7     87.3
0.7       60    57.8     91.4
========  ====  =======  ==================

A dozen runs hold too little to tell, so strong correlation is said in words beside the interval:
only more runs, or longer ones, cure it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from profiler.statistics import t_quantile

FEWEST_FOR_FIXED_B, FEWEST_TO_TEST = 10, 4
_FIXED_B = 1.9600 + 2.9694 + 0.4160 - 0.5324
_Z95_ONE_SIDED = 1.644854
_TREND_LEVEL = 0.01
_RULE = "runs look correlated (von Neumann's ratio {ratio:.2f}, below {critical:.2f})"


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """A mean with the half-width of its 95 % interval.

    Attributes:
        mean: of the values.
        half_width: of the interval.
        basis: ``student``, or ``fixed-b`` where neighbours were found alike.
        standard_deviation: between the values.
        remarks: correlation and drift, a sentence each.
    """

    mean: float
    half_width: float
    basis: Literal["student", "fixed-b"]
    standard_deviation: float
    remarks: tuple[str, ...] = ()


def interval_of_mean(values: Sequence[float]) -> MeanInterval:
    """The mean of *values*, in the order in which they were measured, and its interval.

    Raises:
        InputError: fewer than two values.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size < 2:
        raise InputError(f"an interval needs two values, got {x.size}")
    mean, deviation = float(x.mean()), float(x.std(ddof=1))
    student = t_quantile(0.975, x.size - 1) * deviation / math.sqrt(x.size)
    remarks = trend_remarks(x)
    if x.size < FEWEST_TO_TEST or not deviation > 0:
        return MeanInterval(mean, student, "student", deviation, remarks)
    ratio, critical = von_neumann_ratio(x), von_neumann_critical(x.size)
    if ratio >= critical:
        return MeanInterval(mean, student, "student", deviation, remarks)
    said = _RULE.format(ratio=ratio, critical=critical)
    if x.size < FEWEST_FOR_FIXED_B:
        said += f": the interval may be too narrow; {FEWEST_FOR_FIXED_B} runs or more allow for it"
        return MeanInterval(mean, student, "student", deviation, (said, *remarks))
    said += ": the interval allows for it"
    half = max(fixed_b_half_width(x), student)
    return MeanInterval(mean, half, "fixed-b", deviation, (said, *remarks))


def von_neumann_ratio(values: NDArray[np.float64]) -> float:
    """sum (x_(i+1) - x_i)^2 / sum (x_i - mean)^2 of values that are not all equal."""
    return float(np.sum(np.diff(values) ** 2) / np.sum((values - values.mean()) ** 2))


def von_neumann_critical(n: int) -> float:
    """The 5 % point of the ratio of *n* independent values, from its mean and variance.

    By simulation 4.9 to 5.1 % of independent normal samples lie below it for n from 6 on.
    """
    return 2.0 - _Z95_ONE_SIDED * math.sqrt(4.0 * (n - 2) / (n * n - 1.0))


def fixed_b_half_width(values: NDArray[np.float64]) -> float:
    """4.813 sqrt(omega / n), see the module."""
    n = values.size
    partial_sums = np.cumsum(values - values.mean())
    return _FIXED_B * math.sqrt(2.0 * float(partial_sums @ partial_sums) / n**3)


def trend_remarks(values: NDArray[np.float64]) -> tuple[str, ...]:
    """What a line through the values in their order says, where its slope stands out.

    The t of the least-squares slope with n - 2 degrees of freedom, two-sided at 1 %.
    """
    n = values.size
    if n < FEWEST_TO_TEST:
        return ()
    steps = np.arange(n) - (n - 1) / 2
    centred = values - values.mean()
    spread = float(steps @ steps)
    slope = float(steps @ centred) / spread
    residual = float(np.sum((centred - slope * steps) ** 2))
    mean = float(values.mean())
    error = math.sqrt(max(residual, 0.0) / (n - 2) / spread)
    if mean <= 0 or abs(slope) <= max(t_quantile(1 - _TREND_LEVEL / 2, n - 2) * error, 1e-9 * mean):
        return ()
    share = 100 * abs(slope) / mean
    word, why = ("more", "warming up") if slope > 0 else ("less", "settling")
    return (
        f"each run cost {share:.2g} % {word} than the one before: the machine may have been "
        f"{why}; run it for a while first",
    )
