"""The joules of an action, repeated: in all, and above what the machine draws at rest.

Before each repetition the machine rests, and that rest's power, not one taken once for all,
is subtracted: d = E - P_rest T, in the run and in the quiet that ends it (see `window`). The
interval is Student's over the repetitions, or where each resembles the one before a wider one
(see `correlated`); a single one has only the bound that the counter's steps give. A meter's gain
error is in neither: it is `WindowResult.systematic`, beside them.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from profiler.errors import InputError
from profiler.meters.base import EnergyMeter
from profiler.probe import ProbeResult
from profiler.window import WindowResult, meter_window

_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and the half-width of its 95 % interval.

    Attributes:
        mean: over the repetitions.
        half_width: ``None`` where nothing bounds it, neither a difference nor a step.
        basis: ``student`` over repetitions; ``fixed-b`` over repetitions of which each
            resembles the one before; ``edges``, the counter's steps alone, which says
            nothing of how much one run differs from the next.
        n: repetitions.
        standard_deviation: between repetitions; ``None`` for one.
        remarks: that repetitions look correlated, or that they drift.
    """

    mean: float
    half_width: float | None
    basis: Literal["student", "fixed-b", "edges"]
    n: int
    standard_deviation: float | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repetition:
    """One run: its window, and the rest before it."""

    run: WindowResult
    rest: WindowResult | None

    @property
    def rest_power_w(self) -> float | None:
        """Power at rest; ``None`` where there was no rest."""
        return self.rest.energy_j / self.rest.duration_s if self.rest else None

    @property
    def above_rest_j(self) -> float | None:
        """E - P_rest T; may be negative, and is kept so."""
        power_w = self.rest_power_w
        return None if power_w is None else self.run.energy_j - power_w * self.run.duration_s

    @property
    def above_rest_error_j(self) -> float | None:
        """Standard error of `above_rest_j` from the edges of both windows."""
        if self.rest is None or self.run.standard_error_j is None:
            return None
        # The run's own error holds the rest's for the quiet t: (T + t)^2 = t^2 + T (T + 2 t).
        run_s, quiet_s = self.run.duration_s, self.run.quiet_s
        scale = math.sqrt(run_s * (run_s + 2 * quiet_s)) / self.rest.duration_s
        return math.hypot(self.run.standard_error_j, scale * (self.rest.standard_error_j or 0.0))


def check_plan(repeat: int, idle_s: float) -> None:
    """Refuse what cannot be run, before anything is.

    Raises:
        InputError: a repeat below 1, or a rest that is negative or not finite.
    """
    if repeat < 1 or not (math.isfinite(idle_s) and idle_s >= 0):
        raise InputError(f"cannot repeat {repeat} times after {idle_s} s of rest")


def repeat_measured(
    action: Callable[[], None],
    meter: EnergyMeter,
    *,
    repeat: int = 1,
    idle_s: float = 1.0,
    probe: ProbeResult | None = None,
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[], float] = random.random,
    done: Callable[[Repetition], None] = lambda _: None,
) -> list[Repetition]:
    """Run *action* *repeat* times, each after a rest of *idle_s*.

    Args:
        action: what to measure.
        meter: an open meter.
        repeat: how often, 1 or more.
        idle_s: the rest before each run; 0 takes none, and then nothing is subtracted.
        probe: of this meter, for the quiet around each window and its standard error.
        sleep: rests.
        draw: as in `meter_window`.
        done: called with each finished repetition, so that an interruption loses only one.

    Raises:
        InputError: a repeat below 1, or a rest that is negative or not finite.
        MeterReadError, CounterFaultError: a read failed.
    """
    check_plan(repeat, idle_s)
    window = partial(meter_window, probe=probe, sleep=sleep, draw=draw)
    repetitions = []
    for number in range(repeat):
        rest = None
        if idle_s > 0:
            name = f"rest {number + 1}"
            with window(meter, name, resting=True) as resting:
                sleep(idle_s)
            rest = resting.result
        with window(meter, f"run {number + 1}", rest=rest) as running:
            action()
        repetitions.append(Repetition(running.result, rest))
        done(repetitions[-1])
    return repetitions


def total_energy(repetitions: Sequence[Repetition]) -> Estimate:
    """Joules a run in all, with its interval."""
    first = repetitions[0].run
    return _estimate([each.run.energy_j for each in repetitions], first.standard_error_j)


def energy_above_rest(repetitions: Sequence[Repetition]) -> Estimate | None:
    """Joules a run above rest, with its interval; ``None`` where there was no rest."""
    values = [each.above_rest_j for each in repetitions]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return _estimate(known, repetitions[0].above_rest_error_j)


def systematic_j(repetitions: Sequence[Repetition]) -> float | None:
    """Joules a run by which its meter may be off, beside the interval; ``None``: unknown."""
    known = [each.run.systematic_j for each in repetitions if each.run.systematic_j is not None]
    return fmean(known) if known else None


def as_document(repetitions: Sequence[Repetition]) -> dict[str, Any]:
    """Everything as plain numbers and lists, for JSON."""
    above = energy_above_rest(repetitions)
    return {
        "energy_j": asdict(total_energy(repetitions)),
        "energy_above_rest_j": asdict(above) if above else None,
        "systematic": repetitions[0].run.systematic,
        "systematic_j": systematic_j(repetitions),
        "duration_s": fmean(each.run.duration_s for each in repetitions),
        "repetitions": [
            {
                "run": each.run.as_dict(),
                "rest": each.rest.as_dict() if each.rest else None,
                "above_rest_j": each.above_rest_j,
            }
            for each in repetitions
        ],
    }


def _estimate(values: Sequence[float], edge_error: float | None) -> Estimate:
    n = len(values)
    if n == 1:
        half = _Z95 * edge_error if edge_error else None
        return Estimate(values[0], half, "edges", 1)
    from profiler.correlated import interval_of_mean

    found = interval_of_mean(values)
    return Estimate(
        found.mean,
        found.half_width or None,
        found.basis,
        n,
        found.standard_deviation,
        found.remarks,
    )
