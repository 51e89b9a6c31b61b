"""Prediction intervals on the log scale, calibrated on groups that were left out.

Conformal with two layers, groups and their rows (Dunn, Wasserman and Ramdas 2022, "Distribution-
free prediction sets for two-layer hierarchical models", JASA 118): with G left-out groups, each
residual |log y - log f| of a group of n_g rows weighs 1 / ((G + 1) n_g), and 1 / (G + 1) lies at
infinity. The half-width is the smallest residual at which the weight reaches the level. A row of
a new exchangeable group is then covered with at least that probability, and with at most
1 / (G + 1) more than it where residuals are distinct and each group has one.

A level is within reach only if 1 / (G + 1) <= 1 - level: 9 groups for 90 %, 19 for 95 %. With
fewer, the half-width is Student's, t_{G-1} rms sqrt(1 + 1/G), at most a factor of 100, and is
called uncalibrated.

Kinds of layers are not equally hard to predict. A kind (or whatever a label tells apart: inside
and outside the training range) with enough groups has a half-width of its own; others take that
of all rows together, which covers them on average over kinds only.

Where a model misses mostly to one side, as on convolutions that now and then take a slow path,
an interval symmetric on the log scale pays for the long tail on both. With groups for it, the
ends are calibrated apart, each at 1 - (1 - level) / 2. That needs 19 groups at 90 %, and pays
only beyond them, since with 19 each end is the worst residual: it is done from 38 on. The rule
looks at the number of groups alone, so the promise above stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from costmodels.evaluation.scores import Coverage, coverage_of, group_index
from profiler.errors import InputError
from profiler.statistics import t_quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Labels = Sequence[Any] | NDArray[Any]
UNKNOWN_FACTOR, WIDEST_FACTOR = 10.0, 100.0
SMALLEST = 1e-6
_SLACK = 1e-9  # what a cumulative sum over a million rows may lose
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def groups_needed(level: float) -> int:
    """The fewest groups that calibrate a level: the smallest G with 1 / (G + 1) <= 1 - level.

    Raises:
        InputError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise InputError(f"a level lies between 0 and 1, got {level}")
    return max(int(np.ceil(1 / (1 - level) - 1 - 1e-9)), 1)


def half_width(residuals: Sequence[Floats], level: float) -> tuple[float, bool]:
    """The log half-width that covers *level* of a new group's rows, and if it is calibrated.

    Args:
        residuals: |log residuals| of each left-out group.
        level: 0.95 for 95 %.
    """
    index = np.repeat(np.arange(len(residuals)), [r.size for r in residuals])
    return _reach(np.concatenate([np.empty(0), *residuals]), index, level)


def left_out_widths(sizes: Floats, index: Indices, level: float) -> Floats | None:
    """For each group the half-width that all other groups calibrate, shape (G,).

    The same as `half_width` of the others, group by group, by bisection over residuals sorted
    once: with S(r) the sum of the groups' distribution functions F_g(r), it is the smallest r
    with S(r) - F_g(r) >= level G. ``None`` where G - 1 groups do not calibrate the level.

    Args:
        sizes: |log residuals|, shape (n,).
        index: number of each row's group, all of 0 ... G - 1 present, shape (n,).
        level: 0.95 for 95 %.
    """
    groups = int(index.max(initial=-1)) + 1
    if groups - 1 < groups_needed(level):
        return None
    count = np.bincount(index)
    values, place = np.unique(sizes, return_inverse=True)
    place = place.reshape(-1)
    reached = np.cumsum(np.bincount(place, 1.0 / count[index]))
    # one sorted list of (group, place) tells how many rows of any group lie at or below a value
    keys = np.sort(index * values.size + place)
    group, first = np.arange(groups), np.cumsum(count) - count
    low, high = np.zeros(groups, dtype=np.intp), np.full(groups, values.size - 1)
    while (low < high).any():
        middle = (low + high) // 2
        own = np.searchsorted(keys, group * values.size + middle, side="right") - first
        enough = reached[middle] - own / count >= (level - _SLACK) * groups
        high = np.where(enough, middle, high)
        low = np.where(enough, low, np.minimum(middle + 1, high))
    return np.asarray(np.maximum(values[low], SMALLEST))


def left_out_hits(sizes: Floats, index: Indices, level: float) -> NDArray[np.bool_] | None:
    """Whether each row lies in the symmetric interval that the other groups calibrate.

    Args and ``None`` as in `left_out_widths`.
    """
    widths = left_out_widths(sizes, index, level)
    return None if widths is None else sizes <= widths[index]


def ends_apart(groups: int, level: float) -> bool:
    """Whether so many groups calibrate the two ends of an interval apart."""
    return groups >= 2 * groups_needed(_one_side(level))


class Width(BaseModel):
    """The reach of one kind's intervals: f e^-below to f e^above.

    Attributes:
        below_log, above_log: equal where the groups do not suffice for ends apart.
        calibrated: whether enough groups stand behind it.
        groups, rows: how many.
    """

    model_config = _STRICT
    below_log: Annotated[float, Field(gt=0)]
    above_log: Annotated[float, Field(gt=0)]
    calibrated: bool
    groups: Annotated[int, Field(ge=0)]
    rows: Annotated[int, Field(ge=0)]


class Calibration(BaseModel):
    """Half-widths of prediction intervals, from the residuals of left-out groups.

    Attributes:
        level: the share of a new group's rows that intervals are to cover.
        pooled: from all rows, for kinds with too few groups or never seen.
        by_kind: kinds with enough groups of their own.
    """

    model_config = _STRICT
    level: Annotated[float, Field(gt=0, lt=1)]
    pooled: Width
    by_kind: dict[str, Width]

    @classmethod
    def fit(
        cls,
        residual: ArrayLike,
        group: Labels,
        kind: Labels | None = None,
        level: float = 0.90,
    ) -> Self:
        """Calibrate.

        Args:
            residual: log y - log f of predictions that did not see the row's group, shape (n,).
            group: the label of each row's group.
            kind: the label of what is told apart; by default nothing is.
            level: 0.90 for 90 %.

        Raises:
            InputError: lengths differ, a residual is not finite, or a level outside (0, 1).
        """
        values, index, kinds = _checked(residual, group, kind)
        needed = groups_needed(level)
        by_kind = {}
        for name in dict.fromkeys(kinds.tolist()):
            width = _width(values[kinds == name], index[kinds == name], level)
            if width.groups >= needed:
                by_kind[name] = width
        return cls(level=level, pooled=_width(values, index, level), by_kind=by_kind)

    def width(self, kind: str) -> Width:
        """The kind's own half-width where it has one, else the pooled one."""
        return self.by_kind.get(kind, self.pooled)

    def interval(
        self, log_prediction: ArrayLike, kind: Labels | None = None
    ) -> tuple[Floats, Floats]:
        """Low and high ends on the log scale, shapes (n,).

        Args:
            log_prediction: log f, shape (n,).
            kind: as in `fit`; by default the pooled half-width holds for all.

        Raises:
            InputError: kinds of another length.
        """
        centre = np.asarray(log_prediction, dtype=np.float64)
        below = np.full(centre.shape, self.pooled.below_log)
        above = np.full(centre.shape, self.pooled.above_log)
        if kind is not None:
            kinds = np.asarray(kind).astype(str)
            if kinds.shape != centre.shape:
                raise InputError(f"{kinds.size} kinds for {centre.size} predictions")
            for name, width in self.by_kind.items():
                below[kinds == name] = width.below_log
                above[kinds == name] = width.above_log
        return centre - below, centre + above


def coverage(
    residual: ArrayLike,
    group: Labels,
    kind: Labels | None = None,
    level: float = 0.90,
) -> tuple[NDArray[np.bool_], Coverage] | None:
    """Hits of each row and the coverage reached, each group judged by all others.

    As `Calibration.fit` on the other groups would do: a kind's own half-width where enough other
    groups have that kind, else the pooled one.

    Args:
        residual, group, kind, level: as in `Calibration.fit`.

    Returns:
        ``None`` where the other groups are too few to calibrate the level.

    Raises:
        InputError: as in `Calibration.fit`.
    """
    values, index, kinds = _checked(residual, group, kind)
    hits = _hits(values, index, level)
    if hits is None:
        return None
    for name in dict.fromkeys(kinds.tolist()):
        rows = np.flatnonzero(kinds == name)
        own = _hits(values[rows], group_index(index[rows])[1], level)
        if own is not None:
            hits[rows] = own
    return hits, coverage_of(hits, group, level)


def _hits(values: Floats, index: Indices, level: float) -> NDArray[np.bool_] | None:
    """Whether each row lies in the interval that `_width` of the other groups gives."""
    if not ends_apart(int(index.max(initial=-1)), level):
        return left_out_hits(np.abs(values), index, level)
    side = _one_side(level)
    above = left_out_hits(np.maximum(values, 0), index, side)
    below = left_out_hits(np.maximum(-values, 0), index, side)
    return None if above is None or below is None else above & below


def _width(values: Floats, index: Indices, level: float) -> Width:
    present, index = np.unique(index, return_inverse=True)
    index = index.reshape(-1)
    if ends_apart(present.size, level):
        side = _one_side(level)
        above, calibrated = _reach(np.maximum(values, 0), index, side)
        below, _ = _reach(np.maximum(-values, 0), index, side)
    else:
        above, calibrated = _reach(np.abs(values), index, level)
        below = above
    return Width(
        below_log=below,
        above_log=above,
        calibrated=calibrated,
        groups=present.size,
        rows=int(values.size),
    )


def _reach(sizes: Floats, index: Indices, level: float) -> tuple[float, bool]:
    """`half_width` of residuals in one array, with the number of each row's group."""
    groups = int(index.max(initial=-1)) + 1
    if groups == 0:
        return float(np.log(UNKNOWN_FACTOR)), False
    share = 1.0 / np.bincount(index)[index]
    order = np.argsort(sizes)
    reached = np.flatnonzero(np.cumsum(share[order]) >= (level - _SLACK) * (groups + 1))
    if reached.size:
        return max(float(sizes[order][reached[0]]), SMALLEST), True
    rms = float(np.sqrt(share @ sizes**2 / groups))
    if groups == 1:
        return max(rms, float(np.log(UNKNOWN_FACTOR))), False
    wide = t_quantile(0.5 + level / 2, groups - 1) * rms * np.sqrt(1 + 1 / groups)
    return min(max(float(wide), SMALLEST), float(np.log(WIDEST_FACTOR))), False


def _one_side(level: float) -> float:
    return 1 - (1 - level) / 2


def _checked(
    residual: ArrayLike, group: Labels, kind: Labels | None
) -> tuple[Floats, Indices, NDArray[np.str_]]:
    values = np.asarray(residual, dtype=np.float64)
    kinds = np.full(values.shape, "*") if kind is None else np.asarray(kind).astype(str)
    if values.ndim != 1 or len(group) != values.size or kinds.shape != values.shape:
        raise InputError(
            f"{values.size} residuals, {len(group)} group labels and {kinds.size} kinds"
        )
    if not np.isfinite(values).all():
        raise InputError("a residual is not finite: leave rows without a prediction out")
    return values, group_index(group)[1], kinds
