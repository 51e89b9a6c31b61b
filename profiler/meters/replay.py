"""A recording of counters, played back against the clock.

As in a counter, a value holds until the next one. A recording ends, and is never repeated.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

from profiler.errors import InputError, MeterReadError
from profiler.meters.base import MeterInfo, Reading, SourceReport, choose_rails
from profiler.meters.recording import Recording, load_recording


class ReplayMeter:
    """A recording played from its beginning, which is the moment of opening.

    Args:
        recording: what to play.
        rails: the rails to read; ``None`` takes the counted ones.
        clock: seconds; the recording's time passes as this clock does.
    """

    def __init__(
        self,
        recording: Recording,
        rails: Sequence[str] | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._recording = recording
        self._clock = clock
        self._closed = False
        self._info = MeterInfo(
            name="replay",
            device=recording.device,
            origin=recording.origin,
            rails=recording.rails,
            selected=choose_rails(recording.rails, rails),
            assumptions=recording.assumptions,
            covers=recording.covers,
            lag_s=recording.lag_s,
            scope=recording.scope,
            systematic=recording.systematic,
        )
        self._start_s = clock()

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """The recorded joules at this time since opening.

        Raises:
            MeterReadError: the meter is closed, or the recording is over.
        """
        if self._closed:
            raise MeterReadError("the replay meter is closed; open it again")
        recording, now_s = self._recording, self._clock()
        first_s, last_s = recording.times_s[0], recording.times_s[-1]
        recorded_s = first_s + (now_s - self._start_s)
        if recorded_s > last_s:
            raise MeterReadError(
                f"the recording is over: it lasts {last_s - first_s:.3g} s; record a longer one"
            )
        row = bisect_right(recording.times_s, recorded_s) - 1
        energy_j = {
            rail: recording.energy_j[rail][row] - recording.energy_j[rail][0]
            for rail in self._info.selected
        }
        return Reading(now_s, energy_j)

    def close(self) -> None:
        """Nothing to let go of; later reads are refused all the same."""
        self._closed = True


class ReplaySource:
    """Opens ``replay:FILE``; there is nothing to find without a file."""

    name = "replay"

    def discover(self) -> Sequence[SourceReport]:
        """Nothing: a recording is given, not found."""
        return ()

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> ReplayMeter:
        """Open the recording named by *argument*, whatever *device* does the work.

        Raises:
            InputError: no file is named.
            InputFileError: the file cannot be read.
            FileFormatError: it is no recording.
        """
        if not argument:
            raise InputError("replay needs a recording, as in --meter replay:FILE")
        return ReplayMeter(load_recording(Path(argument)), rails)


SOURCE = ReplaySource()
