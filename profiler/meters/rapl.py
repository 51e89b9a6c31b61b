"""RAPL: the processor's own energy counters, through the kernel's powercap tree.

Counters step about every millisecond, wrap, and since 2020 may be read by root alone. Files
are opened once and read in place, so that a read costs microseconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from profiler.errors import (
    CounterFaultError,
    InputError,
    MeterError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.host import cpu_model, cpu_vendor, virtualisation
from profiler.meters.base import MeterInfo, SourceReport, choose_rails
from profiler.meters.counted import Channel, CountedMeter, longest_read_gap_s, started
from profiler.meters.powercap import (
    DEAD,
    Zone,
    absence,
    permission_command,
    permission_remedy,
    scan,
)
from profiler.meters.processor import gain, processor_counter, scope
from profiler.sysfs import sysfs_root

_DIGITS = 20  # of 2**64
_LONGEST_TEXT = 32
_UJ = 1e-6


class RaplMeter(CountedMeter):
    """An open set of RAPL counters. Safe to read from several threads.

    The rails are fixed from opening to closing: a zone that appears later is not read, one that
    vanishes is an error of the next read.

    Args:
        zones: every zone found.
        rails: the rails to read; ``None`` takes the counted ones.
        guard_power_w: a power no rail reaches, to tell a wrap from a reset.

    Raises:
        MeterPermissionError: a counter may be read by root alone.
        MeterReadError: a counter cannot be opened.
        CounterFaultError: a counter or its range is no number.
    """

    def __init__(
        self,
        zones: Sequence[Zone],
        rails: Sequence[str] | None = None,
        *,
        guard_power_w: float | None = None,
    ) -> None:
        available = tuple(zone.rail for zone in zones)
        selected = choose_rails(available, rails)
        by_name = {zone.rail.name: zone for zone in zones}
        handles: list[int] = []
        channels: list[Channel] = []
        try:
            for name in selected:
                channels.append(_channel(by_name[name], guard_power_w, handles))
        except BaseException:
            _close(handles)
            raise
        read = [by_name[name].rail for name in selected]
        info = MeterInfo(
            name="rapl",
            device=cpu_model(),
            origin="measured",
            rails=available,
            selected=selected,
            max_read_gap_s=longest_read_gap_s(channels),
            scope=(*scope(read), *_dead(zones, selected)),
            systematic=gain(cpu_vendor(), read),
        )
        super().__init__(info, channels, partial(_close, handles))


class RaplSource:
    """Finds and opens the counters under ``class/powercap``."""

    name = "rapl"

    def discover(self) -> Sequence[SourceReport]:
        """One report: the zones found, or why there is nothing to read."""
        powercap = _powercap()
        zones = scan(powercap)
        cause = remedy = None
        if not zones:
            cause, remedy = absence(powercap, virtualisation())
        else:
            try:
                RaplMeter(zones).close()
            except MeterPermissionError as error:
                cause, remedy = str(error).partition(";")[0], permission_remedy(powercap)
            except (MeterError, InputError) as error:
                cause, remedy = str(error), _others(zones)
        return [
            SourceReport(
                self.name,
                usable=cause is None,
                path=str(powercap),
                device=cpu_model() if zones else None,
                rails=tuple(zone.rail for zone in zones),
                unit="uJ",
                cause=cause,
                remedy=remedy,
            )
        ]

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> RaplMeter:
        """Open the counters of *rails*; see `MeterSource.open`.

        Raises:
            InputError: an argument, a device that is no CPU, or an unknown rail.
        """
        if argument:
            raise InputError(f"rapl takes no argument, got {argument!r}; choose rails instead")
        if device != "cpu":
            raise InputError(f"rapl does not meter {device}; use --meter nvml for a GPU")
        powercap = _powercap()
        zones = scan(powercap)
        if not zones:
            cause, remedy = absence(powercap, virtualisation())
            raise MeterNotFoundError(f"no RAPL counter: {cause}; {remedy}")
        return RaplMeter(zones, rails)


SOURCE = RaplSource()


def _dead(zones: Sequence[Zone], selected: Sequence[str]) -> tuple[str, ...]:
    """What is outside the joules since its counter is dead."""
    return tuple(
        f"{zone.rail.name} is outside: {zone.rail.excluded_because}"
        for zone in zones
        if (zone.rail.excluded_because or "").startswith(DEAD) and zone.rail.name not in selected
    )


def _others(zones: Sequence[Zone]) -> str:
    """Which rails can be had where one of those counted cannot."""
    left = []
    for zone in zones:
        if zone.rail.counted:
            with suppress(MeterError):
                RaplMeter(zones, [zone.rail.name]).close()
                left.append(zone.rail.name)
    if not left:
        return "use another meter, or choose other rails with --rails"
    return f"leave the broken rail out: --meter rapl --rails {','.join(left)}"


def _powercap() -> Path:
    return sysfs_root() / "class" / "powercap"


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise MeterPermissionError(
            f"only root may read {path}; {permission_command(path.parent.parent)} "
            "('cwmp devices' shows a rule that lasts)"
        ) from error
    except OSError as error:
        raise MeterReadError(f"cannot open {path}: {error.strerror}; run: cwmp devices") from error


def _channel(zone: Zone, guard_power_w: float | None, handles: list[int]) -> Channel:
    """The counter of *zone*, started; its open file joins *handles*."""
    range_uj = range_of(zone)
    counter = processor_counter(
        str(zone.energy_path), _UJ, zone.rail.domain, range_uj, guard_power_w
    )
    handle = _open(zone.energy_path)
    handles.append(handle)
    return started(zone.rail.name, counter, partial(_read, handle, counter.label))


def range_of(zone: Zone) -> int:
    """The microjoules at which the counter of *zone* wraps.

    Raises:
        MeterPermissionError, MeterReadError, CounterFaultError: as `RaplMeter`.
    """
    return _read_once(zone.range_path)


def counter_of(zone: Zone) -> int:
    """The microjoules that the counter of *zone* shows, its file opened for this once.

    Raises:
        MeterPermissionError, MeterReadError, CounterFaultError: as `RaplMeter`.
    """
    return _read_once(zone.energy_path)


def _read_once(path: Path) -> int:
    handle = _open(path)
    try:
        return _read(handle, str(path))
    finally:
        os.close(handle)


def _close(handles: list[int]) -> None:
    while handles:
        os.close(handles.pop())


def _read(handle: int, path: str) -> int:
    try:
        text = os.pread(handle, _LONGEST_TEXT, 0)
    except OSError as error:
        raise MeterReadError(
            f"reading {path} failed: {error.strerror}; run: cwmp devices"
        ) from error
    digits = text.strip()
    # The kernel ends its lines: a text without a line feed was cut off.
    if not (digits.isdigit() and len(digits) <= _DIGITS and text.endswith(b"\n")):
        raise CounterFaultError(
            f"{path} holds {text!r}, not a count of microjoules and a line feed"
        )
    return int(digits)
