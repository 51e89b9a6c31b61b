"""Energy events that show one counter twice, as the dies of some processors do.

Every event counts from its own opening, so two of one counter differ by a constant: what tells
them from two counters is that they step by the same number of units, to the digit, every time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from profiler.errors import MeterError
from profiler.meters.perf_events import EnergyEvent, PerfEvents

STEPS = 8
"""Equal steps that make a mirror; those of two rails differ by some units even at rest."""
_PAUSE_S, _LONGEST_S = 0.0002, 0.05


def without_mirrors(events: Sequence[EnergyEvent], kernel: PerfEvents) -> tuple[EnergyEvent, ...]:
    """*events* with those that show a sibling's counter taken out of the counted set.

    Counters that step less often than 160 times a second, or cannot be read, stay as they are.
    """
    kept: list[EnergyEvent] = []
    for event in events:
        twin = next((other for other in kept if _mirrors(event, other, kernel)), None)
        if twin is not None:
            because = f"shows {twin.rail.name}'s counter"
            event = replace(
                event, rail=replace(event.rail, counted=False, excluded_because=because)
            )
        kept.append(event)
    return tuple(kept)


def _mirrors(event: EnergyEvent, other: EnergyEvent, kernel: PerfEvents) -> bool:
    alike = event.rail.counted and other.rail.counted and event.rail.domain == other.rail.domain
    if not alike or event.config != other.config:
        return False
    handles: list[int] = []
    try:
        for each in (event, other):
            handles.append(kernel.open(each))
        return _step_together(event, other, handles, kernel)
    except MeterError:
        return False  # the meter says so when it is opened
    finally:
        for handle in handles:
            kernel.close(handle)


def _step_together(
    event: EnergyEvent, other: EnergyEvent, handles: Sequence[int], kernel: PerfEvents
) -> bool:
    """Whether `STEPS` steps of both were the same."""
    apart: int | None = None
    last = steps = 0
    deadline_s = time.perf_counter() + _LONGEST_S
    while time.perf_counter() < deadline_s:
        one = kernel.read(handles[0], event)
        two = kernel.read(handles[1], other)
        if kernel.read(handles[0], event) != one:
            continue  # it stepped while the other was read
        if apart is None:
            apart, last = one - two, one
        if one - two != apart:
            return False
        if one != last:
            steps, last = steps + 1, one
        if steps == STEPS:
            return True
        time.sleep(_PAUSE_S)
    return False
