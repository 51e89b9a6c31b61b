"""How a meter behaves: how often it steps, in what quantum, how long a read takes.

Counters jitter and differ between hosts, so nothing here is assumed: every error bound of a
measurement starts from these figures, and a trace keeps them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

from profiler.errors import InputError
from profiler.meters.base import EnergyMeter, Reading, energy_between, first_reading

SETTLE_SHARE, IDLE_SHARE = 0.15, 0.4
"""Of the time given: asleep before the first read, and until the second, for the idle power."""
ENOUGH_UPDATES = 300
"""Steps of the slowest rail after which more would not sharpen the p99."""
FEWEST_UPDATES = 30
"""Steps without which the period is too vague for an interval to rest on."""
MOST_TIMES, MOST_MORE_S = 5.0, 4.0
"""How much longer a slow rail may be watched: so many times as long, so many seconds more."""
_NJ = 1e-9
_PRINTED_NJ = 1000  # the finest unit that a counter is shown in
_BINARY_UNITS_J = tuple(2.0**-power for power in range(3, 20))  # RAPL has 2^-14, 2^-16 and others
_CHANCE = 1e-6


@dataclass(frozen=True, slots=True)
class UpdateStatistics:
    """The steps seen in one counter.

    Attributes:
        updates: how many.
        period_s: median time between them; ``None`` below two. Where a counter stepped at
            every read this is the time between reads: an upper bound.
        period_p99_s: 99th percentile of the same.
        quantum_j: the largest energy of which every step is a whole multiple; where the figures
            are whole microjoules that cut off a binary fraction of a joule, as powercap's are,
            that fraction. ``None`` where the steps are too few or too fine to tell one from
            chance.
        edge_period_s: the period of a steady counter whose content would be as uncertain in age,
            see `edge_period`; what the error of a window's edges goes by.
    """

    updates: int
    period_s: float | None
    period_p99_s: float | None
    quantum_j: float | None
    edge_period_s: float | None = None


@dataclass(frozen=True, slots=True)
class RailProbe:
    """One rail, probed; all but the power at rest as in `UpdateStatistics`."""

    rail: str
    updates: int
    period_s: float | None
    period_p99_s: float | None
    quantum_j: float | None
    idle_power_w: float
    edge_period_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A meter's selected rails, probed one by one and as a sum.

    Attributes:
        period_s: of the rail that stepped most slowly; ``None`` where none stepped at all.
        period_p99_s: likewise.
        quantum_j: of the rail with the coarsest.
        read_latency_s: median time of one ``read``.
        idle_power_w: of the sum, while this process slept.
        reads: how many reads the figures rest on.
        duration_s: how long probing took.
        idle_s: how long this process slept for that power.
        edge_period_s: the largest of any rail, as in `UpdateStatistics`.
        rails: each by itself; a rail that did not step twice has the period that its meter states
            (`MeterInfo.longest_step_s`), or ``None``.
    """

    period_s: float | None
    period_p99_s: float | None
    quantum_j: float | None
    read_latency_s: float
    idle_power_w: float
    reads: int
    duration_s: float
    rails: tuple[RailProbe, ...]
    idle_s: float = 0.0
    edge_period_s: float | None = None

    def rail(self, name: str) -> RailProbe:
        """The probe of one rail.

        Raises:
            InputError: that rail was not probed.
        """
        for rail in self.rails:
            if rail.rail == name:
                return rail
        raise InputError(f"rail {name!r} was not probed; probe the meter that is used")

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return asdict(self)


def update_statistics(times_s: Sequence[float], energies_j: Sequence[float]) -> UpdateStatistics:
    """Period and quantum from a counter read again and again.

    Args:
        times_s: when it was read, shape (n,).
        energies_j: what it said, shape (n,). A step is a read that differs from the one before.
    """
    pairs = zip(times_s, energies_j, strict=True)
    changed_s, steps_j = [], []
    _, last_j = next(pairs, (0.0, 0.0))
    for now_s, now_j in pairs:
        if now_j != last_j:
            changed_s.append(now_s)
            steps_j.append(now_j - last_j)
            last_j = now_j
    periods_s = sorted(end - start for start, end in pairwise(changed_s))
    if not periods_s:
        return UpdateStatistics(len(changed_s), None, None, None)
    p99_s = periods_s[math.ceil(0.99 * len(periods_s)) - 1]
    return UpdateStatistics(
        len(changed_s), median(periods_s), p99_s, _quantum_j(steps_j), edge_period(periods_s, p99_s)
    )


def edge_period(periods_s: Sequence[float], longest_s: float) -> float:
    """sqrt(12 Var A) of a counter whose steps take *periods_s*, A its content's age when read.

    Read at any moment, a counter shows a state of age A, and long steps are met more often than
    short ones: E A = E T^2 / (2 E T) and E A^2 = E T^3 / (3 E T). A steady counter has Var A =
    T^2 / 12, so its own period comes out; one that jitters by a fifth has a tenth more.

    Args:
        periods_s: of the steps seen.
        longest_s: steps that seemed longer were stalls of this process, and count as so long.
    """
    times_s = [min(period_s, longest_s) for period_s in periods_s]
    mean_s = sum(times_s) / len(times_s)
    age_s = sum(t**2 for t in times_s) / len(times_s) / (2 * mean_s)
    age_s2 = sum(t**3 for t in times_s) / len(times_s) / (3 * mean_s)
    return math.sqrt(12 * max(age_s2 - age_s**2, 0.0))


def probe(
    meter: EnergyMeter,
    *,
    max_time_s: float = 1.0,
    most_time_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> ProbeResult:
    """Watch *meter* for at most *max_time_s*: asleep first, then reading without a pause.

    The power at rest is taken after a first rest that is in no figure: a counter still shows, a
    step and a lag later, what was done before.

    Args:
        meter: an open meter.
        max_time_s: enough for a counter that steps 30 times within the 0.45 of it that is watched.
        most_time_s: where a rail has stepped, but fewer than 30 times, it is watched until it has
            or until so long; by default 5 times *max_time_s*, at most 4 s more. A rail that has
            not stepped at all is not waited for.
        clock: seconds.
        sleep: waits so many seconds.

    Raises:
        InputError: a time that is not positive, or a *most_time_s* below *max_time_s*.
        MeterReadError, CounterFaultError: a read failed.
    """
    if not (math.isfinite(max_time_s) and max_time_s > 0):
        raise InputError(f"probing needs a time above 0, got {max_time_s} s")
    if most_time_s is None:
        most_time_s = min(MOST_TIMES * max_time_s, max_time_s + MOST_MORE_S)
    if not (math.isfinite(most_time_s) and most_time_s >= max_time_s):
        raise InputError(f"cannot probe for {max_time_s} s and {most_time_s} s at most")
    begun_s = clock()
    sleep(SETTLE_SHARE * max_time_s + meter.info.lag_s)
    asleep = first_reading(meter)
    sleep(IDLE_SHARE * max_time_s)
    awake = meter.read()
    idle_s = awake.time_s - asleep.time_s
    seen, latencies_s = _watch(meter, begun_s + max_time_s, begun_s + most_time_s, clock)
    rails = []
    for name in meter.info.selected:
        found = update_statistics(*seen[name])
        if found.period_s is None:
            unseen_s = meter.info.longest_step_s
            found = replace(found, period_s=unseen_s, period_p99_s=unseen_s, edge_period_s=unseen_s)
        idle_j = energy_between(asleep, awake, [name])
        rails.append(
            RailProbe(
                rail=name,
                updates=found.updates,
                period_s=found.period_s,
                period_p99_s=found.period_p99_s,
                quantum_j=found.quantum_j,
                idle_power_w=idle_j / idle_s if idle_s > 0 else 0.0,
                edge_period_s=found.edge_period_s,
            )
        )
    return ProbeResult(
        period_s=_largest([rail.period_s for rail in rails]),
        period_p99_s=_largest([rail.period_p99_s for rail in rails]),
        quantum_j=_largest([rail.quantum_j for rail in rails]),
        read_latency_s=median(latencies_s),
        idle_power_w=sum(rail.idle_power_w for rail in rails),
        reads=len(latencies_s),
        duration_s=clock() - begun_s,
        rails=tuple(rails),
        idle_s=idle_s,
        edge_period_s=_largest([rail.edge_period_s for rail in rails]),
    )


def _watch(
    meter: EnergyMeter, end_s: float, latest_s: float, clock: Callable[[], float]
) -> tuple[dict[str, tuple[list[float], list[float]]], list[float]]:
    """The first value of each rail and each new one, read until there are enough steps or it is
    *end_s*; until *latest_s* where a rail that steps has stepped too rarely.
    """
    first: Reading = meter.read()
    seen = {name: ([first.time_s], [first.energy_j[name]]) for name in meter.info.selected}
    latencies_s = []
    while True:
        before_s = clock()
        reading = meter.read()
        now_s = clock()
        latencies_s.append(now_s - before_s)
        fewest = fewest_seen = ENOUGH_UPDATES
        for name, (times_s, energies_j) in seen.items():
            if reading.energy_j[name] != energies_j[-1]:
                times_s.append(reading.time_s)
                energies_j.append(reading.energy_j[name])
            updates = len(times_s) - 1
            fewest, fewest_seen = min(fewest, updates), min(fewest_seen, updates or fewest_seen)
        done_s = end_s if fewest_seen >= FEWEST_UPDATES else latest_s
        if now_s >= done_s or fewest >= ENOUGH_UPDATES:
            return seen, latencies_s


def _quantum_j(steps_j: Sequence[float]) -> float | None:
    """See `UpdateStatistics.quantum_j`.

    n steps in whole microjoules share a factor g by chance once in some g^n times, and all lie
    within a microjoule of the multiples of u once in (u / 2 uJ)^n.
    """
    common_nj = math.gcd(*(round(step / _NJ) for step in steps_j))
    if common_nj < _PRINTED_NJ:
        return None
    common_j, printed_j = common_nj * _NJ, _PRINTED_NJ * _NJ
    for unit_j in _BINARY_UNITS_J:
        if unit_j < common_j or (2 * printed_j / unit_j) ** len(steps_j) > _CHANCE:
            break
        off_j = (abs(step - max(round(step / unit_j), 1) * unit_j) for step in steps_j)
        if max(off_j) < printed_j + _NJ:
            return unit_j
    return common_j if (printed_j / common_j) ** len(steps_j) < _CHANCE else None


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None
