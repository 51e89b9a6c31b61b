"""One block: the operation, its matched loop and a sleep, metered next to each other.

Three windows in random order. With E and T a window's joules and seconds and n the calls::

    cost_j_per_call  = (E_op - E_loop) / n                 marginal; the loop is NOT scaled by time
    gross_j_per_call = (E_op - E_sleep T_op / T_sleep) / n above sleep

The quiet tails that end the windows of a stepping counter (see `profiler.gauge`) are equal, so
they cancel in the marginal cost; in the gross cost they are subtracted with the rest of the time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np

from profiler.conditions import disturbances
from profiler.errors import InputError
from profiler.gauge import Gauge, Window
from profiler.workloads import Workload

MAX_REPETITIONS = 10_000_000
SHORTEST_SLEEP_S = 1e-3
_CALIBRATION_COUNTS, _LONGEST_COUNT_S = 3, 0.010


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a block was measured under.

    Attributes:
        flags: of `profiler.conditions.disturbances`.
        temperature_c: of the device before the block; ``None`` where it shows none.
        frequency_hz: of its clock right after the operation, likewise.
    """

    flags: tuple[str, ...] = ()
    temperature_c: float | None = None
    frequency_hz: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """The operation's window and its loop's, each around *repetitions* calls."""

    repetitions: int
    operation: Window
    loop: Window
    under: Surroundings

    @property
    def flags(self) -> tuple[str, ...]:
        """What disturbed it."""
        return self.under.flags

    @property
    def operation_s(self) -> float:
        """Seconds of the operation's window that its loop's has not: quiet tails cancel."""
        return self.operation.duration_s - self.loop.duration_s

    @property
    def cost_j_per_call(self) -> float:
        """Marginal joules a call; may be negative."""
        return (self.operation.energy_j - self.loop.energy_j) / self.repetitions


@dataclass(frozen=True, slots=True)
class Block(Pair):
    """A pair and a sleep next to it: three metered windows, and what they say of one call."""

    sleep: Window
    edge_j: float

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

    Doubles from one call until a tenth of the target is seen, or 10 ms if that is less, then
    scales; at least one call, at most `MAX_REPETITIONS`. The shortest of three counts: a stall
    of the host only adds, and taken for the call's own time it would make every block of the
    cell too short.
    """

    def seconds() -> float:
        begin = clock()
        workload.run(repetitions)
        return clock() - begin

    workload.run(1)
    repetitions = 1
    while True:
        took_s = min(seconds() for _ in range(_CALIBRATION_COUNTS))
        if took_s >= _count_s(target_s) or repetitions >= MAX_REPETITIONS:
            break
        repetitions = min(MAX_REPETITIONS, 2 * repetitions)
    call_s = took_s / repetitions
    return max(1, min(MAX_REPETITIONS, round(target_s / max(call_s, 1e-12)))), call_s


def calibration_s(target_s: float) -> float:
    """Seconds that `calibrate` takes at least where calls are short: counts, and their halves."""
    return 2 * _CALIBRATION_COUNTS * _count_s(target_s)


def _count_s(target_s: float) -> float:
    return min(target_s / 10, _LONGEST_COUNT_S)


def measure_pair(
    workload: Workload,
    repetitions: int,
    gauge: Gauge,
    generator: np.random.Generator,
    *,
    usual_frequency_hz: float | None = None,
) -> Pair:
    """Meter operation and loop alone; arguments and errors as for `measure_block`."""
    actions = _loops(workload, repetitions)
    windows, under = _metered(workload, actions, gauge, generator, usual_frequency_hz)
    operation, loop = windows
    return Pair(repetitions, operation, loop, under)


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
    length_s = max(sleep_s, SHORTEST_SLEEP_S)
    actions = [*_loops(workload, repetitions), lambda: gauge.sleep(length_s)]
    windows, under = _metered(workload, actions, gauge, generator, usual_frequency_hz)
    operation, loop, sleep = windows
    edge_j = gauge.edge_j(sleep.power_w)
    sampling_j = sqrt(operation.sampling_j2 + loop.sampling_j2)
    error_j = hypot(edge_j, edge_j, sampling_j)
    return Block(repetitions, operation, loop, under, sleep, edge_j=error_j)


def _loops(workload: Workload, repetitions: int) -> list[Callable[[], None]]:
    if repetitions < 1:
        raise InputError(f"a block needs at least one call, not {repetitions}")
    return [lambda: workload.run(repetitions), lambda: workload.reference(repetitions)]


def _metered(
    workload: Workload,
    actions: Sequence[Callable[[], None]],
    gauge: Gauge,
    generator: np.random.Generator,
    usual_frequency_hz: float | None,
) -> tuple[list[Window], Surroundings]:
    """A window of each action, measured in random order after one call, and what disturbed it."""
    windows: dict[int, Window] = {}
    extra_s = gauge.extra_tail_s(generator)
    frequency_hz = None
    with _quiet():
        before = gauge.observer.observe()
        workload.run(1)
        for which in generator.permutation(len(actions)).tolist():
            windows[which] = gauge.window(actions[which], generator, extra_s)
            if which == 0:
                frequency_hz = gauge.observer.observe().frequency_hz
        after = gauge.observer.observe()
    ordered = [windows[which] for which in range(len(actions))]
    flags = disturbances(before, after, frequency_hz, usual_frequency_hz)
    return ordered, Surroundings(flags, before.temperature_c, frequency_hz)


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
