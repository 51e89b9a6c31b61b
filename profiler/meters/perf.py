"""RAPL by perf events: the processor's energy where powercap is masked but perf is allowed.

The kernel itself follows the hardware's counter and sums in 64 bits, so nothing wraps here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from profiler.errors import InputError, MeterError, MeterNotFoundError, MeterPermissionError
from profiler.host import cpu_model, cpu_vendor, virtualisation
from profiler.meters.base import MeterInfo, SourceReport, choose_rails
from profiler.meters.counted import Channel, CountedMeter, started
from profiler.meters.perf_events import EnergyEvent, PerfEvents, scan
from profiler.meters.perf_mirrors import without_mirrors
from profiler.meters.processor import elsewhere, gain, processor_counter, scope
from profiler.sysfs import sysfs_root


class PerfMeter(CountedMeter):
    """An open set of energy events. Safe to read from several threads.

    Args:
        events: every event found.
        rails: the rails to read; ``None`` takes the counted ones.
        kernel: opens and reads them.
        more_scope: further sentences for `MeterInfo.scope`.

    Raises:
        MeterPermissionError, MeterNotFoundError, MeterReadError: see `PerfEvents.open`.
    """

    def __init__(
        self,
        events: Sequence[EnergyEvent],
        rails: Sequence[str] | None = None,
        *,
        kernel: PerfEvents,
        more_scope: tuple[str, ...] = (),
    ) -> None:
        available = tuple(event.rail for event in events)
        selected = choose_rails(available, rails)
        by_name = {event.rail.name: event for event in events}
        handles: list[int] = []
        channels: list[Channel] = []
        try:
            for name in selected:
                channels.append(_channel(by_name[name], kernel, handles))
        except BaseException:
            _close(kernel, handles)
            raise
        read = [by_name[name].rail for name in selected]
        info = MeterInfo(
            name="perf",
            device=cpu_model(),
            origin="measured",
            rails=available,
            selected=selected,
            scope=(*scope(read), *more_scope),
            systematic=gain(cpu_vendor(), read),
        )
        super().__init__(info, channels, partial(_close, kernel, handles))


class PerfSource:
    """Finds and opens the energy events of the PMU ``power``.

    Args:
        library: answers as libc does; see `PerfEvents`.
    """

    name = "perf"

    def __init__(self, library: ctypes.CDLL | None = None) -> None:
        self._library = library

    def discover(self) -> Sequence[SourceReport]:
        """One report: the events found, or why there is nothing to read."""
        events: tuple[EnergyEvent, ...] = ()
        cause = remedy = None
        try:
            kernel = PerfEvents(self._library)
            events = without_mirrors(_scan(), kernel)
            PerfMeter(events, kernel=kernel).close()
        except (MeterNotFoundError, MeterPermissionError) as error:
            cause, _, remedy = str(error).partition("; ")
        except (MeterError, InputError) as error:
            cause, remedy = str(error), "use --meter rapl, or choose other rails with --rails"
        return [
            SourceReport(
                self.name,
                usable=cause is None,
                path=str(_pmu()),
                device=cpu_model() if events else None,
                rails=tuple(event.rail for event in events),
                unit=f"{events[0].unit_j:.3g} J" if events else None,
                cause=cause,
                remedy=remedy,
            )
        ]

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> PerfMeter:
        """Open the events of *rails*; see `MeterSource.open`.

        Raises:
            InputError: an argument, a device that is no CPU, or an unknown rail.
        """
        if argument:
            raise InputError(f"perf takes no argument, got {argument!r}; choose rails instead")
        if device != "cpu":
            raise InputError(f"perf does not meter {device}; use --meter nvml for a GPU")
        more_scope: tuple[str, ...] = ()
        if _pmu("power_core").is_dir():
            more_scope = ("the PMU power_core, single cores inside their package, is not read",)
        kernel = PerfEvents(self._library)
        return PerfMeter(
            without_mirrors(_scan(), kernel), rails, kernel=kernel, more_scope=more_scope
        )


SOURCE = PerfSource()


def _scan() -> tuple[EnergyEvent, ...]:
    """Every event there is.

    Raises:
        MeterNotFoundError: none.
        MeterReadError, CounterFaultError: see `scan`.
    """
    events = scan(_pmu(), sysfs_root() / "devices" / "system" / "cpu")
    if not events:
        cause, remedy = elsewhere(virtualisation()) or (
            f"{_pmu()} has no energy event: no driver is loaded",
            "sudo modprobe rapl",
        )
        raise MeterNotFoundError(f"{cause}; {remedy}")
    return events


def _pmu(name: str = "power") -> Path:
    return sysfs_root() / "bus" / "event_source" / "devices" / name


def _channel(event: EnergyEvent, kernel: PerfEvents, handles: list[int]) -> Channel:
    """The counter of *event*, started; its handle joins *handles*."""
    label = f"{event.path} on CPU {event.cpu}"
    counter = processor_counter(label, event.unit_j, event.rail.domain)
    handle = kernel.open(event)
    handles.append(handle)
    return started(event.rail.name, counter, partial(kernel.read, handle, event))


def _close(kernel: PerfEvents, handles: list[int]) -> None:
    while handles:
        kernel.close(handles.pop())
