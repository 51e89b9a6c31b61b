"""A scripted counter for tests: known power, known steps, faults where they are wanted.

clock = ManualClock()
meter = FakeMeter({"package-0": 20.0, "dram-0": 3.0}, clock=clock)
clock.advance(0.5)
meter.read().energy_j  # {"package-0": 10.0, "dram-0": 1.5}
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from profiler.errors import CounterFaultError, InputError, MeterReadError
from profiler.meters.base import (
    Covers,
    MeterInfo,
    Origin,
    Rail,
    Reading,
    SourceReport,
    choose_rails,
)

Power = float | Callable[[float], float] | Sequence[tuple[float, float]]
"""Watts; or watts at a time since opening; or (seconds, watts) pairs, the last of which holds."""


class ManualClock:
    """A clock that stands still until told otherwise.

    Args:
        step_s: seconds that pass each time the clock is looked at.
    """

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass; takes the place of ``time.sleep``."""
        self.now_s += seconds


class FakeMeter:
    """A counter that steps every *period_s* and counts in units of *quantum_j*.

    Args:
        power: what the rails draw: one `Power` for a rail ``cpu``, or one a rail.
        rails: the rails to read; ``None`` takes all.
        period_s: the counter shows its state at the last whole multiple of this; 0 always
            shows the present one.
        quantum_j: energies are rounded down to whole multiples; 0 does not round.
        clock: seconds.
        faults: number of a read, from 1 -> what that read raises.
        origin: as readings should be labelled; made-up joules are ``assumed``.
        device: as it should name itself.
        covers: which work its joules are meant to be of.
    """

    def __init__(
        self,
        power: Power | Mapping[str, Power] = 10.0,
        *,
        rails: Sequence[str] | None = None,
        period_s: float = 0.001,
        quantum_j: float = 1e-6,
        clock: Callable[[], float] = time.perf_counter,
        faults: Mapping[int, Exception] | None = None,
        origin: Origin = "assumed",
        device: str = "scripted counter",
        covers: Covers = "cpu",
    ) -> None:
        if period_s < 0 or quantum_j < 0:
            raise InputError(f"period {period_s} s and quantum {quantum_j} J must not be negative")
        powers = dict(power) if isinstance(power, Mapping) else {"cpu": power}
        if period_s == 0 and any(callable(each) for each in powers.values()):
            raise InputError("a power function is summed by steps; give a period_s above 0")
        available = tuple(Rail(name, name.partition("-")[0]) for name in powers)
        self._info = MeterInfo(
            name="fake",
            device=device,
            origin=origin,
            rails=available,
            selected=choose_rails(available, rails),
            assumptions=("the joules are made up",),
            covers=covers,
        )
        self._energies = {name: _Energy(powers[name], period_s) for name in self._info.selected}
        self._period_s, self._quantum_j = period_s, quantum_j
        self._clock, self._start_s = clock, clock()
        self._faults = dict(faults or {})
        self._reads = 0
        self._closed = self._was_reset = False
        self._losses = 0

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """Joules since opening, as the counter showed them at its last step.

        Raises:
            MeterReadError: the meter is closed.
            CounterFaultError: it was `reset` since the last read.
            Exception: what *faults* holds for this read.
        """
        if self._closed:
            raise MeterReadError("the fake meter is closed; open it again")
        self._reads += 1
        if self._reads in self._faults:
            raise self._faults[self._reads]
        if self._was_reset:
            self._was_reset = False
            self._losses += 1
            raise CounterFaultError("the fake counter went back: it was reset; measure again")
        now_s = self._clock()
        elapsed_s = now_s - self._start_s
        steps = None
        if self._period_s:
            steps = math.floor(elapsed_s / self._period_s + 1e-9)
            elapsed_s = steps * self._period_s
        energy_j = {
            name: self._quantised(energy.at(elapsed_s, steps))
            for name, energy in self._energies.items()
        }
        return Reading(now_s, energy_j, self._losses)

    def spend(self, energy_j: float, rail: str | None = None) -> None:
        """Add joules now, on top of the scripted power; they show at the counter's next step.

        Raises:
            InputError: negative joules, or a rail that is not selected.
        """
        name = rail or self._info.selected[0]
        if name not in self._energies or not energy_j >= 0:
            raise InputError(f"cannot spend {energy_j} J on rail {name!r}")
        self._energies[name].spent.append((self._clock() - self._start_s, energy_j))

    def reset(self) -> None:
        """Make the counter start again from 0, as after a suspend: the next read finds out."""
        self._was_reset = True

    def close(self) -> None:
        """Nothing to let go of; later reads are refused all the same."""
        self._closed = True

    def _quantised(self, energy_j: float) -> float:
        if not self._quantum_j:
            return energy_j
        return math.floor(energy_j / self._quantum_j + 1e-9) * self._quantum_j


class FakeSource:
    """Opens ``fake`` or ``fake:WATTS``: a constant power, for trying things out."""

    name = "fake"

    def discover(self) -> Sequence[SourceReport]:
        """Nothing: made-up joules are asked for, not found."""
        return ()

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> FakeMeter:
        """Open a counter of *argument* watts, 10 by default, that covers *device*.

        Raises:
            InputError: the argument is not a number of watts, 0 or more.
        """
        try:
            power_w = float(argument or 10.0)
        except ValueError:
            power_w = math.nan
        if not (math.isfinite(power_w) and power_w >= 0):
            raise InputError(f"fake:{argument[:40]!a} is not fake:WATTS")
        covers: Covers = "gpu" if device.startswith("cuda") else "cpu"
        return FakeMeter(power_w, rails=rails, covers=covers)


SOURCE = FakeSource()


class _Energy:
    """Joules up to a time, for each form of `Power`."""

    def __init__(self, power: Power, period_s: float) -> None:
        self.spent: list[tuple[float, float]] = []
        self._power = power
        self._period_s = period_s
        self._summed_steps = 0
        self._summed_j = 0.0

    def at(self, elapsed_s: float, steps: int | None) -> float:
        spent_j = sum(energy_j for when_s, energy_j in self.spent if when_s <= elapsed_s)
        if callable(self._power):
            return spent_j + self._sum(self._power, steps or 0)
        if isinstance(self._power, int | float):
            return spent_j + self._power * elapsed_s
        return spent_j + _piecewise(self._power, elapsed_s)

    def _sum(self, power: Callable[[float], float], steps: int) -> float:
        while self._summed_steps < steps:
            middle_s = (self._summed_steps + 0.5) * self._period_s
            self._summed_j += power(middle_s) * self._period_s
            self._summed_steps += 1
        return self._summed_j


def _piecewise(script: Sequence[tuple[float, float]], elapsed_s: float) -> float:
    energy_j = begun_s = 0.0
    for number, (length_s, power_w) in enumerate(script):
        last = number == len(script) - 1
        spent_s = elapsed_s - begun_s if last else min(elapsed_s - begun_s, length_s)
        energy_j += power_w * max(spent_s, 0.0)
        begun_s += length_s
    return energy_j
