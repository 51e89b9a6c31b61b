"""One occurrence of a window, and its joules out of a monitor's readings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from profiler.gauge import SHORTEST_STEP_S
from profiler.meters.base import MeterInfo
from profiler.probe import ProbeResult
from profiler.windows.edge_log import EdgeLog
from profiler.windows.edges import (
    Before,
    Counter,
    EdgeEstimate,
    energy_of,
    power_before,
)

LOCAL_STEPS, BEFORE_STEPS = 20.0, 2.0
MINOR_SHARE = 0.05
_MARGIN = 1.25


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Rows of an `EdgeLog`: the block's start and end, and the end of the quiet after it.

    Attributes:
        start, done, end: the rows; *end* is *done* where there was no quiet.
        quiet_before: the window began in quiet.
    """

    start: int
    done: int
    end: int
    quiet_before: bool = False

    @property
    def quiet_after(self) -> bool:
        return self.end != self.done


@dataclass(frozen=True, slots=True)
class Rest:
    """Watts at rest by rail, and the standard error of each.

    Attributes:
        unknown: why the power is not known, and what would tell it; all watts are then 0, the
            least they can be.
    """

    power_w: dict[str, float]
    error_w: dict[str, float]
    unknown: str | None = None


@dataclass
class Accounts:
    """What turns rows into joules: the readings, how each rail steps, and what it draws at rest.

    Raises:
        InputError: a selected rail was not probed.
    """

    log: EdgeLog
    info: MeterInfo
    probe: ProbeResult
    rest: Rest
    counters: dict[str, Counter] = field(init=False)
    _ranges: dict[str, tuple[float, float]] = field(init=False, default_factory=dict)
    _ranged: int = field(init=False, default=-1)

    def __post_init__(self) -> None:
        self.counters = {rail: counter_of(self.probe, rail) for rail in self.info.selected}

    def duration_s(self, each: Occurrence) -> float:
        """Of the block."""
        return self.log.seconds(each.start, each.done)

    def quiet_s(self, each: Occurrence) -> float:
        """Of the quiet after it."""
        return self.log.seconds(each.done, each.end)

    def resolved(self, each: Occurrence) -> bool:
        """Whether every rail that matters tells the window from its neighbours."""
        return each.quiet_after or not any(
            self._major(rail) and not counter.resolves(self.duration_s(each))
            for rail, counter in self.counters.items()
        )

    def estimate(self, each: Occurrence, rail: str) -> EdgeEstimate:
        """The joules of *rail*; see `profiler.windows.edges`."""
        counter, quiet_s = self.counters[rail], self.quiet_s(each)
        duration_s, rest_w = self.duration_s(each), self.rest.power_w[rail]
        shown_j = self.log.shown_j(rail, each.start, each.end) - rest_w * quiet_s
        before, bias_s = self._before(each, rail)
        if each.quiet_after:
            found = energy_of(shown_j, duration_s, counter, before, rest_w)
        elif counter.resolves(duration_s):
            found = energy_of(shown_j, duration_s, counter, before)
            bias_s += self._unseen_s(counter, duration_s)
        else:
            found = energy_of(shown_j, duration_s, Counter(quantum_j=counter.quantum_j), before)
            bias_s += counter.period_s
        low_w, high_w = self.power_range_w(rail)
        sampled_j2 = self.log.sampling_variance_j2(rail, each.start, each.end)
        return replace(
            found,
            normal_j=math.sqrt(sampled_j2),
            shared_j=quiet_s * self.rest.error_w[rail],
            bias_j=bias_s * (high_w - low_w),
        )

    def limit_j(self, each: Occurrence) -> float | None:
        """What the window spent at most: all that the counters showed from its start to a step
        after its end. No power is assumed. ``None`` where nothing was read so late, or joules
        were lost.
        """
        longest_s = max(_MARGIN * counter.longest_s for counter in self.counters.values())
        late = self.log.row_from(self.log.times_s[each.done] + longest_s + self.info.lag_s)
        if late is None or self.log.lost(each.start, late):
            return None
        return sum(self.log.shown_j(rail, each.start, late) for rail in self.counters)

    def power_range_w(self, rail: str) -> tuple[float, float]:
        """The lowest and highest power that the readings show, rest among them."""
        if self._ranged != len(self.log):
            self._ranged, self._ranges = len(self.log), {}
        if rail not in self._ranges:
            rest_w, least_s = self.rest.power_w[rail], BEFORE_STEPS * self.counters[rail].period_s
            low_w, high_w = self.log.power_range_w(rail, least_s) or (rest_w, rest_w)
            self._ranges[rail] = min(low_w, rest_w), max(high_w, rest_w)
        return self._ranges[rail]

    def _before(self, each: Occurrence, rail: str) -> tuple[Before, float]:
        """The power before a window, and for how many seconds it may have been another one."""
        counter = self.counters[rail]
        if each.quiet_before or not counter.period_s:
            lag_s = 0.0 if each.quiet_before else self.info.lag_s
            return Before(self.rest.power_w[rail]), lag_s
        row = self.earlier_row(each, rail)
        if row is None:
            power_w = self.rest.power_w[rail]
            if self.rest.unknown:  # the window's own is as likely as any
                power_w = self.log.shown_j(rail, each.start, each.done) / self.duration_s(each)
            return Before(power_w), counter.mean_age_s + self.info.lag_s
        span_s, earlier_w = self.log.seconds(row, each.start), None
        older = self._row_before(row, counter)
        if older is not None:
            earlier_w = self.log.shown_j(rail, older, row) / self.log.seconds(older, row)
        shown_j = self.log.shown_j(rail, row, each.start)
        return power_before(shown_j, span_s, counter, earlier_w), self._unseen_s(counter, span_s)

    def earlier_row(self, each: Occurrence, rail: str) -> int | None:
        """The reading from which the power before a window is taken; ``None`` if from none."""
        counter = self.counters[rail]
        if each.quiet_before or not counter.period_s:
            return None
        return self._row_before(each.start, counter)

    def _row_before(self, row: int, counter: Counter) -> int | None:
        return self.log.span_before(row, BEFORE_STEPS * counter.period_s)

    def _unseen_s(self, counter: Counter, span_s: float) -> float:
        """A mean over many steps does not tell the power of the last one."""
        unseen_s = counter.mean_age_s if span_s > LOCAL_STEPS * counter.period_s else 0.0
        return unseen_s + self.info.lag_s

    def _major(self, rail: str) -> bool:
        whole_w = sum(self.power_range_w(each)[1] for each in self.counters)
        return self.power_range_w(rail)[1] > MINOR_SHARE * whole_w


def rest_of(probe: ProbeResult, power_w: dict[str, float], duration_s: float) -> Rest:
    """Powers at rest that were read over *duration_s*, with the error of two edges."""
    errors_w = {}
    for rail, each_w in power_w.items():
        counter = counter_of(probe, rail)
        steps = math.sqrt(1 / 6 + counter.variation**2)
        errors_w[rail] = abs(each_w) * counter.period_s * steps / duration_s
    return Rest(power_w, errors_w)


def rest_unknown(info: MeterInfo, needed_s: float) -> Rest:
    """The counter is too slow for what was rested so far to tell the power."""
    why = (
        f"the power at rest is not known: {info.name} steps too slowly for it; "
        f"monitor.rest({math.ceil(needed_s):d}) tells it"
    )
    nothing_w = dict.fromkeys(info.selected, 0.0)
    return Rest(nothing_w, dict(nothing_w), why)


def chains(
    log: EdgeLog, occurrences: Sequence[Occurrence], widest_gap_s: float
) -> list[list[Occurrence]]:
    """Occurrences that follow each other within *widest_gap_s*, without overlap."""
    found: list[list[Occurrence]] = []
    for each in sorted(occurrences, key=lambda one: one.start):
        if found and not (each.quiet_before or found[-1][-1].quiet_after):
            gap_s = log.seconds(found[-1][-1].done, each.start)
            if 0 <= gap_s <= widest_gap_s and not log.lost(found[-1][-1].done, each.start):
                found[-1].append(each)
                continue
        found.append([each])
    return found


def counter_of(probe: ProbeResult, rail: str) -> Counter:
    """How *rail* steps; one that steps too fast to matter has no steps here."""
    found = probe.rail(rail)
    period_s = found.period_s or 0.0
    if period_s < SHORTEST_STEP_S:
        return Counter(quantum_j=found.quantum_j or 0.0)
    return Counter(period_s, max(found.period_p99_s or 0.0, period_s), found.quantum_j or 0.0)
