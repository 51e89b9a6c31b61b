"""How late a stream shows a load: a known pattern, looked for in its watts.

With b(t) 1 while the load ran and 0 else, B_d(t) its mean over one sample period around t - d, and
P_i the watts at the stream's times t_i, both freed of their linear trend, the delay is::

    d = argmax_d r(d),   r(d) = sum_i B_d(t_i) P_i / sqrt(sum_i B_d(t_i)^2  sum_i P_i^2)

with r > 0, first on a coarse grid, then by a parabola through the peak on a fine one. The standard
error is that of a bootstrap over stretches of one chip, and not below what sampling can resolve:
a period over sqrt(12), for each of the pattern's edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atanh, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.errors import MeterNotFoundError
from profiler.meters.external.load import CHIPS, Pattern

ALPHA = 1e-3
"""Chance of finding the pattern in a stream that does not show it."""
_BOOTSTRAPS, _MOST_SAMPLES = 200, 1500
_COARSE_STEPS, _FINE_STEPS, _FINE_RANGE = 2, 20, 2.0
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Delay:
    """When a stream shows what the device did.

    Attributes:
        seconds: the stream's time of a load, less the load's own; below 0 where the clock of the
            stream is behind.
        standard_error_s: of `seconds`.
        correlation: of the watts with the pattern, chip by chip.
        step_w: the watts that the load added.
    """

    seconds: float
    standard_error_s: float
    correlation: float
    step_w: float


def find_delay(
    times_s: Any,
    watts: Any,
    pattern: Pattern,
    *,
    period_s: float,
    earliest_s: float,
    latest_s: float,
) -> Delay:
    """Where in the stream the pattern is.

    Args:
        times_s: of the samples, roughly on the pattern's clock, increasing, shape (n,).
        watts: shape (n,).
        pattern: what was played.
        period_s: between samples.
        earliest_s: the smallest delay that is tried.
        latest_s: the largest.

    Raises:
        MeterNotFoundError: the pattern is not in the stream: the correlation might be chance, at
            1 in 1000, counting the chips and every delay tried; or too few samples were taken.
    """
    times, power = np.asarray(times_s, np.float64), np.asarray(watts, np.float64)
    inside = (times >= pattern.edges_s[0] + earliest_s - pattern.chip_s) & (
        times <= pattern.edges_s[-1] + latest_s + pattern.chip_s
    )
    times, power, width_s = _thinned(times[inside], power[inside], period_s)
    if len(times) < CHIPS or np.ptp(power) == 0:
        raise MeterNotFoundError(_nothing("it changed no figure", len(times)))
    centred = _detrended(times, power[None, :])[0]
    coarse = np.arange(earliest_s, latest_s, width_s / _COARSE_STEPS)
    templates = _templates(times, coarse, pattern, width_s)
    rough_s = float(coarse[int(np.argmax(_correlations(templates, centred)))])
    fine = rough_s + np.arange(-_FINE_RANGE, _FINE_RANGE, 1 / _FINE_STEPS) * width_s
    templates = _templates(times, fine, pattern, width_s)
    seconds = _peak(fine, _correlations(templates, centred), width_s)
    correlation, chips = _by_chip(times, centred, pattern, seconds, width_s)
    score = atanh(min(max(correlation, 0.0), 1 - 1e-12)) * sqrt(max(chips - 3, 0))
    if len(coarse) * (1 - NormalDist().cdf(score)) > ALPHA:
        raise MeterNotFoundError(_nothing(f"correlation {correlation:.2f}", len(times)))
    best = templates[int(np.argmin(abs(fine - seconds)))]
    scatter_s = _bootstrap(times, centred, templates, fine, pattern.chip_s, width_s)
    resolved_s = width_s / sqrt(12 * len(pattern.edges_s))
    step_w = float(best @ centred / (best @ best))
    return Delay(seconds, max(scatter_s, resolved_s), correlation, step_w)


def _thinned(times: Floats, power: Floats, period_s: float) -> tuple[Floats, Floats, float]:
    """At most some 1500 means of neighbouring samples, and how far they are apart."""
    group = max(1, -(-len(times) // _MOST_SAMPLES))
    whole = len(times) // group * group
    times, power = (array[:whole].reshape(-1, group).mean(axis=1) for array in (times, power))
    return times, power, period_s * group


def _templates(times: Floats, delays: Floats, pattern: Pattern, width_s: float) -> Floats:
    """B_d at *times* for each of *delays*, trend removed, shape (delays, times)."""
    edges = np.asarray(pattern.edges_s)
    busy_s = np.zeros_like(edges)  # seconds of load up to each edge
    busy_s[1::2] = edges[1::2] - edges[::2]
    busy_s = np.cumsum(busy_s)
    around = times[None, :] - delays[:, None]
    upper = np.interp(around + width_s / 2, edges, busy_s)
    lower = np.interp(around - width_s / 2, edges, busy_s)
    return _detrended(times, (upper - lower) / width_s)


def _detrended(times: Floats, rows: Floats) -> Floats:
    """*rows* without their mean and slope over *times*."""
    line = times - times.mean()
    centred = rows - rows.mean(axis=1, keepdims=True)
    slope = centred @ line / (line @ line)
    detrended: Floats = centred - slope[:, None] * line
    return detrended


def _correlations(templates: Floats, power: Floats, weights: Floats | None = None) -> Floats:
    """r(d) for each template; with *weights*, shape (samples, k), one column for each set."""
    weights = np.ones((len(power), 1)) if weights is None else weights
    crossed = templates @ (power[:, None] * weights)
    scale = np.sqrt((templates**2 @ weights) * (power**2 @ weights))
    found: Floats = np.squeeze(crossed / np.maximum(scale, 1e-300))
    return found


def _peak(delays: Floats, correlations: Floats, width_s: float) -> float:
    """Where a parabola through the neighbourhood of the largest correlation is highest."""
    top = int(np.argmax(correlations))
    near = abs(delays - delays[top]) <= width_s / 2
    if near.sum() < 3:
        return float(delays[top])
    bend, slope, _ = np.polyfit(delays[near] - delays[top], correlations[near], 2)
    shift_s = -slope / (2 * bend) if bend < 0 else 0.0
    return float(delays[top] + min(max(shift_s, -width_s / 2), width_s / 2))


def _by_chip(
    times: Floats, power: Floats, pattern: Pattern, delay_s: float, width_s: float
) -> tuple[float, int]:
    """The correlation of the mean watts of each chip with its mean load, and how many chips.

    Samples within a chip are alike, so that chips, not samples, are counted as independent.
    """
    template = _templates(times, np.array([delay_s]), pattern, width_s)[0]
    chips = np.floor((times - delay_s - pattern.edges_s[0]) / pattern.chip_s)
    kept = (chips >= 0) & (times - delay_s <= pattern.edges_s[-1])
    _, which = np.unique(chips[kept], return_inverse=True)
    counts = np.bincount(which)
    load = np.bincount(which, template[kept]) / counts
    drawn = np.bincount(which, power[kept]) / counts
    if len(counts) < CHIPS / 2 or np.ptp(load) == 0 or np.ptp(drawn) == 0:
        return 0.0, len(counts)
    return float(np.corrcoef(load, drawn)[0, 1]), len(counts)


def _bootstrap(
    times: Floats,
    power: Floats,
    templates: Floats,
    delays: Floats,
    block_s: float,
    width_s: float,
) -> float:
    """Standard deviation of the peak over stretches of *block_s* drawn with replacement."""
    generator = np.random.default_rng(0)  # the same stream gives the same error
    blocks = ((times - times[0]) // block_s).astype(np.int64)
    count = int(blocks[-1]) + 1
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=_BOOTSTRAPS)
    weights = drawn[:, blocks].T.astype(np.float64)
    found = _correlations(templates, power, weights)
    return float(np.std([_peak(delays, column, width_s) for column in found.T], ddof=1))


def _nothing(why: str, samples: int) -> str:
    return (
        f"the load does not show in this stream ({why}, {samples} samples): is it the right meter, "
        "and is the device quiet enough? Check the plug and what else it feeds, or state its delay "
        "with #offset=none,lag=SECONDS"
    )
