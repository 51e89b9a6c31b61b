"""Leave-group-out errors and coverage of every set: this project's models beside the baselines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cost_models_baselines import LEARNERS, Floats, flops_alone, learned, least_squares
from cost_models_sets import DataSet

from costmodels.estimates import interval_labels
from costmodels.estimators.folds import fold_numbers
from costmodels.evaluation.conformal import coverage
from costmodels.evaluation.scores import Coverage
from costmodels.tablefit import Design
from costmodels.tabletests import _left_out
from costmodels.validation import log_residuals

Progress = Callable[[str], None]
PARTS, SEED = 10, 0
OURS, NNLS = "ours", "NNLS by kind"
COLUMNS = ("FLOPs alone", "least squares", *LEARNERS, NNLS, OURS)
BASELINES = ("FLOPs alone", "least squares", *LEARNERS)


@dataclass(frozen=True)
class Accuracy:
    """What was reached on one set.

    Attributes:
        name, grouping: the set, and what was left out.
        rows, groups: how many.
        mape: mean absolute percentage error by model, in percent.
        median: median absolute percentage error by model, in percent.
        columns: which columns a learner did better on.
        coverage: of 90 % intervals of our model; ``None`` with too few groups.
        seconds: the whole set took.
    """

    name: str
    grouping: str
    rows: int
    groups: int
    mape: dict[str, float]
    median: dict[str, float]
    columns: dict[str, str]
    coverage: Coverage | None
    seconds: float
    folds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The baseline with the least error."""
        return min((name for name in BASELINES if name in self.mape), key=self.mape.__getitem__)

    @property
    def behind(self) -> float:
        """Points that our model is worse than the best baseline; negative where it is better."""
        return self.mape[OURS] - self.mape[self.best]


def judge(one: DataSet, folder: Path, quick: bool = False, say: Progress | None = None) -> Accuracy:
    """Leave out the groups of the first grouping, for each model the same parts.

    Args:
        one: the set.
        folder: with its file.
        quick: without the Gaussian process, and each learner on all columns only.
        say: called with a sentence before each model.
    """
    from threadpoolctl import threadpool_limits

    began = time.perf_counter()
    say = say or (lambda text: None)
    samples = one.read(folder)
    grouping, labels = next(iter(samples.groupings.items()))
    part = fold_numbers(labels, PARTS, SEED)
    y = samples.energy_j
    found: dict[str, Floats] = {}
    columns: dict[str, str] = {}
    with threadpool_limits(1):
        found["FLOPs alone"] = flops_alone(samples, part)
        found["least squares"] = least_squares(samples, part)
        for learner in LEARNERS:
            if quick and learner == "Gaussian process":
                continue
            tried = learned(learner, samples, part, SEED, say)
            columns[learner] = min(tried, key=lambda name: mape(tried[name], y))
            found[learner] = tried[columns[learner]]
        say(OURS)
        ours = _left_out(samples, Design.of(samples), labels, None, SEED, grouping, lambda t: None)
    if ours.parts != int(part.max()) + 1:
        raise RuntimeError(f"{one.name}: {ours.parts} parts where baselines have {part.max() + 1}")
    found[NNLS], found[OURS] = ours.prices_alone_j, ours.predicted_j
    held = coverage(
        log_residuals(y, ours.predicted_j),
        labels,
        interval_labels(samples.kind, ours.inside),
        0.90,
    )
    return Accuracy(
        name=one.name,
        grouping=grouping,
        rows=len(samples),
        groups=len(np.unique(labels)),
        mape={name: mape(found[name], y) for name in COLUMNS if name in found},
        median={name: median(found[name], y) for name in COLUMNS if name in found},
        columns=columns,
        coverage=None if held is None else held[1],
        seconds=time.perf_counter() - began,
        folds={
            name: [mape(found[name][part == p], y[part == p]) for p in range(ours.parts)]
            for name in COLUMNS
            if name in found
        },
    )


def judge_all(
    sets: Sequence[DataSet], folder: Path, quick: bool, jobs: int, done: Callable[[Accuracy], None]
) -> list[Accuracy]:
    """`judge` of every set, *jobs* at a time, in the order of *sets*."""
    found: list[Accuracy] = []
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        for result in pool.map(judge, sets, [folder] * len(sets), [quick] * len(sets)):
            done(result)
            found.append(result)
    return found


def mape(predicted: Floats, truth: Floats) -> float:
    """Mean absolute percentage error, in percent."""
    return float(100 * np.mean(np.abs(predicted / truth - 1)))


def median(predicted: Floats, truth: Floats) -> float:
    """Median absolute percentage error, in percent."""
    return float(100 * np.median(np.abs(predicted / truth - 1)))
