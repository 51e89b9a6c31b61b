"""What repeated runs say: means with intervals, paired differences, the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from profiler.errors import InputError
from profiler.statistics import t_quantile

Verdict = Literal["better", "tied", "worse", "unknown"]
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
        verdict: better or worse where the interval excludes 0, tied where it does not, unknown
            with fewer than `LEAST_RUNS` runs.
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
    return Paired(difference, _verdict(difference), not any(differences))


def _verdict(difference: Mean) -> Verdict:
    if difference.n < LEAST_RUNS or difference.low is None or difference.high is None:
        return "unknown"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "tied"


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> tuple[int, ...]:
    """Positions of the points that no other point beats: none costs as little and gains more.

    Of equal points all are kept. Ordered by rising cost.

    Raises:
        InputError: unequal numbers of costs and gains.
    """
    if len(costs) != len(gains):
        raise InputError(f"{len(costs)} costs and {len(gains)} gains do not make points")
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i]))
    front: list[int] = []
    for i in order:
        last = front[-1] if front else None
        equal = last is not None and (costs[i], gains[i]) == (costs[last], gains[last])
        if last is None or equal or gains[i] > gains[last]:
            front.append(i)
    return tuple(front)
