"""A hardware counter unwound: joules since opening, with wraps removed and faults refused.

Two things can go wrong between two reads of a counter that wraps: it wrapped more than
once, or it was reset and only looks as if it had wrapped. Both are told from an honest wrap
by the same bound, a power that no such rail reaches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from profiler.errors import CounterFaultError


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
    """

    label: str
    unit_j: float
    guard_power_w: float
    slack_s: float
    range_units: int | None = None
    _total_units: int = field(default=0, init=False)
    _last_units: int = field(default=0, init=False)
    _last_before_s: float = field(default=0.0, init=False)

    @property
    def max_read_gap_s(self) -> float | None:
        """The longest time between reads that rules out a second wrap."""
        if self.range_units is None:
            return None
        return self.range_units * self.unit_j / self.guard_power_w - self.slack_s

    def start(self, raw: int, before_s: float) -> None:
        """Count from here. *before_s* is the clock before the counter was read.

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
        self._total_units, self._last_units, self._last_before_s = 0, raw, before_s

    def advance(self, raw: int, before_s: float, after_s: float) -> float:
        """Joules since ``start``. The counter was read between *before_s* and *after_s*.

        A fault leaves the state as it was, so a counter that was reset goes on failing until
        its meter is opened again: its lost joules are never silently skipped.

        Raises:
            CounterFaultError: out of range, reset, or not read in time.
        """
        self._check_range(raw)
        elapsed_s = after_s - self._last_before_s
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
                    "open the meter again and repeat the measurement"
                )
            step += self.range_units
        if step * self.unit_j > self.guard_power_w * (elapsed_s + self.slack_s):
            raise CounterFaultError(
                f"{self.label} went from {self._last_units} to {raw} in {elapsed_s:.3g} s, more "
                f"than {self.guard_power_w:g} W: it was reset or is broken; open the meter again "
                "and repeat the measurement"
            )
        self._total_units += step
        self._last_units, self._last_before_s = raw, before_s
        return self._total_units * self.unit_j

    def _check_range(self, raw: int) -> None:
        if raw < 0 or (self.range_units is not None and raw > self.range_units):
            raise CounterFaultError(
                f"{self.label} says {raw}, outside its range of 0 to {self.range_units}"
            )
