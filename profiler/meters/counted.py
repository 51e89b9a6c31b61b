"""An energy meter over hardware counters that are read one after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from profiler.errors import MeterReadError
from profiler.meters.base import MeterInfo, Reading
from profiler.meters.counter import UnwrappedCounter, read_counters

Channel = tuple[str, UnwrappedCounter, Callable[[], int]]
"""A rail, its counter, and what reads the counter's raw value."""


class CountedMeter:
    """Counters as an `EnergyMeter`. Safe to read from several threads.

    Args:
        info: of the meter; ``info.selected`` names the channels' rails.
        channels: the rails read, their counters started.
        release: lets go of the hardware; called once, by ``close``.
        before_read: called before each read: waits until the device's work is done.
    """

    def __init__(
        self,
        info: MeterInfo,
        channels: Sequence[Channel],
        release: Callable[[], None],
        *,
        before_read: Callable[[], None] | None = None,
    ) -> None:
        self._info, self._channels = info, tuple(channels)
        self._release, self._before_read = release, before_read
        self._lock = threading.Lock()
        self._closed = False

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """Joules since opening, at the middle of the time that reading took."""
        with self._lock:
            if self._closed:
                raise MeterReadError(f"the {self._info.name} meter is closed; open it again")
            if self._before_read is not None:
                self._before_read()
            return read_counters(self._channels)

    def close(self) -> None:
        """Let go of the counters; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._release()


def started(rail: str, counter: UnwrappedCounter, read_raw: Callable[[], int]) -> Channel:
    """A channel whose *counter* counts from now.

    Raises:
        MeterReadError: the counter did not answer.
        CounterFaultError: it answered with something impossible.
    """
    before_s = time.perf_counter()
    raw = read_raw()
    counter.start(raw, before_s, time.perf_counter())
    return rail, counter, read_raw


def longest_read_gap_s(channels: Sequence[Channel]) -> float | None:
    """`MeterInfo.max_read_gap_s` of these channels together."""
    gaps_s = [counter.max_read_gap_s for _, counter, _ in channels]
    return min((gap_s for gap_s in gaps_s if gap_s is not None), default=None)
