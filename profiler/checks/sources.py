"""The energy counter itself: absent, unreadable, masked, or behind a hypervisor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from profiler.checks.finding import Finding, Trees, shown, text
from profiler.meters import AUTO_CPU
from profiler.meters.base import SourceReport

_NO_HARDWARE = ("modelled", "replay", "fake")


def counters(reports: Sequence[SourceReport]) -> list[Finding]:
    """No energy source can be read; or one is there and refuses.

    Args:
        reports: what `profiler.meters.discover` found.
    """
    hardware = [report for report in reports if report.source not in _NO_HARDWARE]
    usable = any(report.usable for report in hardware)
    refusing = [report for report in hardware if not report.usable and _is_there(report)]
    found = [_refusal(report, usable) for report in refusing]
    if usable or refusing:
        return found
    first = hardware[0] if hardware else None
    return [
        Finding(
            "no-counter",
            "spoils",
            "no energy counter can be read here",
            "nothing is measured: 'auto' falls back to a model, CPU time x an assumed power, "
            "which knows neither memory nor idle power",
            "measured",
            (first.remedy if first else None) or "see 'cwmp devices'",
            "; ".join(f"{report.source}: {report.cause}" for report in hardware) or "no source",
        )
    ]


def hypervisor(virtual: str | None) -> Finding | None:
    """The machine is virtual.

    Args:
        virtual: as `profiler.host.virtualisation` says.
    """
    if virtual is None:
        return None
    return Finding(
        "virtual-machine",
        "widens",
        f"this is a virtual machine ({virtual})",
        "other guests use the same cores, caches and power limit, and their load is not seen from "
        "here; clock and temperature are hidden",
        "assumed",
        "measure on the machine itself, or take the meters of its board or rack",
        virtual,
    )


def masked(trees: Trees) -> Finding | None:
    """A container's engine has laid something over the counters."""
    for line in (text(trees.proc / "self/mountinfo") or "").splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[4].endswith("/devices/virtual/powercap"):
            return Finding(
                "container-mask",
                "spoils",
                "the container's engine has masked the energy counters",
                "the counters look absent, though the host has them",
                "measured",
                "give the container the host's tree, and say where it is:\n"
                "docker run -v /sys:/host/sys:ro -e CWMP_SYSFS=/host/sys ...",
                shown(trees.proc / "self/mountinfo", fields[4]),
            )
    return None


def weighed(found: Finding, reports: Sequence[SourceReport]) -> Finding | None:
    """A container's mask where a processor's counter can be read nevertheless: it spoils nothing.

    Args:
        found: of `masked`; any other finding comes back as it is.
        reports: what `profiler.meters.discover` found.
    """
    if found.name != "container-mask":
        return found
    usable = [report.source for report in reports if report.usable]
    if "rapl" in usable:
        return None  # the tree that is read is another than the masked one
    if any(source in AUTO_CPU for source in usable):
        return replace(found, severity="note")
    return found


def _is_there(report: SourceReport) -> bool:
    return report.device is not None or bool(report.rails)


def _refusal(report: SourceReport, others: bool) -> Finding:
    return Finding(
        "counter-unreadable",
        "note" if others else "spoils",
        f"{report.source} ({report.device or report.path}) cannot be read: {report.cause}",
        "another source is left" if others else "nothing is measured until it can be read",
        "measured",
        report.remedy or "see 'cwmp devices'",
        report.path,
    )
