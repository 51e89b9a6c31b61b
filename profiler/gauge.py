"""One window of a meter: joules and seconds around an action.

Where the counter steps, a window ends in a quiet tail longer than a step, and starts at a random
phase of one. A counter lags by up to a step: read right after the work, it would miss half a step
at the work's power, (P_op - P_quiet) tau / 2 on average, which no number of blocks averages out;
and a window that starts on a step and always lasts 20.3 of them always shows 20. With quiet on
both sides of both edges the mean is right for any length and any stepping, and what is left is
scatter of P_quiet tau / sqrt(6) a window. The tail is lengthened by a random part of a step, the
same in all windows of a block: a window of one length shows one of two values, and a few blocks
would often show the same one, no scatter to estimate an error from.

Before each window the process is left to fall quiet: the worker threads of an operation spin
for milliseconds after their work, and would burn their joules in the next window.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import numpy as np

from profiler.conditions import HostObserver, Observer
from profiler.errors import CounterFaultError
from profiler.meters.base import EnergyMeter, energy_between, sampling_variance_between
from profiler.statistics import edge_standard_error_j

SHORTEST_STEP_S = 0.2e-3
LONGEST_STEP = 4.0
"""In periods: a step seen to take longer was a stall of this process, not of the counter."""
STANDSTILL_STEPS = 20
_TAIL_STEPS = 1.25
SETTLE_S = 1e-3
_SETTLE_STEPS, _QUIET_CPU_SHARE = 25, 0.3


@dataclass(frozen=True, slots=True)
class Window:
    """Joules and seconds between two readings of the meter.

    Attributes:
        sampling_j2: variance of the joules from sampling a power; 0 where a counter sums.
    """

    start_s: float
    duration_s: float
    energy_j: float
    sampling_j2: float = 0.0

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
        edge_period_s: what the scatter of its edges goes by, see `profiler.probe.edge_period`;
            ``None``: the period.
        sleep: waits so many seconds (scripted in tests).
        observer: looks at the conditions of the device beside the windows.
    """

    meter: EnergyMeter
    period_s: float | None = None
    longest_step_s: float | None = None
    quantum_j: float | None = None
    sleep: Callable[[float], None] = time.sleep
    observer: Observer = field(default_factory=HostObserver)
    edge_period_s: float | None = None

    @property
    def stepped(self) -> bool:
        """Whether the counter steps slowly enough, or lags enough, for windows to feel it."""
        return max(self.period_s or 0.0, self.meter.info.lag_s) >= SHORTEST_STEP_S

    @property
    def tail_s(self) -> float:
        """Seconds of quiet that end each window, at least: a long step, and the meter's lag."""
        if not self.stepped:
            return 0.0
        period_s = self.period_s or 0.0
        longest_s = min(max(self.longest_step_s or 0.0, period_s), LONGEST_STEP * period_s)
        return _TAIL_STEPS * longest_s + self.meter.info.lag_s

    def extra_tail_s(self, generator: np.random.Generator) -> float:
        """The random part of a step by which the tails of one block are lengthened."""
        return float(generator.uniform(0.0, self.period_s or 0.0)) if self.stepped else 0.0

    def window(
        self, action: Callable[[], None], generator: np.random.Generator, extra_s: float = 0.0
    ) -> Window:
        """Meter *action* and the quiet tail, begun at a random phase of the counter's step.

        Args:
            action: what to meter.
            generator: draws the phase.
            extra_s: of quiet beyond `tail_s`; the same in windows that are subtracted.

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
            self.sleep(tail_s + extra_s)
        end = self.meter.read()
        energy = energy_between(start, end, info.selected)
        duration = end.time_s - start.time_s
        if not (duration > 0 and energy >= 0):
            raise CounterFaultError(f"{info.name} counted {energy:.3g} J in {duration:.3g} s")
        steps = duration / (self.period_s or inf)
        if energy == 0 and self.stepped and steps > STANDSTILL_STEPS:
            raise CounterFaultError(
                f"{info.name} stood still for {duration:.3g} s, in which it should have stepped "
                f"{steps:.0f} times: it has stopped, or is broken"
            )
        if info.max_read_gap_s is not None and duration > info.max_read_gap_s:
            raise CounterFaultError(
                f"one window took {duration:.3g} s, but {info.name} may wrap unseen after "
                f"{info.max_read_gap_s:.3g} s"
            )
        sampling_j2 = sampling_variance_between(start, end, info.selected)
        return Window(start.time_s, duration, energy, sampling_j2)

    def _settle(self) -> None:
        for _ in range(_SETTLE_STEPS):
            before_s = time.process_time()
            self.sleep(SETTLE_S)
            if time.process_time() - before_s < _QUIET_CPU_SHARE * SETTLE_S:
                return

    def edge_j(self, power_w: float) -> float:
        """Standard error of one window whose edges lie where *power_w* is drawn.

        From the counter's steps, or from its quantum if that is larger.
        """
        period_s = self.period_s if self.edge_period_s is None else self.edge_period_s
        stepped = edge_standard_error_j(power_w, period_s or 0.0)
        return max(stepped, edge_standard_error_j(self.quantum_j or 0.0, 1.0))
