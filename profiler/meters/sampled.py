"""Joules from watts: a power sensor, read over and over by a thread, summed up.

Between two samples p_i and p_(i+1), h seconds apart, the trapezoid counts (p_i + p_(i+1)) h / 2.
Where the power did not drift but jumped, at a moment nobody saw, that is off by a share of the
jump that is uniform between -1/2 and 1/2, a variance of::

    (p_(i+1) - p_i)^2 h^2 / 12

which is added up beside the joules (`Reading.variance_j2`) and ends in each window's standard
error. To its readers such a meter is a counter that steps at each sample: ``read`` shows the sum up
to the last one, so probing finds the sampling period, and windows begin and end in quiet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Protocol

from profiler.errors import CounterFaultError, InputError, MeterError, MeterReadError
from profiler.meters.base import MeterInfo, Reading

LONGEST_GAP_PERIODS, SHORTEST_GAP_S = 10.0, 0.5


class PowerSensor(Protocol):
    """A source of watts."""

    def watts(self) -> Mapping[str, float]:
        """The power of every selected rail now.

        Raises:
            MeterReadError: the sensor did not answer.
            CounterFaultError: it answered with something impossible.
        """
        ...

    def close(self) -> None: ...


class SampledMeter:
    """A `PowerSensor` as an `EnergyMeter`. Safe to read from several threads.

    A sample that fails, and a pause longer than `max_gap_s` between two (the host slept, or the
    thread starved), lose the joules in between: the next ``read`` raises, as does every one while
    the sensor stays silent, `Reading.losses` grows, once more when it speaks again, and counting
    goes on.

    Args:
        info: of the meter; ``info.selected`` names what ``watts`` returns.
        sensor: closed with the meter.
        period_s: seconds between samples, the sensor's own update interval where that is known.
        clock: seconds.
        background: sample by a thread; without it the owner calls `sample`.

    Raises:
        InputError: a period that is not positive.
        MeterReadError, CounterFaultError: the first sample failed; the sensor is closed then.
    """

    def __init__(
        self,
        info: MeterInfo,
        sensor: PowerSensor,
        period_s: float,
        *,
        clock: Callable[[], float] = time.perf_counter,
        background: bool = True,
    ) -> None:
        if not (isfinite(period_s) and period_s > 0):
            raise InputError(f"a sensor is sampled every so many seconds, not every {period_s}")
        self.period_s = period_s
        self.max_gap_s = max(LONGEST_GAP_PERIODS * period_s, SHORTEST_GAP_S)
        self._info, self._sensor, self._clock = info, sensor, clock
        self._lock = threading.Lock()
        self._energy_j = dict.fromkeys(info.selected, 0.0)
        self._variance_j2 = dict.fromkeys(info.selected, 0.0)
        self._last: tuple[float, Mapping[str, float]] | None = None
        self._losses = 0
        self._failure: MeterError | None = None
        self._closed = False
        self._stop = threading.Event()
        try:
            self._last = self._take()
        except BaseException:
            sensor.close()
            raise
        self._sampled_s = self._last[0]
        self._thread = threading.Thread(target=self._run, name=f"cwmp-{info.name}", daemon=True)
        if background:
            self._thread.start()

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """Joules up to the last sample."""
        now_s = self._clock()
        with self._lock:
            if self._closed:
                raise MeterReadError(f"the {self._info.name} meter is closed; open it again")
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            self._check_fresh(now_s)
            return Reading(now_s, dict(self._energy_j), self._losses, dict(self._variance_j2))

    def sample(self) -> None:
        """Take one sample and add up; a failure is kept for the next ``read``."""
        try:
            taken = self._take()
        except MeterError as error:
            with self._lock:
                self._lose(error)
            return
        with self._lock:
            self._add(*taken)

    def close(self) -> None:
        """Stop sampling and let go of the sensor; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sensor.close()

    def _run(self) -> None:
        due_s = self._clock() + self.period_s
        while not self._stop.wait(max(due_s - self._clock(), 0.0)):
            self.sample()
            due_s = max(due_s + self.period_s, self._clock())

    def _take(self) -> tuple[float, Mapping[str, float]]:
        before_s = self._clock()
        watts = self._sensor.watts()
        after_s = self._clock()
        for rail in self._info.selected:
            if not isfinite(watts[rail]):
                raise CounterFaultError(f"{self._info.name} reads {watts[rail]} W on {rail}")
        return (before_s + after_s) / 2, watts

    def _add(self, now_s: float, watts: Mapping[str, float]) -> None:
        if self._last is None:
            self._losses += 1  # what flowed since the failure is lost to windows begun meanwhile
        else:
            last_s, last = self._last
            length_s = now_s - last_s
            if length_s > self.max_gap_s:
                self._lose(self._late(length_s))
            else:
                for rail in self._info.selected:
                    step_w = watts[rail] - last[rail]
                    self._energy_j[rail] += (last[rail] + step_w / 2) * length_s
                    self._variance_j2[rail] += (step_w * length_s) ** 2 / 12
        self._last = (now_s, watts)
        self._sampled_s = now_s

    def _check_fresh(self, now_s: float) -> None:
        """A sum that stopped growing is no energy: the thread starved or the sensor hangs."""
        silent_s = now_s - self._sampled_s
        if silent_s > self.max_gap_s:
            if self._last is not None:
                self._last = None
                self._losses += 1
            raise self._late(silent_s)

    def _lose(self, cause: MeterError) -> None:
        self._failure, self._last = self._failure or cause, None
        self._losses += 1

    def _late(self, length_s: float) -> MeterReadError:
        return MeterReadError(
            f"{self._info.name} was not sampled for {length_s:.3g} s, over {self.max_gap_s:.3g} s: "
            "the host slept or was too busy; repeat the measurement"
        )
