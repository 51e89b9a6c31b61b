"""E(k) = a + c k of one layer and operation, from its cells.

`fit_curve` says what the cells support: estimates that may be negative, their errors, and
whether one line will do. `price` turns that into what a cost file holds: positive, with
intervals, and flagged where the measurement alone could not tell a cost from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from costmodels.cells import CellMean
from costmodels.costfile import Estimate, Piece
from costmodels.stretches import LACK_OF_FIT_LEVEL as LACK_OF_FIT_LEVEL
from costmodels.stretches import Points, Stretch, as_stretch, fit_stretches, straight
from costmodels.stretches import Quantity as Quantity
from profiler.errors import InputError
from profiler.statistics import detect, t_quantile

_TINY_J = 1e-30


@dataclass(frozen=True, slots=True)
class Segment:
    """A line from *from_k* on. One k alone cannot tell a from c: both are then ``None``."""

    from_k: int
    a: Quantity | None
    c: Quantity | None


@dataclass(frozen=True, slots=True)
class Curve:
    """What the cells of one layer, operation and pattern say.

    Attributes:
        cells: the cell means, by increasing k.
        segments: one line, or two where one does not fit; the first starts at k = 1.
        lack_of_fit_p: p-value of the single line; ``None`` with fewer than three distinct k.
    """

    cells: tuple[CellMean, ...]
    segments: tuple[Segment, ...]
    lack_of_fit_p: float | None

    @property
    def k_min(self) -> int:
        """The smallest measured k."""
        return self.cells[0].k

    @property
    def k_max(self) -> int:
        """The largest measured k."""
        return self.cells[-1].k

    @property
    def blocks(self) -> int:
        """Blocks behind the curve."""
        return sum(cell.blocks for cell in self.cells)


def fit_curve(cells: Sequence[CellMean]) -> Curve:
    """Weighted least squares of E(k) = a + c k, with a knee where a line does not fit.

    The test and the knee are those of `costmodels.stretches.fit_stretches`, at p = 0.01. An
    interval is wider by what the constraint moved: a cost that climbs without a jump and ever
    steeper has a line beyond the knee whose a is negative, which no price can be, so that its c
    comes out low.

    Args:
        cells: of one layer, operation and pattern; any order.

    Raises:
        InputError: no cells, or cells of different layers, operations or patterns.
    """
    if len({(cell.layer, cell.operation, cell.pattern) for cell in cells}) != 1:
        raise InputError("fit_curve takes the cells of one layer, operation and pattern")
    ordered = tuple(sorted(cells, key=lambda cell: cell.k))
    if len({cell.k for cell in ordered}) == 1:
        return Curve(ordered, (Segment(1, None, None),), None)
    stretches, p = fit_stretches(_points(ordered))
    return Curve(ordered, tuple(map(_segment, stretches)), p)


def price(
    curve: Curve,
    pooled_a_j: float | None,
    pooled_c_j: float | None,
    *,
    fixed_cost: bool = True,
) -> tuple[Piece, ...]:
    """The pieces of a cost file: positive whatever was seen.

    An estimate above its critical level is taken as it is. Otherwise, negative ones included,
    the pooled value is moved into the measured interval [max(d - t975 s, 0), max(d, 0) + t95 s]
    and flagged, with that upper end as the limit; with nothing pooled, the limit itself stands
    in, the dearest that the measurement allows. Where there is one k only, c is the pooled
    slope, at most what the cell can hold, and a what is left; since one k tells neither from zero,
    both are flagged, and the interval of each reaches from what the dearest other would leave of
    the cell up to the whole of it.

    Args:
        curve: the fit.
        pooled_a_j, pooled_c_j: J a call and J an entry that other layers suggest, or ``None``.
        fixed_cost: false where one k stands for itself (the dense add): then a is ``None`` and
            c k is the whole energy.
    """
    if curve.segments[0].c is None:
        return (_single_k(curve, pooled_a_j, pooled_c_j, fixed_cost),)
    pieces = tuple(_piece(segment, pooled_a_j, pooled_c_j) for segment in curve.segments)
    if len(pieces) > 1 and _falls(*pieces):
        # pooled values in the place of undetected ones broke the order: do without the knee
        return (
            _piece(_segment(as_stretch(straight(_points(curve.cells)))), pooled_a_j, pooled_c_j),
        )
    return pieces


def estimate(quantity: Quantity, pooled_j: float | None) -> Estimate:
    """A positive `Estimate` with its 95 % interval; see `price` for what lies below detection."""
    found = detect(quantity.value, quantity.error, quantity.degrees)
    half = t_quantile(0.975, quantity.degrees) * quantity.error + quantity.pulled
    low, high = max(quantity.value - half, 0.0), quantity.value + half
    if quantity.value > found.critical + quantity.pulled:
        return Estimate(value=quantity.value, low=low, high=high)
    limit = max(found.upper_limit + quantity.pulled, _TINY_J)
    value = limit if pooled_j is None else min(max(pooled_j, low, _TINY_J), limit)
    return Estimate(
        value=value, low=low, high=max(limit, high), below_detection=True, upper_limit=limit
    )


def _points(cells: Sequence[CellMean]) -> Points:
    return Points(
        k=np.array([cell.k for cell in cells], dtype=np.float64),
        mean=np.array([cell.mean_j for cell in cells]),
        variance=np.array([cell.variance for cell in cells]),
        degrees=np.array([cell.degrees for cell in cells]),
        weight=np.array([1.0 / cell.weight_variance for cell in cells]),
        weight_degrees=min(cell.weight_degrees for cell in cells),
    )


def _segment(stretch: Stretch) -> Segment:
    return Segment(int(stretch.from_k), stretch.a, stretch.c)


def _piece(segment: Segment, pooled_a_j: float | None, pooled_c_j: float | None) -> Piece:
    """A segment as a piece; a second line through the origin has no fixed cost of its own."""
    if segment.a is None or segment.c is None:
        raise InputError("a segment without a slope has no line")
    beyond = segment.from_k > 1 and segment.a.value <= 0
    return Piece(
        from_k=segment.from_k,
        a_j=None if beyond else estimate(segment.a, pooled_a_j),
        c_j=estimate(segment.c, pooled_c_j),
    )


def _single_k(
    curve: Curve, pooled_a_j: float | None, pooled_c_j: float | None, fixed_cost: bool
) -> Piece:
    weight = np.array([1.0 / cell.weight_variance for cell in curve.cells])
    weight = weight / weight.sum()
    k = curve.k_min
    mean = float(weight @ [cell.mean_j for cell in curve.cells])
    error = sqrt(float(weight**2 @ [cell.variance for cell in curve.cells]))
    whole = Quantity(mean, error, min(cell.degrees for cell in curve.cells))
    if not fixed_cost or pooled_c_j is None:
        spread = Quantity(mean / k, error / k, whole.degrees)
        suggestion = None if pooled_c_j is None else pooled_c_j + (pooled_a_j or 0.0) / k
        return Piece(a_j=None, c_j=estimate(spread, suggestion))
    limit = max(detect(mean / k, error / k, whole.degrees).upper_limit, _TINY_J)
    c = min(pooled_c_j, limit)
    slope = Estimate(value=c, low=0.0, high=limit, below_detection=True, upper_limit=limit)
    left = estimate(Quantity(mean - c * k, error, whole.degrees), pooled_a_j)
    half = t_quantile(0.975, whole.degrees) * error
    most = max(limit * k, left.value)
    a = Estimate(
        value=left.value,
        low=max(min(mean - limit * k - half, left.value), 0.0),
        high=max(mean + half, most),
        below_detection=True,
        upper_limit=most,
    )
    return Piece(a_j=a, c_j=slope)


def _falls(first: Piece, second: Piece) -> bool:
    at = second.from_k
    return _value(second, at) < _value(first, at)


def _value(piece: Piece, k: int) -> float:
    return (piece.a_j.value if piece.a_j else 0.0) + piece.c_j.value * k
