"""Two means compared: tests, intervals and corrections, each a pure function.

With m the means, v their variances and nu the degrees of freedom behind those, a ratio r of B to
A is tested by::

    T(r) = (m_B - r m_A) / sqrt(v_B + r^2 v_A)

T(1) is Welch's statistic for a difference. The ratios that the test does not reject make Fieller's
interval, so that it leaves out 1 exactly where the difference is significant. Agreement within a
margin x is two one-sided tests, T(1 - x) > t and T(1 + x) < -t (Schuirmann's TOST).

Degrees of freedom follow Welch and Satterthwaite, (v_B + r^2 v_A)^2 / (v_B^2 / nu_B + (r^2 v_A)^2
/ nu_A), where the numbers of blocks did not depend on the variances. Where they did (Stein's
two-stage rule), v is no longer nearly known when its two parts are equal, and that formula
promises too much: the smaller of nu_A and nu_B is taken, which errs to the safe side.

Sources: Welch (1947); Satterthwaite (1946); Fieller, J. R. Stat. Soc. B 16 (1954); Schuirmann, J.
Pharmacokinet. Biopharm. 15 (1987); Holm, Scand. J. Stat. 6 (1979); Stein (1945).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from profiler.statistics import t_quantile

Verdict = Literal["differs", "agrees", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Side:
    """One trace's estimate of a quantity.

    Attributes:
        mean: the estimate; may be negative.
        variance: squared standard error, positive.
        degrees: degrees of freedom behind *variance*.
        blocks: blocks behind it.
        two_stage: whether *variance* decided how many blocks were made.
    """

    mean: float
    variance: float
    degrees: float
    blocks: int
    two_stage: bool = False


@dataclass(frozen=True, slots=True)
class Contrast:
    """B against A, corrected for the number of comparisons in its family.

    Attributes:
        a, b: the two estimates.
        difference: B - A.
        standard_error, degrees: of the difference.
        p, p_adjusted: of no difference, two-sided: alone, and after Holm.
        p_agreement, p_agreement_adjusted: of a ratio outside the margin: alone, after Holm.
        difference_interval: simultaneous over the family (Bonferroni).
        ratio: B / A; ``None`` where A is not positive.
        ratio_interval: simultaneous, Fieller's; ``None`` where A cannot be told from 0.
        detectable: what difference, as a share of A, this family's test would have found 4
            times in 5; ``None`` where A is not positive.
        differs, agrees: after Holm, at the family's level. Both may hold: a difference that is
            real and smaller than the margin.
    """

    a: Side
    b: Side
    difference: float
    standard_error: float
    degrees: float
    p: float
    p_adjusted: float
    p_agreement: float
    p_agreement_adjusted: float
    difference_interval: tuple[float, float]
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    detectable: float | None
    differs: bool
    agrees: bool

    @property
    def verdict(self) -> Verdict:
        """A difference that was found goes before an agreement."""
        return "differs" if self.differs else "agrees" if self.agrees else "cannot tell"


def contrasts(
    pairs: Sequence[tuple[Side, Side]], *, margin: float, level: float = 0.05
) -> list[Contrast]:
    """Compare every pair (A, B) as one family.

    Args:
        pairs: the family.
        margin: ratios from 1 - margin to 1 + margin count as agreement.
        level: the chance of one false difference, or one false agreement, in the whole family.

    Raises:
        InputError: a margin or a level outside (0, 1), or a variance that is not positive.
    """
    if not (0 < margin < 1 and 0 < level < 1):
        raise InputError(f"margin {margin} and level {level} must lie between 0 and 1")
    for pair in pairs:
        if not all(side.variance > 0 and isfinite(side.variance) for side in pair):
            raise InputError("an estimate without a positive variance cannot be compared")
    different = [difference_p(a, b) for a, b in pairs]
    alike = [agreement_p(a, b, margin) for a, b in pairs]
    columns = zip(pairs, different, holm(different), alike, holm(alike), strict=True)
    return [
        _contrast(a, b, (p, float(p_all), q, float(q_all)), level, len(pairs))
        for (a, b), p, p_all, q, q_all in columns
    ]


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """Holm's adjusted p-values, shape (n,): those <= alpha err in at most alpha of cases.

    max over j <= i of min(1, (n - j + 1) p_(j)), in the order of increasing p.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = np.minimum(values[order] * np.arange(values.size, 0, -1), 1.0)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(scaled) if values.size else scaled
    return adjusted


def degrees_of(a: Side, b: Side, ratio: float = 1.0) -> float:
    """Degrees of freedom of m_B - ratio m_A; see the top of this file."""
    if a.two_stage or b.two_stage:
        return min(a.degrees, b.degrees)
    part_a, part_b = ratio**2 * a.variance, b.variance
    return (part_a + part_b) ** 2 / (part_a**2 / a.degrees + part_b**2 / b.degrees)


def difference_p(a: Side, b: Side) -> float:
    """Two-sided p-value of no difference."""
    return min(1.0, 2 * _upper_tail(abs(_statistic(a, b, 1.0)), degrees_of(a, b)))


def agreement_p(a: Side, b: Side, margin: float) -> float:
    """The larger p-value of the two one-sided tests that B / A lies outside 1 -+ *margin*."""
    low, high = 1 - margin, 1 + margin
    return max(
        _upper_tail(_statistic(a, b, low), degrees_of(a, b, low)),
        _upper_tail(-_statistic(a, b, high), degrees_of(a, b, high)),
    )


def ratio_interval(a: Side, b: Side, level: float) -> tuple[float, float] | None:
    """Fieller's interval of m_B / m_A with error *level*, on the degrees of the difference.

    ``None`` where m_A is not positive, or cannot be told from 0 at that level: then no ratio,
    however large, is ruled out.
    """
    t = t_quantile(1 - level / 2, degrees_of(a, b))
    g = a.mean**2 - t**2 * a.variance
    if not (a.mean > 0 and g > 0):
        return None
    product = a.mean * b.mean
    root = sqrt(max(product**2 - g * (b.mean**2 - t**2 * b.variance), 0.0))
    return (product - root) / g, (product + root) / g


def _contrast(
    a: Side, b: Side, p: tuple[float, float, float, float], level: float, family: int
) -> Contrast:
    difference, error = b.mean - a.mean, sqrt(a.variance + b.variance)
    degrees = degrees_of(a, b)
    t = t_quantile(1 - level / (2 * family), degrees)
    seen = (t + t_quantile(0.8, degrees)) * error
    return Contrast(
        a=a,
        b=b,
        difference=difference,
        standard_error=error,
        degrees=degrees,
        p=p[0],
        p_adjusted=p[1],
        p_agreement=p[2],
        p_agreement_adjusted=p[3],
        difference_interval=(difference - t * error, difference + t * error),
        ratio=b.mean / a.mean if a.mean > 0 else None,
        ratio_interval=ratio_interval(a, b, level / family),
        detectable=seen / a.mean if a.mean > 0 else None,
        differs=p[1] <= level,
        agrees=p[3] <= level,
    )


def _statistic(a: Side, b: Side, ratio: float) -> float:
    return (b.mean - ratio * a.mean) / sqrt(b.variance + ratio**2 * a.variance)


def _upper_tail(value: float, degrees: float) -> float:
    """P(t > value)."""
    from scipy.special import stdtr

    return float(stdtr(degrees, -value))
