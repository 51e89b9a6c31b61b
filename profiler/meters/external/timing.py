"""Two clocks: how a stream's times relate to ours, and how they drift apart.

A crystal is off by some 50 millionths, half a second in three hours. The smallest age of samples in
each stretch is followed, the fastest delivery being taken to need the same time always; it may
drift by 500 millionths. What leaves that is no drift, and the samples are late or early.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from profiler.errors import InputError
from profiler.meters.external.follow import Arrival, Pace
from profiler.meters.external.offset import Delay
from profiler.meters.external.options import ExternalOptions
from profiler.meters.sampled import LONGEST_GAP_PERIODS, SHORTEST_GAP_S

_AGE_MARGIN = 1.25
_LATE_THREAD_S = 0.02
"""By so much the thread that follows the stream may be late in a busy process."""
MOST_DRIFT = 500e-6
"""A clock's rate may be off by so much; more is a fault."""
_STRETCH_S, _STRETCH_PERIODS = 10.0, 30.0


@dataclass(frozen=True, slots=True)
class Timing:
    """How the times of a stream relate to ``time.perf_counter``.

    Attributes:
        period_s: between samples.
        offset_s: added to a stamp; 0 where samples have none and are timed as they arrive.
        lag_s: the oldest that a sample may be when it arrives, and still be in a window's quiet.
        arrival_error_s: standard error of an arrival as the sample's time; 0 with stamps.
        longest_pause_s: between two arrivals.
        fastest_s: the smallest age of a sample when it came, at opening.
    """

    period_s: float
    offset_s: float
    lag_s: float
    arrival_error_s: float
    longest_pause_s: float
    fastest_s: float = 0.0

    @property
    def max_gap_s(self) -> float:
        """The longest interval between two samples that is added up."""
        return max(LONGEST_GAP_PERIODS * self.period_s, SHORTEST_GAP_S)

    @property
    def max_silence_s(self) -> float:
        """The longest time without an arrival."""
        return max(self.max_gap_s, 3 * self.longest_pause_s)


class AgeWatch:
    """The age of each sample when it came, by clocks that may drift."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._drift_s = 0.0
        self._length_s = max(_STRETCH_S, _STRETCH_PERIODS * timing.period_s)
        self._begun_s: float | None = None
        self._smallest_s = float("inf")

    def age_s(self, arrival_s: float, stamp_s: float) -> float:
        """Seconds from when a sample was taken to its arrival."""
        raw_s = arrival_s - stamp_s - self._timing.offset_s
        if self._begun_s is None:
            self._begun_s = arrival_s
        self._smallest_s = min(self._smallest_s, raw_s)
        if (elapsed_s := arrival_s - self._begun_s) >= self._length_s:
            step_s = self._smallest_s - self._timing.fastest_s - self._drift_s
            most_s = MOST_DRIFT * elapsed_s
            self._drift_s += min(max(step_s, -most_s), most_s)
            self._begun_s, self._smallest_s = arrival_s, float("inf")
        return raw_s - self._drift_s


def timing_of(
    arrivals: Sequence[Arrival], pace: Pace, delay: Delay | None, options: ExternalOptions
) -> Timing:
    """The timing of a stream, from its first samples and the delay that a pattern found.

    See the formulas at the top of `profiler.meters.external.meter`.

    Raises:
        InputError: with the offset that was stated, samples would come before they were taken.
    """
    delay_s = delay.seconds if delay else 0.0
    error_s = delay.standard_error_s if delay else 0.0
    lag_s = options.lag_s + _LATE_THREAD_S
    stamped = arrivals[-1].sample.stamp_s is not None
    if not stamped:
        # The answer to a poll is as old as the meter's own update, which it does not tell.
        jitter_s = max(pace.jitter_s, pace.period_s / 2 if options.is_url else 0.0)
        lag_s += max(delay_s, 0.0) + 2 * (error_s + jitter_s) + pace.longest_pause_s
        return Timing(pace.period_s, 0.0, lag_s, jitter_s, pace.longest_pause_s)
    offset_s = fastest_s(arrivals) - delay_s
    if isinstance(options.offset, float):
        offset_s = options.offset + time.perf_counter() - time.time()
    ages_s = [each.time_s - (each.sample.stamp_s or 0.0) - offset_s for each in arrivals]
    if min(ages_s) < -pace.period_s - 2 * error_s:
        raise InputError(
            f"external: by this clock samples come {-min(ages_s):.3g} s before they were taken; "
            "correct #offset=, or leave it out"
        )
    lag_s += _AGE_MARGIN * max(*ages_s, 0.0) + pace.period_s + 2 * error_s
    return Timing(pace.period_s, offset_s, lag_s, 0.0, pace.longest_pause_s, min(ages_s))


def fastest_s(arrivals: Sequence[Arrival]) -> float:
    """The offset at which the fastest delivery took no time; 0 without stamps."""
    return min(
        (
            arrival.time_s - arrival.sample.stamp_s
            for arrival in arrivals
            if arrival.sample.stamp_s is not None
        ),
        default=0.0,
    )
