"""A thread that follows a stream from opening to closing, and what the first samples tell of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, pstdev
from typing import Protocol

from profiler.errors import FileFormatError, InputError, MeterError, MeterReadError
from profiler.meters.external.format import LineParser, Sample
from profiler.meters.external.stream import Feed

FIRST_SAMPLES, FIRST_S = 12, 0.4
_POLL_S = 0.05
_CLOSING_S = 2.0
_RATES = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A sample and when it came, by ``time.perf_counter``."""

    time_s: float
    sample: Sample


class Receiver(Protocol):
    """Takes a sample, or why there is none; *ended*: and none will come."""

    def __call__(self, event: Arrival | MeterError, *, ended: bool) -> None: ...


class Follower:
    """Polls a feed by a thread, from now until `close`.

    What comes is kept for `first`, until a `hand_over` to a receiver, which the thread calls.
    """

    def __init__(self, feed: Feed, parser: LineParser) -> None:
        self.parser = parser
        self._feed = feed
        self._lock = threading.Lock()
        self._kept: list[Arrival] = []
        self._failure: MeterError | FileFormatError | None = None
        self._receiver: Receiver | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cwmp-external", daemon=True)
        self._thread.start()

    @property
    def counts_energy(self) -> bool:
        """Whether samples are joules, not watts."""
        return self.parser.layout is not None and self.parser.layout.counts_energy

    @property
    def stamped(self) -> bool:
        """Whether samples carry a time."""
        return self.parser.layout is not None and self.parser.layout.time is not None

    def kept(self) -> list[Arrival]:
        """What has come so far.

        Raises:
            MeterError, FileFormatError: the stream failed.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            return list(self._kept)

    def first(self, wait_s: float, place: str) -> list[Arrival]:
        """At least 12 samples of different times, that came over at least 0.4 s.

        Raises:
            MeterReadError: they did not come within *wait_s*; or as `kept`.
        """
        until_s = time.perf_counter() + wait_s
        while True:
            kept = self.kept()
            different = len(_distinct_stamps(kept)) or len(kept)
            if different >= FIRST_SAMPLES and kept[-1].time_s - kept[0].time_s >= FIRST_S:
                return kept
            if time.perf_counter() > until_s:
                raise MeterReadError(
                    f"{place} sent {different} samples in {wait_s:g} s; {FIRST_SAMPLES} are needed "
                    "to know its period; start the meter's program, have it flush each line, or "
                    "wait longer: #wait=60s"
                )
            time.sleep(_POLL_S / 5)

    def hand_over(self, receiver: Receiver) -> None:
        """From now on *receiver* gets what comes."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._receiver = receiver
            self._kept.clear()

    def close(self) -> None:
        """Stop and let go of the feed."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSING_S)
        self._feed.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                lines = self._feed.poll(_POLL_S)
            except MeterError as error:
                self._deliver(error)
                if self._feed.ended:
                    return
                self._stop.wait(_POLL_S)
                continue
            arrival_s = time.perf_counter()
            for line in lines:
                self._take(arrival_s, line)

    def _take(self, arrival_s: float, line: bytes) -> None:
        try:
            sample = self.parser.parse(line)
        except (MeterError, FileFormatError) as error:
            self._deliver(error)
            return
        if sample is not None:
            self._deliver(Arrival(arrival_s, sample))

    def _deliver(self, event: Arrival | MeterError | FileFormatError) -> None:
        with self._lock:
            if self._receiver is not None and not isinstance(event, FileFormatError):
                self._receiver(event, ended=self._feed.ended)
            elif isinstance(event, Arrival):
                self._kept.append(event)
            else:
                self._failure = self._failure or event


@dataclass(frozen=True, slots=True)
class Pace:
    """How samples come.

    Attributes:
        period_s: median time between samples, by the stream's clock where it has one.
        jitter_s: standard deviation of one arrival about an even pace.
        longest_pause_s: between two arrivals.
    """

    period_s: float
    jitter_s: float
    longest_pause_s: float


def pace_of(arrivals: Sequence[Arrival], place: str) -> Pace:
    """The pace of the first samples.

    Raises:
        InputError: samples come together and carry no time, times do not increase, or the
            stream's clock runs at another rate than ours, as it does where its unit is wrong.
    """
    came_s = [arrival.time_s for arrival in arrivals]
    pauses_s = [later - earlier for earlier, later in pairwise(came_s)]
    stamps_s = _distinct_stamps(arrivals)
    if not stamps_s:
        if min(pauses_s) <= 0:
            raise InputError(
                f"{place}: several samples come at once and carry no time; add a column time_s, or "
                "have each line flushed"
            )
        return Pace(median(pauses_s), pstdev(pauses_s) / 2**0.5, max(pauses_s))
    steps_s = [later - earlier for earlier, later in pairwise(stamps_s)]
    if not steps_s or min(steps_s) < 0:
        raise InputError(f"{place}: its times do not increase; is #time= the right column?")
    span_s, ours_s = stamps_s[-1] - stamps_s[0], came_s[-1] - came_s[0]
    slack_s = 2 * max(pauses_s) + 2 * max(steps_s)
    low, high = _RATES
    if not low * ours_s - slack_s <= span_s <= high * ours_s + slack_s:
        raise InputError(
            f"{place}: its clock went on by {span_s:.3g} s in {ours_s:.3g} s; state the unit of "
            "its times, as in #time_unit=ms"
        )
    return Pace(median(steps_s), 0.0, max(pauses_s))


def _distinct_stamps(arrivals: Sequence[Arrival]) -> list[float]:
    stamps_s: list[float] = []
    for arrival in arrivals:
        stamp_s = arrival.sample.stamp_s
        if stamp_s is not None and (not stamps_s or stamp_s != stamps_s[-1]):
            stamps_s.append(stamp_s)
    return stamps_s
