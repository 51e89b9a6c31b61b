"""A counter whose steps jitter, on power that is known, in time that is told."""

from __future__ import annotations

import numpy as np

from profiler.meters.base import MeterInfo, Rail, Reading, Systematic
from profiler.probe import ProbeResult, probe


class JitteredDevice:
    """An energy counter as an `EnergyMeter`.

    It shows the energy at its last step; steps follow each other after *period_s* times a uniform
    number in 1 +- *jitter*. Power is piecewise constant.
    """

    def __init__(
        self,
        rest_w: float,
        period_s: float,
        generator: np.random.Generator,
        jitter: float = 0.4,
        *,
        systematic: tuple[Systematic, ...] = (),
        lag_s: float = 0.0,
    ) -> None:
        self.now_s, self.rest_w, self.period_s, self.jitter = 0.0, rest_w, period_s, jitter
        self.generator = generator
        self._read_since = False
        self.times_s, self.joules = [0.0], [0.0]
        self.shown_s = -period_s * generator.uniform()
        self.next_s = self._after(0.0)
        self.info = MeterInfo(
            "jittered",
            "simulated device",
            "assumed",
            (Rail("cpu", "cpu"),),
            ("cpu",),
            systematic=systematic,
            lag_s=lag_s,
        )
        self.spend(20 * period_s, rest_w)

    def spend(self, seconds: float, power_w: float) -> None:
        """Let *seconds* pass at *power_w*."""
        self.now_s += seconds
        self.times_s.append(self.now_s)
        self.joules.append(self.joules[-1] + power_w * seconds)
        if self.next_s > self.now_s:
            return
        left = int((self.now_s - self.next_s) / (self.period_s * (1 - self.jitter))) + 2
        steps_s = self.period_s * self.generator.uniform(1 - self.jitter, 1 + self.jitter, left)
        moments_s = self.next_s + np.concatenate(([0.0], np.cumsum(steps_s)))
        passed = int(np.searchsorted(moments_s, self.now_s, side="right"))
        self.shown_s, self.next_s = float(moments_s[passed - 1]), float(moments_s[passed])

    def sleep(self, seconds: float) -> None:
        self.spend(seconds, self.rest_w)

    def read(self) -> Reading:
        self._read_since = True
        shown_j = float(np.interp(self.shown_s, self.times_s[-40:], self.joules[-40:]))
        return Reading(self.now_s, {"cpu": shown_j})

    def close(self) -> None: ...

    def clock(self) -> float:
        """The time of the next step, once the last was read: to one who reads without a pause,
        nothing happens in between.
        """
        if self._read_since:
            self._read_since = False
            self.sleep(self.next_s - self.now_s)
        return self.now_s

    def probed(self) -> ProbeResult:
        """What a probe of a second finds."""
        return probe(self, max_time_s=1.0, clock=self.clock, sleep=self.sleep)

    def _after(self, moment_s: float) -> float:
        return moment_s + self.period_s * self.generator.uniform()
