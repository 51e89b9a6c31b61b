"""Joules of a program's own parts: windows by name, as often as they come, summed up at the end.

with EnergyMonitor("auto") as monitor:
    for batch in batches:
        with monitor.window("step"):
            train(batch)
    print(monitor.table())

A window is two reads of the counter and takes nothing else of the block's time: what a stepping
counter misses at unaligned edges is worked out and bounded (`profiler.windows.edges`).
``quiet=True`` sleeps a few steps before and after a window instead, as `meter_window` does, which
needs no steady power and resolves windows of any length.
"""

from __future__ import annotations

import inspect
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from profiler.errors import InputError
from profiler.meters import find_meter
from profiler.meters.base import EnergyMeter, MeterInfo
from profiler.probe import ProbeResult
from profiler.probe import probe as probe_meter
from profiler.window import rest_seconds_short, rested_s
from profiler.windows.edge_reader import Begun, EdgeReader
from profiler.windows.occurrences import Accounts, Occurrence, rest_of, rest_unknown
from profiler.windows.summary import WindowSummary, summarise

_P = ParamSpec("_P")
_T = TypeVar("_T")
EXCEPTION, STILL_OPEN = "ended by an exception", "still open when the monitor was closed"


class MonitoredWindow:
    """One occurrence of a window; see `EnergyMonitor.window`."""

    def __init__(self, monitor: EnergyMonitor, name: str, begun: Begun) -> None:
        self.name = name
        self.dropped_because: str | None = None
        self._monitor, self._begun = monitor, begun
        self._occurrence: Occurrence | None = None

    @property
    def result(self) -> WindowSummary:
        """What this occurrence cost, by itself.

        Raises:
            InputError: it is still open, or was dropped; the message says why.
        """
        if self._occurrence is None:
            why = (
                f"it was dropped: {self.dropped_because}" if self.dropped_because else "it is open"
            )
            raise InputError(f"window {self.name!r} has no result: {why}")
        return self._monitor._summary(self.name, [self._occurrence], {})


class EnergyMonitor:
    """A meter that is read where windows begin and end. Safe to use from several threads.

    A reading that fails at an edge, a counter that lost joules, a host that slept and a block that
    raises each drop that occurrence and are counted (`WindowSummary.dropped`); the program goes on.
    Windows that overlap, in one thread or in several, each count all that the device spends.

    Args:
        meter: as ``--meter`` takes it, or an open meter, which is then left open.
        device: the torch device that does the work, ``cpu`` or ``cuda:0``.
        rails: the rails to add up instead of the counted ones.
        quiet: sleep around windows; each window may say otherwise. A window that lies inside
            another never sleeps: its sleep would be in the other's joules.
        above_rest: also give joules above rest, at the power seen while the meter was probed or
            in the last `rest`.
        probe: of this meter; by default it is probed now, for a second.
        sleep: waits so many seconds.
        draw: a number from 0 to 1: the part of a step by which a quiet is lengthened.

    Raises:
        MeterError, InputError: as `find_meter` and `probe`.
    """

    def __init__(
        self,
        meter: str | EnergyMeter = "auto",
        *,
        device: str = "cpu",
        rails: Sequence[str] | None = None,
        quiet: bool = False,
        above_rest: bool = False,
        probe: ProbeResult | None = None,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not isinstance(meter, str) and (rails is not None or device != "cpu"):
            raise InputError("device and rails choose a meter; an open one has them already")
        self._own = isinstance(meter, str)
        self._meter = (
            find_meter(meter, device=device, rails=rails) if isinstance(meter, str) else meter
        )
        self._quiet, self._above_rest = quiet, above_rest
        self._lock = threading.Lock()
        self._named: dict[str, MonitoredWindow | None] = {}
        self._occurrences: dict[str, list[Occurrence]] = {}
        self._dropped: dict[str, Counter[str]] = {}
        self._closed = False
        try:
            self.probe = probe or probe_meter(self._meter)
            power_w = {rail: self.probe.rail(rail).idle_power_w for rail in self.info.selected}
            rest_s = rested_s(self.probe)
            rest = rest_of(self.probe, power_w, rest_s)
            if needed_s := rest_seconds_short(self.info, self.probe, rest_s):
                rest = rest_unknown(self.info, needed_s)
            self._reader = EdgeReader(self._meter, self.probe, sleep, draw)
            self._accounts = Accounts(self._reader.log, self.info, self.probe, rest)
        except BaseException:
            if self._own:
                self._meter.close()
            raise

    @property
    def info(self) -> MeterInfo:
        """Of the meter."""
        return self._meter.info

    def __enter__(self) -> EnergyMonitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop metering; summaries stay. Windows that are still open are dropped."""
        if self._closed:
            return
        self._closed = True
        self._reader.close()
        with self._lock:
            still_open = [window for window in self._named.values() if window]
            self._named.clear()
        for window in still_open:
            self._drop(window, STILL_OPEN)
        if self._own:
            self._meter.close()

    @contextmanager
    def window(self, name: str, *, quiet: bool | None = None) -> Iterator[MonitoredWindow]:
        """Meter the block under ``with``, once more under *name*.

        Args:
            name: occurrences of one name are summed up together.
            quiet: other than the monitor's.

        Raises:
            InputError: the monitor is closed, or belongs to another process (after a fork); or
                the power at rest is needed, for quiet or for joules above rest, and the counter is
                too slow for the probe to have seen it: `rest` tells it.
        """
        window = self._begin(name, quiet)
        try:
            yield window
        except BaseException:
            self._reader.leave()
            self._drop(window, EXCEPTION)
            raise
        self._end(window)

    def begin(self, name: str, *, quiet: bool | None = None) -> None:
        """Begin a window that `end` ends, for windows that overlap without nesting.

        Raises:
            InputError: as `window`; or a window *name* is open.
        """
        with self._lock:
            if name in self._named:
                raise InputError(f"window {name!r} is open already; end it, or use window()")
            self._named[name] = None
        try:
            window = self._begin(name, quiet)
        except BaseException:
            del self._named[name]
            raise
        self._named[name] = window

    def end(self, name: str) -> MonitoredWindow:
        """End the window *name* that `begin` began, in any thread.

        Raises:
            InputError: none is open.
        """
        self._reader.check_usable()
        with self._lock:
            window = self._named.pop(name, None)
        if window is None:
            raise InputError(f"no window {name!r} is open; begin it first")
        self._end(window)
        return window

    @overload
    def measured(self, name: Callable[_P, _T]) -> Callable[_P, _T]: ...

    @overload
    def measured(
        self, name: str | None = None, *, quiet: bool | None = None
    ) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]: ...

    def measured(self, name: Any = None, *, quiet: bool | None = None) -> Any:
        """A decorator: each call is a window, named as said or as the function is.

        An ``async`` function's window lasts until it returns, and holds what other tasks did in
        the meantime.

        Raises:
            InputError: a generator, whose body does not run in the call.
        """
        if callable(name):
            return self._wrapped(name, name.__qualname__, quiet)
        return lambda function: self._wrapped(function, name or function.__qualname__, quiet)

    def rest(self, seconds: float = 1.0) -> None:
        """Sleep, and take the power of that time for the power at rest from now on.

        Raises:
            InputError: seconds that are not positive or too few for the counter's steps, a closed
                monitor, or an open window.
            MeterReadError, CounterFaultError: a read failed.
        """
        self._reader.check_usable()
        if not 0 < seconds < float("inf") or self._reader.open_windows:
            raise InputError(f"cannot rest for {seconds} s, or while a window is open")
        if needed_s := rest_seconds_short(self.info, self.probe, seconds):
            raise InputError(
                f"{self.info.name} steps too slowly for a rest of {seconds:g} s to tell its power; "
                f"rest for {math.ceil(needed_s):d} s"
            )
        start, end = self._reader.rest(seconds)
        log = self._reader.log
        took_s = log.seconds(start, end)
        power_w = {rail: log.shown_j(rail, start, end) / took_s for rail in log.rails}
        self._accounts.rest = rest_of(self.probe, power_w, took_s)

    def summaries(self) -> tuple[WindowSummary, ...]:
        """One a name, in the order in which they first ended."""
        self._reader.look_again()
        with self._lock:
            names = list(dict.fromkeys((*self._occurrences, *self._dropped)))
            kept = {name: list(self._occurrences.get(name, ())) for name in names}
            dropped = {name: dict(self._dropped.get(name, {})) for name in names}
        return tuple(self._summary(name, kept[name], dropped[name]) for name in names)

    def summary(self, name: str) -> WindowSummary:
        """Of the window *name*.

        Raises:
            InputError: no window of that name has ended.
        """
        for found in self.summaries():
            if found.name == name:
                return found
        raise InputError(f"no window {name!r} has ended")

    def table(self) -> str:
        """Every window as a line of text, its rails below it, and what the numbers leave out."""
        from profiler.windows.table import as_table

        return as_table(self.summaries(), self.info)

    def as_document(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dicts, with the schema's name and version."""
        from profiler.windows.table import as_document

        return as_document(self.summaries(), self.info, self.probe)

    def save(self, path: Path | str) -> None:
        """Write `as_document` to a new file, whole or not at all.

        Raises:
            OutputExistsError: the file exists.
            OutputError: it cannot be written.
        """
        from profiler.windows.table import save

        save(Path(path), self.as_document())

    def _summary(
        self, name: str, occurrences: Sequence[Occurrence], dropped: dict[str, int]
    ) -> WindowSummary:
        return summarise(name, occurrences, dropped, self._accounts, above_rest=self._above_rest)

    def _begin(self, name: str, quiet: bool | None) -> MonitoredWindow:
        quiet = self._quiet if quiet is None else quiet
        if (quiet or self._above_rest) and self._accounts.rest.unknown:
            raise InputError(f"window {name!r} cannot begin: {self._accounts.rest.unknown}")
        begun = self._reader.begin(quiet)
        return MonitoredWindow(self, name, begun)

    def _end(self, window: MonitoredWindow) -> None:
        ended = self._reader.end(window._begun)
        if isinstance(ended, str):
            self._drop(window, ended)
            return
        window._occurrence = ended
        with self._lock:
            self._occurrences.setdefault(window.name, []).append(ended)

    def _drop(self, window: MonitoredWindow, cause: str) -> None:
        window.dropped_because = cause
        with self._lock:
            self._dropped.setdefault(window.name, Counter())[cause] += 1

    def _wrapped(self, function: Callable[_P, Any], name: str, quiet: bool | None) -> Any:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InputError(
                f"{name} is a generator: its body runs after the call; put a window inside it"
            )
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                with self.window(name, quiet=quiet):
                    return await function(*args, **kwargs)

            return awaited

        @wraps(function)
        def called(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            with self.window(name, quiet=quiet):
                return function(*args, **kwargs)

        return called
