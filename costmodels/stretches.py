"""One line through measured means, or two where one does not fit: the numbers behind E(k).

`costmodels.curves` asks for the cells of a trace, `costmodels.estimators.line` for any
measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf

import numpy as np
from numpy.typing import NDArray

from costmodels.pieces import fit_knee
from profiler.statistics import Line, fit_line

Floats = NDArray[np.float64]
LACK_OF_FIT_LEVEL = 0.01


@dataclass(frozen=True, slots=True)
class Quantity:
    """An estimate in joules, which may be negative, its standard error and degrees of freedom.

    *pulled* is how far a constraint moved it from the estimate that the error is of; the interval
    is wider by as much.
    """

    value: float
    error: float
    degrees: float
    pulled: float = 0.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """a + c k for k from *from_k* on."""

    from_k: float
    a: Quantity
    c: Quantity


@dataclass(frozen=True, slots=True)
class Points:
    """Means of the energy at each k, arrays of shape (m,).

    Attributes:
        k: abscissae.
        mean: J.
        variance, degrees: squared standard errors of the means and what is behind each.
        weight: of each mean in a fit, one over its variance as a noise model has it.
        weight_degrees: degrees of freedom behind that model.
    """

    k: Floats
    mean: Floats
    variance: Floats
    degrees: Floats
    weight: Floats
    weight_degrees: float

    def only(self, chosen: NDArray[np.bool_]) -> Points:
        """Some of the points."""
        return Points(
            self.k[chosen],
            self.mean[chosen],
            self.variance[chosen],
            self.degrees[chosen],
            self.weight[chosen],
            self.weight_degrees,
        )


def fit_stretches(
    points: Points, *, level: float = LACK_OF_FIT_LEVEL, knee: bool = True
) -> tuple[tuple[Stretch, ...], float | None]:
    """A line, or two where it is refused, and the p-value of the one line.

    Lack of fit: sum w (y - a - c k)^2 / (m - 2) against F with m - 2 degrees and those behind
    the noise model. Below *level*, with at least four distinct k, the best non-decreasing pair
    of lines replaces the line (`costmodels.pieces.fit_knee`); their errors are those of a line
    through each side's own points, with the knee taken as known, and each says how far the
    constraint moved it.

    Args:
        points: of at least two distinct k.
        level: of the test.
        knee: false for one line whatever the test says.

    Returns:
        The stretches, the first from 1; p, or ``None`` with fewer than three distinct k.
    """
    line = straight(points)
    p = _lack_of_fit_p(line, points)
    two = _knee(points) if knee and p is not None and p < level else None
    return two or (as_stretch(line),), p


def straight(points: Points) -> Line:
    """The one line, by weighted least squares; a and c may be negative."""
    return fit_line(
        points.k,
        points.mean,
        points.variance,
        points.degrees,
        points.weight,
        points.weight_degrees,
    )


def as_stretch(line: Line) -> Stretch:
    """*line* from k = 1 on."""
    return Stretch(
        1,
        Quantity(line.a, line.se_a, line.degrees_a),
        Quantity(line.c, line.se_c, line.degrees_c),
    )


def _lack_of_fit_p(line: Line, points: Points) -> float | None:
    from scipy.special import chdtrc, fdtrc

    if line.lack_of_fit is None:
        return None
    degrees = points.k.size - 2
    if isinf(points.weight_degrees):  # F with one infinite side is chi-square
        return float(chdtrc(degrees, line.lack_of_fit))
    return float(fdtrc(degrees, points.weight_degrees, line.lack_of_fit / degrees))


def _knee(points: Points) -> tuple[Stretch, ...] | None:
    knee = fit_knee(points.k, points.mean, points.weight)
    if knee is None:
        return None
    stretches = []
    for from_k, (a, c), side in (
        (1.0, knee.first, points.k < knee.from_k),
        (knee.from_k, knee.second, points.k >= knee.from_k),
    ):
        alone = straight(points.only(side))
        stretches.append(
            Stretch(
                from_k,
                Quantity(a, alone.se_a, alone.degrees_a, abs(a - alone.a)),
                Quantity(c, alone.se_c, alone.degrees_c, abs(c - alone.c)),
            )
        )
    return tuple(stretches)
