"""A meter of the user's own: a stream of (time, watts) from a file, a pipe or a web server.

``read`` does not wait for samples that are still on their way: it shows the sum up to the newest
one that has come, so that to its readers the stream is a counter that steps. Such a step is as old
as the meter and the delivery make it; `MeterInfo.lag_s` says how old it may be, and windows begin
and end in a quiet that is longer. That is where an error of the clock offset goes::

    lag_s = 1.25 max_i(arrival_i - (stamp_i + offset)) + period + 2 s_offset + 20 ms   with stamps
    lag_s = delay + 2 (s_offset + s_arrival) + longest pause of arrivals + 20 ms       without

An edge that is misplaced by less than that lies in quiet, where power does not step, and costs no
joule. A sample that comes later than that is a loss, not an error of the sum. By default offset and
delay are found by a load pattern that is played at opening; see `profiler.meters.external.offset`.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil

from profiler.errors import MeterError, MeterReadError
from profiler.meters.base import (
    MeterInfo,
    Rail,
    Reading,
    SourceReport,
    Systematic,
    choose_rails,
)
from profiler.meters.external.follow import Arrival, Follower, Pace, pace_of
from profiler.meters.external.format import LineParser
from profiler.meters.external.load import Load, load_for, maximal_length_sequence, play
from profiler.meters.external.offset import Delay, find_delay
from profiler.meters.external.options import ExternalOptions, parse_argument
from profiler.meters.external.stream import open_feed
from profiler.meters.external.sum import StreamSum
from profiler.meters.external.timing import MOST_DRIFT, Timing, fastest_s, timing_of
from profiler.meters.forked import Opener

RAIL = Rail("external", "external")
_CHIP_PERIODS, _SHORTEST_CHIP_S, _CHIP_PHASE = 2, 0.08, 0.37
LATEST_PERIODS, LATEST_S = 10.0, 2.0
"""The longest delay that is looked for."""


class ExternalMeter:
    """A followed stream as an `EnergyMeter`. Safe to read from several threads.

    Args:
        info: of the meter.
        follower: closed with the meter.
        total: adds up what it hands over.
        synchronise: waits until the device's work is done; called before each read.
    """

    def __init__(
        self,
        info: MeterInfo,
        follower: Follower,
        total: StreamSum,
        synchronise: Callable[[], None] = lambda: None,
    ) -> None:
        self._info, self._follower, self._total = info, follower, total
        self._synchronise = synchronise
        self._lock = threading.Lock()
        self._closed = False
        self._ended: MeterError | None = None
        self._opener = Opener(info.name)
        self._came_s = time.perf_counter()
        follower.hand_over(self._receive)

    @property
    def info(self) -> MeterInfo:
        return self._info

    @property
    def duplicates(self) -> int:
        """Samples dropped since their time had been seen already."""
        return self._total.duplicates

    def read(self) -> Reading:
        """Joules up to the newest sample that has come."""
        self._opener.check()
        try:
            self._synchronise()
        except RuntimeError as error:
            raise MeterReadError(f"waiting for the GPU failed: {error}") from error
        now_s = time.perf_counter()
        with self._lock:
            total = self._total
            if self._closed:
                raise MeterReadError("the external meter is closed; open it again")
            if self._ended is not None:
                raise self._ended
            if total.failure is not None:
                failure, total.failure = total.failure, None
                raise failure
            self._check_fresh(now_s)
            return Reading(
                now_s,
                {RAIL.name: total.energy_j},
                total.losses,
                {RAIL.name: total.variance_j2},
            )

    def close(self) -> None:
        """Stop following; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._follower.close()

    def _receive(self, event: Arrival | MeterError, *, ended: bool) -> None:
        with self._lock:
            if isinstance(event, Arrival):
                self._came_s = event.time_s
                self._total.add(event.time_s, event.sample)
                return
            self._total.lose(event)
            if ended:
                self._ended = event

    def _check_fresh(self, now_s: float) -> None:
        """A stream that fell silent says nothing of the present, however long ago that was."""
        silent_s = now_s - self._came_s
        if silent_s > self._total.timing.max_silence_s:
            silence = MeterReadError(f"the stream has been silent for {silent_s:.3g} s")
            self._total.lose(silence)
            failure, self._total.failure = self._total.failure, None
            raise failure or silence


class ExternalSource:
    """Opens ``external:PLACE``; there is nothing to find without one."""

    name = "external"

    def discover(self) -> Sequence[SourceReport]:
        """Nothing: a stream is given, not found."""
        return ()

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> ExternalMeter:
        """Follow the stream named by *argument*; it covers the *device* that does the work.

        Takes the time of 12 samples, and with ``offset=auto`` that of a load pattern: about 85
        sample periods, 5 s at least.

        Raises:
            InputError: an option cannot be used, or the stream's times make no sense.
            InputFileError: there is no such file or pipe.
            FileFormatError: the stream names no power or energy.
            MeterReadError, CounterFaultError: no samples came, or impossible ones.
            MeterNotFoundError: the load pattern does not show in the stream.
        """
        options = parse_argument(argument)
        selected = choose_rails((RAIL,), rails)
        load = load_for(device) if options.offset == "auto" else None
        return open_stream(options, device, selected, load)


def open_stream(
    options: ExternalOptions, device: str, selected: tuple[str, ...], load: Load | None
) -> ExternalMeter:
    """As `ExternalSource.open`; *load* keeps the device busy, ``None`` plays no pattern."""
    follower = Follower(open_feed(options), LineParser(options))
    try:
        arrivals = follower.first(options.wait_s, options.place)
        pace = pace_of(arrivals, options.place)
        counts_energy = follower.counts_energy
        delay = None if load is None else _play_and_find(follower, pace, load)
        timing = timing_of(follower.kept(), pace, delay, options)
        info = _info(options, device, selected, timing, delay, follower)
        total = StreamSum(timing, options.max_w, options.negative, counts_energy)
        meter = ExternalMeter(info, follower, total, _synchroniser(device))
        _await_sample(total, timing.max_silence_s)
    except BaseException:
        follower.close()
        raise
    return meter


def _await_sample(total: StreamSum, wait_s: float) -> None:
    """Wait for the sample to count from; a fault meanwhile is left to the first read."""
    until_s = time.perf_counter() + wait_s
    while not (total.started or total.failure) and time.perf_counter() < until_s:
        time.sleep(1e-3)


def chip_length_s(period_s: float) -> float:
    """Seconds of one chip: at least two periods and 80 ms, and never a whole number of periods, so
    that the pattern's edges fall at every phase of the sampling."""
    return period_s * (max(ceil(_SHORTEST_CHIP_S / period_s), _CHIP_PERIODS) + _CHIP_PHASE)


def _play_and_find(follower: Follower, pace: Pace, load: Load) -> Delay:
    """Play the pattern, and look for it in what came until its latest echo."""
    chip_s = chip_length_s(pace.period_s)
    latest_s = max(LATEST_PERIODS * pace.period_s, LATEST_S)
    chips = maximal_length_sequence(random.randrange(31))
    pattern = play(chips, chip_s, load)
    time.sleep(latest_s + chip_s)
    arrivals = follower.kept()
    times_s, watts = _series(arrivals, follower.counts_energy)
    return find_delay(
        times_s,
        watts,
        pattern,
        period_s=pace.period_s,
        earliest_s=-2 * pace.period_s,
        latest_s=latest_s,
    )


def _series(arrivals: Sequence[Arrival], counts_energy: bool) -> tuple[list[float], list[float]]:
    """Times roughly by our clock, increasing, and watts."""
    rough_s = fastest_s(arrivals)
    pairs: list[tuple[float, float]] = []
    for arrival in arrivals:
        stamp_s = arrival.sample.stamp_s
        when_s = arrival.time_s if stamp_s is None else stamp_s + rough_s
        if not pairs or when_s > pairs[-1][0]:
            pairs.append((when_s, arrival.sample.value))
    if not counts_energy:
        return [when for when, _ in pairs], [value for _, value in pairs]
    spans = [(one, two) for one, two in pairwise(pairs)]
    return (
        [(one[0] + two[0]) / 2 for one, two in spans],
        [(two[1] - one[1]) / (two[0] - one[0]) for one, two in spans],
    )


def _info(
    options: ExternalOptions,
    device: str,
    selected: tuple[str, ...],
    timing: Timing,
    delay: Delay | None,
    follower: Follower,
) -> MeterInfo:
    scope = ["everything behind this meter is included, the power supply's losses too"]
    if delay is not None:
        scope.append(
            f"a load pattern at opening added {delay.step_w:.3g} W here (correlation "
            f"{delay.correlation:.2f}) and was placed within {delay.standard_error_s:.2g} s"
        )
    else:
        scope.append(
            f"how late this meter shows a load was not measured; {timing.lag_s:.2g} s are allowed "
            "for, and joules that come later than that are missed"
        )
    if not follower.stamped:
        scope.append("samples carry no time and are dated by their arrival")
    else:
        scope.append(
            "the meter's clock is followed by its fastest deliveries; a sample later than windows "
            "allow for is a loss"
        )
    systematic = []
    if follower.stamped and not follower.counts_energy:
        systematic.append(Systematic(MOST_DRIFT, "rate of the external meter's clock"))
    if options.accuracy is not None:
        systematic.append(Systematic(options.accuracy, "gain of the external meter, by its user"))
    else:
        scope.append("the external meter's accuracy was not stated (#accuracy=2%)")
    return MeterInfo(
        name="external",
        device=options.name,
        origin="measured",
        rails=(RAIL,),
        selected=selected,
        covers="gpu" if device.startswith("cuda") else "cpu",
        lag_s=timing.lag_s,
        scope=tuple(scope),
        systematic=tuple(systematic),
    )


def _synchroniser(device: str) -> Callable[[], None]:
    def synchronise() -> None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize(device)

    return synchronise if device.startswith("cuda") else lambda: None


SOURCE = ExternalSource()
