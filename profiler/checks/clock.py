"""The processor's clock: what lets it move, and what time is told by."""

from __future__ import annotations

from profiler.checks.finding import Finding, Trees, number, shown, text, texts

_GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")
_MIXED = 1.2


def governor(trees: Trees) -> Finding | None:
    """A governor other than ``performance``."""
    governors = texts([cpu / "cpufreq/scaling_governor" for cpu in trees.cpus])
    others = {path: value for path, value in governors.items() if value != "performance"}
    if not others:
        return None
    path, value = next(iter(others.items()))
    epp = text(path.with_name("energy_performance_preference"))
    return Finding(
        "governor",
        "widens",
        f"the CPU governor is {value} on {len(others)} of {len(governors)} CPUs"
        + (f", with the preference {epp}" if epp else ""),
        f"{_range(trees)}, so blocks of one cell run at different clocks and scatter by that; "
        "windows that begin at rest begin slow",
        "assumed",
        "fix the governor:\n"
        f"echo performance | sudo tee {trees.sysfs}/devices/system/cpu/cpu*/cpufreq/"
        "scaling_governor",
        shown(path, value),
    )


def energy_preference(trees: Trees) -> Finding | None:
    """Governor ``performance``, but the processor itself is told to save energy."""
    for cpu in trees.cpus:
        path = cpu / "cpufreq/energy_performance_preference"
        epp = text(path)
        fixed = text(path.with_name("scaling_governor")) == "performance"
        if fixed and epp not in (None, "", "performance", "0"):
            return Finding(
                "energy-preference",
                "widens",
                f"the processor's own energy preference is {epp}",
                f"{_range(trees)} as the hardware likes, whatever the governor says",
                "assumed",
                "prefer performance:\n"
                f"echo performance | sudo tee {trees.sysfs}/devices/system/cpu/cpu*/cpufreq/"
                "energy_performance_preference",
                shown(path, epp),
            )
    return None


def turbo(trees: Trees) -> Finding | None:
    """Turbo or boost is on."""
    folder = trees.sysfs / "devices/system/cpu"
    for path, on, off in (
        (folder / "intel_pstate/no_turbo", "0", "1"),
        (folder / "cpufreq/boost", "1", "0"),
    ):
        if text(path) == on:
            return Finding(
                "turbo",
                "widens",
                "the clock may rise above its base (turbo or boost is on)",
                "how far depends on temperature and on what other cores do, so joules a call "
                "drift within a session",
                "assumed",
                f"switch it off while measuring:\necho {off} | sudo tee {path}",
                shown(path, on),
            )
    return None


def siblings(trees: Trees) -> Finding | None:
    """Two threads share a core."""
    path = trees.sysfs / "devices/system/cpu/smt/active"
    if text(path) != "1":
        return None
    return Finding(
        "smt",
        "note",
        "each core runs two hardware threads (SMT)",
        "work on a core's other thread slows an operation and changes its joules",
        "assumed",
        f"keep the sibling idle with taskset, or:\necho off | sudo tee {path.with_name('control')}",
        shown(path, 1),
    )


def mixed_cores(trees: Trees) -> Finding | None:
    """Cores of different size, between which a process wanders."""
    fastest = {}
    for cpu in trees.cpus:
        size = number(cpu / "cpu_capacity") or number(cpu / "cpufreq/cpuinfo_max_freq")
        if size:
            fastest[cpu.name.removeprefix("cpu")] = size
    if not fastest or max(fastest.values()) < _MIXED * min(fastest.values()):
        return None
    largest = max(fastest.values())
    big = ",".join(name for name, size in fastest.items() if size * _MIXED > largest)
    return Finding(
        "mixed-cores",
        "widens",
        f"the cores differ in size by {largest / min(fastest.values()):.1f}x",
        "a call costs what the core costs on which it happens to run",
        "measured",
        f"keep the measurement on the large cores:\ntaskset --cpu-list {big} cwmp profile ...",
        shown(trees.sysfs / "devices/system/cpu/cpu*", f"sizes {sorted(set(fastest.values()))}"),
    )


def time_source(trees: Trees) -> Finding | None:
    """The kernel tells time by a slow clock."""
    path = trees.sysfs / "devices/system/clocksource/clocksource0/current_clocksource"
    source = text(path)
    if not source or source in _GOOD_CLOCKS:
        return None
    there = (text(path.with_name("available_clocksource")) or "").split()
    remedy = f"take the processor's counter:\necho tsc | sudo tee {path}"
    if "tsc" not in there:
        remedy = "the kernel finds the processor's counter unstable: see 'dmesg | grep -i tsc'"
    return Finding(
        "time-source",
        "note",
        f"the kernel tells time by {source}, not by the processor's counter",
        "each look at the clock is a call into the kernel, of a microsecond or so; windows below "
        "a millisecond feel it",
        "assumed",
        remedy,
        shown(path, source),
    )


def _range(trees: Trees) -> str:
    """The range that the clock may move in, as far as the host says."""
    low = [number(cpu / "cpufreq/scaling_min_freq") for cpu in trees.cpus]
    high = [number(cpu / "cpufreq/scaling_max_freq") for cpu in trees.cpus]
    least, most = min(filter(None, low), default=0.0), max(filter(None, high), default=0.0)
    if not least or not most:
        return "the clock may move"
    return (
        f"the clock may move from {least / 1e6:.2g} to {most / 1e6:.2g} GHz ({most / least:.1f}x)"
    )
