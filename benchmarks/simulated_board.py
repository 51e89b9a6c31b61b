"""A board whose every joule is known: power that wanders, a counter that steps, time that is told.

Power is what rests (with a warm-up drift), what the operation adds, AR(1) noise, and the load of
somebody else that comes and goes. The counter shows the sum at its last tick; ticks jitter. Nothing
waits: sleeping and working move the clock, so that an hour of measuring takes seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, floor, inf

import numpy as np

from profiler.conditions import Conditions
from profiler.design import block_seed
from profiler.gauge import Gauge
from profiler.meters.base import MeterInfo, Rail, Reading
from profiler.probe import ProbeResult, probe
from profiler.workloads import Cell

SLOW_S = 1.0
_CHUNK = 16384
Layer = tuple[str, float, float] | tuple[str, float, float, float]
_INFO = MeterInfo("simulated", "simulated board", "assumed", (Rail("cpu", "cpu"),), ("cpu",))


@dataclass(frozen=True)
class BoardProfile:
    """What a board draws and how its counter behaves.

    Attributes:
        period_s, jitter: mean time between ticks, and the standard deviation of its logarithm; a
            read takes a fiftieth of it.
        quantum_j: the counter's unit.
        idle_w, work_w: power at rest, and what work adds to it.
        drift, drift_s: at its start a session draws a share *drift* more at rest, which fades with
            a time constant of *drift_s*.
        noise_w, noise_s: standard deviation and correlation time of AR(1) noise in power.
        load_w, load_on_s, load_off_s: another process's power, and how long it works and rests on
            average; its mean belongs to the power at rest.
        throttle_on_s, throttle_off_s: mean length of throttled and free stretches; throttled work
            takes half as long again at seven tenths of its power.
        call_scatter: relative standard deviation of a window's length.
    """

    period_s: float
    jitter: float = 0.02
    quantum_j: float = 1e-6
    idle_w: float = 20.0
    work_w: float = 25.0
    drift: float = 0.0
    drift_s: float = 5.0
    noise_w: float = 0.0
    noise_s: float = 0.0
    load_w: float = 0.0
    load_on_s: float = 0.05
    load_off_s: float = 0.5
    throttle_on_s: float = 0.0
    throttle_off_s: float = 3.0
    call_scatter: float = 0.01


class Board:
    """A meter, a clock, a sleep and an observer in one; see `profiler.gauge.Gauge`."""

    info = _INFO

    def __init__(self, profile: BoardProfile, seed: int) -> None:
        self.profile = profile
        self.now_s = 0.0
        self._random = np.random.default_rng(seed)
        self._ends_s, self._added_j = [0.0], [0.0]
        self._noise = _Noise(profile, np.random.default_rng([seed, 1]))
        self._ticks = _Ticks(profile, np.random.default_rng([seed, 2]))
        self._throttle = _Telegraph(
            profile.throttle_on_s, profile.throttle_off_s, np.random.default_rng([seed, 3])
        )

    def clock(self) -> float:
        """The time on this board."""
        return self.now_s

    def read(self) -> Reading:
        """The sum at the last tick, in whole quanta."""
        self.now_s += self.profile.period_s / 50
        shown_s = self._ticks.last(self.now_s)
        joules = self._exact_j(shown_s) + self._noise.joules(shown_s)
        quantum_j = self.profile.quantum_j
        return Reading(self.now_s, {"cpu": floor(joules / quantum_j) * quantum_j})

    def close(self) -> None: ...

    def sleep(self, seconds: float) -> None:
        """Rest, and oversleep a little as real hosts do."""
        self.now_s += seconds + float(self._random.exponential(60e-6))

    def work(self, seconds: float, scatter: float | None = None) -> None:
        """Work for about so long; *scatter* replaces the board's own."""
        profile, share = self.profile, 1.0
        scatter = profile.call_scatter if scatter is None else scatter
        seconds *= 1 + scatter * float(self._random.standard_normal())
        seconds = max(seconds, 0.0)
        if self._throttle.on(self.now_s):
            seconds, share = 1.5 * seconds, 0.7
        if self._ends_s[-1] < self.now_s:
            self._ends_s.append(self.now_s)
            self._added_j.append(self._added_j[-1])
        self.now_s += seconds
        self._ends_s.append(self.now_s)
        self._added_j.append(self._added_j[-1] + share * profile.work_w * seconds)

    def observe(self) -> Conditions:
        """Clock, temperature and throttle count."""
        throttled = self._throttle.on(self.now_s)
        return Conditions(
            frequency_hz=2e9 if throttled else 3e9,
            temperature_c=60.0,
            throttled=self._throttle.changes(self.now_s),
        )

    def rest_w(self, at_s: float) -> float:
        """Power at rest, the mean of the other load included."""
        p = self.profile
        return p.idle_w * (1 + p.drift * exp(-at_s / p.drift_s)) + _mean_load_w(p)

    def mean_noise_w(self) -> float:
        """What noise as slow as a session came to so far, in mean power; faster noise is noise."""
        if self.profile.noise_s < SLOW_S:
            return 0.0
        return self._noise.joules(self.now_s) / self.now_s

    def _exact_j(self, at_s: float) -> float:
        """Joules up to *at_s*, without noise."""
        p = self.profile
        warm_j = p.idle_w * p.drift * p.drift_s * (1 - exp(-at_s / p.drift_s))
        rest_j = (p.idle_w + _mean_load_w(p)) * at_s + warm_j
        place = bisect_right(self._ends_s, at_s)
        if place == len(self._ends_s):
            return rest_j + self._added_j[-1]
        start_s, end_s = self._ends_s[place - 1], self._ends_s[place]
        share = (at_s - start_s) / (end_s - start_s)
        first_j, second_j = self._added_j[place - 1], self._added_j[place]
        return rest_j + first_j + share * (second_j - first_j)


def probed(board: Board, most_s: float = inf) -> tuple[Gauge, ProbeResult]:
    """A gauge on *board*, with what its probe of 60 periods, or *most_s*, found."""
    most_s = min(most_s, 60 * board.profile.period_s)
    found = probe(board, max_time_s=most_s, clock=board.clock, sleep=board.sleep)
    gauge = Gauge(
        board,
        found.period_s,
        found.period_p99_s,
        found.quantum_j,
        board.sleep,
        board,
        found.edge_period_s,
    )
    return gauge, found


class KnownLine:
    """An operation whose calls take t0 + t1 k seconds beyond their loop, on one or more layers.

    Args:
        layers: name, t0, t1, and where it is not the board's the relative scatter of a window.

    Attributes:
        exact: seed of a block -> seconds a call takes beyond its loop, and its power, noise apart.
    """

    name = "update"
    implementation = "seconds of known power"

    def __init__(self, board: Board, layers: Sequence[Layer], counts: Sequence[int]) -> None:
        self.board, self.counts = board, counts
        self.layers = {name: (t0_s, t1_s, *rest) for name, t0_s, t1_s, *rest in layers}
        self.exact: dict[int, tuple[float, float]] = {}

    def cells(self) -> tuple[Cell, ...]:
        """One a layer and k."""
        return tuple(
            Cell("update", layer, "known", (100_000,), "float32", 100_000, k, "random")
            for layer in self.layers
            for k in self.counts
        )

    def prepare(self, cell: Cell, seed: int) -> _Calls:
        """The calls of one block."""
        t0_s, t1_s, *scatter = self.layers[cell.layer]
        return _Calls(self, seed, t0_s + t1_s * cell.k, *scatter)

    def truth(self, session_seed: int, block: int) -> float:
        """What a call of that block truly cost, at the session's mean power at rest."""
        call_s, power_w = self.exact[block_seed(session_seed, block)]
        return call_s * (power_w + self.board.mean_noise_w())


class _Calls:
    """Calls of *call_s* beyond a loop that takes a twentieth of that."""

    def __init__(
        self, operation: KnownLine, seed: int, call_s: float, scatter: float | None = None
    ) -> None:
        self._operation, self._seed, self._call_s = operation, seed, call_s
        self._scatter = scatter

    def run(self, repetitions: int) -> None:
        board = self._operation.board
        begin_s = board.now_s
        board.work(1.05 * self._call_s * repetitions, self._scatter)
        middle_s = (begin_s + board.now_s) / 2
        power_w = board.rest_w(middle_s) + board.profile.work_w
        self._operation.exact[self._seed] = self._call_s, power_w

    def reference(self, repetitions: int) -> None:
        self._operation.board.work(0.05 * self._call_s * repetitions)

    def close(self) -> None: ...


class _Noise:
    """Joules of the zero-mean part of power, on a grid of half a period."""

    def __init__(self, profile: BoardProfile, random: np.random.Generator) -> None:
        self._profile, self._random = profile, random
        self._step_s = min(profile.period_s, 0.05) / 2
        self._sum_j = np.zeros(1)
        self._last_w = profile.noise_w * float(random.standard_normal())
        self._load = _Telegraph(
            profile.load_on_s if profile.load_w else 0.0, profile.load_off_s, random
        )

    def joules(self, at_s: float) -> float:
        p = self._profile
        if not (p.noise_w or p.load_w):
            return 0.0
        place = at_s / self._step_s
        while place >= self._sum_j.size - 1:
            self._extend()
        low = int(place)
        first, second = self._sum_j[low], self._sum_j[low + 1]
        return float(first + (place - low) * (second - first))

    def _extend(self) -> None:
        from scipy.signal import lfilter

        p, step_s = self._profile, self._step_s
        power_w = np.zeros(_CHUNK)
        if p.noise_w:
            keep = exp(-step_s / p.noise_s)
            shocks = p.noise_w * (1 - keep**2) ** 0.5 * self._random.standard_normal(_CHUNK)
            power_w, _ = lfilter([1.0], [1.0, -keep], shocks, zi=[keep * self._last_w])
            self._last_w = float(power_w[-1])
        if p.load_w:
            begin_s = (self._sum_j.size - 1) * step_s
            on = self._load.at(begin_s + step_s * (np.arange(_CHUNK) + 0.5))
            power_w = power_w + p.load_w * on - _mean_load_w(p)
        more = self._sum_j[-1] + np.cumsum(power_w) * step_s
        self._sum_j = np.concatenate([self._sum_j, more])


class _Ticks:
    """Times at which the counter moves."""

    def __init__(self, profile: BoardProfile, random: np.random.Generator) -> None:
        self._profile, self._random = profile, random
        self._times_s = np.array([-profile.period_s * float(random.uniform())])

    def last(self, at_s: float) -> float:
        """The last tick at or before *at_s*; the start where there is none yet."""
        p = self._profile
        while self._times_s[-1] <= at_s:
            steps = self._random.lognormal(-(p.jitter**2) / 2, p.jitter, _CHUNK) * p.period_s
            self._times_s = np.concatenate([self._times_s, self._times_s[-1] + np.cumsum(steps)])
        place = int(np.searchsorted(self._times_s, at_s, side="right")) - 1
        return max(float(self._times_s[place]), 0.0)


class _Telegraph:
    """On and off for exponential lengths; never on where *on_s* is 0."""

    def __init__(self, on_s: float, off_s: float, random: np.random.Generator) -> None:
        self._on_s, self._off_s, self._random = on_s, off_s, random
        self._changes_s = np.array([float(random.exponential(off_s))])

    def on(self, at_s: float) -> bool:
        return bool(self.at(np.array([at_s]))[0])

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """Whether it is on at each of *times_s*."""
        if not self._on_s:
            return np.zeros(times_s.shape, dtype=bool)
        self._extend(float(times_s.max()))
        return np.searchsorted(self._changes_s, times_s, side="right") % 2 == 1

    def changes(self, at_s: float) -> int:
        """How often it has gone on or off: hosts count the one, and the time at the other."""
        if not self._on_s:
            return 0
        self._extend(at_s)
        return int(np.searchsorted(self._changes_s, at_s, side="right"))

    def _extend(self, to_s: float) -> None:
        while self._changes_s[-1] <= to_s:
            pairs = self._random.exponential([[self._on_s, self._off_s]], (64, 2)).ravel()
            self._changes_s = np.concatenate(
                [self._changes_s, self._changes_s[-1] + np.cumsum(pairs)]
            )


def _mean_load_w(profile: BoardProfile) -> float:
    whole_s = profile.load_on_s + profile.load_off_s
    return profile.load_w * profile.load_on_s / whole_s if profile.load_w else 0.0
