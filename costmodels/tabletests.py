"""What an energy model is worth on groups that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from costmodels.energymodel import GroupTest
from costmodels.estimates import interval_labels
from costmodels.estimators.folds import fold_numbers
from costmodels.estimators.hybrid import Correct
from costmodels.evaluation.conformal import Calibration, Width, coverage, groups_needed
from costmodels.evaluation.scores import score
from costmodels.validation import log_residuals

if TYPE_CHECKING:
    from costmodels.estimators.hybrid import HybridRegressor
    from costmodels.samples import Samples
    from costmodels.tablefit import Design

Floats = NDArray[np.float64]
LEVELS = (0.90, 0.95)
_PARTS, _PARTS_OF_MANY, _PARTS_WITHOUT = 10, 4, 20
_INNER_PARTS, _INNER_PARTS_OF_MANY = 5, 2
_MANY_ROWS = 5000


@dataclass(frozen=True)
class Tested:
    """The tests by each grouping, and the calibrations by the first.

    Attributes:
        tests: one a grouping.
        calibrations: at 90 and 95 %.
        outside: the reach at 95 % of intervals outside the range of a row's kind; a factor of
            ten where no row was ever outside.
        unseen: the reach at 95 % of intervals for a kind never seen.
        predicted_j: left-out predictions by the first grouping, shape (m,); NaN with one group.
        inside: whether each row lay inside the range of the rows that predicted it, shape (m,).
    """

    tests: tuple[GroupTest, ...]
    calibrations: tuple[Calibration, ...]
    outside: Width
    unseen: Width
    predicted_j: Floats
    inside: NDArray[np.bool_]


def test_model(
    samples: Samples,
    design: Design,
    fitted: HybridRegressor,
    correct: Correct,
    seed: int,
    say: Callable[[str], None],
) -> Tested:
    """Leave out the groups of each grouping in turn.

    By the first grouping the choice of corrections is part of what is tested: it is made again
    without each part, so that its figures hold for the whole procedure. By the other groupings
    the choice stands.

    Args:
        samples: the rows.
        design: the same, as estimators take them.
        fitted: the estimator fitted to all rows.
        correct: which kinds were to be corrected; ``None`` where that was decided by test.
        seed: of parts and resamples.
        say: called with a sentence before each part.
    """
    chosen: Correct = {code: fitted.forms_[code] for code in fitted.corrections_}
    tests = []
    first: tuple[Floats, NDArray[np.bool_]] | None = None
    for name, labels in samples.groupings.items():
        nested = first is None and correct is None
        found = _left_out(samples, design, labels, correct if nested else chosen, seed, name, say)
        if first is None:
            first = found.predicted_j, found.inside
        tests.append(_report(samples, found, name, labels, nested, seed))
    predicted, inside = first or (np.full(len(samples), np.nan), np.zeros(len(samples), bool))
    usable = np.isfinite(predicted)
    residual = log_residuals(samples.energy_j[usable], predicted[usable])
    labels = interval_labels(samples.kind[usable], inside[usable])
    calibrations = tuple(
        Calibration.fit(residual, samples.group[usable], labels, level) for level in LEVELS
    )
    say("kinds that were never seen")
    unseen = _unseen(samples, design, calibrations[1].pooled)
    out = ~inside[usable]
    beyond = Calibration.fit(residual[out], samples.group[usable][out], level=LEVELS[1]).pooled
    return Tested(tuple(tests), calibrations, beyond, unseen, predicted, inside)


def inner_parts(rows: int) -> int:
    """In how many parts groups are left out to choose a correction; fewer of a large table."""
    return _INNER_PARTS if rows <= _MANY_ROWS else _INNER_PARTS_OF_MANY


@dataclass(frozen=True)
class _LeftOut:
    predicted_j: Floats
    prices_alone_j: Floats
    inside: NDArray[np.bool_]
    parts: int


def _left_out(
    samples: Samples,
    design: Design,
    labels: NDArray[np.str_],
    correct: Correct,
    seed: int,
    name: str,
    say: Callable[[str], None],
) -> _LeftOut:
    rows = len(samples)
    predicted, alone = np.full(rows, np.nan), np.full(rows, np.nan)
    inside = np.zeros(rows, dtype=bool)
    most = _PARTS if rows <= _MANY_ROWS else _PARTS_OF_MANY
    part = fold_numbers(labels, _PARTS_WITHOUT if correct == {} else most, seed)
    count = int(part.max()) + 1
    if count < 2:
        return _LeftOut(predicted, alone, inside, 0)
    for number in range(count):
        say(f"leaving out by {name}: part {number + 1} of {count}")
        out = part == number
        model = design.estimator(correct, inner_parts(rows), seed)
        model.fit(design.X[~out], samples.energy_j[~out], groups=samples.group[~out])
        prices_alone = model.base_.predict(_for_base(design, out))
        predicted[out] = _positive(model.predict(design.X[out]), model, samples, design, out)
        alone[out] = _positive(prices_alone, model, samples, design, out)
        inside[out] = _inside(design, out)
    return _LeftOut(predicted, alone, inside, count)


def _for_base(design: Design, rows: NDArray[np.bool_]) -> Floats:
    """The columns of the prices' own estimator: nothing but what is priced, and the kind."""
    X = design.X[rows].copy()
    kind = X[:, -1].copy()
    X[:, design.priced :] = 0.0
    return np.column_stack([X, kind])


def _positive(
    predicted: Floats,
    model: HybridRegressor,
    samples: Samples,
    design: Design,
    out: NDArray[np.bool_],
) -> Floats:
    """*predicted*, and where that is nothing what `costmodels.estimates` would say instead."""
    features, lowest_j = design.X[out, : design.priced], float(samples.energy_j[~out].min())
    pooled = features @ model.base_.coef_[: design.priced]
    return np.where(predicted > 0, predicted, np.maximum(pooled, lowest_j))


def _inside(design: Design, out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each left-out row lies in the range of the other rows of its kind."""
    X, kind = design.X[:, :-1], design.X[:, -1]
    inside = np.zeros(int(out.sum()), dtype=bool)
    for code in np.unique(kind[out]):
        known = X[~out & (kind == code)]
        mine = kind[out] == code
        if len(known):
            box = (known.min(axis=0) <= X[out][mine]) & (known.max(axis=0) >= X[out][mine])
            inside[mine] = box.all(axis=1)
    return inside


def _report(
    samples: Samples,
    found: _LeftOut,
    name: str,
    labels: NDArray[np.str_],
    nested: bool,
    seed: int,
) -> GroupTest:
    groups = len(np.unique(labels))
    if found.parts < 2:
        return GroupTest(
            grouping=name,
            parts=0,
            nested=False,
            scores=None,
            verdict=f"untested: one group of {name!r} only, nothing can be left out",
        )
    truth, predicted = samples.energy_j, found.predicted_j
    corrected = not np.array_equal(predicted, found.prices_alone_j)
    held = coverage(
        log_residuals(truth, predicted),
        labels,
        interval_labels(samples.kind, found.inside),
        LEVELS[0],
    )
    return GroupTest(
        grouping=name,
        parts=found.parts,
        nested=nested,
        scores=score(truth, predicted, labels, seed),
        prices_alone=score(truth, found.prices_alone_j, labels, seed) if corrected else None,
        coverage_90=None if held is None else held[1],
        verdict=_verdict(groups, name, samples),
    )


def _verdict(groups: int, name: str, samples: Samples) -> str:
    first = next(iter(samples.groupings))
    if name != first:
        return f"{groups} groups of {name!r} left out; intervals are calibrated by {first!r}"
    need_90, need_95 = map(groups_needed, LEVELS)
    if groups >= need_95:
        return f"intervals calibrated on {groups} left-out groups of {name!r}"
    reached = (
        "90 % intervals are calibrated, 95 % ones are not"
        if groups >= need_90
        else ("uncalibrated")
    )
    return (
        f"{reached}: {groups} left-out groups of {name!r}, where 90 % needs {need_90} and 95 % "
        f"needs {need_95}"
    )


def _unseen(samples: Samples, design: Design, pooled: Width) -> Width:
    """The reach of intervals for a kind that nobody measured: kinds are left out in turn."""
    codes = np.unique(design.X[:, -1])
    own = Calibration.fit([], [], level=LEVELS[1]).pooled
    if codes.size > 1:
        residual = np.empty(len(samples))
        for code in codes:
            out = design.X[:, -1] == code
            model = design.estimator({}, _INNER_PARTS, 0).fit(
                design.X[~out], samples.energy_j[~out]
            )
            guess = _positive(model.predict(design.X[out]), model, samples, design, out)
            residual[out] = log_residuals(samples.energy_j[out], guess)
        own = Calibration.fit(residual, samples.kind, level=LEVELS[1]).pooled
    return Width(
        below_log=max(own.below_log, pooled.below_log),
        above_log=max(own.above_log, pooled.above_log),
        calibrated=own.calibrated,
        groups=own.groups,
        rows=own.rows,
    )
