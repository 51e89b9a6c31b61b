"""Reads a meter at the edges of windows, one thread at a time, and keeps what it read."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from profiler.conditions import suspended_s
from profiler.errors import CounterFaultError, InputError, MeterError
from profiler.meters.base import EnergyMeter, first_reading
from profiler.probe import ProbeResult
from profiler.window import gauge_of
from profiler.windows.alive import KeptAlive
from profiler.windows.edge_log import EdgeLog
from profiler.windows.occurrences import Occurrence

SUSPENDED, LOST, BACKWARDS = "the host slept", "joules were lost", "the counter ran backwards"
_ASLEEP_S = 0.5  # a busy host can stop this thread for long between the two clocks it reads


@dataclass(frozen=True, slots=True)
class Begun:
    """A window that has begun: its row, and the state to compare its end with.

    Attributes:
        failed: why its first edge could not be read.
    """

    start: int = -1
    quiet: bool = False
    quiet_before: bool = False
    failures: int = 0
    suspended_s: float = 0.0
    failed: str | None = None


class EdgeReader:
    """An open meter, the log of what it showed, and the quiet around edges.

    Args:
        meter: an open meter; `close` leaves it open.
        probe: of it.
        sleep: waits so many seconds.
        draw: a number from 0 to 1.

    Raises:
        MeterReadError, CounterFaultError: the first reading failed.
    """

    def __init__(
        self,
        meter: EnergyMeter,
        probe: ProbeResult,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        gauge = gauge_of(meter, probe)
        self._tail_s, self._step_s = gauge.tail_s, gauge.period_s or 0.0
        self._meter, self._sleep, self._draw = meter, sleep, draw
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        self._latest_end_s = float("-inf")
        self.open_windows = 0
        self.log = EdgeLog(meter.info.selected)
        self.log.append(first_reading(meter))
        self._kept_alive = KeptAlive(meter)
        self._kept_alive.__enter__()

    def begin(self, quiet: bool) -> Begun:
        """The first edge; a reading that fails is told, not raised."""
        self.check_usable()
        with self._lock:
            alone = self.open_windows == 0
            self.open_windows += 1
        quiet_now = quiet and alone and self._tail_s > 0
        try:
            if quiet_now:
                self._fall_quiet()
            asleep_s = suspended_s()
            row = self.read(first=True)
        except MeterError as error:
            return Begun(failed=str(error))
        except BaseException:
            self.leave()
            raise
        return Begun(row, quiet, quiet_now, self._kept_alive.failures, asleep_s)

    def end(self, begun: Begun) -> Occurrence | str:
        """The second edge, and the quiet after it; or why the window does not count."""
        try:
            if begun.failed is not None:
                return begun.failed
            try:
                done = end = self.read()
                if begun.quiet and self._tail_s > 0 and self.open_windows == 1:
                    self._fall_quiet()
                    end = self.read()
            except MeterError as error:
                return str(error)
            return self._fault(begun, end) or Occurrence(begun.start, done, end, begun.quiet_before)
        finally:
            self.leave()

    def leave(self) -> None:
        """One window fewer is open."""
        with self._lock:
            self.open_windows -= 1

    def rest(self, seconds: float) -> tuple[int, int]:
        """The rows around a sleep that begins in quiet.

        Raises:
            MeterReadError, CounterFaultError: a read failed, or joules were lost.
        """
        self._fall_quiet()
        start = self.read(first=True)
        self._sleep(seconds)
        end = self.read()
        if self.log.lost(start, end):
            raise CounterFaultError("the counter lost joules while resting; rest again")
        return start, end

    def read(self, *, first: bool = False) -> int:
        """Take a reading, and its row.

        Raises:
            MeterReadError, CounterFaultError: it failed; a *first* one is tried twice.
        """
        with self._lock:
            reading = first_reading(self._meter) if first else self._meter.read()
            row = self.log.append(reading)
            if not first:
                self._latest_end_s = reading.time_s
        return row

    def look_again(self, *, wait: bool = False) -> None:
        """One more reading where it can tell what the last window spent at most.

        Args:
            wait: until the counter has shown it.
        """
        if self._closed or os.getpid() != self._process or self._tail_s == 0:
            return
        with self._lock:
            behind = self.log.times_s[-1] <= self._latest_end_s
        if not behind:
            return
        if wait:
            self._sleep(self._tail_s)
        try:
            self.read(first=True)
        except MeterError:
            return

    def close(self) -> None:
        """Read no more; in a forked child, let go only."""
        if not self._closed and os.getpid() == self._process:
            self.look_again(wait=True)
            self._kept_alive.__exit__()
        self._closed = True

    def check_usable(self) -> None:
        """Refuse a closed meter, and one that another process opened.

        Raises:
            InputError: either.
        """
        if self._closed:
            raise InputError("the monitor is closed; open another")
        if os.getpid() != self._process:
            raise InputError("this monitor was opened before a fork; open one in each process")

    def _fall_quiet(self) -> None:
        if self._tail_s > 0:
            self._sleep(self._tail_s + self._draw() * self._step_s)

    def _fault(self, begun: Begun, end: int) -> str | None:
        if suspended_s() - begun.suspended_s > _ASLEEP_S:
            return SUSPENDED
        if self.log.lost(begun.start, end) or self._kept_alive.failures != begun.failures:
            return LOST
        if any(self.log.shown_j(rail, begun.start, end) < 0 for rail in self.log.rails):
            return BACKWARDS
        return None
