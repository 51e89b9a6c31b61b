"""How well prices hold on layers that were not measured: leave one layer signature out.

Random splits leak, since models share layer shapes; so all cells of a signature are left out
together, and every interval resamples signatures, not cells.

Prediction intervals are conformal on the log scale with two layers, layers and their cells
(Dunn, Wasserman and Ramdas 2022): with G left-out groups, each residual |log y - log f|
of a group of n_g cells weighs 1 / ((G + 1) n_g), and 1 / (G + 1) lies at infinity. A level is
within reach only if 1 / (G + 1) <= 1 - level: 9 groups for 90 %, 19 for 95 %. With fewer, the
half-width is Student's, t_{G-1} rms sqrt(1 + 1/G), at most a factor of 100, and is called
uncalibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from profiler.statistics import t_quantile

Floats = NDArray[np.float64]
LEVEL, REPORTED_LEVEL = 0.95, 0.90
UNKNOWN_FACTOR, _WIDEST_FACTOR = 10.0, 100.0
_RESAMPLES = 500
_LEAST_SHARE = 1e-3


class Metric(BaseModel):
    """A figure with its 95 % interval over resampled groups; ``None`` where undefined."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    value: float | None
    low: float | None = None
    high: float | None = None


class Validation(BaseModel):
    """The report of one leave-one-group-out cross-validation.

    Attributes:
        groups, cells: what was left out in turn; what was predicted.
        undetected: cells below their detection limit, left out of the figures, since a
            percentage of nothing says nothing.
        mape, median_ape: absolute percentage errors, as shares of 1.
        r2_log: 1 - SS_res / SS_tot of log energies.
        spearman: rank correlation.
        coverage_90: share of cells inside 90 % intervals calibrated on the other groups;
            ``None`` when those are too few.
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


def log_residuals(y: Floats, predicted: Floats) -> Floats:
    """log y - log f; a prediction of nothing counts as a thousandth of the truth."""
    return np.asarray(np.log(y) - np.log(np.maximum(predicted, _LEAST_SHARE * y)))


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
    residual = log_residuals(truth, guess)
    by_group = [np.flatnonzero(labels == name) for name in dict.fromkeys(labels.tolist())]
    half, calibrated = half_width([np.abs(residual[rows]) for rows in by_group], LEVEL)
    coverage = _coverage(residual, by_group)
    figures: dict[str, Callable[[NDArray[np.intp]], float | None]] = {
        "mape": lambda rows: float(np.mean(np.abs(guess[rows] / truth[rows] - 1))),
        "median_ape": lambda rows: float(np.median(np.abs(guess[rows] / truth[rows] - 1))),
        "r2_log": lambda rows: _r2(np.log(truth[rows]), residual[rows]),
        "spearman": lambda rows: _spearman(truth[rows], guess[rows]),
        "coverage_90": lambda rows: None if coverage is None else float(coverage[rows].mean()),
    }
    metrics = {name: _bootstrap(figure, by_group, seed) for name, figure in figures.items()}
    return Validation(
        groups=len(by_group),
        cells=int(usable.sum()),
        undetected=int((~(detected & (y > 0))).sum()),
        half_width_log=half,
        calibrated=calibrated,
        verdict=_verdict(len(by_group), calibrated),
        **metrics,
    )


def half_width(residuals: Sequence[Floats], level: float) -> tuple[float, bool]:
    """The log half-width that covers *level* of a new group's cells, and if it is calibrated.

    Args:
        residuals: |log residuals| of each left-out group.
        level: 0.95 for 95 %.
    """
    groups = len(residuals)
    if groups == 0:
        return float(np.log(UNKNOWN_FACTOR)), False
    sizes = np.concatenate(residuals)
    mass = np.concatenate([np.full(r.size, 1.0 / (r.size * (groups + 1))) for r in residuals])
    order = np.argsort(sizes)
    reached = np.flatnonzero(np.cumsum(mass[order]) >= level - 1e-12)
    smallest = 1e-6
    if reached.size:
        return max(float(sizes[order][reached[0]]), smallest), True
    rms = float(np.sqrt(np.mean([np.mean(r**2) for r in residuals])))
    if groups == 1:
        return max(rms, float(np.log(UNKNOWN_FACTOR))), False
    wide = t_quantile(0.5 + level / 2, groups - 1) * rms * np.sqrt(1 + 1 / groups)
    return min(max(float(wide), smallest), float(np.log(_WIDEST_FACTOR))), False


def _coverage(residual: Floats, by_group: Sequence[NDArray[np.intp]]) -> NDArray[np.bool_] | None:
    """Whether each cell lies in the 90 % interval that the other groups calibrate."""
    inside = np.zeros(residual.size, dtype=bool)
    for number, rows in enumerate(by_group):
        others = [np.abs(residual[r]) for i, r in enumerate(by_group) if i != number]
        half, calibrated = half_width(others, REPORTED_LEVEL)
        if not calibrated:
            return None
        inside[rows] = np.abs(residual[rows]) <= half
    return inside if by_group else None


def _bootstrap(
    figure: Callable[[NDArray[np.intp]], float | None],
    by_group: Sequence[NDArray[np.intp]],
    seed: int,
) -> Metric:
    if not by_group:
        return Metric(value=None)
    value = figure(np.concatenate(by_group))
    if value is None or len(by_group) < 2:
        return Metric(value=value)
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(_RESAMPLES):
        chosen = generator.integers(0, len(by_group), len(by_group))
        draw = figure(np.concatenate([by_group[index] for index in chosen]))
        if draw is not None:
            draws.append(draw)
    if not draws:
        return Metric(value=value)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Metric(value=value, low=float(low), high=float(high))


def _r2(log_truth: Floats, residual: Floats) -> float | None:
    total = float(np.sum((log_truth - log_truth.mean()) ** 2))
    return None if total < 1e-12 else 1.0 - float(np.sum(residual**2)) / total


def _spearman(truth: Floats, guess: Floats) -> float | None:
    from scipy.stats import rankdata

    first, second = rankdata(truth), rankdata(guess)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _verdict(groups: int, calibrated: bool) -> str:
    if calibrated:
        return f"95 % intervals calibrated on {groups} left-out groups"
    assumed = "log-normal residuals are assumed" if groups > 1 else "a factor of ten is assumed"
    return (
        f"uncalibrated: {groups} left-out groups, where 90 % needs 9 and 95 % needs 19; {assumed}"
    )
