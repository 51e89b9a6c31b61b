"""Predictions of an energy model: joules, intervals, and where they leave what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.evaluation.conformal import Width
from costmodels.samples import ANY_KIND
from profiler.errors import InputError

if TYPE_CHECKING:
    from costmodels.energymodel import EnergyModel, KindModel

Floats = NDArray[np.float64]
_TOLERANCE = 1e-9
OUTSIDE = " (outside)"


@dataclass(frozen=True)
class Estimates:
    """Joules of calls that nobody measured; arrays of shape (m,).

    Attributes:
        energy_j: predicted, positive.
        low_j, high_j: the 95 % interval.
        calibrated: whether enough left-out groups stand behind the interval.
        priced_as: the kind whose prices were used; ``*`` for the pooled ones.
        corrected: whether a learned factor was applied.
        outside: names of the columns that lie outside the training range, joined by commas;
            empty inside.
    """

    energy_j: Floats
    low_j: Floats
    high_j: Floats
    calibrated: NDArray[np.bool_]
    priced_as: NDArray[np.str_]
    corrected: NDArray[np.bool_]
    outside: NDArray[np.str_]

    def frame(self) -> pd.DataFrame:
        """The same as a table."""
        return pd.DataFrame(dict(vars(self)))


def estimate(
    model: EnergyModel, frame: pd.DataFrame, kind: Sequence[str] | NDArray[np.str_] | None
) -> Estimates:
    """The work of `EnergyModel.predict`."""
    columns = (*model.features, *model.shape)
    kinds = _kinds(model, len(frame), kind)
    if model.kinds and not set(kinds.tolist()) & {own.kind for own in model.kinds}:
        # kinds that nobody measured may have other shape columns: theirs are 0, as in a table of
        # several kinds, and named as outside
        absent = [name for name in model.shape if name not in frame.columns]
        frame = frame.assign(**dict.fromkeys(absent, 0.0))
    X = _columns(frame, columns)
    rows = len(X)
    besides = _beyond(frame, model.ranges)
    energy_j = np.zeros(rows)
    priced_as, outside = np.full(rows, ANY_KIND, dtype=object), np.full(rows, "", dtype=object)
    corrected = np.zeros(rows, dtype=bool)
    below, above = np.empty(rows), np.empty(rows)
    calibrated = np.zeros(rows, dtype=bool)
    for name in np.unique(kinds):
        at = kinds == name
        found = model.find(str(name))
        with np.errstate(over="ignore", invalid="ignore"):  # told below, with the row
            energy_j[at], corrected[at] = _energy(model, found, X[at], besides[at] == "")
        priced_as[at] = found.kind
        outside[at] = _joined(_outside(found, X[at], columns), besides[at])
        # without kinds in the table all rows are of the one kind that was tested
        known = found.kind != ANY_KIND or (name == ANY_KIND and not model.kinds)
        inside = outside == ""
        for part, label in ((at & inside, found.kind), (at & ~inside, f"{found.kind}{OUTSIDE}")):
            width = width_of(model, label) if known else model.unseen
            below[part], above[part] = width.below_log, width.above_log
            calibrated[part] = width.calibrated
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        log_f = np.log(energy_j)
        low_j = np.minimum(np.exp(log_f - below), energy_j)
        high_j = np.maximum(np.exp(log_f + above), energy_j)
    _refuse_beyond_numbers(low_j, high_j)
    return Estimates(
        energy_j=energy_j,
        low_j=low_j,
        high_j=high_j,
        calibrated=calibrated,
        priced_as=priced_as.astype(str),
        corrected=corrected,
        outside=outside.astype(str),
    )


def interval_labels(kinds: NDArray[np.str_], inside: NDArray[np.bool_]) -> NDArray[np.str_]:
    """What intervals are calibrated by: the kind, apart inside and outside the training range."""
    return np.where(inside, kinds, np.char.add(kinds.astype(str), OUTSIDE))


def width_of(model: EnergyModel, label: str) -> Width:
    """The reach of intervals at 95 % for a label of `interval_labels`.

    Outside the range of training it is never narrower than inside.
    """
    calibration = model.calibrations[1]
    width = calibration.width(label)
    if not label.endswith(OUTSIDE):
        return width
    inside = calibration.width(label.removesuffix(OUTSIDE))
    if label not in calibration.by_kind:
        width = model.outside
    return Width(
        below_log=max(width.below_log, inside.below_log),
        above_log=max(width.above_log, inside.above_log),
        calibrated=width.calibrated and label in calibration.by_kind,
        groups=width.groups,
        rows=width.rows,
    )


def _energy(
    model: EnergyModel, found: KindModel, X: Floats, usual: NDArray[np.bool_]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Joules, and which rows were corrected, if *usual* in the columns that are not fitted to."""
    prices = np.array([price.value for price in found.prices])
    pooled = np.array([price.value for price in model.pooled.prices])
    features = X[:, : len(prices)]
    energy_j = features @ prices
    # a layer whose every price is zero here still costs something: what all kinds pay for it,
    # or at the very least the smallest energy that was measured
    nothing = energy_j <= 0
    energy_j[nothing] = np.maximum(features[nothing] @ pooled, model.lowest_j)
    corrected = np.zeros(len(X), dtype=bool)
    if found.correction is not None:
        factor, inside = found.correction.correction.log_factor(X)
        corrected = (
            inside & usual & ~nothing
        )  # a factor is learned on what prices say, not on a stand-in
        energy_j[corrected] *= np.exp(factor[corrected])
    return energy_j, corrected


def _refuse_beyond_numbers(low_j: Floats, high_j: Floats) -> None:
    sound = (low_j > 0) & np.isfinite(high_j)
    if not sound.all():
        row = int(np.argmin(sound))
        raise InputError(
            f"the interval of row {row} would be {low_j[row]} to {high_j[row]} J, beyond what a "
            "number holds: check the features, and fit the model again if they are right"
        )


def _outside(found: KindModel, X: Floats, columns: Sequence[str]) -> NDArray[np.object_]:
    """The columns in which each row leaves the range of its kind, joined by commas."""
    low = np.array([*(price.feature_low for price in found.prices), *found.shape_low])
    high = np.array([*(price.feature_high for price in found.prices), *found.shape_high])
    return _named(X, low, high, columns)


def _beyond(frame: pd.DataFrame, ranges: Mapping[str, tuple[float, float]]) -> NDArray[np.object_]:
    """The same for the columns of *ranges* that *frame* has."""
    present = [name for name in ranges if name in frame.columns]
    limits = np.array([ranges[name] for name in present]).reshape(-1, 2)
    return _named(_columns(frame, present), limits[:, 0], limits[:, 1], present)


def _named(X: Floats, low: Floats, high: Floats, columns: Sequence[str]) -> NDArray[np.object_]:
    slack = _TOLERANCE * np.maximum(np.abs(low), np.abs(high))
    out = (low - slack > X) | (high + slack < X)
    names = np.full(len(X), "", dtype=object)
    for row in np.flatnonzero(out.any(axis=1)):
        names[row] = ", ".join(columns[int(column)] for column in np.flatnonzero(out[row]))
    return names


def _joined(first: NDArray[np.object_], second: NDArray[np.object_]) -> NDArray[np.object_]:
    comma = np.where((first != "") & (second != ""), ", ", "").astype(object)
    return np.asarray(first + comma + second)


def _columns(frame: pd.DataFrame, columns: Sequence[str]) -> Floats:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"the table to predict for lacks {', '.join(map(repr, missing))}: the model was "
            f"fitted to {', '.join(columns)}"
        )
    try:
        X = frame[list(columns)].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"a feature is not a number: {error}") from error
    sound = np.isfinite(X) & (X >= 0)
    if not sound.all():
        row, column = np.argwhere(~sound)[0]
        raise InputError(
            f"feature {columns[column]!r} is {X[row, column]} in row {row}: features are finite "
            "and not negative"
        )
    return np.asarray(X)


def _kinds(
    model: EnergyModel, rows: int, kind: Sequence[str] | NDArray[np.str_] | None
) -> NDArray[np.str_]:
    if kind is None:
        only = model.kinds[0].kind if len(model.kinds) == 1 else ANY_KIND
        return np.full(rows, only)
    kinds = np.asarray(kind).astype(str)
    if kinds.shape != (rows,):
        raise InputError(f"{kinds.size} kinds for {rows} rows")
    return kinds
