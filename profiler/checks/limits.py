"""What the kernel allows: CPU quotas, timers, pages that move between memory nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from profiler.checks.finding import Finding, Trees, number, shown, text

_LONGEST_SLACK_NS = 1e6


def throttled_periods(trees: Trees) -> int:
    """How often this process's CPU quota, or that of a group around it, ran out."""
    count = 0
    for folder in _groups(trees):
        for line in (text(folder / "cpu.stat") or "").splitlines():
            name, _, value = line.partition(" ")
            if name == "nr_throttled" and value.isdigit():
                count += int(value)
    return count


def cpu_quota(trees: Trees, before: int, after: int) -> Finding | None:
    """A control group limits CPU time.

    Args:
        trees: where to look.
        before, after: `throttled_periods`, a second or so apart.
    """
    for folder in _groups(trees):
        found = _quota(folder)
        if found is None:
            continue
        path, cpus = found
        return Finding(
            "cpu-quota",
            "spoils" if after > before else "widens",
            f"a control group allows {cpus:.2f} CPUs, and stopped this process {after - before} "
            f"times while this ran ({after} times in all)",
            "a process that has used its share is stopped for the rest of a period, 0.1 s as a "
            "rule, in the middle of a window",
            "measured",
            "lift the quota (docker run without --cpus; in Kubernetes no CPU limit), or:\n"
            f"echo max | sudo tee {path}",
            shown(path, text(path)),
        )
    return None


def numa_balancing(trees: Trees) -> Finding | None:
    """The kernel moves pages between nodes."""
    path = trees.proc / "sys/kernel/numa_balancing"
    nodes = len(list((trees.sysfs / "devices/system/node").glob("node[0-9]*")))
    if nodes < 2 or not number(path):
        return None
    return Finding(
        "numa-balancing",
        "widens",
        f"the kernel moves pages between {nodes} memory nodes as it sees fit",
        "a call pays for the pages that happen to move, and reads near or far memory by turns",
        "assumed",
        "switch it off and stay on one node:\nsudo sysctl kernel.numa_balancing=0\n"
        "numactl --cpunodebind=0 --membind=0 cwmp profile ...",
        shown(path, text(path)),
    )


def timer_slack(trees: Trees) -> Finding | None:
    """Sleeps of this process may be lengthened by more than a millisecond."""
    path = trees.proc / "self/timerslack_ns"
    slack_ns = number(path) or 0.0
    if slack_ns <= _LONGEST_SLACK_NS:
        return None
    return Finding(
        "timer-slack",
        "widens",
        f"the kernel may delay this process's timers by {slack_ns * 1e-6:.3g} ms",
        "each quiet around a window is that much longer, and its joules with it",
        "measured",
        "start from an ordinary shell, not as a background service; or:\n"
        "echo 50000 | sudo tee /proc/PID/timerslack_ns",
        shown(path, f"{slack_ns:.0f}"),
    )


def _groups(trees: Trees) -> Iterator[Path]:
    """The folders of this process's control groups, innermost first, both versions."""
    root = trees.sysfs / "fs/cgroup"
    for line in (text(trees.proc / "self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            tops = [root, root / "unified"]
        elif "cpu" in controllers.split(","):
            tops = [root / "cpu", root / controllers]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for top in tops:
            for depth in range(len(parts), -1, -1):
                folder = top.joinpath(*parts[:depth])
                if (folder / "cpu.stat").exists():
                    yield folder


def _quota(folder: Path) -> tuple[Path, float] | None:
    """(file, CPUs allowed) where *folder* sets a quota."""
    limit, _, period = (text(folder / "cpu.max") or "").partition(" ")
    if limit.isdigit() and period.isdigit() and int(period):
        return folder / "cpu.max", int(limit) / int(period)
    quota, length = number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
    if quota and length and quota > 0:
        return folder / "cpu.cfs_quota_us", quota / length
    return None
