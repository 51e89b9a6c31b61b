"""One block: the operation, its matched loop and a sleep, metered next to each other.

Three windows in random order. With E and T a window's joules and seconds and n the calls::

    cost_j_per_call  = (E_op - E_loop) / n                 marginal; the loop is NOT scaled by time
    gross_j_per_call = (E_op - E_sleep T_op / T_sleep) / n above sleep

Where the counter steps, a window ends in a quiet tail longer than a step, and starts at a random
phase of one. A counter lags by up to a step: read right after the work, it would miss half a step
at the work's power, (P_op - P_quiet) tau / 2 on average, which no number of blocks averages out;
and a window that starts on a step and always lasts 20.3 of them always shows 20. With quiet on
both sides of both edges the mean is right for any length and any stepping, and what is left is
scatter of P_quiet tau / sqrt(6) a window. The tails are equal, so they cancel in the marginal
cost; in the gross cost they are subtracted with the rest of the time.

Before each window the process is left to fall quiet: the worker threads of an operation spin
for milliseconds after their work, and would burn their joules in the next window.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import hypot

import numpy as np

from profiler.errors import CounterFaultError, InputError
from profiler.meters.base import EnergyMeter, energy_between
from profiler.statistics import edge_standard_error_j
from profiler.sysfs import sysfs_root
from profiler.workloads import Workload

SHORTEST_STEP_S, LONGEST_TAIL_S = 0.2e-3, 2.0
_TAIL_STEPS = 1.25
MAX_REPETITIONS = 10_000_000
SHORTEST_SLEEP_S = 1e-3
_SUSPEND_GAP_S = 1e-3
_SETTLE_STEP_S, _SETTLE_STEPS, _QUIET_CPU_SHARE = 1e-3, 25, 0.3
_FREQUENCY_SHIFT = 0.10


@dataclass(frozen=True, slots=True)
class Window:
    """Joules and seconds between two readings of the meter."""

    start_s: float
    duration_s: float
    energy_j: float

    @property
    def power_w(self) -> float:
        return self.energy_j / self.duration_s


@dataclass(frozen=True)
class Gauge:
    """A meter with what its probe found: it meters one action at a time.

    Attributes:
        meter: the open meter.
        period_s: update period of the counter; ``None`` or 0 where it has no steps.
        longest_step_s: the longest that it takes, as far as was seen; ``None``: the period.
        quantum_j: the smallest step of the counter, when known.
        sleep: waits so many seconds (scripted in tests).
    """

    meter: EnergyMeter
    period_s: float | None = None
    longest_step_s: float | None = None
    quantum_j: float | None = None
    sleep: Callable[[float], None] = time.sleep

    @property
    def stepped(self) -> bool:
        """Whether the counter steps slowly enough for windows to feel it."""
        return (self.period_s or 0.0) >= SHORTEST_STEP_S

    @property
    def tail_s(self) -> float:
        """Seconds of quiet that end each window."""
        if not self.stepped:
            return 0.0
        longest_s = max(self.longest_step_s or 0.0, self.period_s or 0.0)
        return min(_TAIL_STEPS * longest_s, LONGEST_TAIL_S)

    def window(self, action: Callable[[], None], generator: np.random.Generator) -> Window:
        """Meter *action* and the quiet tail, begun at a random phase of the counter's step.

        Raises:
            MeterReadError: the meter did not answer.
            CounterFaultError: energy or time ran backwards, or the window outlasted a wrap.
        """
        self._settle()
        tail_s = self.tail_s
        if tail_s:
            self.sleep(float(generator.uniform(0.0, self.period_s or 0.0)))
        info = self.meter.info
        start = self.meter.read()
        action()
        if tail_s:
            self.sleep(tail_s)
        end = self.meter.read()
        energy = energy_between(start, end, info.selected)
        duration = end.time_s - start.time_s
        if not (duration > 0 and energy >= 0):
            raise CounterFaultError(f"{info.name} counted {energy:.3g} J in {duration:.3g} s")
        if info.max_read_gap_s is not None and duration > info.max_read_gap_s:
            raise CounterFaultError(
                f"one window took {duration:.3g} s, but {info.name} may wrap unseen after "
                f"{info.max_read_gap_s:.3g} s"
            )
        return Window(start.time_s, duration, energy)

    def _settle(self) -> None:
        for _ in range(_SETTLE_STEPS):
            before_s = time.process_time()
            self.sleep(_SETTLE_STEP_S)
            if time.process_time() - before_s < _QUIET_CPU_SHARE * _SETTLE_STEP_S:
                return

    def edge_j(self, power_w: float) -> float:
        """Standard error of one window whose edges lie where *power_w* is drawn.

        From the counter's steps, or from its quantum if that is larger.
        """
        stepped = edge_standard_error_j(power_w, self.period_s or 0.0)
        return max(stepped, edge_standard_error_j(self.quantum_j or 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Block:
    """Three metered windows around *repetitions* calls, and what they say of one call."""

    repetitions: int
    operation: Window
    loop: Window
    sleep: Window
    edge_j: float
    flags: tuple[str, ...] = ()

    @property
    def cost_j_per_call(self) -> float:
        """Marginal joules a call; may be negative."""
        return (self.operation.energy_j - self.loop.energy_j) / self.repetitions

    @property
    def gross_j_per_call(self) -> float:
        """Joules a call above sleep; may be negative."""
        asleep_j = self.sleep.power_w * self.operation.duration_s
        return (self.operation.energy_j - asleep_j) / self.repetitions

    @property
    def standard_error_j_per_call(self) -> float:
        """Of the marginal cost, from counter steps alone."""
        return self.edge_j / self.repetitions


def calibrate(workload: Workload, target_s: float, clock: Callable[[], float]) -> tuple[int, float]:
    """Calls that fill *target_s*, and the seconds one call takes.

    Doubles from one call until a tenth of the target is seen, then scales; at least one call,
    at most `MAX_REPETITIONS`. The shortest of three counts: a stall of the host only adds, and
    taken for the call's own time it would make every block of the cell too short.
    """

    def seconds() -> float:
        begin = clock()
        workload.run(repetitions)
        return clock() - begin

    workload.run(1)
    repetitions = 1
    while True:
        took_s = min(seconds() for _ in range(3))
        if took_s >= target_s / 10 or repetitions >= MAX_REPETITIONS:
            break
        repetitions = min(MAX_REPETITIONS, 2 * repetitions)
    call_s = took_s / repetitions
    return max(1, min(MAX_REPETITIONS, round(target_s / max(call_s, 1e-12)))), call_s


def measure_block(
    workload: Workload,
    repetitions: int,
    gauge: Gauge,
    generator: np.random.Generator,
    *,
    sleep_s: float,
    usual_frequency_hz: float | None = None,
) -> Block:
    """Meter one block: three windows in an order drawn from *generator*.

    Raises:
        InputError: fewer than one repetition.
        MeterReadError, CounterFaultError: as `Gauge.window`; the block is then lost.
    """
    if repetitions < 1:
        raise InputError(f"a block needs at least one call, not {repetitions}")
    actions: tuple[Callable[[], None], ...] = (
        lambda: workload.run(repetitions),
        lambda: workload.reference(repetitions),
        lambda: gauge.sleep(max(sleep_s, SHORTEST_SLEEP_S)),
    )
    windows: dict[int, Window] = {}
    frequency_hz = None
    with _quiet():
        gap_s = suspended_s()
        workload.run(1)
        for which in generator.permutation(3).tolist():
            windows[which] = gauge.window(actions[which], generator)
            if which == 0 and usual_frequency_hz is not None:
                frequency_hz = cpu_frequency_hz()
        gap_s = suspended_s() - gap_s
    operation, loop, sleep = windows[0], windows[1], windows[2]
    edge_j = gauge.edge_j(sleep.power_w)
    return Block(
        repetitions,
        operation,
        loop,
        sleep,
        edge_j=hypot(edge_j, edge_j),
        flags=_flags(gap_s, frequency_hz, usual_frequency_hz),
    )


def suspended_s() -> float:
    """Seconds this host has slept since it booted; a change means a window spans a suspend."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def cpu_frequency_hz() -> float | None:
    """The highest current frequency of the first eight cores; ``None`` where it is not shown."""
    folder = sysfs_root() / "devices/system/cpu"
    seen = []
    for number in range(8):
        try:
            text = (folder / f"cpu{number}/cpufreq/scaling_cur_freq").read_text()
            seen.append(float(text) * 1e3)
        except (OSError, ValueError):
            continue
    return max(seen, default=None)


def _flags(gap_s: float, frequency_hz: float | None, usual_hz: float | None) -> tuple[str, ...]:
    flags = []
    if gap_s > _SUSPEND_GAP_S:
        flags.append("suspend-gap")
    if frequency_hz and usual_hz and abs(frequency_hz / usual_hz - 1) > _FREQUENCY_SHIFT:
        flags.append("frequency-shift")
    return tuple(flags)


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection inside windows."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
