"""The INA3221 rails of Jetson boards: two layouts of files, and which rails add up.

Old drivers (JetPack 3 and 4) show ``rail_name_N``, ``in_powerN_input`` (mW) under
``bus/i2c/drivers/ina3221x``; later ones ``inN_label``, ``inN_input`` (mV), ``currN_input`` (mA)
as a hwmon chip. Rails by board, as NVIDIA's developer guides (32.6, 34.1) and device trees name
them::

    Nano                   POM_5V_IN contains POM_5V_GPU, POM_5V_CPU
    TX1, TX2               VDD_IN contains VDD_SYS_*; the carrier board's own rails lie beside it
    Xavier NX, TX2 NX      VDD_IN contains VDD_CPU_GPU*, VDD_SOC
    Orin NX, Orin Nano     VDD_IN contains VDD_CPU_GPU_CV, VDD_SOC
    AGX Xavier             no total: GPU, CPU, SOC, CV, VDDRQ, SYS5V side by side
    AGX Orin               no total: VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0 side by side;
                           VDDQ_VDD2_1V8AO is taken to lie inside VIN_SYS_5V0, which feeds memory
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.meters.base import Rail
from profiler.meters.hwmon_chips import place_of
from profiler.meters.sysfs_files import (
    PowerFiles,
    in_order,
    number_or_none,
    read_name,
    unique_names,
)
from profiler.sysfs import is_there

TOTALS = ("VDD_IN", "POM_5V_IN", "5V_IN")
"""Inputs of a whole module."""
CARRIER = (
    "VDD_MUX",
    "VDD_5V_IO_SYS",
    "VDD_5V0_IO_SYS",
    "VDD_3V3_SYS",
    "VDD_3V3_IO",
    "VDD_3V3_IO_SLP",
    "VDD_1V8_IO",
    "VDD_M2_IN",
    "VDD_3V3_SYS_M2",
)
"""Rails of the TX1's and TX2's carrier board."""
_MODULE = re.compile(r"VDD_(SYS_|CPU|GPU|SOC|4V0_WIFI)|POM_5V_")
PARTITIONS: tuple[tuple[frozenset[str], dict[str, str]], ...] = (
    (
        frozenset({"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}),
        {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"},
    ),
    (frozenset({"GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"}), {}),
)
"""Where no rail is the total: those that add up, and those that lie inside one of them."""
_MW, _MV_MA, _MS, _MV, _UOHM = 1e-3, 1e-6, 1e-3, 1e-3, 1e-6
OFFSET_V = 80e-6
"""The most that a shunt voltage is off by (TI SBOS576)."""
ASSUMED_OHM, ASSUMED_V = 5e-3, 20.0
"""Where the driver does not show a channel's shunt, or its voltage: the highest of the boards."""
_IDLE_NOISE_W = -1.0
"""80 uV of offset (TI SBOS576) over a shunt of 2 mOhm at 20 V is 0.8 W."""
_CONVERSIONS_S = 2 * 1.1e-3
"""Shunt and bus voltage of one channel, at the chip's default conversion time."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of one chip.

    Attributes:
        rail, place, power: its rail, where its chip sits, its files.
        refresh_s: how old what they show may be.
        voltage, shunt: the files of its bus voltage (mV) and shunt resistor (uOhm).
    """

    rail: Rail
    place: str
    power: PowerFiles
    refresh_s: float | None = None
    voltage: Path | None = None
    shunt: Path | None = None

    def offset_w(self) -> float:
        """Watts that the monitor's offset is worth at the rail's present voltage."""
        shown_mv = number_or_none(self.voltage) if self.voltage else None
        shown_uohm = number_or_none(self.shunt) if self.shunt else None
        volts = shown_mv * _MV if shown_mv and shown_mv > 0 else ASSUMED_V
        ohms = shown_uohm * _UOHM if shown_uohm and shown_uohm > 0 else ASSUMED_OHM
        return OFFSET_V / ohms * volts


def scan(root: Path) -> tuple[Channel, ...]:
    """Every live channel under the tree *root*, those that add up to the device counted.

    Channels that are disabled, or labelled ``NC``, are left out.
    """
    found: list[Channel] = []
    for folder in in_order(root / "bus/i2c/drivers/ina3221x", "*/iio*device*"):
        found += _old_layout(folder)
    for folder in in_order(root / "class/hwmon", "hwmon*"):
        if read_name(folder / "name") == "ina3221":
            found += _new_layout(folder)
    names = unique_names([(each.rail.name, each.place) for each in found])
    because = _reasons(names)
    return tuple(
        replace(each, rail=Rail(name, "board", because[name] is None, because[name]))
        for each, name in zip(found, names, strict=True)
    )


def _old_layout(folder: Path) -> list[Channel]:
    channels = []
    place = folder.parent.name
    for path in in_order(folder, "rail_name_*"):
        number = path.name.rpartition("_")[2]
        power = folder / f"in_power{number}_input"
        factors: tuple[Path, ...] = (power,)
        unit_w = _MW
        if not is_there(power):
            factors = tuple(folder / f"in_{kind}{number}_input" for kind in ("current", "voltage"))
            unit_w = _MV_MA
        if not all(is_there(factor) for factor in factors):
            continue
        files = PowerFiles(factors, unit_w, _IDLE_NOISE_W)
        voltage = folder / f"in_voltage{number}_input"
        channels += _channel(path, f"in{number}", place, files, None, voltage)
    return channels


def _new_layout(folder: Path) -> list[Channel]:
    channels = []
    refresh_s = _refresh_s(folder)
    for number in (1, 2, 3):  # in4 and on are shunt voltages and their sum
        factors = folder / f"curr{number}_input", folder / f"in{number}_input"
        if number_or_none(folder / f"in{number}_enable") == 0:
            continue
        if all(is_there(factor) for factor in factors):
            files = PowerFiles(factors, _MV_MA, _IDLE_NOISE_W)
            label = folder / f"in{number}_label"
            shunt = folder / f"shunt{number}_resistor"
            place = place_of(folder)
            channels += _channel(label, f"in{number}", place, files, refresh_s, factors[1], shunt)
    return channels


def _channel(
    label: Path,
    stem: str,
    place: str,
    files: PowerFiles,
    refresh_s: float | None,
    voltage: Path,
    shunt: Path | None = None,
) -> list[Channel]:
    name = read_name(label) or f"{stem}@{place}"
    if name.upper() in ("NC", "N/C"):
        return []
    return [Channel(Rail(name, "board"), place, files, refresh_s, voltage, shunt)]


def _refresh_s(folder: Path) -> float | None:
    """Seconds a round of conversions takes: as shown, or from how many it averages."""
    shown_ms = number_or_none(folder / "update_interval")
    if shown_ms is not None and shown_ms > 0:
        return shown_ms * _MS
    samples = number_or_none(folder / "samples")
    return None if samples is None or samples < 1 else 3 * samples * _CONVERSIONS_S


def _reasons(names: Sequence[str]) -> dict[str, str | None]:
    """Why each rail does not count; ``None`` for those that do."""
    totals = [name for name in names if name.partition("@")[0] in TOTALS]
    if len(totals) == 1:
        return {name: _beside(name, totals[0]) for name in names}
    for parts, inside in PARTITIONS:
        if parts <= set(names) and not totals:
            unknown = f"nothing says whether {' + '.join(sorted(parts))} contain it"
            return {
                name: None
                if name in parts
                else f"lies inside {inside[name]}"
                if name in inside
                else unknown
                for name in names
            }
    unknown = "nothing says which of these rails add up"
    return dict.fromkeys(names, unknown)


def _beside(name: str, total: str) -> str | None:
    if name == total:
        return None
    if name in CARRIER:
        return f"powers the carrier board, beside {total}"
    return f"{'lies' if _MODULE.match(name) else 'may lie'} inside {total}"
