"""What repeated runs say: means with intervals, paired differences, the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from profiler.statistics import t_quantile

Verdict = Literal["better", "tied", "worse", "unknown"]
MARGIN = 0.01
"""Accuracy: methods whose difference lies within it, interval and all, are called tied."""

EQUAL_JOULES = 0.01
"""Share of the joules that a method can change, below which two ends cost the same: a cell that
leaves the last entry's worth of its budget unspent has not won by it."""

FEW_RUNS = 5
"""Fewer runs than this leave an interval so wide, or so lucky, that a warning is due."""

LEAST_RUNS = 3
"""With two runs the width of the interval is itself a matter of luck: no verdict."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over runs.

    Attributes:
        n: runs.
        mean: their mean.
        sd: their standard deviation (n - 1); ``None`` for a single run.
        low, high: the two-sided 95 % Student interval of the mean; ``None`` for a single run.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def mean_of(values: Sequence[float], *, resolution: float = 0.0) -> Mean:
    """Mean, spread and 95 % Student interval over runs.

    Args:
        values: one number a run.
        resolution: the step in which the numbers can change at all. Runs that agree to the step
            are not exact: the standard deviation behind the interval is at least that of one
            rounding, resolution / sqrt(12).

    Raises:
        InputError: no values.
    """
    if not values:
        raise InputError("a mean needs at least one run")
    sample = np.asarray(values, dtype=np.float64)
    n, mean = sample.size, float(sample.mean())
    if n < 2:
        return Mean(n, mean, None, None, None)
    sd = float(sample.std(ddof=1))
    half = t_quantile(0.975, n - 1) * max(sd, resolution / sqrt(12.0)) / sqrt(n)
    return Mean(n, mean, sd, mean - half, mean + half)


@dataclass(frozen=True, slots=True)
class Paired:
    """A method against another over runs that share everything else.

    Attributes:
        difference: of final accuracies, method minus other, paired by seed.
        verdict: better or worse where the interval excludes 0; tied where no run differed, or
            where the interval lies within `MARGIN` of 0; else unknown, as it is with fewer than
            `LEAST_RUNS` runs: not telling two methods apart does not make them equal.
        identical: whether no run differed at all.
    """

    difference: Mean
    verdict: Verdict
    identical: bool


def compare_paired(
    method: Sequence[float], other: Sequence[float], *, resolution: float = 0.0
) -> Paired:
    """Compare two methods over paired runs.

    Args:
        method, other: one number a seed, in the same order.
        resolution: the step of those numbers; a difference of two has rounding error of
            standard deviation resolution / sqrt(6).

    Raises:
        InputError: no runs, or unequal numbers of them.
    """
    if len(method) != len(other):
        raise InputError(f"{len(method)} and {len(other)} runs cannot be paired")
    differences = [a - b for a, b in zip(method, other, strict=True)]
    difference = mean_of(differences, resolution=resolution * sqrt(2.0))
    identical = not any(differences)
    return Paired(difference, "tied" if identical else _verdict(difference), identical)


def _verdict(difference: Mean) -> Verdict:
    if difference.n < LEAST_RUNS or difference.low is None or difference.high is None:
        return "unknown"
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse"
    within = difference.low > -MARGIN and difference.high < MARGIN
    return "tied" if within else "unknown"


@dataclass(frozen=True, slots=True)
class Trajectory:
    """How a method's gain grew with what it cost.

    Attributes:
        costs, gains: by round, shape (rounds,); the end is the last.
        slack: costs that differ by no more from this end's cost are taken as equal to it.
    """

    costs: NDArray[np.float64]
    gains: NDArray[np.float64]
    slack: float = 0.0


def pareto_ends(paths: Sequence[Trajectory]) -> tuple[int, ...]:
    """Positions of the paths whose end no round of any other path beats.

    A round beats an end if it costs less and gains as much, or costs the same and gains more.
    """
    return tuple(
        i
        for i, path in enumerate(paths)
        if not any(_beats(other, path) for j, other in enumerate(paths) if j != i)
    )


def _beats(other: Trajectory, path: Trajectory) -> bool:
    cost, gain = path.costs[-1], path.gains[-1]
    cheaper = (other.costs < cost - path.slack) & (other.gains >= gain)
    better = (other.costs <= cost + path.slack) & (other.gains > gain)
    return bool(np.any(cheaper | better))
