"""An A/A test: how much windows of the same work differ on this host, and what that costs.

Windows lie in pairs, as blocks do, so that slow drift cancels. With d the differences within the
pairs and m the mean joules of a window::

    s = sd(d) / (sqrt(2) m)               relative scatter of one window, df = pairs - 1
    s_steps = edge_j(P_rest) / m          what the counter's steps (or samples) alone would give
    B(s) = least B with t_{B-1} sqrt(2) s / sqrt(B) <= width

B(s) against B(s_steps) is what the host's noise costs in blocks. The interval of s is that of a
variance, s sqrt(df / chi2), for normal differences.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import hypot, sqrt
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from profiler.errors import InputError
from profiler.gauge import Gauge, Window
from profiler.meters.base import EnergyMeter
from profiler.probe import ProbeResult
from profiler.statistics import t_quantile

WIDTH = 0.05
FEWEST_PAIRS = 6
MOST_BLOCKS = 10_000
_WINDOW_S, _WINDOW_STEPS = 0.2, 5
_PATIENCE = 4.0
_BUFFER = bytes(range(256)) * 256
_CHUNK = 20
_SLOW = "'cwmp profile' takes the time that such a counter needs"


@dataclass(frozen=True, slots=True)
class HostNoise:
    """What the A/A test found; relative figures are shares of a window's energy.

    Attributes:
        window_s: median length of a window.
        pairs: pairs of windows.
        power_w: mean over all windows.
        scatter: s, one standard deviation of one window.
        scatter_interval: its 95 % interval.
        steps_scatter: what the counter's steps alone would give.
        time_scatter: the same as *scatter*, of the windows' lengths.
        width: half-width that the blocks are counted for, as a share of a window's energy.
        blocks: pairs that the interval of their mean difference takes to be that narrow.
        blocks_interval: from the ends of *scatter_interval*.
        blocks_by_steps: as *blocks*, from the counter's steps alone.
    """

    window_s: float
    pairs: int
    power_w: float
    scatter: float
    scatter_interval: tuple[float, float]
    steps_scatter: float
    time_scatter: float
    width: float
    blocks: int
    blocks_interval: tuple[int, int]
    blocks_by_steps: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return asdict(self)


def blocks_needed(scatter: float, width: float = WIDTH) -> int:
    """Least B >= 2 with t_{B-1, 97.5 %} sqrt(2) scatter / sqrt(B) <= width, at most `MOST_BLOCKS`.

    Raises:
        InputError: a width that is not positive, or a negative scatter.
    """
    if not (width > 0 and scatter >= 0):
        raise InputError(f"blocks for a width of {width} and a scatter of {scatter}: not possible")

    def enough(blocks: int) -> bool:
        return t_quantile(0.975, blocks - 1) * sqrt(2 / blocks) * scatter <= width

    low, high = 1, 2
    while not enough(high):
        if high >= MOST_BLOCKS:
            return MOST_BLOCKS
        low, high = high, min(2 * high, MOST_BLOCKS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def measure_noise(
    meter: EnergyMeter,
    probed: ProbeResult,
    *,
    seconds: float = 5.0,
    work: Callable[[float], Callable[[], None]] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    seed: int = 0,
) -> HostNoise:
    """Meter pairs of windows of the same work for about *seconds*.

    Args:
        meter: an open meter.
        probed: its probe.
        seconds: how long; `FEWEST_PAIRS` pairs are made even if they take up to four times that.
        work: seconds -> an action of about that length, the same at each call; by default
            hashing on one core.
        sleep: rests.
        seed: of the windows' phases.

    Raises:
        InputError: the counter steps too slowly for pairs in that time, or no energy was seen.
        MeterReadError, CounterFaultError: a read failed.
    """
    if probed.period_s is None:
        raise InputError(f"the counter did not step twice in {probed.duration_s:.3g} s: {_SLOW}")
    gauge = Gauge(
        meter,
        period_s=probed.period_s,
        longest_step_s=probed.period_p99_s,
        quantum_j=probed.quantum_j,
        sleep=sleep,
    )
    step_s = (probed.period_s or 0.0) if gauge.stepped else 0.0
    window_s = max(_WINDOW_S, _WINDOW_STEPS * step_s)
    pair_s = 2 * (window_s + gauge.tail_s + step_s)
    pairs = max(FEWEST_PAIRS, int(seconds / pair_s))
    if pairs * pair_s > _PATIENCE * seconds:
        raise InputError(
            f"the counter steps every {step_s:.3g} s: {pairs} pairs would take "
            f"{pairs * pair_s:.0f} s; {_SLOW}"
        )
    action = (work or hashing)(window_s)
    generator = np.random.default_rng(seed)
    gauge.window(action, generator)  # warms caches and clocks, and is left out
    windows = []
    for _ in range(pairs):
        extra_s = gauge.extra_tail_s(generator)
        windows += [gauge.window(action, generator, extra_s) for _ in range(2)]
    sampling_j2 = fmean(window.sampling_j2 for window in windows)
    return noise_of(windows, hypot(gauge.edge_j(probed.idle_power_w), sqrt(sampling_j2)))


def noise_of(windows: list[Window], edge_j: float, width: float = WIDTH) -> HostNoise:
    """The figures of `HostNoise` from windows in pairs, shape (2 pairs,).

    Args:
        windows: of the same work; each pair one after the other.
        edge_j: standard error of a window from the counter's steps, or samples, alone.
        width: as `HostNoise.width`.

    Raises:
        InputError: fewer than two pairs, or no energy in them.
    """
    from scipy.special import chdtri

    mean_j = fmean(window.energy_j for window in windows)
    pairs = len(windows) // 2
    if pairs < 2 or not mean_j > 0:
        raise InputError(f"{pairs} pairs of windows with {mean_j:.3g} J each say nothing of noise")
    degrees = pairs - 1
    scatter = _pair_scatter([window.energy_j for window in windows])
    time_scatter = _pair_scatter([window.duration_s for window in windows])
    # chdtri(df, p) is the value that chi-square exceeds with probability p.
    low, high = (scatter * sqrt(degrees / float(chdtri(degrees, p))) for p in (0.025, 0.975))
    steps = edge_j / mean_j
    return HostNoise(
        window_s=median(window.duration_s for window in windows),
        pairs=pairs,
        power_w=mean_j / fmean(window.duration_s for window in windows),
        scatter=scatter,
        scatter_interval=(low, high),
        steps_scatter=steps,
        time_scatter=time_scatter,
        width=width,
        blocks=blocks_needed(scatter, width),
        blocks_interval=(blocks_needed(low, width), blocks_needed(high, width)),
        blocks_by_steps=blocks_needed(steps, width),
    )


def hashing(seconds: float) -> Callable[[], None]:
    """An action that hashes the same bytes for about *seconds* on one core."""
    from hashlib import blake2b

    def chunk() -> None:
        for _ in range(_CHUNK):
            blake2b(_BUFFER).digest()

    return _repeated(chunk, seconds)


def multiplying(device: str) -> Callable[[float], Callable[[], None]]:
    """As `hashing`, but multiplies matrices on the torch device *device*.

    Raises:
        InputError: torch is not installed or does not know the device.
    """
    try:
        import torch

        matrix = torch.randn(1024, 1024, device=device)
    except (ImportError, RuntimeError, AssertionError) as error:
        raise InputError(f"cannot compute on {device}: {error}; give --no-measure") from error

    def chunk() -> None:
        for _ in range(_CHUNK):
            torch.mm(matrix, matrix)
        torch.cuda.synchronize(device)

    return lambda seconds: _repeated(chunk, seconds)


def _repeated(chunk: Callable[[], None], seconds: float) -> Callable[[], None]:
    def took_s() -> float:
        begin_s = time.perf_counter()
        chunk()
        return time.perf_counter() - begin_s

    count = max(1, round(seconds / max(median(took_s() for _ in range(5)), 1e-9)))

    def action() -> None:
        for _ in range(count):
            chunk()

    return action


def _pair_scatter(values: list[float]) -> float:
    """sd of the differences within pairs, per window, as a share of the mean."""
    differences = [a - b for a, b in zip(values[::2], values[1::2], strict=False)]
    return stdev(differences) / hypot(1.0, 1.0) / fmean(values)
