"""The kernel's power supplies: batteries, what they show, and whether they feed the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from profiler.errors import CounterFaultError
from profiler.meters.sysfs_files import (
    FilesSensor,
    PowerFiles,
    in_order,
    number_or_none,
    read_name,
    read_number,
)
from profiler.sysfs import is_there

UNPLUG = "unplug the charger"
_UJ_OF_UWH = 3600  # 1 uWh = 3.6 mJ
_UW, _UA_UV = 1e-6, 1e-12
_MOST = 10**11  # uWh or uAh: a car's
_LEAST_UV, _MOST_UV = 500_000, 1_000_000_000
_SWING = 1.5  # a cell sags by a third from full to flat, and never between two looks
_START_UJ = 10**15  # room for a counter that falls below its first state


@dataclass(frozen=True, slots=True)
class Battery:
    """One battery of the machine: its folder under ``class/power_supply``."""

    path: Path

    @property
    def name(self) -> str:
        """The rail's name."""
        return self.path.name

    @property
    def counts(self) -> bool:
        """Whether it shows a charge that falls, and not a power alone."""
        return self._has("energy_now") or (self._has("charge_now") and self._has("voltage_now"))

    @property
    def power(self) -> PowerFiles | None:
        """The files that give watts, or ``None``.

        Drivers differ in the sign of a current that flows out, so it is dropped; a battery is
        metered only while it discharges.
        """
        if self._has("power_now"):
            return PowerFiles((self.path / "power_now",), _UW, unsigned=True)
        if self._has("current_now") and self._has("voltage_now"):
            paths = self.path / "current_now", self.path / "voltage_now"
            return PowerFiles(paths, _UA_UV, unsigned=True)
        return None

    def status(self) -> str:
        """``Discharging``, ``Charging``, ``Full``, ``Not charging`` or ``Unknown``."""
        return (read_name(self.path / "status") or "Unknown").replace("_", " ")

    def _has(self, name: str) -> bool:
        return is_there(self.path / name)


@dataclass(slots=True)
class SpentEnergy:
    """Microjoules taken from one battery, as a count that rises.

    From ``energy_now`` directly; from ``charge_now`` each step times the mean of the voltages
    before and after it.
    """

    battery: Battery
    _last: tuple[int, int] | None = field(default=None, init=False)
    _spent_uj: float = field(default=_START_UJ, init=False)

    def read(self) -> int:
        """The count now.

        Raises:
            MeterReadError, MeterPermissionError, CounterFaultError: as `read_number`; also for a
                charge or voltage below 0.
        """
        path = self.battery.path
        by_energy = self.battery._has("energy_now")
        left = _positive(path / ("energy_now" if by_energy else "charge_now"))
        microvolts = 1_000_000 if by_energy else _positive(path / "voltage_now")
        last, last_microvolts = self._last or (left, microvolts)
        if not (_LEAST_UV <= microvolts <= _MOST_UV and _near(microvolts, last_microvolts)):
            raise CounterFaultError(
                f"{path / 'voltage_now'} went from {last_microvolts} to {microvolts} uV, which no "
                "battery does; open the meter again"
            )
        if self._last is not None:
            mean_v = (microvolts + last_microvolts) / 2e6
            self._spent_uj += (last - left) * mean_v * _UJ_OF_UWH
        self._last = left, microvolts
        return round(self._spent_uj)


def _near(microvolts: int, last_microvolts: int) -> bool:
    return microvolts < _SWING * last_microvolts and last_microvolts < _SWING * microvolts


def _positive(path: Path) -> int:
    value = read_number(path)
    if value < 0:
        raise CounterFaultError(f"{path} says {value}; a battery does not hold less than nothing")
    if value > _MOST:
        raise CounterFaultError(f"{path} says {value}, more than any battery holds")
    return value


def batteries(supplies: Path) -> tuple[Battery, ...]:
    """The machine's own batteries under *supplies* that show an energy or a power.

    Those of a mouse or a headset (scope ``Device``) and empty slots are left out.
    """
    found = []
    for folder in in_order(supplies, "*"):
        if read_name(folder / "type") != "Battery" or read_name(folder / "scope") == "Device":
            continue
        battery = Battery(folder)
        if number_or_none(folder / "present") != 0 and (battery.counts or battery.power):
            found.append(battery)
    return tuple(found)


def fed_from_outside(supplies: Path, own: Sequence[Battery]) -> str | None:
    """Why what the *own* batteries lose is not what the machine draws; ``None`` where it is.

    It is only while at least one discharges, none charges and no charger is connected.
    """
    for folder in in_order(supplies, "*"):
        kind = read_name(folder / "type")
        if kind not in ("Mains", "USB", "Wireless") or not is_there(folder / "online"):
            continue
        online = number_or_none(folder / "online")  # 2: at a voltage that was agreed on
        if online is None:
            return f"{folder.name} does not say whether power comes from outside"
        if online > 0:
            return f"{folder.name} says that power comes from outside"
    states = {battery.name: battery.status() for battery in own}
    for name, state in states.items():
        if state == "Charging":
            return f"{name} says Charging"
    if "Discharging" not in states.values():
        return ", ".join(f"{name} says {state}" for name, state in states.items())
    return None


class DischargeSensor:
    """The power drawn from batteries, refused while a charger is connected.

    Args:
        found: the machine's batteries.
        supplies: ``class/power_supply``.
        rails: the batteries to return.
    """

    def __init__(self, found: Sequence[Battery], supplies: Path, rails: Sequence[str]) -> None:
        self._found, self._supplies = found, supplies
        self._files = FilesSensor(
            {each.name: each.power for each in found if each.power and each.name in rails}
        )

    def watts(self) -> Mapping[str, float]:
        """Every battery's power now.

        Raises:
            CounterFaultError: a charger is connected, or a figure is impossible.
            MeterReadError: a file cannot be read.
        """
        check_unplugged(self._supplies, self._found)
        return self._files.watts()

    def close(self) -> None:
        """Nothing is held open."""


def check_unplugged(supplies: Path, found: Sequence[Battery]) -> None:
    """Raise unless the batteries alone feed the machine.

    Raises:
        CounterFaultError: they do not.
    """
    cause = fed_from_outside(supplies, found)
    if cause is not None:
        raise CounterFaultError(f"{cause}: what a battery loses is not what is drawn; {UNPLUG}")
