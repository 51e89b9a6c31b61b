"""A hardware counter unwound: joules since opening, with wraps removed and faults refused.

Two things can go wrong between two reads of a counter that wraps: it wrapped more than
once, or it was reset and only looks as if it had wrapped. Both are told from an honest wrap
by the same bound, a power that no such rail reaches. Either loses the joules between those
two reads and no others. And a counter can stop: where its rail always draws something, one value
seen for too long is no energy of 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from profiler.errors import CounterFaultError, MeterError
from profiler.meters.base import Reading

MOST_J = 1e12
"""1 kW for 30 years: a counter that does not wrap and says more is broken."""


@dataclass(slots=True)
class UnwrappedCounter:
    """Joules since ``start`` from the raw values of one cumulative counter.

    With at most one wrap between two reads, the step is ``raw - last``, plus the range where
    that is negative. A read at most T seconds after the last one is believed only if

    - T < range / guard power - slack, or a second wrap may have passed unseen, and
    - step <= guard power (T + slack), or the counter was reset.

    The modulus is the range as the kernel states it; hardware wraps one unit later, which
    loses one unit (some ten microjoules) a wrap.

    Attributes:
        label: the counter's path or name, for messages.
        unit_j: joules a raw unit.
        guard_power_w: a power this rail cannot reach.
        slack_s: how much older than the read the counter's content may be.
        range_units: the raw value at which it wraps; ``None`` for one that never does.
        stall_s: seconds after which a counter that shows one value has stopped, hundreds of its
            periods; ``None`` for a rail that may draw nothing.
        losses: how often joules were lost since ``start``.
    """

    label: str
    unit_j: float
    guard_power_w: float
    slack_s: float
    range_units: int | None = None
    stall_s: float | None = None
    losses: int = field(default=0, init=False)
    _total_units: int = field(default=0, init=False)
    _last_units: int = field(default=0, init=False)
    _last_before_s: float = field(default=0.0, init=False)
    _still_since_s: float = field(default=0.0, init=False)

    @property
    def max_read_gap_s(self) -> float | None:
        """The longest time between reads that rules out a second wrap."""
        if self.range_units is None:
            return None
        return self.range_units * self.unit_j / self.guard_power_w - self.slack_s

    def start(self, raw: int, before_s: float, after_s: float | None = None) -> None:
        """Count from here. The counter was read between *before_s* and *after_s*.

        Raises:
            CounterFaultError: the value lies outside the range, or the range is too small for
                any read to be in time.
        """
        gap_s = self.max_read_gap_s
        if gap_s is not None and gap_s <= 0:
            raise CounterFaultError(
                f"{self.label} wraps after {self.range_units} units, too soon to be followed"
            )
        self._check_range(raw)
        self._total_units, self.losses = 0, 0
        self._last_units, self._last_before_s = raw, before_s
        self._still_since_s = before_s if after_s is None else after_s

    def advance(self, raw: int, before_s: float, after_s: float) -> float:
        """Joules since ``start``. The counter was read between *before_s* and *after_s*.

        A value out of range is not believed and changes nothing. One that comes too late or
        after a reset has lost the joules since the last one: it raises, `losses` grows, and
        counting goes on from here. One that stands still raises until it moves.

        Raises:
            CounterFaultError: out of range, reset, not read in time, or stopped.
        """
        self._check_range(raw)
        step = None
        try:
            step = self._step(raw, after_s - self._last_before_s)
        except CounterFaultError:
            self.losses += 1
            raise
        finally:
            if step != 0:
                self._still_since_s = after_s
            self._last_units, self._last_before_s = raw, before_s
        if step == 0:
            self._check_moves(before_s - self._still_since_s)
        self._total_units += step
        return self._total_units * self.unit_j

    def _step(self, raw: int, elapsed_s: float) -> int:
        """Units counted since the last value, at most *elapsed_s* ago."""
        gap_s = self.max_read_gap_s
        if gap_s is not None and elapsed_s >= gap_s:
            raise CounterFaultError(
                f"{self.label} was not read for {elapsed_s:.3g} s and may have wrapped twice; "
                f"read it at least every {gap_s:.3g} s (meter_window does)"
            )
        step = raw - self._last_units
        if step < 0:
            if self.range_units is None:
                raise CounterFaultError(
                    f"{self.label} went back from {self._last_units} to {raw}: it was reset; "
                    "repeat the measurement"
                )
            step += self.range_units
        if step * self.unit_j > self.guard_power_w * (elapsed_s + self.slack_s):
            raise CounterFaultError(
                f"{self.label} went from {self._last_units} to {raw} in {elapsed_s:.3g} s, more "
                f"than {self.guard_power_w:g} W: it was reset or is broken; repeat the measurement"
            )
        return step

    def _check_moves(self, still_s: float) -> None:
        if self.stall_s is not None and still_s > self.stall_s:
            self.losses += 1
            raise CounterFaultError(
                f"{self.label} stands still at {self._last_units} for {still_s:.3g} s: it stopped "
                "or is not supported here; leave its rail out with --rails"
            )

    def _check_range(self, raw: int) -> None:
        if raw < 0 or (self.range_units is not None and raw > self.range_units):
            raise CounterFaultError(
                f"{self.label} says {raw}, outside its range of 0 to {self.range_units}"
            )
        if self.range_units is None and raw * self.unit_j > MOST_J:
            raise CounterFaultError(f"{self.label} says {raw}, more than it can have counted")


def read_counters(
    channels: Iterable[tuple[str, UnwrappedCounter, Callable[[], int]]],
) -> Reading:
    """Read each (rail, counter, its raw value) in turn; the time is the middle of them all.

    Every counter is read even where one fails, so that a pause too long for all of them costs
    one reading and not one a counter.

    Raises:
        MeterReadError, CounterFaultError: the first failure.
    """
    clock = time.perf_counter
    energy_j: dict[str, float] = {}
    losses, failure = 0, None
    started_s = after_s = clock()
    for rail, counter, read_raw in channels:
        try:
            before_s = clock()
            raw = read_raw()
            after_s = clock()
            energy_j[rail] = counter.advance(raw, before_s, after_s)
        except MeterError as error:
            failure = failure or error
        losses += counter.losses
    if failure is not None:
        raise failure
    return Reading((started_s + after_s) / 2, energy_j, losses)
