"""What a block was measured under: clock, temperature, throttling, suspends.

Read beside the windows, never inside them. What a host does not show is ``None``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from profiler.sysfs import sysfs_root

_CPUS_LOOKED_AT = 8
_THROTTLES = ("core_throttle_count", "package_throttle_count")


@dataclass(frozen=True, slots=True)
class Conditions:
    """A host, or a GPU, at one instant.

    Attributes:
        suspended_s: seconds it has slept since it booted.
        frequency_hz: the highest current clock of its first eight cores.
        temperature_c: of the package, or the hottest zone.
        throttled: how often, or for how many nanoseconds, it has been throttled since it booted;
            only a change means anything.
    """

    suspended_s: float = 0.0
    frequency_hz: float | None = None
    temperature_c: float | None = None
    throttled: int | None = None


class Observer(Protocol):
    """Looks at the conditions; `HostObserver` for a CPU."""

    def observe(self) -> Conditions: ...


@dataclass(frozen=True)
class HostObserver:
    """The conditions of this host, from the kernel's tree; paths are looked up once."""

    root: Path = field(default_factory=sysfs_root)

    def __post_init__(self) -> None:
        cpus = [self.root / f"devices/system/cpu/cpu{n}" for n in range(_CPUS_LOOKED_AT)]
        paths = {
            "_clocks": [cpu / "cpufreq/scaling_cur_freq" for cpu in cpus],
            "_throttles": [cpu / "thermal_throttle" / name for cpu in cpus for name in _THROTTLES],
            "_zones": _package_zones(self.root),
        }
        for name, candidates in paths.items():
            object.__setattr__(self, name, [path for path in candidates if path.exists()])

    def observe(self) -> Conditions:
        """What the host shows now; microseconds a file."""
        clocks, zones, throttles = (
            [value for path in getattr(self, name) if (value := _number(path)) is not None]
            for name in ("_clocks", "_zones", "_throttles")
        )
        return Conditions(
            suspended_s=suspended_s(),
            frequency_hz=max(clocks) * 1e3 if clocks else None,
            temperature_c=max(zones) * 1e-3 if zones else None,
            throttled=sum(map(int, throttles)) if throttles else None,
        )


def suspended_s() -> float:
    """Seconds this host has slept since it booted; a change means a window spans a suspend."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _package_zones(root: Path) -> list[Path]:
    """The processor's own zones; where none says so, all of them."""
    zones = sorted((root / "class/thermal").glob("thermal_zone*"))
    kinds = {zone: _text(zone / "type") for zone in zones}
    packages = [
        zone for zone, kind in kinds.items() if any(w in kind for w in ("x86_pkg", "cpu", "soc"))
    ]
    return [zone / "temp" for zone in packages or zones]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip().lower()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
