"""Anything that runs empty: what its batteries lose, while they alone feed the machine.

``energy_now`` (uWh), or ``charge_now`` (uAh) x ``voltage_now``, falls as joules are spent, in
steps of tens of joules every 10 to 60 s. Where a battery shows its power alone, that is sampled.
A charger that is connected makes the figure meaningless, so its presence is watched for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from profiler.errors import (
    CounterFaultError,
    InputError,
    MeterError,
    MeterNotFoundError,
    MeterReadError,
)
from profiler.meters.base import EnergyMeter, MeterInfo, Rail, Reading, SourceReport, choose_rails
from profiler.meters.counted import Channel, started
from profiler.meters.counter import UnwrappedCounter, read_counters
from profiler.meters.forked import Opener
from profiler.meters.power_supply import (
    UNPLUG,
    Battery,
    DischargeSensor,
    SpentEnergy,
    batteries,
    check_unplugged,
    fed_from_outside,
)
from profiler.meters.sampled import SampledMeter
from profiler.meters.sysfs_files import board_model
from profiler.sysfs import sysfs_root

POLL_S = 1.0
GUARD_POWER_W = 300.0
"""More than a machine draws from its batteries."""
SLACK_S = 90.0
"""How old a gauge's figure may be; the slowest known ones are updated once a minute."""
STALL_S = 900.0
"""A gauge that shows one value for so long has stopped."""
STEP_S = 60.0
"""The longest that a gauge takes to step."""
LAG_S = 4.0
"""How old a gauge's newest figure may be, assumed: drivers keep it for 1 s, gauges average."""
SCOPE = (
    "everything the batteries feed is in these joules: display, radios and drives too",
    "a gauge steps by tens of joules every 10 to 60 s: measure for many minutes",
    "no accuracy is published for a fuel gauge; where it shows charge, joules are that times the "
    "voltage at the terminals",
)
HELD = (
    "power is sampled each second, and how often the gauge renews it is unknown: where that is "
    "less, the interval is too narrow for power that moves"
)


class BatteryMeter:
    """Batteries whose charge falls. Safe to read from several threads.

    A thread looks at them every second, so that a charger plugged in and out again between two
    reads is noticed: the next ``read`` raises, and `Reading.losses` grows.

    Args:
        found: the machine's batteries.
        supplies: ``class/power_supply``.
        rails: the batteries to read; ``None`` takes all.
        background: look by a thread; without it the owner calls ``poll``.
    """

    def __init__(
        self,
        found: Sequence[Battery],
        supplies: Path,
        rails: Sequence[str] | None = None,
        *,
        background: bool = True,
    ) -> None:
        self._info = _info(found, rails)
        self._opener = Opener(self._info.name)
        self._all, self._supplies = tuple(found), supplies
        self._lock, self._closed = threading.Lock(), False
        self._losses = 0
        self._failure: MeterError | None = None
        self._channels: list[Channel] = []
        # Of several, one may rest while another is emptied.
        stall_s = STALL_S if len(found) == 1 else None
        for battery in found:
            if battery.name in self._info.selected:
                spent = SpentEnergy(battery)
                label = f"the energy taken from {battery.name}"
                counter = UnwrappedCounter(label, 1e-6, GUARD_POWER_W, SLACK_S, stall_s=stall_s)
                self._channels.append(started(battery.name, counter, spent.read))
        check_unplugged(supplies, found)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cwmp-battery", daemon=True)
        if background:
            self._thread.start()

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """Joules since opening."""
        self._opener.check()
        with self._lock:
            if self._closed:
                raise MeterReadError("the battery meter is closed; open it again")
            reading = self._look()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
        if reading is None:
            raise MeterReadError("the batteries could not be read")
        return reading

    def poll(self) -> None:
        """Look once; a failure is kept for the next ``read``."""
        with self._lock:
            self._look()

    def close(self) -> None:
        """Stop looking; a second call does nothing."""
        if self._opener.elsewhere:
            return
        with self._lock:
            self._closed = True
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> Reading | None:
        """A reading; ``None`` where it failed or a charger is there, and the failure is kept."""
        try:
            check_unplugged(self._supplies, self._all)
        except CounterFaultError as error:
            self._failure, self._losses = self._failure or error, self._losses + 1
        try:
            reading = read_counters(self._channels)
        except MeterError as error:
            self._failure = self._failure or error
            return None
        return Reading(reading.time_s, reading.energy_j, reading.losses + self._losses)

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            self.poll()


class BatterySource:
    """Finds the batteries under ``class/power_supply``."""

    name = "battery"

    def discover(self) -> Sequence[SourceReport]:
        """One report: the batteries found, or why they are of no use now."""
        supplies = _supplies()
        found = batteries(supplies)
        cause = remedy = None
        if not found:
            cause, remedy = "no battery shows its charge", "use another meter"
        else:
            try:
                self.open(background=False).close()
            except (MeterError, InputError) as error:
                cause, _, remedy = str(error).partition("; ")
        return [
            SourceReport(
                self.name,
                usable=cause is None,
                path=str(supplies),
                device=_device() if found else None,
                rails=tuple(Rail(battery.name, "battery") for battery in found),
                unit="uWh" if all(battery.counts for battery in found) else "uW, sampled",
                cause=cause,
                remedy=remedy or ("run: cwmp devices" if cause else None),
            )
        ]

    def open(
        self,
        argument: str = "",
        *,
        device: str = "cpu",
        rails: Sequence[str] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        background: bool = True,
    ) -> EnergyMeter:
        """Open the batteries; see `MeterSource.open`.

        Raises:
            InputError: an argument, an unknown rail, or a device that is no CPU.
            MeterNotFoundError: no battery, or a charger is connected.
        """
        if argument:
            raise InputError(f"battery takes no argument, got {argument!r}; choose rails instead")
        if device != "cpu":
            raise InputError(f"battery meters a whole machine, not {device}; use --device cpu")
        supplies = _supplies()
        found = batteries(supplies)
        if not found:
            raise MeterNotFoundError(f"no battery under {supplies}; use another meter")
        info = _info(found, rails)
        outside = fed_from_outside(supplies, found)
        if outside is not None:
            raise MeterNotFoundError(f"the batteries do not feed this machine: {outside}; {UNPLUG}")
        chosen = [battery for battery in found if battery.name in info.selected]
        if all(battery.counts for battery in chosen):
            return BatteryMeter(found, supplies, rails, background=background)
        for battery in chosen:
            if battery.power is None:
                raise InputError(
                    f"{battery.name} shows a charge and the others a power alone; choose one "
                    "kind with --rails"
                )
        sensor = DischargeSensor(found, supplies, info.selected)
        return SampledMeter(info, sensor, POLL_S, clock=clock, background=background)


SOURCE = BatterySource()


def _supplies() -> Path:
    return sysfs_root() / "class" / "power_supply"


def _info(found: Sequence[Battery], rails: Sequence[str] | None) -> MeterInfo:
    available = tuple(Rail(battery.name, "battery") for battery in found)
    selected = choose_rails(available, rails)
    counts = all(battery.counts for battery in found if battery.name in selected)
    return MeterInfo(
        name="battery",
        device=_device(),
        origin="measured",
        rails=available,
        selected=selected,
        lag_s=LAG_S,
        longest_step_s=STEP_S if counts else None,
        scope=SCOPE if counts else (*SCOPE, HELD),
    )


def _device() -> str:
    return board_model() or "a machine on battery"
