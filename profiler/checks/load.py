"""What else the host does: ticks of other processes, stolen time, waits, in two looks."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from profiler.checks.finding import Finding, Trees, shown, text

_WIDENS, _SPOILS = 0.02, 0.25
_STOLEN = 0.005
_LISTED = 3
_LEAST_CPU = 0.02


@dataclass(frozen=True, slots=True)
class Activity:
    """Counts since boot, at one instant.

    Attributes:
        time_s: when, on the monotonic clock.
        busy_s: CPU seconds of everything but idling and waiting for disks; ``None`` if unknown.
        stolen_s: CPU seconds that a hypervisor gave to others.
        cpus: CPUs online.
        processes: process id -> (name, CPU seconds).
        swapped: pages moved to or from swap.
    """

    time_s: float
    busy_s: float | None = None
    stolen_s: float = 0.0
    cpus: int = 1
    processes: dict[int, tuple[str, float]] = field(default_factory=dict)
    swapped: int = 0


def look(trees: Trees) -> Activity:
    """Count now. A process that ends while it is looked at is left out."""
    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    lines = (text(trees.proc / "stat") or "").splitlines()
    total = next((line.split()[1:] for line in lines if line.startswith("cpu ")), [])
    times = [float(part) * tick_s for part in total if part.isdigit()]
    busy_s, stolen_s = None, 0.0
    if len(times) >= 7:
        stolen_s = times[7] if len(times) > 7 else 0.0
        busy_s = sum(times[:3]) + sum(times[5:7])
    return Activity(
        time_s=time.monotonic(),
        busy_s=busy_s,
        stolen_s=stolen_s,
        cpus=sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines) or 1,
        processes=_processes(trees, tick_s),
        swapped=_swapped(trees),
    )


def other_load(before: Activity, after: Activity, own: Sequence[int] = ()) -> Finding | None:
    """Other processes are busy.

    Args:
        before, after: two looks, a second or so apart.
        own: ids of processes that do not count as others.
    """
    elapsed_s = after.time_s - before.time_s
    if before.busy_s is None or after.busy_s is None or elapsed_s <= 0:
        return None
    used = {
        pid: (name, (spent_s - before.processes.get(pid, (name, 0.0))[1]) / elapsed_s)
        for pid, (name, spent_s) in after.processes.items()
    }
    own_cpus = sum(used.pop(pid, ("", 0.0))[1] for pid in own)
    others = (after.busy_s - before.busy_s) / elapsed_s - own_cpus
    share = others / after.cpus
    if share < _WIDENS:
        return None
    largest = sorted(used.items(), key=lambda item: -item[1][1])[:_LISTED]
    named = [f"{name} (pid {pid}) {cpus:.2f}" for pid, (name, cpus) in largest if cpus > _LEAST_CPU]
    return Finding(
        "other-load",
        "spoils" if share > _SPOILS else "widens",
        f"other processes keep {others:.2f} of {after.cpus} CPUs busy ({100 * share:.0f} %)",
        "a counter of the package cannot tell their joules from yours: what they vary by from "
        "block to block is added to every interval, and they take time from the operation",
        "measured",
        "end them, wait for them, or measure elsewhere:\nps -eo pid,comm,pcpu --sort=-pcpu | head",
        f"over {elapsed_s:.1f} s; CPUs used: {', '.join(named) or 'by no single process'}",
    )


def stolen_time(before: Activity, after: Activity) -> Finding | None:
    """The hypervisor gives this machine's CPU time to others."""
    elapsed_s = after.time_s - before.time_s
    share = (after.stolen_s - before.stolen_s) / (elapsed_s * after.cpus) if elapsed_s > 0 else 0.0
    if share < _STOLEN:
        return None
    return Finding(
        "stolen-time",
        "widens",
        f"the hypervisor gave {100 * share:.1f} % of the CPU time to other guests",
        "an operation stalls at random, and its windows lengthen",
        "measured",
        "take a machine, or a kind of virtual machine, whose cores are not shared",
        f"/proc/stat, steal, over {elapsed_s:.1f} s",
    )


def swapping(before: Activity, after: Activity, trees: Trees) -> Finding | None:
    """Pages move to or from swap, or tasks wait for memory."""
    pages = after.swapped - before.swapped
    waiting = _pressure(trees)
    if pages <= 0 and waiting < 1.0:
        return None
    return Finding(
        "memory-pressure",
        "spoils" if pages > 0 else "widens",
        f"memory is short: {pages} pages went to or from swap, and tasks waited for memory "
        f"{waiting:.1f} % of the last 10 s",
        "waits for the disk fall into windows at random",
        "measured",
        "free memory; what holds most of it:\nps -eo pid,comm,rss --sort=-rss | head",
        shown(trees.proc / "vmstat", f"pswpin and pswpout grew by {pages}"),
    )


def _processes(trees: Trees, tick_s: float) -> dict[int, tuple[str, float]]:
    found = {}
    for folder in trees.proc.glob("[0-9]*"):
        name, _, rest = (text(folder / "stat") or "").rpartition(")")
        fields = rest.split()
        if len(fields) > 12 and fields[11].isdigit() and fields[12].isdigit():
            spent_s = (int(fields[11]) + int(fields[12])) * tick_s
            found[int(folder.name)] = (name.partition("(")[2], spent_s)
    return found


def _swapped(trees: Trees) -> int:
    pages = 0
    for line in (text(trees.proc / "vmstat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("pswpin", "pswpout") and value.isdigit():
            pages += int(value)
    return pages


def _pressure(trees: Trees) -> float:
    """The share of the last 10 s in which some task waited for memory, in percent."""
    for word in (text(trees.proc / "pressure/memory") or "").split():
        if word.startswith("avg10="):
            try:
                return float(word.removeprefix("avg10="))
            except ValueError:
                return 0.0
    return 0.0
