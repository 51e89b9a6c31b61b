"""The kernel's hwmon chips: which of their files are joules or watts, and which rails add up.

What a rail powers is declared by family of chip. A processor's own sensors count first; a monitor
on the board counts where it is the only one, since nothing says which of several lie inside each
other; graphics cards, drives, batteries and power supplies are shown and not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.meters.base import Rail, Systematic
from profiler.meters.processor import gain
from profiler.meters.sysfs_files import (
    PowerFiles,
    in_order,
    number_or_none,
    read_name,
    unique_names,
)
from profiler.sysfs import is_there

SOCKET_COUNTERS = ("amd_energy", "zenergy")
CPU_POWERS = {"zenpower": ("SVI2_P_Core", "SVI2_P_SoC")}
CPU_DOMAINS = ("package", "core", "soc")
"""Domains of rails that are a processor's, and nothing else's."""
BOARD_MONITORS = re.compile(r"^(ina\d+\w*|sq52206|power_meter)$")
_OTHERS = (
    (r"^(amdgpu|radeon|nouveau|i915|xe|nvidia)$", "gpu", "powers a graphics card"),
    (r"^(nvme|drivetemp)$", "drive", "powers a drive"),
    (r"^(corsairpsu|pmbus|ibm_cffps|dps\d*|.*psu.*)$", "supply", "a power supply's own figure"),
    (r"^(BAT|AC|ADP|ucsi|tcpm|.*ups\b)", "battery", "a battery or charger; see --meter battery"),
)
_MW2, _UW, _MS = 1e-6, 1e-6, 1e-3  # mA x mV, uW, ms
_IDLE_NOISE_W = -1.0
_SHUNT = "1 % of the shunt resistor, assumed: its grade is not shown"
_GAINS = {
    "ina219": (0.02, "1 % current and 1 % voltage over temperature (TI SBOS448, grade A)"),
    "ina226": (0.002, "0.1 % shunt and 0.1 % bus gain (TI SBOS547)"),
    "ina238": (0.007, "0.7 % total error of power at full scale (TI, INA238-Q1)"),
}


@dataclass(frozen=True, slots=True)
class ChipRail:
    """One rail of one chip: a counter of joules, or files that give watts.

    Attributes:
        rail: as the meter shows it.
        chip: the chip's own name, ``amd_energy``.
        place: where it sits, ``0-0040``; stable, unlike the number of its folder.
        energy: the file that counts microjoules, or ``None``.
        power: the files that give watts, or ``None``.
        refresh_s: how often the chip converts; ``None`` where it does not say.
        average_s: over how long a shown power is averaged beyond that.
    """

    rail: Rail
    chip: str
    place: str
    energy: Path | None
    power: PowerFiles | None
    refresh_s: float | None
    average_s: float

    @property
    def systematic(self) -> tuple[Systematic, ...]:
        """What is published or assumed of this chip's gain; empty where nothing is known."""
        if self.chip in SOCKET_COUNTERS:
            return gain("AuthenticAMD", [self.rail])
        if not BOARD_MONITORS.match(self.chip) or self.chip == "power_meter":
            return ()
        terms = [Systematic(0.01, _SHUNT)]
        if self.chip in _GAINS:
            terms.insert(0, Systematic(*_GAINS[self.chip]))
        return tuple(terms)


def scan(hwmon: Path) -> tuple[ChipRail, ...]:
    """Every rail under *hwmon*, with those that make up "this device" marked as counted.

    Chips called ``ina3221`` are left to the meter of that name.
    """
    found: list[ChipRail] = []
    for folder in in_order(hwmon, "hwmon*"):
        chip = read_name(folder / "name")
        if chip is not None and chip != "ina3221":
            found += _rails(folder, chip)
    return _counted(_named(found))


def place_of(folder: Path) -> str:
    """Where a chip sits on its bus: the name of its device, or of *folder* where it has none."""
    device = folder / "device"
    return device.resolve().name if is_there(device) else folder.name


def _rails(folder: Path, chip: str) -> list[ChipRail]:
    refresh_ms = number_or_none(folder / "update_interval")
    refresh_s = refresh_ms * _MS if refresh_ms and refresh_ms > 0 else None
    place = place_of(folder)
    domain, because = _family(folder, chip)

    def rail(
        stem: str, energy: Path | None, power: PowerFiles | None, average_s: float = 0.0
    ) -> ChipRail:
        label = read_name(folder / f"{stem}_label") or stem
        shown = Rail(f"{chip}-{label}", domain, False, because)
        return ChipRail(shown, chip, place, energy, power, refresh_s, average_s)

    energies = in_order(folder, "energy*_input")
    if energies:
        return [rail(_stem(path), path, None) for path in energies]
    powers = {_stem(path): path for path in in_order(folder, "power*_average")}
    powers |= {_stem(path): path for path in in_order(folder, "power*_input")}
    rails = []
    for stem in sorted(powers, key=lambda stem: int(stem.removeprefix("power"))):
        path = powers[stem]
        average_ms = 0
        if path.name.endswith("_average"):
            average_ms = number_or_none(folder / f"{stem}_average_interval") or 0
        rails.append(rail(stem, None, PowerFiles((path,), _UW), max(average_ms, 0) * _MS))
    if rails or not BOARD_MONITORS.match(chip):
        return rails
    for current in in_order(folder, "curr*_input"):
        voltage = folder / current.name.replace("curr", "in")
        if is_there(voltage):
            files = PowerFiles((current, voltage), _MW2, _IDLE_NOISE_W)
            rails.append(rail(_stem(current), None, files))
    return rails


def _family(folder: Path, chip: str) -> tuple[str, str]:
    """The domain of a chip's rails, and why they do not count unless `_counted` says so."""
    if "power_supply" in (folder / "device").resolve().parts:
        chip = "BAT"
    for pattern, domain, because in _OTHERS:
        if re.match(pattern, chip):
            return domain, because
    if BOARD_MONITORS.match(chip):
        return "board", ""
    return "other", f"nothing says what {chip} powers"


def _named(found: Sequence[ChipRail]) -> list[ChipRail]:
    names = unique_names([(each.rail.name, each.place) for each in found])
    return [
        replace(each, rail=replace(each.rail, name=name))
        for each, name in zip(found, names, strict=True)
    ]


def _counted(found: Iterable[ChipRail]) -> tuple[ChipRail, ...]:
    """*found* with the processor's rails counted, or else the only monitor of the board."""
    rails = [_as_processor(each) for each in found]
    sockets = [each.rail.name for each in rails if each.rail.domain == "package"]
    powers = [each.rail.name for each in rails if each.rail.counted and each.energy is None]
    boards = [each for each in rails if each.rail.domain == "board"]
    result = []
    for each in rails:
        rail = each.rail
        if rail.domain == "core" and not rail.counted:
            inside = sockets[0] if len(sockets) == 1 else "one of the sockets"
            rail = _left_out(rail, f"lies inside {inside}")
        elif rail.counted and rail.domain != "package" and sockets:
            rail = _left_out(rail, f"{sockets[0]} counts the same processor")
        elif rail.domain == "board" and (sockets or powers):
            rail = _left_out(rail, f"may contain {(sockets or powers)[0]}")
        elif rail.domain == "board" and len(boards) == 1:
            rail = replace(rail, counted=True, excluded_because=None)
        elif rail.domain == "board":
            because = f"one of {len(boards)} board rails; nothing says which of them add up"
            rail = _left_out(rail, because)
        result.append(replace(each, rail=rail))
    return tuple(result)


def _as_processor(each: ChipRail) -> ChipRail:
    """*each* with its domain, and counted, where its chip is a processor's own."""
    label = each.rail.name.removeprefix(f"{each.chip}-").partition("@")[0]
    domain = None
    if each.chip in SOCKET_COUNTERS:
        domain = "package" if label.startswith("Esocket") else "core"
    elif label in CPU_POWERS.get(each.chip, ()):
        domain = "core" if label.endswith("Core") else "soc"
    if domain is None:
        return each
    counts = domain == "package" or each.chip in CPU_POWERS
    because = None if counts else each.rail.excluded_because
    return replace(each, rail=Rail(each.rail.name, domain, counts, because))


def _left_out(rail: Rail, because: str) -> Rail:
    return replace(rail, counted=False, excluded_because=because)


def _stem(path: Path) -> str:
    return path.name.partition("_")[0]
