"""Heat and power supply: throttling, temperatures near a limit, batteries, profiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from profiler.checks.finding import Finding, Trees, number, shown, text, texts

_MARGIN_C = 10.0
_SAVING = ("low-power", "quiet", "cool", "power-saver")
_LIMITS = ("passive", "hot", "critical")


def throttle_count(trees: Trees) -> int | None:
    """How often the processor was throttled since boot; ``None`` where it does not say."""
    names = ("core_throttle_count", "package_throttle_count")
    paths = [cpu / "thermal_throttle" / name for cpu in trees.cpus for name in names]
    counts = [count for path in paths if (count := number(path)) is not None]
    return int(sum(counts)) if counts else None


def throttling(before: int | None, after: int | None) -> Finding | None:
    """The processor was throttled between two looks, or has been since boot."""
    if before is None or after is None or after == 0:
        return None
    now = after > before
    return Finding(
        "throttling",
        "spoils" if now else "note",
        f"heat throttled the processor {after - before} times while this ran"
        if now
        else f"heat has throttled the processor {after} times since boot, not now",
        "a throttled block runs at another clock and voltage; such blocks are dropped",
        "measured",
        "let it cool: clear the fans, lower the room's temperature, or cap the power:\n"
        "sudo cpupower frequency-set --max 2GHz",
        "thermal_throttle/*_throttle_count of all CPUs",
    )


def temperature(trees: Trees) -> Finding | None:
    """A sensor is close to the limit at which the processor slows down."""
    for path, now_c, limit_c in _sensors(trees):
        if now_c > limit_c - _MARGIN_C:
            return Finding(
                "temperature",
                "widens",
                f"a sensor shows {now_c:.0f} C, {limit_c - now_c:.0f} K below its limit",
                "leakage grows with temperature, and a session is likely to be throttled",
                "measured",
                "let the machine cool, and see that its fans run:\nsensors",
                shown(path, f"{now_c:.1f} C, limit {limit_c:.0f} C"),
            )
    return None


def on_battery(trees: Trees) -> Finding | None:
    """It runs on its battery."""
    for supply in sorted((trees.sysfs / "class/power_supply").glob("*")):
        system = text(supply / "scope") != "Device"
        discharging = text(supply / "status") == "Discharging"
        if text(supply / "type") == "Battery" and system and discharging:
            return Finding(
                "on-battery",
                "widens",
                "the machine runs on its battery",
                "firmware lowers the clock and the power limit, and more so as the charge falls",
                "assumed",
                "plug it in (unless the battery itself is the meter)",
                shown(supply / "status", "Discharging"),
            )
    return None


def power_profile(trees: Trees) -> Finding | None:
    """A power saving profile is chosen."""
    path = trees.sysfs / "firmware/acpi/platform_profile"
    profile = text(path)
    if profile not in _SAVING:
        return None
    choices = (text(path.with_name("platform_profile_choices")) or "performance").split()
    better = next((name for name in ("performance", "balanced") if name in choices), choices[0])
    return Finding(
        "power-profile",
        "widens",
        f"the platform's power profile is {profile}",
        "firmware caps power, and an operation's clock moves within the cap",
        "assumed",
        f"choose another:\necho {better} | sudo tee {path}",
        shown(path, profile),
    )


def _sensors(trees: Trees) -> Iterator[tuple[Path, float, float]]:
    """(file, temperature, limit) of every sensor that has one, in degrees Celsius."""
    for zone in sorted((trees.sysfs / "class/thermal").glob("thermal_zone*")):
        kinds = texts(sorted(zone.glob("trip_point_*_type")))
        limits = [
            number(path.with_name(path.name.replace("_type", "_temp")))
            for path, kind in kinds.items()
            if kind in _LIMITS
        ]
        yield from _sensor(zone / "temp", limits)
    for path in sorted((trees.sysfs / "class/hwmon").glob("hwmon*/temp*_input")):
        stem = path.name.removesuffix("_input")
        yield from _sensor(path, [number(path.with_name(f"{stem}_{n}")) for n in ("max", "crit")])


def _sensor(path: Path, limits: list[float | None]) -> Iterator[tuple[Path, float, float]]:
    now = number(path)
    known = [limit for limit in limits if limit is not None and limit > 30_000]
    if now is not None and known and now > 0:
        yield path, now * 1e-3, min(known) * 1e-3
