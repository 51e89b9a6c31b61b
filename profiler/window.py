"""The joules of a ``with`` block.

with meter_window(meter, "epoch", probe=probe(meter)) as window:
    train()
print(window.result.energy_j, "+-", window.result.standard_error_j)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from profiler.errors import InputError
from profiler.meters.base import EnergyMeter, Origin, Reading
from profiler.probe import ProbeResult
from profiler.statistics import edge_standard_error_j


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What a window cost.

    Attributes:
        name: as given.
        origin: ``measured``, ``modelled`` or ``assumed``, from the meter.
        duration_s: from the first read to the last, by the monotonic clock.
        energy_j: the sum over the selected rails.
        rail_energy_j: each rail by itself.
        standard_error_j: of the sum, from where the edges fall in the counters' steps alone:
            sqrt(sum_r (P_r tau_r)^2 / 6). ``None`` where the meter was not probed.
    """

    name: str
    origin: Origin
    duration_s: float
    energy_j: float
    rail_energy_j: dict[str, float]
    standard_error_j: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return asdict(self)


class Window:
    """An open or finished window; see `meter_window`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._result: WindowResult | None = None

    @property
    def result(self) -> WindowResult:
        """What the window cost.

        Raises:
            InputError: it is still open, or ended by an exception.
        """
        if self._result is None:
            raise InputError(f"window {self.name!r} has no result: it has not ended normally")
        return self._result


@contextmanager
def meter_window(
    meter: EnergyMeter, name: str, *, probe: ProbeResult | None = None
) -> Iterator[Window]:
    """Measure the block under ``with``. Windows may lie inside one another.

    While it is open, a thread reads a meter whose counters wrap often enough that no wrap is
    missed; such a meter must bear being read from two threads, as those of this project do.

    Args:
        meter: an open meter.
        name: for the result.
        probe: of this meter; gives the standard error.

    Raises:
        MeterReadError, CounterFaultError: a read failed, at an edge or in between. The block
            has run, but its joules are lost; an error of the block itself goes first.
    """
    window = Window(name)
    with _KeptAlive(meter) as kept_alive:
        start = meter.read()
        yield window
        end = meter.read()
    if kept_alive.error is not None:
        raise kept_alive.error
    window._result = _result(name, meter, start, end, probe)


def _result(
    name: str, meter: EnergyMeter, start: Reading, end: Reading, probe: ProbeResult | None
) -> WindowResult:
    duration_s = end.time_s - start.time_s
    rail_energy_j = {
        rail: end.energy_j[rail] - start.energy_j[rail] for rail in meter.info.selected
    }
    error_j = None
    if probe is not None:
        error_j = edge_error_j(rail_energy_j, duration_s, probe)
    return WindowResult(
        name=name,
        origin=meter.info.origin,
        duration_s=duration_s,
        energy_j=sum(rail_energy_j.values()),
        rail_energy_j=rail_energy_j,
        standard_error_j=error_j,
    )


def edge_error_j(rail_energy_j: dict[str, float], duration_s: float, probe: ProbeResult) -> float:
    """Standard error of a window's energy from its two edges, over rails that step apart.

    sqrt(sum_r (P_r tau_r)^2 / 6), P_r the rail's mean power in the window and tau_r its update
    period. A rail that never stepped while it was probed adds nothing.

    Raises:
        InputError: a rail was not probed.
    """
    variance_j2 = 0.0
    for rail, energy_j in rail_energy_j.items():
        period_s = probe.rail(rail).period_s
        if period_s is not None and duration_s > 0:
            variance_j2 += edge_standard_error_j(energy_j / duration_s, period_s) ** 2
    return math.sqrt(variance_j2)


class _KeptAlive:
    """Reads a wrapping meter four times in the time in which a second wrap could hide."""

    def __init__(self, meter: EnergyMeter) -> None:
        self.error: Exception | None = None
        self._meter = meter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cwmp-keep-alive", daemon=True)

    def __enter__(self) -> _KeptAlive:
        if self._meter.info.max_read_gap_s is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        gap_s = self._meter.info.max_read_gap_s
        while gap_s is not None and not self._stop.wait(gap_s / 4):
            try:
                self._meter.read()
            except Exception as error:  # raised again where the window ends
                self.error = error
                return
