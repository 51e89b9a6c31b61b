"""The joules between two edges that fall anywhere in a counter's steps, without any quiet.

Read at t, a counter shows what had been spent at its last step, a time a before: with E the truth,
S the counter and P the power around an edge, S(t) = E(t) - P a. So a window from s to e shows::

    D = S(e) - S(s) = E - P_end a_e + P_before a_s

An age is uniform over a step of tau; where steps vary by a share v, its mean is
m = tau (1 + v^2) / 2 (the renewal paradox) and its variance grows by tau^2 v^2 / 2. On average D
therefore misses (P_end - P_before) m. Where the power in the window is steady, P_end = E / T, and
solved for E that is known::

    E = (D - P_before m) f,   f = 1 / (1 - m / T)

P_before is worked out in the same way from the readings at two edges before s, L seconds apart,
and brings the error of both. What is left are independent errors, uniform ones of half-widths::

    f tau/2 P_before (1 + m / (L - m))    at the start
    f tau/2 P_earlier m / (L - m)         at the start of L
    f tau/2 P_end                         at the end

and for varying steps a normal one beside each, v sqrt(2) as large. The sum of all has an interval
of its own, narrower than 1.96 standard deviations (`half_width_95`). Below 2.5 steps
(`RESOLVED_STEPS`) f explodes, and the counter says nothing of the window's own power: such a window
has only a limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

RESOLVED_STEPS = 2.5
_TERMS, _MANY = 500, 24
_FAR = 0.9
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Counter:
    """How one rail steps.

    Attributes:
        period_s: between steps; 0 where it has none to speak of.
        longest_s: the longest that a step takes, as far as was seen.
        quantum_j: its unit; 0 where unknown.
    """

    period_s: float = 0.0
    longest_s: float = 0.0
    quantum_j: float = 0.0

    @property
    def variation(self) -> float:
        """v: standard deviation of a step as a share of the period, at most 1/2.

        From what the 99th percentile lies above the median: 1.70 v for uniform steps. (It is
        2.33 v for normal ones, which are then taken to vary a little more than they do.)
        """
        if not self.period_s:
            return 0.0
        return min(max(self.longest_s / self.period_s - 1.0, 0.0) / 1.70, 0.5)

    @property
    def mean_age_s(self) -> float:
        """m = tau (1 + v^2) / 2."""
        return self.period_s * (1.0 + self.variation**2) / 2.0

    def resolves(self, duration_s: float) -> bool:
        """Whether an unaligned window of this length has joules of its own."""
        return duration_s >= (RESOLVED_STEPS - 1e-6) * self.period_s


@dataclass(frozen=True, slots=True)
class EdgeEstimate:
    """Joules, and what is known of their error.

    Attributes:
        energy_j: the estimate; may fall below 0.
        start_j: half-widths of independent uniform errors: at the start, at the start of L, others.
        end_j: the same at the end, and others.
        start_normal_j, end_normal_j: standard deviations of what else the edges add.
        normal_j: standard deviation of what else scatters from window to window.
        shared_j: standard deviation of an error that all windows of a monitor share: that of the
            power at rest.
        bias_j: the most by which power that was not steady shifts the energy.
    """

    energy_j: float
    start_j: tuple[float, ...] = ()
    end_j: tuple[float, ...] = ()
    start_normal_j: float = 0.0
    end_normal_j: float = 0.0
    normal_j: float = 0.0
    shared_j: float = 0.0
    bias_j: float = 0.0

    @property
    def uniform_j(self) -> tuple[float, ...]:
        """The half-widths of both edges."""
        return (*self.start_j, *self.end_j)

    @property
    def deviation_j(self) -> float:
        """Standard deviation from window to window that the instrument alone makes."""
        return math.sqrt(sum(h * h for h in self.uniform_j) / 3 + self.scatter_j**2)

    @property
    def scatter_j(self) -> float:
        """Standard deviation of all that is normal and not shared."""
        return math.hypot(self.start_normal_j, self.end_normal_j, self.normal_j)

    @property
    def half_width_j(self) -> float:
        """Of the 95 % interval of one window."""
        return half_width_95(self.uniform_j, math.hypot(self.scatter_j, self.shared_j))


@dataclass(frozen=True, slots=True)
class Before:
    """The power before a window.

    Attributes:
        power_w: its mean.
        span_s: L - m, see the module; infinite where the power is known otherwise.
        earlier_w: the power before that time.
    """

    power_w: float
    span_s: float = math.inf
    earlier_w: float = 0.0


def power_before(
    shown_j: float, span_s: float, counter: Counter, earlier_w: float | None
) -> Before:
    """The power over *span_s* seconds, two steps or more, from the counter.

    Args:
        shown_j: the counter's difference.
        span_s: L.
        counter: the rail's.
        earlier_w: the power before that; ``None``: the same.
    """
    if earlier_w is None:
        power_w = max(shown_j / span_s, 0.0)
        return Before(power_w, span_s, power_w)
    age_s = counter.mean_age_s
    power_w = max((shown_j - earlier_w * age_s) / (span_s - age_s), 0.0)
    return Before(power_w, span_s - age_s, earlier_w)


def energy_of(
    shown_j: float, duration_s: float, counter: Counter, before: Before, end_w: float | None = None
) -> EdgeEstimate:
    """The joules of a window from what the counter showed; see the module.

    Args:
        shown_j: the counter's difference; where the window ended in quiet, less the quiet's joules.
        duration_s: the block's, at least `RESOLVED_STEPS` steps unless *end_w* is given.
        counter: the rail's.
        before: the power before the window.
        end_w: the power at the end, where that is known: at rest, after quiet.
    """
    rounding_j = (counter.quantum_j / 2,) if counter.quantum_j else ()
    age_s, step_s = counter.mean_age_s, counter.period_s
    if not step_s:
        return EdgeEstimate(shown_j, (0.0, 0.0, *rounding_j), (0.0, *rounding_j))
    factor, doubt = 1.0, 1.0
    energy_j = shown_j - before.power_w * age_s
    if end_w is None:
        factor = 1.0 / (1.0 - age_s / duration_s)
        energy_j *= factor
        end_w = energy_j / duration_s
        # The width rests on the estimate itself: taken at its far end, lest a low one be too sure.
        doubt = 1.0 / (1.0 - _FAR * factor * age_s / duration_s)
    else:
        energy_j += end_w * age_s
    half_s, share = factor * step_s / 2, age_s / before.span_s
    start_j = abs(half_s * before.power_w * (1 + share))
    earlier_j, end_j = abs(half_s * before.earlier_w * share), abs(half_s * end_w * doubt)
    varying = counter.variation * math.sqrt(2.0)
    return EdgeEstimate(
        energy_j,
        (start_j, earlier_j, *rounding_j),
        (end_j, *rounding_j),
        varying * math.hypot(start_j, earlier_j),
        varying * end_j,
    )


def together(estimates: Iterable[EdgeEstimate]) -> EdgeEstimate:
    """The sum over rails, or over windows whose edges fall independently.

    Uniform and normal errors are independent; shared ones and biases add up.
    """
    every = list(estimates)
    return EdgeEstimate(
        energy_j=sum(each.energy_j for each in every),
        start_j=tuple(width for each in every for width in each.start_j),
        end_j=tuple(width for each in every for width in each.end_j),
        start_normal_j=math.hypot(*(each.start_normal_j for each in every)),
        end_normal_j=math.hypot(*(each.end_normal_j for each in every)),
        normal_j=math.hypot(*(each.normal_j for each in every)),
        shared_j=sum(each.shared_j for each in every),
        bias_j=sum(each.bias_j for each in every),
    )


def half_width_95(uniform: Sequence[float], normal: float = 0.0) -> float:
    """h with P(|X| <= h) = 0.95, X a sum of independent uniform errors and a normal one.

    X lies within R = sum a_i + 8 sd, so that its density is a Fourier series on +-R::

        P(|X| <= h) = h / R + sum_k 2 sin(w_k h) / (pi k) phi(w_k),   w_k = pi k / R
        phi(w) = exp(-(w sd)^2 / 2) prod_i sin(w a_i) / (w a_i)

    One uniform of half-width a gives 0.95 a; two, 1.553 a. More than 24 are taken for normal.

    Args:
        uniform: half-widths, 0 or more, shape (n,).
        normal: standard deviation of the rest.
    """
    widths = np.asarray([each for each in uniform if each > 0], dtype=np.float64)
    deviation = math.sqrt(float(np.sum(widths**2)) / 3 + normal**2)
    if widths.size == 0 or widths.size > _MANY or deviation == 0:
        return _Z95 * deviation
    reach = float(np.sum(widths)) + 8 * normal
    k = np.arange(1, _TERMS + 1)
    w = math.pi * k / reach
    weights = np.prod(np.sinc(np.outer(widths, w) / math.pi), axis=0)
    weights *= np.exp(-0.5 * (w * normal) ** 2) * 2 / (math.pi * k)
    low, high = 0.0, reach
    for _ in range(30):
        middle = (low + high) / 2
        inside = middle / reach + float(np.sin(w * middle) @ weights)
        low, high = (middle, high) if inside < 0.95 else (low, middle)
    return high
