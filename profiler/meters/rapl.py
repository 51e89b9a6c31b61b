"""RAPL: the processor's own energy counters, through the kernel's powercap tree.

Counters step about every millisecond, wrap, and since 2020 may be read by root alone. Files
are opened once and read in place, so that a read costs microseconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
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
from profiler.host import cpu_model, virtualisation
from profiler.meters.base import MeterInfo, Reading, SourceReport, choose_rails
from profiler.meters.counter import UnwrappedCounter, read_counters
from profiler.meters.powercap import (
    Zone,
    absence,
    permission_command,
    permission_remedy,
    scan,
)
from profiler.sysfs import sysfs_root

GUARD_POWER_W = 1000.0
"""More than one package or its memory draws: the largest are sold at 500 W."""
PSYS_GUARD_POWER_W = 10_000.0
"""More than one whole machine draws."""
SLACK_S = 0.1
"""A counter's content is at most this old; the slowest known steps every 3 ms."""
_DIGITS = 20  # of 2**64
_UJ = 1e-6


class RaplMeter:
    """An open set of RAPL counters. Safe to read from several threads.

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
        self._lock = threading.Lock()
        self._channels: list[tuple[str, int, UnwrappedCounter]] = []
        self._closed = False
        try:
            for zone in zones:
                if zone.rail.name in selected:
                    self._open(zone, guard_power_w)
        except BaseException:
            self.close()
            raise
        gaps = [counter.max_read_gap_s for _, _, counter in self._channels]
        self._info = MeterInfo(
            name="rapl",
            device=cpu_model(),
            origin="measured",
            rails=available,
            selected=selected,
            max_read_gap_s=min(gap for gap in gaps if gap is not None),
        )

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """Joules since opening, at the middle of the time that reading took."""
        with self._lock:
            if self._closed:
                raise MeterReadError("the rapl meter is closed; open it again")
            return read_counters(
                (rail, counter, partial(_read, handle, counter.label))
                for rail, handle, counter in self._channels
            )

    def close(self) -> None:
        """Close the counters; a second call does nothing."""
        with self._lock:
            self._closed = True
            channels, self._channels = self._channels, []
            for _, handle, _ in channels:
                os.close(handle)

    def _open(self, zone: Zone, guard_power_w: float | None) -> None:
        default_w = PSYS_GUARD_POWER_W if zone.rail.domain == "psys" else GUARD_POWER_W
        range_handle = _open(zone.range_path)
        try:
            range_uj = _read(range_handle, str(zone.range_path))
        finally:
            os.close(range_handle)
        handle = _open(zone.energy_path)
        counter = UnwrappedCounter(
            str(zone.energy_path), _UJ, guard_power_w or default_w, SLACK_S, range_uj
        )
        self._channels.append((zone.rail.name, handle, counter))
        before_s = time.perf_counter()
        counter.start(_read(handle, counter.label), before_s)


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
                cause, remedy = str(error), "choose other rails with --rails"
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


def _powercap() -> Path:
    return sysfs_root() / "class" / "powercap"


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise MeterPermissionError(
            f"only root may read {path}; {permission_command(path.parent.parent)} "
            "('cwmp devices' shows a rule that lasts)"
        ) from error
    except OSError as error:
        raise MeterReadError(f"cannot open {path}: {error.strerror}; run: cwmp devices") from error


def _read(handle: int, path: str) -> int:
    try:
        text = os.pread(handle, _DIGITS + 2, 0).strip()
    except OSError as error:
        raise MeterReadError(f"reading {path} failed: {error.strerror}") from error
    if not text.isdigit() or len(text) > _DIGITS:
        raise CounterFaultError(f"{path} holds {text!r}, not a count of microjoules")
    return int(text)
