"""What on this host will spoil a measurement, what it costs, and what mends it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from profiler.checks import clock, gpu, heat, limits, load, sources
from profiler.checks.finding import Finding, Severity, Trees
from profiler.errors import InputError, MeterError
from profiler.host import virtualisation
from profiler.meters import discover, find_meter
from profiler.meters.base import EnergyMeter, MeterInfo
from profiler.probe import probe

if TYPE_CHECKING:
    from profiler.host_noise import HostNoise

SEVERITIES: tuple[Severity, ...] = ("spoils", "widens", "note")
_WATCH_S, _PROBE_S, _NOISE_S = 1.0, 1.0, 5.0
_STATIC = (
    clock.governor,
    clock.energy_preference,
    clock.turbo,
    clock.siblings,
    clock.mixed_cores,
    clock.time_source,
    heat.temperature,
    heat.on_battery,
    heat.power_profile,
    limits.numa_balancing,
    limits.timer_slack,
    sources.masked,
)
"""Checks that need one look at the trees and nothing else."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, worst first.

    Attributes:
        meter: what measures here; ``None`` where none could be opened.
        findings: see `Finding`.
        noise: the A/A test; ``None`` where it was not made.
        no_noise_because: why not.
    """

    meter: MeterInfo | None
    findings: tuple[Finding, ...]
    noise: HostNoise | None
    no_noise_because: str | None

    @property
    def spoiled(self) -> bool:
        """Whether joules measured here would be wrong, or none at all."""
        return any(finding.severity == "spoils" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and text, for JSON."""
        info = self.meter
        return {
            "meter": info.name if info else None,
            "device": info.device if info else None,
            "origin": info.origin if info else None,
            "spoiled": self.spoiled,
            "findings": [asdict(finding) for finding in self.findings],
            "noise": self.noise.as_dict() if self.noise else None,
            "no_noise_because": self.no_noise_because,
        }


def diagnose(
    spec: str = "auto",
    *,
    device: str = "cpu",
    measure: bool = True,
    trees: Trees | None = None,
    watch_s: float = _WATCH_S,
    seconds: float = _NOISE_S,
) -> Diagnosis:
    """Look at this host for *watch_s*, and measure its noise for about *seconds*.

    Args:
        spec, device: as `find_meter` takes them.
        measure: make the A/A test, on whatever meter *spec* names.
        trees: where to look; by default the running system's.

    Raises:
        InputError: an unknown meter or device.
    """
    trees = trees or Trees()
    meter, absent = _open(spec, device)
    try:
        throttled, stopped = heat.throttle_count(trees), limits.throttled_periods(trees)
        before = load.look(trees)
        time.sleep(watch_s)
        after = load.look(trees)
        gpus = gpu.look_at_gpus()  # before this process computes on one
        noise: HostNoise | None = None
        why_not = absent or "not asked for"
        if meter is not None and measure:
            noise, why_not = _noise(meter, device, seconds)
        reports = discover()
        info = meter.info if meter else None
        found = [
            *(sources.weighed(each, reports) for each in static_findings(trees)),
            load.other_load(before, after, own=(os.getpid(),)),
            load.stolen_time(before, after),
            load.swapping(before, after, trees),
            heat.throttling(throttled, heat.throttle_count(trees)),
            limits.cpu_quota(trees, stopped, limits.throttled_periods(trees)),
            sources.hypervisor(virtualisation(trees.proc / "cpuinfo")),
            *sources.counters(reports),
        ]
        for state in gpus:
            found += gpu.gpu_findings(state, metered=gpu.is_metered(state, info, device))
        return Diagnosis(info, ranked(found), noise, None if noise else why_not)
    finally:
        if meter is not None:
            meter.close()


def static_findings(trees: Trees) -> list[Finding]:
    """What one look at the kernel's trees shows."""
    return [found for check in _STATIC if (found := check(trees)) is not None]


def ranked(found: list[Finding | None]) -> tuple[Finding, ...]:
    """Those that are something, the worst first."""
    some = [finding for finding in found if finding is not None]
    return tuple(sorted(some, key=lambda finding: SEVERITIES.index(finding.severity)))


def _open(spec: str, device: str) -> tuple[EnergyMeter | None, str | None]:
    try:
        return find_meter(spec, device=device), None
    except MeterError as error:
        return None, str(error)


def _noise(meter: EnergyMeter, device: str, seconds: float) -> tuple[HostNoise | None, str]:
    """The A/A test, or why there is none."""
    from profiler.host_noise import hashing, measure_noise, multiplying

    work: Callable[[float], Callable[[], None]] = hashing
    try:
        if meter.info.covers == "gpu":
            work = multiplying("cuda:0" if device == "cpu" else device)
        probed = probe(meter, max_time_s=_PROBE_S)
        return measure_noise(meter, probed, seconds=seconds, work=work), ""
    except (MeterError, InputError) as error:
        return None, " ".join(str(error).split())
