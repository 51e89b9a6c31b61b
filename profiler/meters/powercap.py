"""The kernel's powercap tree: which zones there are, and which of them add up.

A package contains its cores and uncore, not its memory; ``psys`` contains everything;
``intel-rapl-mmio`` shows the packages a second time; a few boards show one counter under
several dies. Only packages and their memory are counted by default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.meters.base import Rail
from profiler.meters.processor import elsewhere
from profiler.sysfs import is_there, read_kernel_file

_PACKAGE = re.compile(r"package-\d+(?:-die-\d+)?")
_ZONE = re.compile(r"^intel-rapl(?P<mmio>-mmio)?:(?P<top>\d+)(?::(?P<sub>\d+))?$")
_ATTEMPTS = 3
DEAD = "its counter cannot be read"
"""How the reason begins for which a memory's rail is left out that this machine should have."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One powercap zone: its folder and the rail it makes."""

    path: Path
    rail: Rail

    @property
    def energy_path(self) -> Path:
        """The counter, in microjoules."""
        return self.path / "energy_uj"

    @property
    def range_path(self) -> Path:
        """The value at which the counter wraps, in microjoules."""
        return self.path / "max_energy_range_uj"


def scan(powercap: Path) -> tuple[Zone, ...]:
    """Every RAPL zone under *powercap*, packages first, each with a unique rail name.

    Names come from the ``name`` files; the number of a zone is not that of its socket.
    """
    found = {}
    for pattern in ("intel-rapl*:*/intel-rapl*:*", "intel-rapl*:*"):
        for folder in powercap.glob(pattern):
            match = _ZONE.match(folder.name)
            if match and is_there(folder / "energy_uj"):
                top, sub = int(match["top"]), int(match["sub"] or -1)
                found[bool(match["mmio"]), top, sub] = folder
    zones: dict[tuple[bool, int, int], Zone] = {}
    for key in sorted(found):
        mmio, top, sub = key
        parent = zones.get((mmio, top, -1)) if sub >= 0 else None
        taken = {zone.rail.name for zone in zones.values()}
        rail = _rail(_name(found[key]), parent.rail.name if parent else None, mmio, taken)
        zones[key] = Zone(found[key], replace(rail, name=_unique(rail.name, taken)))
    return without_mirrors(_without_overlaps(zones.values()))


def without_mirrors(zones: Iterable[Zone]) -> tuple[Zone, ...]:
    """*zones* with those that show a sibling's counter taken out of the counted set.

    Two counters of one domain that agree in every digit, and are not 0, are one counter.
    """
    kept: list[Zone] = []
    for zone in zones:
        twin = next((other for other in kept if _same_counter(zone, other)), None)
        if twin is not None:
            rail = replace(
                zone.rail, counted=False, excluded_because=f"shows {twin.rail.name}'s counter"
            )
            zone = replace(zone, rail=rail)
        kept.append(zone)
    return tuple(kept)


def absence(powercap: Path, virtual: str | None) -> tuple[str, str]:
    """Why *powercap* shows no zone, and what to do about it.

    Args:
        powercap: the folder that was searched.
        virtual: the hypervisor's name, or ``None`` on a bare machine.
    """
    root = powercap.parents[1]
    if not root.is_dir():
        return f"{root} is not a folder", "set CWMP_SYSFS to where the host's /sys is, or unset it"
    names = sorted(path.name for path in powercap.glob("intel-rapl*"))
    dangling = [name for name in names if not (powercap / name).exists()]
    if dangling:
        return (
            f"{powercap / dangling[0]} leads nowhere: a container masks the counters",
            "mount the host's /sys read-only (-v /sys:/host/sys:ro) and set CWMP_SYSFS=/host/sys",
        )
    reason = elsewhere(virtual)
    if reason is not None:
        return reason
    what = "has no intel-rapl zone" if powercap.is_dir() else "does not exist"
    return f"{powercap} {what}: no driver is loaded", "sudo modprobe intel_rapl_msr"


def permission_command(powercap: Path) -> str:
    """What lets every user read the counters until the next boot."""
    return f"sudo chmod o+r {powercap}/intel-rapl:*/energy_uj"


def permission_remedy(powercap: Path) -> str:
    """How to let this user read the counters: once, and at every boot."""
    return (
        "let users read the counters now, and at every boot by the udev rule:\n"
        f"{permission_command(powercap)}\n"
        'KERNEL=="intel-rapl:*", RUN+="/bin/chmod o+r %S%p/energy_uj"\n'
        "(the KERNEL line goes into /etc/udev/rules.d/70-rapl.rules)"
    )


def _rail(name: str, parent: str | None, mmio: bool, taken: set[str]) -> Rail:
    """The rail of a zone called *name* under the rail *parent*, beside those *taken*."""
    if parent is None:
        rail_name, domain = name, "package" if _PACKAGE.fullmatch(name) else name
    else:
        # package-0-die-1 has dram-0-die-1
        rail_name, domain = f"{name}-{parent.partition('package-')[2] or parent}", name
    because = None
    if mmio and rail_name in taken:
        because = f"mirrors {rail_name}"
    elif mmio and any(_PACKAGE.fullmatch(name) for name in taken):
        because = "may mirror the packages"
    elif parent is None and domain != "package":
        because = "contains the packages" if name == "psys" else "may overlap with the packages"
    elif parent is not None and not (domain == "dram" and _PACKAGE.fullmatch(parent)):
        inside = "lies inside" if name in ("core", "uncore") else "may overlap with"
        because = f"{inside} {parent}"
    elif rail_name in taken:
        because = f"may show {rail_name} a second time"
    return Rail(f"mmio-{rail_name}" if mmio else rail_name, domain, because is None, because)


def _without_overlaps(zones: Iterable[Zone]) -> Iterator[Zone]:
    """*zones*, those taken out that lie in a whole socket's, or whose counter is dead."""
    zones = list(zones)
    names = {zone.rail.name for zone in zones}
    for zone in zones:
        whole, because = zone.rail.name.partition("-die-")[0], None
        if whole != zone.rail.name and whole in names:
            because = f"lies inside {whole}"
        elif zone.rail.domain == "dram":
            because = _dead(zone)
        if zone.rail.counted and because is not None:
            zone = replace(zone, rail=replace(zone.rail, counted=False, excluded_because=because))
        yield zone


def _dead(zone: Zone) -> str | None:
    """Why a memory's counter counts nothing; one that root alone may read is not dead."""
    try:
        text = read_kernel_file(zone.energy_path).strip()
    except PermissionError:
        return None
    except OSError as error:
        return f"{DEAD}: {error.strerror}"
    if text != b"" and text.strip(b"0") == b"":
        return "stands at 0: this machine does not count its memory"
    return None


def _name(folder: Path) -> str:
    try:
        return read_kernel_file(folder / "name").decode().strip() or folder.name
    except (OSError, UnicodeDecodeError):
        return folder.name


def _unique(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}.{number}"
    return candidate


def _same_counter(zone: Zone, other: Zone) -> bool:
    if not (zone.rail.counted and other.rail.counted and zone.rail.domain == other.rail.domain):
        return False
    try:
        # One counter may step between the two reads, so a difference is looked at again.
        for _ in range(_ATTEMPTS):
            one, two = (read_kernel_file(each.energy_path).strip() for each in (zone, other))
            if one == two:
                return one.strip(b"0") != b""
    except OSError:
        return False
    return False
