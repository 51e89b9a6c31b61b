"""What a block was measured under: clock, temperature, throttling, suspends.

Read beside the windows, never inside them. What a host does not show is ``None``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Protocol

from profiler.sysfs import is_there, read_kernel_file, sysfs_root

_CPUS_LOOKED_AT = 8
_THROTTLES = (
    "core_throttle_count",
    "package_throttle_count",
    "core_throttle_total_time_ms",  # moves when throttling ends, the counts when it begins
    "package_throttle_total_time_ms",
)
SUSPEND_GAP, FREQUENCY_SHIFT, THROTTLED = "suspend-gap", "frequency-shift", "throttled"
UNSOUND = frozenset({SUSPEND_GAP, FREQUENCY_SHIFT, THROTTLED})
"""Flags of blocks that did not measure the operation under one condition: not for estimates."""
_SUSPEND_GAP_S = 0.1  # the two clocks are read one after the other: a busy host parts them
_SHIFT = 0.10


@dataclass(frozen=True, slots=True)
class Conditions:
    """A host, or a GPU, at one instant.

    Attributes:
        suspended_s: seconds it has slept since it booted.
        frequency_hz: the highest current clock of its first eight cores.
        temperature_c: of the package, or the hottest zone.
        throttled: how often, and for how long, it has been throttled since it booted, in one
            number; only a change means anything.
    """

    suspended_s: float = 0.0
    frequency_hz: float | None = None
    temperature_c: float | None = None
    throttled: int | None = None


class Observer(Protocol):
    """Looks at the conditions; `HostObserver` for a CPU."""

    def observe(self) -> Conditions: ...


class HostObserver:
    """The conditions of this host, from the kernel's tree; its files are looked up once.

    Args:
        root: of the tree; by default `profiler.sysfs.sysfs_root`.
    """

    def __init__(self, root: Path | None = None) -> None:
        root = sysfs_root() if root is None else root
        cpus = [root / f"devices/system/cpu/cpu{n}" for n in range(_CPUS_LOOKED_AT)]
        throttles = [cpu / "thermal_throttle" / name for cpu in cpus for name in _THROTTLES]
        self._clocks = _existing(cpu / "cpufreq/scaling_cur_freq" for cpu in cpus)
        self._throttles = _existing(throttles)
        self._zones = _package_zones(root)
        self._counts: dict[Path, int] = {}

    def observe(self) -> Conditions:
        """What the host shows now; microseconds a file."""
        clocks, zones = _numbers(self._clocks), _numbers(self._zones)
        return Conditions(
            suspended_s=suspended_s(),
            frequency_hz=max(clocks) * 1e3 if clocks else None,
            temperature_c=max(zones) * 1e-3 if zones else None,
            throttled=self._throttled(),
        )

    def _throttled(self) -> int | None:
        """The sum of the counts; one that no longer answers keeps its last, which is no change."""
        for path in self._throttles:
            self._counts.update((path, int(count)) for count in _numbers([path]))
        return sum(self._counts.values()) if self._counts else None


def disturbances(
    before: Conditions, after: Conditions, frequency_hz: float | None, usual_hz: float | None
) -> tuple[str, ...]:
    """What disturbed the block between two observations, as flags.

    `SUSPEND_GAP` where the host slept, `THROTTLED` where its throttle count moved, and
    `FREQUENCY_SHIFT` where the clock seen under load was a tenth off the usual one.
    """
    flags = []
    if after.suspended_s - before.suspended_s > _SUSPEND_GAP_S:
        flags.append(SUSPEND_GAP)
    if None not in (before.throttled, after.throttled) and before.throttled != after.throttled:
        flags.append(THROTTLED)
    if frequency_hz and usual_hz and is_shifted(frequency_hz, usual_hz):
        flags.append(FREQUENCY_SHIFT)
    return tuple(flags)


def is_shifted(frequency_hz: float, usual_hz: float) -> bool:
    """Whether a clock is a tenth or more off the usual one."""
    return abs(frequency_hz / usual_hz - 1) > _SHIFT


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


def _existing(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if is_there(path)]


def _text(path: Path) -> str:
    try:
        return read_kernel_file(path).decode(errors="replace").strip().lower()
    except OSError:
        return ""


def _numbers(paths: Iterable[Path]) -> list[float]:
    """What these files hold; one that vanished or holds no finite number is left out."""
    values = []
    for path in paths:
        try:
            values.append(float(read_kernel_file(path)))
        except (OSError, ValueError):
            continue
    return [value for value in values if isfinite(value)]
