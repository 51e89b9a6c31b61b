"""The joules of a ``with`` block.

with meter_window(meter, "epoch", probe=probe(meter)) as window:
    train()
print(window.result.energy_j, "+-", window.result.standard_error_j)

A counter that steps shows a state up to one step old. Read right after the work, it misses
(P_work - P_rest) tau / 2 on average, which no number of repetitions averages out. Where the
probe found such steps, a window begins after a quiet longer than a step, and is read again after
another such quiet, whose joules at rest are taken out::

    E = E(after the quiet) - E(start) - P_rest t_quiet

Each quiet is longer by what a sensor lags (`MeterInfo.lag_s`) and by a random part of a step.
Windows of one length would otherwise show one of two values, and a few of them often the same
one: no scatter to estimate an error from.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from profiler.conditions import suspended_s
from profiler.errors import CounterFaultError, InputError
from profiler.gauge import Gauge
from profiler.meters.base import (
    EnergyMeter,
    MeterInfo,
    Origin,
    Reading,
    energy_between,
    first_reading,
    sampling_variance_between,
)
from profiler.probe import IDLE_SHARE, ProbeResult
from profiler.statistics import edge_standard_error_j
from profiler.windows.alive import KeptAlive

ASLEEP_S = 0.1
"""Two clocks that are read one after the other part by less."""
_STEPS_AT_REST = 2.0
"""Steps of a counter that a rest must last for its power to be known."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What a window cost.

    Attributes:
        name: as given.
        origin: ``measured``, ``modelled`` or ``assumed``, from the meter.
        duration_s: of the block, by the monotonic clock; the quiet around it is not in it.
        energy_j: the sum over the selected rails. It may fall below 0 by a few standard errors
            where the block was shorter than the counter's step.
        rail_energy_j: each rail by itself.
        standard_error_j: of the sum, from the instrument alone: where the edges fall in the
            counters' steps, sqrt(sum_r (P_r tau_r)^2 / 6) with P_r the power at the edges, which
            is that at rest where they lie in quiet; the error of the joules taken out for the
            quiet; and what sampling a power adds. ``None`` where the meter was not probed.
        quiet_s: seconds around the block, its reads' and the quiet after it, whose joules at rest
            were taken out.
        systematic: the meter's `systematic_share`: a gain error, +- so much of the energy, that
            is in no standard error and that no repetition averages out; ``None`` where the meter's
            is unknown.
        systematic_j: that error in joules, offsets in it; ``None`` where it is unknown.
    """

    name: str
    origin: Origin
    duration_s: float
    energy_j: float
    rail_energy_j: dict[str, float]
    standard_error_j: float | None
    quiet_s: float = 0.0
    systematic: float | None = None
    systematic_j: float | None = None

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
    meter: EnergyMeter,
    name: str,
    *,
    probe: ProbeResult | None = None,
    rest: WindowResult | None = None,
    resting: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[], float] = random.random,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Window]:
    """Measure the block under ``with``. Windows may lie inside one another.

    While it is open, a thread reads a meter whose counters wrap often enough that no wrap is
    missed; such a meter must bear being read from two threads, as those of this project do.
    Time between windows is nobody's: a counter that wrapped or was reset then does no harm.

    Args:
        meter: an open meter.
        name: for the result.
        probe: of this meter; gives the standard error, and the quiet around the block where the
            counter steps: 3 to 5 steps in all, some 5 ms for RAPL and 0.4 s for a counter of
            100 ms. Without it there is no quiet, and a stepped counter reads low. An inner
            window's quiet counts as the outer one's work.
        rest: a finished window in which the machine rested; gives the power of the quiet. By
            default the probe's idle power.
        resting: the block itself rests, and the quiet at its end is part of it.
        sleep: waits so many seconds.
        draw: a number from 0 to 1, the part of a step by which a quiet is lengthened.
        clock: seconds. Where it is the meter's own, the time that its two reads at the edges take
            is not the block's: it counts as quiet.

    Raises:
        InputError: the counter is too slow for the probe to have seen the power at rest, and no
            *rest* is given (`rest_seconds_short`).
        MeterReadError, CounterFaultError: a read failed, at an edge or in between. The block
            has run, but its joules are lost; an error of the block itself goes first.
    """
    window = Window(name)
    if probe is not None and rest is None and not resting:
        _check_rest_known(meter, probe)
    gauge = gauge_of(meter, probe)
    tail_s = gauge.tail_s if probe is not None else 0.0

    def fall_quiet() -> None:
        sleep(tail_s + draw() * (gauge.period_s or 0.0))

    if tail_s:
        fall_quiet()
    asleep_s = suspended_s()
    with KeptAlive(meter) as kept_alive:
        stretch = _Stretch(clock)
        start = stretch.begin(first_reading(meter))
        yield window
        done = end = stretch.end(meter)
        if tail_s:
            fall_quiet()
            end = meter.read()
    if kept_alive.error is not None:
        raise kept_alive.error
    if (slept_s := suspended_s() - asleep_s) > ASLEEP_S:
        raise CounterFaultError(
            f"the host slept for {slept_s:.3g} s in window {name!r}, and counters may have started "
            "again meanwhile; repeat the measurement"
        )
    duration_s = end.time_s - start.time_s if resting else stretch.block_s(start, done)
    window._result = _result(name, meter, (start, end), duration_s, probe, rest)


class _Stretch:
    """How long a block took, its edges' reads left out where meter and clock agree."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._before_s = clock()
        self._begun_s = self._ended_s = 0.0
        self._agree = False

    def begin(self, start: Reading) -> Reading:
        """*start*, just read."""
        self._begun_s = self._clock()
        self._agree = self._before_s <= start.time_s <= self._begun_s
        return start

    def end(self, meter: EnergyMeter) -> Reading:
        """The reading right after the block."""
        self._ended_s = self._clock()
        return meter.read()

    def block_s(self, start: Reading, done: Reading) -> float:
        """Of the block, or from read to read by a meter that has a clock of its own."""
        between_s = done.time_s - start.time_s
        return min(self._ended_s - self._begun_s, between_s) if self._agree else between_s


def gauge_of(meter: EnergyMeter, probe: ProbeResult | None) -> Gauge:
    """What says how long a quiet must be, so that windows and blocks are metered alike."""
    if probe is None:
        return Gauge(meter)
    return Gauge(meter, probe.period_s, probe.period_p99_s, probe.quantum_j)


def _check_rest_known(meter: EnergyMeter, probe: ProbeResult) -> None:
    if needed_s := rest_seconds_short(meter.info, probe, rested_s(probe)):
        step_s = needed_s / _STEPS_AT_REST
        raise InputError(
            f"{meter.info.name} takes up to {step_s:.3g} s to step, so a probe of "
            f"{probe.duration_s:.3g} s does not know the power at rest: rest before each run "
            f"(--idle-s; rest= in Python), or probe for {needed_s / IDLE_SHARE:.3g} s"
        )


def rested_s(probe: ProbeResult) -> float:
    """How long the machine was at rest while it was probed."""
    return probe.idle_s or IDLE_SHARE * probe.duration_s


def rest_seconds_short(info: MeterInfo, probe: ProbeResult, seconds: float) -> float | None:
    """The seconds that a rest must last to tell its power, where *seconds* are too few.

    That is two steps of a counter that states how slow it is. Of one that does not, the longest
    step that was seen: in less, it may have shown nothing at all.
    """
    seen_s = max(probe.period_p99_s or 0.0, probe.period_s or 0.0) / _STEPS_AT_REST
    needed_s = _STEPS_AT_REST * max(info.longest_step_s or 0.0, seen_s)
    return needed_s if seconds < (1 - _ROUNDING) * needed_s else None


def _result(
    name: str,
    meter: EnergyMeter,
    readings: tuple[Reading, Reading],
    duration_s: float,
    probe: ProbeResult | None,
    rest: WindowResult | None,
) -> WindowResult:
    """The result of *duration_s* between the readings before the block and after the quiet."""
    start, end = readings
    quiet_s = end.time_s - start.time_s - duration_s
    rail_energy_j = {rail: energy_between(start, end, [rail]) for rail in meter.info.selected}
    error_j = None
    if probe is not None and quiet_s > 0:
        power_w, error_w = power_at_rest(meter, probe, rest)
        for rail in rail_energy_j:
            rail_energy_j[rail] -= power_w[rail] * quiet_s
        error_j = math.hypot(edge_error_j(power_w, 1.0, probe), error_w * quiet_s)
    elif probe is not None:
        error_j = edge_error_j(rail_energy_j, duration_s, probe)
    if error_j is not None:
        sampled_j2 = sampling_variance_between(start, end, meter.info.selected)
        error_j = math.hypot(error_j, math.sqrt(sampled_j2))
    energy_j = sum(rail_energy_j.values())
    return WindowResult(
        name=name,
        origin=meter.info.origin,
        duration_s=duration_s,
        energy_j=energy_j,
        rail_energy_j=rail_energy_j,
        standard_error_j=error_j,
        quiet_s=quiet_s,
        systematic=meter.info.systematic_share,
        systematic_j=meter.info.systematic_j(energy_j, duration_s),
    )


def power_at_rest(
    meter: EnergyMeter, probe: ProbeResult, rest: WindowResult | None = None
) -> tuple[dict[str, float], float]:
    """Watts at rest by rail, and the standard error of their sum from the counters' steps."""
    rails = meter.info.selected
    if rest is not None:
        power_w = {rail: rest.rail_energy_j[rail] / rest.duration_s for rail in rails}
        return power_w, (rest.standard_error_j or 0.0) / rest.duration_s
    power_w = {rail: probe.rail(rail).idle_power_w for rail in rails}
    return power_w, edge_error_j(power_w, 1.0, probe) / rested_s(probe)


def edge_error_j(
    rail_energy_j: Mapping[str, float], duration_s: float, probe: ProbeResult
) -> float:
    """Standard error of a window's energy from its two edges, over rails that step apart.

    sqrt(sum_r (P_r tau_r)^2 / 6), P_r the rail's mean power in the window and tau_r its
    `profiler.probe.edge_period`. A rail that never stepped while it was probed adds nothing.

    Raises:
        InputError: a rail was not probed.
    """
    variance_j2 = 0.0
    for rail, energy_j in rail_energy_j.items():
        found = probe.rail(rail)
        period_s = found.period_s if found.edge_period_s is None else found.edge_period_s
        if period_s is not None and duration_s > 0:
            variance_j2 += edge_standard_error_j(energy_j / duration_s, period_s) ** 2
    return math.sqrt(variance_j2)
