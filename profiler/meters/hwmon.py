"""Any sensor that the kernel knows: chips under ``class/hwmon`` that count joules or show watts.

Microjoules of ``energy*_input`` are counted; ``power*_input``, ``power*_average`` and, for the
INA2xx monitors, ``curr*_input`` x ``in*_input`` are sampled and summed (see `sampled`). Which
rails make up this device is declared in `hwmon_chips`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from profiler.errors import (
    InputError,
    MeterError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.host import cpu_model
from profiler.meters.base import MeterInfo, Reading, SourceReport, Systematic, choose_rails
from profiler.meters.counted import Channel, started
from profiler.meters.counter import UnwrappedCounter, read_counters
from profiler.meters.hwmon_chips import (
    BOARD_MONITORS,
    CPU_DOMAINS,
    CPU_POWERS,
    SOCKET_COUNTERS,
    ChipRail,
    scan,
)
from profiler.meters.sampled import SampledMeter
from profiler.meters.sysfs_files import GUARD_POWER_W, FilesSensor, board_model, read_number
from profiler.sysfs import sysfs_root

DEFAULT_PERIOD_S, SHORTEST_PERIOD_S = 0.010, 0.005
SLACK_S = 0.1
"""A counter's content is at most this much older than its chip's own interval."""
STALL_S = 2.0
"""A processor's counter steps every millisecond; one that shows a value for so long has stopped."""
_NAMED = 6


class HwmonMeter:
    """An open set of hwmon rails, counters and powers. Safe to read from several threads.

    Args:
        found: every rail found.
        rails: the rails to read; ``None`` takes the counted ones.
        clock: seconds, for the samples of powers.
        background: sample powers by a thread; without it the owner calls ``sampled.sample``.

    Attributes:
        sampled: sums up the rails that show watts; ``None`` where all count joules.

    Raises:
        InputError: an unknown rail, or none.
        MeterPermissionError, MeterReadError, CounterFaultError: a first read failed.
    """

    def __init__(
        self,
        found: Sequence[ChipRail],
        rails: Sequence[str] | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        background: bool = True,
    ) -> None:
        available = tuple(each.rail for each in found)
        selected = choose_rails(available, rails)
        chosen = [each for each in found if each.rail.name in selected]
        self._lock, self._closed = threading.Lock(), False
        self._channels = [_channel(each, each.energy) for each in chosen if each.energy is not None]
        powers = {each.rail.name: each.power for each in chosen if each.power is not None}
        intervals_s = [each.refresh_s for each in chosen if each.refresh_s and each.power]
        self._info = MeterInfo(
            name="hwmon",
            device=_device(chosen),
            origin="measured",
            rails=available,
            selected=selected,
            covers="gpu" if all(each.rail.domain == "gpu" for each in chosen) else "cpu",
            lag_s=max((each.refresh_s or 0.0) + each.average_s for each in chosen),
            scope=_scope(chosen),
            systematic=_systematic(chosen),
        )
        self.sampled = None
        if powers:
            period_s = max([SHORTEST_PERIOD_S, *(intervals_s or [DEFAULT_PERIOD_S])])
            info = replace(self._info, selected=tuple(powers))
            self.sampled = SampledMeter(
                info, FilesSensor(powers), period_s, clock=clock, background=background
            )

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """Joules since opening; of rails that show watts, up to the last sample."""
        with self._lock:
            if self._closed:
                raise MeterReadError("the hwmon meter is closed; open it again")
            readings = []
            if self._channels:
                readings.append(read_counters(self._channels))
            if self.sampled is not None:
                readings.append(self.sampled.read())
        energy_j = {name: joules for each in readings for name, joules in each.energy_j.items()}
        variance_j2 = {name: var for each in readings for name, var in each.variance_j2.items()}
        return Reading(
            readings[0].time_s,
            {name: energy_j[name] for name in self._info.selected},
            sum(each.losses for each in readings),
            variance_j2,
        )

    def close(self) -> None:
        """Stop sampling; a second call does nothing."""
        with self._lock:
            self._closed = True
        if self.sampled is not None:
            self.sampled.close()


class HwmonSource:
    """Finds and opens the chips under ``class/hwmon``."""

    name = "hwmon"

    def discover(self) -> Sequence[SourceReport]:
        """One report: the rails found, or why there is nothing to read."""
        hwmon = _hwmon()
        found = scan(hwmon)
        cause = remedy = None
        if not found:
            cause, remedy = _absence(hwmon)
        elif not any(each.rail.counted for each in found):
            cause, remedy = _undecided(found)
        else:
            try:
                HwmonMeter(found, background=False).close()
            except MeterPermissionError as error:
                cause, _, remedy = str(error).partition("; ")
            except MeterError as error:
                cause, remedy = str(error), "choose other rails with --rails"
        return [
            SourceReport(
                self.name,
                usable=cause is None,
                path=str(hwmon),
                device=_device([each for each in found if each.rail.counted]) if found else None,
                rails=tuple(each.rail for each in found),
                unit="uJ" if any(e.energy for e in found if e.rail.counted) else "uW, sampled",
                cause=cause,
                remedy=remedy,
            )
        ]

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> HwmonMeter:
        """Open *rails*, or those that are known to be this device; see `MeterSource.open`.

        Raises:
            InputError: an argument, an unknown rail, a device that is no CPU, or rails that must
                be chosen because nothing says which of them are this device.
        """
        if argument:
            raise InputError(f"hwmon takes no argument, got {argument!r}; choose rails instead")
        if device != "cpu":
            raise InputError(f"hwmon does not meter {device}; use --meter nvml or amd for a GPU")
        hwmon = _hwmon()
        found = scan(hwmon)
        if not found:
            raise MeterNotFoundError(f"no hwmon sensor: {'; '.join(_absence(hwmon))}")
        if rails is None and not any(each.rail.counted for each in found):
            raise InputError("hwmon: " + "; ".join(_undecided(found)))
        return HwmonMeter(found, rails)


SOURCE = HwmonSource()


def _hwmon() -> Path:
    return sysfs_root() / "class" / "hwmon"


def _channel(each: ChipRail, path: Path) -> Channel:
    """A counter begun at its present state.

    No range: the kernel does not state where these counters wrap (64 bits for amd_energy, 40 of
    an unknown unit for INA238); a wrap is refused as a reset.
    """
    stall_s = STALL_S if each.rail.domain == "package" else None
    slack_s = SLACK_S + (each.refresh_s or 0.0)
    counter = UnwrappedCounter(str(path), 1e-6, GUARD_POWER_W, slack_s, stall_s=stall_s)
    return started(each.rail.name, counter, partial(read_number, path))


def _device(chosen: Sequence[ChipRail]) -> str:
    if chosen and all(each.rail.domain in CPU_DOMAINS for each in chosen):
        return cpu_model()
    board = board_model()
    chips = " + ".join(dict.fromkeys(each.chip for each in chosen)) or "hwmon"
    return f"{board}, {chips}" if board else chips


def _scope(chosen: Sequence[ChipRail]) -> tuple[str, ...]:
    sentences = []
    chips = {each.chip for each in chosen}
    if chips & set(SOCKET_COUNTERS):
        sentences.append("the sockets' joules are AMD's own; memory and the board are outside")
    if chips & set(CPU_POWERS):
        sentences.append(
            "core and SoC power as the voltage regulator reports it; its scale was found by "
            "experiment and no accuracy is published; memory and the board are outside"
        )
    if any(BOARD_MONITORS.match(chip) for chip in chips):
        sentences.append("what lies behind the monitor's shunt on this board, and nothing else")
    if any(each.power is not None and each.refresh_s is None for each in chosen):
        sentences.append(
            "power is sampled, and how often the chip renews it is unknown: where that is less "
            "often, the interval is too narrow for power that moves"
        )
    return tuple(sentences)


def _systematic(chosen: Sequence[ChipRail]) -> tuple[Systematic, ...]:
    """The terms of the chip for which they add up to most; none if one chip's are unknown."""
    if not all(each.systematic for each in chosen):
        return ()
    return max((each.systematic for each in chosen), key=_share)


def _share(terms: Sequence[Systematic]) -> float:
    return sum(term.relative for term in terms)


def _undecided(found: Sequence[ChipRail]) -> tuple[str, str]:
    names = [each.rail.name for each in found]
    listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    reasons = dict.fromkeys(each.rail.excluded_because for each in found)
    because = next(iter(reasons)) if len(reasons) == 1 else "nothing says which are this device"
    return (
        f"none of the {len(found)} rails counts by itself ({because})",
        f"choose with --rails from {listed}",
    )


def _absence(hwmon: Path) -> tuple[str, str]:
    if not hwmon.is_dir():
        return "the kernel shows no sensor chip", "use another meter"
    return (
        f"no chip under {hwmon} shows energy or power",
        "load the driver of the board's monitor (ina2xx, ina238) or processor (amd_energy)",
    )
