"""Figures of merit of predictions, with intervals that know that rows come in groups.

Rows of one model, device or kernel size err together, so every interval resamples or weighs
groups, not rows:

- errors, R2, Spearman and bias: percentile intervals of the bootstrap over groups
- a share of hits, such as the coverage of intervals: Korn and Graubard (1998), "Confidence
  intervals for proportions with small expected number of positive counts estimated from survey
  data", Survey Methodology 24, 193-201, which puts an effective sample size into the exact
  interval of Clopper and Pearson (1934), Biometrika 26, 404-413
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from costmodels.evaluation.figures import FIGURES, Figure
from profiler.errors import InputError
from profiler.statistics import t_quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Labels = Sequence[Any] | NDArray[Any]
_RESAMPLES = 500
_MOST_UNITS = 2000
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Metric(BaseModel):
    """A figure with its 95 % interval over resampled groups; ``None`` where undefined."""

    model_config = _STRICT
    value: float | None
    low: float | None = None
    high: float | None = None


class Scores(BaseModel):
    """How far predictions are from the truth.

    Attributes:
        rows, groups: what was scored.
        mape, median_ape: |f/y - 1|, mean and median, as shares of 1.
        r2: 1 - SS_res / SS_tot of joules.
        r2_log: the same of log joules.
        spearman: rank correlation.
        bias: sum f / sum y - 1.
    """

    model_config = _STRICT
    rows: Annotated[int, Field(ge=0)]
    groups: Annotated[int, Field(ge=0)]
    mape: Metric
    median_ape: Metric
    r2: Metric
    r2_log: Metric
    spearman: Metric
    bias: Metric


class Coverage(BaseModel):
    """How often intervals held on groups that did not calibrate them.

    Attributes:
        level: the share that was asked for.
        value: the share of hits, each group counting the same: what group-wise calibration
            promises.
        low, high: the Korn-Graubard 95 % interval of *value*.
        rows, groups: what was judged.
        row_value: the share of hits, each row counting the same.
        worst_group, worst_value, worst_rows: the group with the fewest hits, its share and size.
    """

    model_config = _STRICT
    level: Annotated[float, Field(gt=0, lt=1)]
    value: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]
    rows: Annotated[int, Field(gt=0)]
    groups: Annotated[int, Field(gt=0)]
    row_value: Annotated[float, Field(ge=0, le=1)]
    worst_group: str
    worst_value: Annotated[float, Field(ge=0, le=1)]
    worst_rows: Annotated[int, Field(gt=0)]

    @property
    def holds(self) -> bool:
        """Whether the interval of the coverage contains the level."""
        return self.low <= self.level <= self.high


def score(truth: ArrayLike, predicted: ArrayLike, groups: Labels, seed: int = 0) -> Scores:
    """All figures at once.

    Args:
        truth: positive, shape (n,).
        predicted: at least zero, shape (n,). On the log scale a prediction of nothing counts
            as a thousandth of the truth.
        groups: the label of each row.
        seed: of the bootstrap over groups.

    Raises:
        InputError: lengths differ, or a value that is not finite or has the wrong sign.
    """
    y, f = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if not (y.ndim == 1 and y.shape == f.shape and len(groups) == y.size):
        raise InputError(f"{y.size} truths, {f.size} predictions and {len(groups)} group labels")
    if not (np.isfinite(y).all() and (y > 0).all() and np.isfinite(f).all() and (f >= 0).all()):
        raise InputError("scores need finite truths above zero and finite predictions, none below")
    names, index = group_index(groups)
    # thousands of groups are drawn in bundles: as valid, and the interval costs seconds
    index = index % _MOST_UNITS
    metrics = bootstrap({name: make(y, f, index) for name, make in FIGURES.items()}, index, seed)
    return Scores(rows=y.size, groups=len(names), **metrics)


def group_index(groups: Labels) -> tuple[list[str], Indices]:
    """The groups in order of appearance, and the number of each row's, shape (n,)."""
    labels = np.asarray(groups)
    names, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(order.size, dtype=np.intp)
    rank[order] = np.arange(order.size)
    return [str(name) for name in names[order]], rank[inverse.reshape(-1)]


def bootstrap(figures: dict[str, Figure], index: Indices, seed: int) -> dict[str, Metric]:
    """Each figure with its 95 % percentile interval over resampled groups.

    Args:
        figures: functions of how often each group is drawn, shape (G,).
        index: number of each row's group, shape (n,).
        seed: the draws, the same ones for all figures.

    The interval is absent with fewer than two groups, or where the figure is undefined.
    """
    groups = int(index.max(initial=-1)) + 1
    if groups == 0:
        return {name: Metric(value=None) for name in figures}
    once = np.ones(groups)
    values = {name: figure(once) for name, figure in figures.items()}
    live = [name for name, value in values.items() if value is not None] if groups > 1 else []
    draws: dict[str, list[float]] = {name: [] for name in live}
    generator = np.random.default_rng(seed)
    for _ in range(_RESAMPLES if live else 0):
        chosen = generator.integers(0, groups, groups)
        counts = np.bincount(chosen, minlength=groups).astype(np.float64)
        for name in live:
            draw = figures[name](counts)
            if draw is not None:
                draws[name].append(draw)
    metrics = {}
    for name, value in values.items():
        if not draws.get(name):
            metrics[name] = Metric(value=value)
            continue
        low, high = np.quantile(draws[name], [0.025, 0.975])
        metrics[name] = Metric(value=value, low=float(low), high=float(high))
    return metrics


def clopper_pearson(hits: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a binomial share.

    ::

        low = B(alpha/2; x, n - x + 1),  high = B(1 - alpha/2; x + 1, n - x)

    with B the quantile of the beta distribution, alpha = 1 - level; 0 and 1 at the ends.

    Args:
        hits, trials: x and n; may be fractions, for an effective sample size.
        level: of the interval.

    Raises:
        InputError: not 0 <= hits <= trials with trials > 0, or a level outside (0, 1).
    """
    from scipy.special import betaincinv

    if not (0 <= hits <= trials and 0 < trials < np.inf and 0 < level < 1):
        raise InputError(f"no share of {hits} hits in {trials} trials at level {level}")
    tail = (1 - level) / 2
    misses = trials - hits
    low = 0.0 if hits == 0 else float(betaincinv(hits, misses + 1, tail))
    high = 1.0 if misses == 0 else float(betaincinv(hits + 1, misses, 1 - tail))
    return low, high


def korn_graubard(
    hits: ArrayLike, trials: ArrayLike, level: float = 0.95, *, by_group: bool = False
) -> tuple[float, float, float]:
    """A share of hits in clustered trials: (share, low, high).

    With weight w_g = 1, or 1 / n_g if *by_group*, share p and variance v of its linearisation::

        p = sum_g w_g x_g / sum_g w_g n_g
        v = G / (G - 1) sum_g (w_g (x_g - p n_g))^2 / (sum_g w_g n_g)^2
        n* = p (1 - p) / v  (t_{n-1} / t_{G-1})^2,  at most (sum w)^2 / sum w^2 over the rows

    and the interval is Clopper-Pearson's of p n* hits in n* trials (Korn and Graubard 1998;
    a design effect under one is taken as one). Where every row is a hit or none is, v says
    nothing about the clustering, and n* is the number of groups, weighed as
    (sum_g w_g n_g)^2 / sum_g (w_g n_g)^2: as if all rows of a group were one. One group
    alone says nothing: (p, 0, 1).

    Args:
        hits, trials: x_g and n_g of each group, shape (G,).
        level: of the interval.
        by_group: whether a group, not a row, counts once.

    Raises:
        InputError: no group, an empty group, or more hits than trials.
    """
    x, n = np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if not (
        x.ndim == 1 and x.size and x.shape == n.shape and ((x >= 0) & (x <= n) & (n > 0)).all()
    ):
        raise InputError("every group needs at least one trial and no more hits than trials")
    weight = 1 / n if by_group else np.ones_like(n)
    total = float(weight @ n)
    share = min(float(weight @ x) / total, 1.0)
    groups = x.size
    if groups == 1:
        return share, 0.0, 1.0
    variance = groups / (groups - 1) * float(np.sum((weight * (x - share * n)) ** 2)) / total**2
    most = total**2 / float(weight**2 @ n)
    if bool((x == 0).all() or (x == n).all()):
        share = float(x[0] > 0)
        effective = total**2 / float(np.sum((weight * n) ** 2))
    elif variance == 0:
        effective = most
    else:
        upper = 0.5 + level / 2
        ratio = t_quantile(upper, float(n.sum()) - 1) / t_quantile(upper, groups - 1)
        effective = min(share * (1 - share) / variance * ratio**2, most)
    low, high = clopper_pearson(share * effective, effective, level)
    return share, low, high


def coverage_of(hits: NDArray[np.bool_], groups: Labels, level: float) -> Coverage:
    """The record of intervals that hit or missed each row.

    Args:
        hits: whether the truth lay inside, shape (n,).
        groups: the label of each row.
        level: the share that was asked for.

    Raises:
        InputError: no rows, or labels of another length.
    """
    if hits.size == 0 or hits.size != len(groups):
        raise InputError(f"{hits.size} hits and {len(groups)} group labels have no coverage")
    names, index = group_index(groups)
    sizes = np.bincount(index)
    inside = np.bincount(index, weights=hits.astype(np.float64))
    value, low, high = korn_graubard(inside, sizes, by_group=True)
    shares = inside / sizes
    # the largest of the worst, since a lone miss in a group of one says little
    worst = int(np.lexsort((-sizes, shares))[0])
    return Coverage(
        level=level,
        value=value,
        low=low,
        high=high,
        rows=hits.size,
        groups=sizes.size,
        row_value=float(hits.mean()),
        worst_group=names[worst],
        worst_value=float(shares[worst]),
        worst_rows=int(sizes[worst]),
    )
