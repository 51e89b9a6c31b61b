"""Tests and intervals for paired runs: exact where they can be, seeded where they draw.

The two-sided Wilcoxon signed-rank test (Wilcoxon 1945) ranks |d_i| of the n differences that
are not 0, ties at their mean rank, and asks how often a sum of ranks at least this far from its
mean comes up when every sign is a coin. The distribution is counted exactly, ties included.
Accuracies are fractions of whole numbers that floats hold inexactly: sizes that agree to 1e-9 of
the largest are a tie.

Holm (1979): p-values ascending, p~_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).

Intervals of a mean difference: bootstrap of the pairs, bias-corrected and accelerated (Efron
1987). With few pairs they are too short: of 10 from a normal distribution the 95 % interval holds
the mean 90 % of the time. They describe; what decides is the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from profiler.errors import InputError

LEVEL = 0.95
ALPHA = 0.05
DRAWS = 10_000
_SEED = 0xB007
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of differences with its bootstrap interval.

    Attributes:
        n: pairs.
        mean: of the differences.
        low, high: at 95 %; ``None`` for a single pair.
    """

    n: int
    mean: float
    low: float | None
    high: float | None


def wilcoxon_p(differences: ArrayLike) -> float:
    """The two-sided p-value of paired *differences*; 1 where all are 0.

    Ranks are doubled to whole numbers, and the sums of every one of the 2^n choices of signs
    are counted by adding one rank after the other.

    Raises:
        InputError: a difference is not finite.

    >>> wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5])
    0.0625
    """
    given = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(given).all():
        raise InputError("differences must be finite numbers")
    values = given[given != 0]
    if values.size == 0:
        return 1.0
    ranks = _doubled_ranks(np.abs(values))
    counts = np.zeros(int(ranks.sum()) + 1)
    counts[0] = 1.0
    for rank in ranks:
        shifted = np.zeros_like(counts)
        shifted[rank:] = counts[: counts.size - rank]
        counts = (counts + shifted) / 2  # shares, so that nothing overflows
    plus = int(ranks[values > 0].sum())
    lower = min(plus, counts.size - 1 - plus)
    return float(min(1.0, 2 * counts[: lower + 1].sum()))


def least_p(pairs: int) -> float:
    """The smallest two-sided p of *pairs* pairs, 2^(1 - n): all of them on one side."""
    return float(2.0 ** (1 - pairs)) if pairs > 0 else 1.0


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values corrected for being a family, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [0.0] * len(p_values)
    so_far = 0.0
    for step, place in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - step) * p_values[place]))
        corrected[place] = so_far
    return tuple(corrected)


def too_few(pairs: int, tests: int, alpha: float = ALPHA) -> str | None:
    """A sentence where no outcome could pass; ``None`` where one could.

    Holm's first step asks for p <= alpha / m, and n pairs give no less than 2^(1 - n).
    """
    if tests == 0 or tests * least_p(pairs) <= alpha:
        return None
    needed = pairs
    while tests * least_p(needed) > alpha:
        needed += 1
    return (
        f"{pairs} seeds are too few for any of the family's {tests} tests to pass: the smallest "
        f"p is 2^(1-{pairs}) = {least_p(pairs):.3g}, Holm asks for {alpha / tests:.3g}; "
        f"{needed} seeds could"
    )


def bootstrap_mean(
    differences: ArrayLike, *, seed: int = _SEED, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """The mean with its BCa interval; differences that are all equal (1e-9) give that point.

    Args:
        differences: one a pair, shape (n,).
        seed: of the draws.

    Raises:
        InputError: no differences.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        raise InputError("a mean needs at least one pair")
    mean = float(values.mean())
    if values.size == 1:
        return Interval(1, mean, None, None)
    if np.ptp(values) <= _TIE * np.abs(values).max():
        return Interval(values.size, mean, mean, mean)
    generator = np.random.default_rng(seed)
    means = values[generator.integers(0, values.size, (draws, values.size))].mean(axis=1)
    low, high = np.quantile(means, _corrected(values, means, mean, level))
    return Interval(values.size, mean, float(low), float(high))


def _corrected(
    values: np.ndarray, means: np.ndarray, mean: float, level: float
) -> tuple[float, float]:
    """The two probabilities at which BCa reads the bootstrap distribution."""
    from scipy.stats import norm

    below = (np.sum(means < mean) + 0.5 * np.sum(means == mean)) / means.size
    bias = float(norm.ppf(np.clip(below, 1 / means.size, 1 - 1 / means.size)))
    left_out = (values.sum() - values) / (values.size - 1)
    apart = left_out.mean() - left_out
    apart /= np.abs(apart).max()  # a does not change, and its powers do not underflow
    accelerated = float(np.sum(apart**3) / (6 * np.sum(apart**2) ** 1.5))
    tails = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + float(norm.ppf(tail))
        tails.append(float(norm.cdf(bias + z / (1 - accelerated * z))))
    return tails[0], tails[1]


def _doubled_ranks(sizes: np.ndarray) -> np.ndarray:
    """Twice the ranks of *sizes*, ties at their mean: whole numbers."""
    from scipy.stats import rankdata

    order = np.argsort(sizes, kind="stable")
    falls_apart = np.diff(sizes[order], prepend=sizes[order[0]]) > _TIE * sizes.max()
    groups = np.empty(sizes.size, dtype=np.int64)
    groups[order] = np.cumsum(falls_apart)
    return np.asarray(np.rint(2 * rankdata(groups)), dtype=np.int64)
