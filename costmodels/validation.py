"""How well prices hold on layers that were not measured: leave one layer signature out.

Random splits leak, since models share layer shapes; so all cells of a signature are left out
together, and every interval resamples signatures, not cells. `costmodels.evaluation.conformal` has
the prediction intervals, `costmodels.evaluation.scores` the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from costmodels.evaluation.conformal import UNKNOWN_FACTOR as UNKNOWN_FACTOR
from costmodels.evaluation.conformal import half_width as half_width
from costmodels.evaluation.conformal import left_out_hits
from costmodels.evaluation.figures import FIGURES, mean_of
from costmodels.evaluation.figures import log_residuals as log_residuals
from costmodels.evaluation.scores import Coverage, bootstrap, coverage_of, group_index
from costmodels.evaluation.scores import Metric as Metric

Floats = NDArray[np.float64]
LEVEL, REPORTED_LEVEL = 0.95, 0.90


_FIGURES = ("mape", "median_ape", "r2", "r2_log", "spearman", "bias")


class Validation(BaseModel):
    """The report of one leave-one-group-out cross-validation.

    Attributes:
        groups, cells: what was left out in turn; what was predicted.
        undetected: cells below their detection limit, left out of the figures, since a
            percentage of nothing says nothing.
        mape, median_ape: absolute percentage errors, as shares of 1.
        r2, r2_log: 1 - SS_res / SS_tot of energies, and of log energies.
        spearman: rank correlation.
        bias: sum of predictions / sum of measurements - 1.
        coverage_90: share of cells inside 90 % intervals calibrated on the other groups;
            ``None`` when those are too few.
        coverage: the same with its Korn-Graubard interval and the worst group.
        half_width_log: half-width of the 95 % interval of a prediction on the log scale.
        calibrated: whether conformal calibration reached 95 %.
        verdict: one sentence on what the intervals are worth.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    groups: Annotated[int, Field(ge=0)]
    cells: Annotated[int, Field(ge=0)]
    undetected: Annotated[int, Field(ge=0)]
    mape: Metric
    median_ape: Metric
    r2_log: Metric
    spearman: Metric
    coverage_90: Metric
    half_width_log: Annotated[float, Field(gt=0)]
    calibrated: bool
    verdict: str
    r2: Metric | None = None
    bias: Metric | None = None
    coverage: Coverage | None = None


def leave_one_group_out(
    fit: Callable[[Floats, Floats, Floats], Floats],
    X: Floats,
    y: Floats,
    noise: Floats,
    groups: Sequence[str],
) -> Floats:
    """Predictions of each cell by a fit to all other groups, shape (m,).

    Args:
        fit: (X, y, noise) -> prices, shape (p,).
        X, y: features and cell means, shapes (m, p) and (m,).
        noise: whatever *fit* weights a cell by, a row a cell, shape (m, ...).
        groups: the group of each cell.

    NaN throughout when there is only one group.
    """
    labels = np.asarray(groups)
    predicted = np.full(y.shape, np.nan)
    names = list(dict.fromkeys(groups))
    if len(names) < 2:
        return predicted
    for name in names:
        out = labels == name
        predicted[out] = X[out] @ fit(X[~out], y[~out], noise[~out])
    return predicted


def validate(
    y: Floats, predicted: Floats, detected: NDArray[np.bool_], groups: Sequence[str], seed: int
) -> Validation:
    """Figures of merit of left-out predictions.

    Args:
        y: cell means, shape (m,).
        predicted: `leave_one_group_out`'s answer, shape (m,).
        detected: which cells lie above their critical level, shape (m,).
        groups: the group of each cell.
        seed: of the bootstrap over groups.
    """
    usable = detected & (y > 0) & np.isfinite(predicted)
    truth, guess = y[usable], predicted[usable]
    labels = np.asarray(groups)[usable]
    residual = np.abs(log_residuals(truth, guess))
    names, index = group_index(labels)
    half, calibrated = half_width([residual[index == g] for g in range(len(names))], LEVEL)
    figures = {name: FIGURES[name](truth, guess, index) for name in _FIGURES}
    coverage = None
    inside = left_out_hits(residual, index, REPORTED_LEVEL)
    if inside is not None:
        figures["coverage_90"] = mean_of(inside.astype(np.float64), index)
        coverage = coverage_of(inside, labels, REPORTED_LEVEL)
    metrics = bootstrap(figures, index, seed)
    metrics.setdefault("coverage_90", Metric(value=None))
    return Validation(
        groups=len(names),
        cells=int(usable.sum()),
        undetected=int((~(detected & (y > 0))).sum()),
        half_width_log=half,
        calibrated=calibrated,
        verdict=_verdict(len(names), calibrated),
        coverage=coverage,
        **metrics,
    )


def _verdict(groups: int, calibrated: bool) -> str:
    if calibrated:
        return f"95 % intervals calibrated on {groups} left-out groups"
    assumed = "log-normal residuals are assumed" if groups > 1 else "a factor of ten is assumed"
    return (
        f"uncalibrated: {groups} left-out groups, where 90 % needs 9 and 95 % needs 19; {assumed}"
    )
