"""What the tests of `EnergyMonitor` share: a probe made up, and a meter without steps."""

from __future__ import annotations

import threading

from profiler.meters.fake import FakeMeter, ManualClock
from profiler.probe import ProbeResult, RailProbe


def made_up_probe(period_s: float | None = None, idle_w: float = 10.0, *rails: str) -> ProbeResult:
    found = tuple(
        RailProbe(rail, 9, period_s, period_s, None, idle_w) for rail in rails or ("cpu",)
    )
    return ProbeResult(period_s, period_s, None, 1e-6, idle_w, 9, 1.0, found)


def smooth_meter(
    power: object = 10.0, faults: dict[int, Exception] | None = None
) -> tuple[FakeMeter, ManualClock]:
    clock = ManualClock()
    return FakeMeter(power, period_s=0.0, quantum_j=0.0, clock=clock, faults=faults), clock  # type: ignore[arg-type]


def monitor_threads() -> int:
    return sum(thread.name == "cwmp-keep-alive" for thread in threading.enumerate())
