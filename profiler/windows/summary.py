"""The occurrences of one window, summed up: joules each, in all, above rest, rail by rail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from profiler.correlated import interval_of_mean
from profiler.meters.base import Origin
from profiler.statistics import detect, t_quantile
from profiler.windows.edges import RESOLVED_STEPS, EdgeEstimate, together
from profiler.windows.occurrences import Accounts, Occurrence, chains
from profiler.windows.totals import total_half_width_j

_Z95, _MANY = 1.959964, 1e6
_CHAIN_GAP = 0.05
Basis = Literal["student", "fixed-b", "edges", "limit"]


@dataclass(frozen=True, slots=True)
class Joules:
    """Joules an occurrence, with what the set-up can see.

    Attributes:
        mean_j: the estimate; ``None`` where there is only a limit.
        half_width_j: of its 95 % interval; ``None`` where nothing bounds it.
        basis: ``student`` over occurrences, ``fixed-b`` where neighbours are alike, ``edges``
            from the counter's steps alone, ``limit`` where only `upper_limit_j` is known.
        critical_j: a mean is detected above it (`profiler.statistics.detect`).
        upper_limit_j: of the joules, where they are not detected or not resolved; ``None`` where
            nothing bounds them, as of a rail that never stepped.
    """

    mean_j: float | None
    half_width_j: float | None
    basis: Basis
    critical_j: float | None = None
    upper_limit_j: float | None = None

    @property
    def detected(self) -> bool:
        """Whether the mean lies above the critical level, and above 0."""
        return self.mean_j is not None and self.mean_j > max(self.critical_j or 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """All occurrences of one window.

    Attributes:
        name: of the window.
        origin: of the joules.
        n: occurrences that count.
        dropped: cause -> occurrences that do not.
        duration_s: of the block, on average; ``None`` without an occurrence.
        energy: joules an occurrence, over the selected rails.
        above_rest: E - P_rest T, where it was asked for.
        rails: each by itself.
        total_j: of all n together; ``None`` where they are not resolved.
        total_half_width_j: of its 95 % interval: what these n spent, so the instrument's error
            alone. Edges that two occurrences share cancel.
        systematic_j: beside the interval, an occurrence: the meter's gain error, and the most that
            power which was not steady around an unaligned edge can have shifted the mean; ``None``
            where the gain error is unknown.
        edges_j: of these, what unsteady power can have shifted, which is known in any case.
        remarks: sentences for the reader.
    """

    name: str
    origin: Origin
    n: int
    dropped: Mapping[str, int]
    duration_s: float | None
    energy: Joules | None
    above_rest: Joules | None = None
    rails: Mapping[str, Joules] = field(default_factory=dict)
    total_j: float | None = None
    total_half_width_j: float | None = None
    systematic_j: float | None = None
    edges_j: float | None = None
    remarks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts, for JSON."""
        return asdict(self)


def summarise(
    name: str,
    occurrences: Sequence[Occurrence],
    dropped: Mapping[str, int],
    accounts: Accounts,
    *,
    above_rest: bool = False,
) -> WindowSummary:
    """Sum up *occurrences*, in the order in which they ended."""
    origin, n = accounts.info.origin, len(occurrences)
    if not n:
        return WindowSummary(name, origin, 0, dict(dropped), None, None)
    rails = accounts.info.selected
    unknown = (accounts.rest.unknown,) if accounts.rest.unknown else ()
    duration_s = sum(accounts.duration_s(each) for each in occurrences) / n
    if not all(accounts.resolved(each) for each in occurrences):
        return _unresolved(name, occurrences, dropped, accounts, duration_s)
    by_rail = {rail: [accounts.estimate(each, rail) for each in occurrences] for rail in rails}
    sums = [together(parts) for parts in zip(*by_rail.values(), strict=True)]
    total_error_j = total_half_width_j(accounts, occurrences, by_rail)
    energy, remarks = _joules(sums, total_error_j)
    above = _joules(_above(accounts, occurrences, by_rail))[0] if above_rest else None
    whole = together(sums)
    return WindowSummary(
        name=name,
        origin=origin,
        n=n,
        dropped=dict(dropped),
        duration_s=duration_s,
        energy=energy,
        above_rest=above,
        rails={rail: _joules(parts)[0] for rail, parts in by_rail.items()},
        total_j=whole.energy_j,
        total_half_width_j=total_error_j,
        systematic_j=_systematic_j(accounts, whole, n, duration_s),
        edges_j=whole.bias_j / n,
        remarks=(*remarks, *unknown),
    )


def _joules(
    values: Sequence[EdgeEstimate], total_error_j: float | None = None
) -> tuple[Joules, tuple[str, ...]]:
    """The mean of *values*; Student over two or more, the instrument's own error for one.

    An error that all share is added in quadrature, and no mean is known better than the total.
    Values that scatter less than half of what the
    instrument alone must make share their luck (windows in step with the counter), and get the
    instrument's width.
    """
    n = len(values)
    if n == 1:
        mean_j, half_j = values[0].energy_j, values[0].half_width_j
        degrees, quantile = _MANY, _Z95
        basis: Basis = "edges"
        remarks: tuple[str, ...] = ()
    else:
        found = interval_of_mean([each.energy_j for each in values])
        shared_j = sum(each.shared_j for each in values) / n
        expected_j = math.sqrt(sum(each.deviation_j**2 for each in values) / n)
        half_j, mean_j, degrees = found.half_width, found.mean, n - 1.0
        if found.standard_deviation < expected_j / 2:
            half_j = max(half_j, _Z95 * expected_j / math.sqrt(n))
        half_j = max(math.hypot(half_j, _Z95 * shared_j), (total_error_j or 0.0) / n)
        basis, remarks = found.basis, found.remarks
        quantile = t_quantile(0.975, n - 1)
    if not half_j:  # equal to the last bit, and no step is known: nothing bounds it
        return Joules(mean_j, None, basis), remarks
    seen = detect(mean_j, half_j / quantile, degrees)
    limit_j = None if mean_j > seen.critical else seen.upper_limit
    return Joules(mean_j, half_j, basis, seen.critical, limit_j), remarks


def _above(
    accounts: Accounts,
    occurrences: Sequence[Occurrence],
    by_rail: Mapping[str, Sequence[EdgeEstimate]],
) -> list[EdgeEstimate]:
    """Each occurrence's joules less those at rest; the error of the rest is shared."""
    found = []
    for number, each in enumerate(occurrences):
        seconds = accounts.duration_s(each)
        parts = []
        for rail, estimates in by_rail.items():
            one, rest = estimates[number], accounts.rest
            shared_j = one.shared_j + seconds * rest.error_w[rail]
            energy_j = one.energy_j - seconds * rest.power_w[rail]
            parts.append(replace(one, energy_j=energy_j, shared_j=shared_j))
        found.append(together(parts))
    return found


def _systematic_j(
    accounts: Accounts, whole: EdgeEstimate, n: int, duration_s: float
) -> float | None:
    meter_j = accounts.info.systematic_j(whole.energy_j / n, duration_s)
    return None if meter_j is None else meter_j + whole.bias_j / n


def _unresolved(
    name: str,
    occurrences: Sequence[Occurrence],
    dropped: Mapping[str, int],
    accounts: Accounts,
    duration_s: float,
) -> WindowSummary:
    """Windows too short for the counter: as a chain where they follow each other, or a limit."""
    n, origin = len(occurrences), accounts.info.origin
    slowest_s = max(counter.period_s for counter in accounts.counters.values())
    joined = chains(accounts.log, occurrences, _CHAIN_GAP * duration_s)
    merged = [Occurrence(part[0].start, part[-1].done, part[-1].end) for part in joined]
    short = f"shorter than {RESOLVED_STEPS:g} of the counter's steps of {slowest_s:.3g} s"
    if not all(accounts.resolved(each) for each in merged):
        limits = [accounts.limit_j(each) for each in merged]
        known = [limit for limit in limits if limit is not None]
        limit_j = sum(known) / n if len(known) == len(limits) else None
        remark = f"{short}: only a limit is known; quiet=True or longer windows resolve it"
        energy = Joules(None, None, "limit", None, limit_j)
        return WindowSummary(name, origin, n, dict(dropped), duration_s, energy, remarks=(remark,))
    parts = [
        _share_of_chain(accounts, part, whole) for part, whole in zip(joined, merged, strict=True)
    ]
    whole = together(parts)
    half_j = whole.half_width_j or None
    each = Joules(whole.energy_j / n, None, "edges")
    if half_j is not None:
        seen = detect(whole.energy_j / n, half_j / _Z95 / n, _MANY)
        limit_j = None if whole.energy_j / n > seen.critical else seen.upper_limit
        each = Joules(whole.energy_j / n, half_j / n, "edges", seen.critical, limit_j)
    return WindowSummary(
        name=name,
        origin=origin,
        n=n,
        dropped=dict(dropped),
        duration_s=duration_s,
        energy=each,
        total_j=whole.energy_j,
        total_half_width_j=half_j,
        systematic_j=_systematic_j(accounts, whole, n, duration_s),
        edges_j=whole.bias_j / n,
        remarks=(f"{short}: metered as one stretch, so how one differs from the next is unseen",),
    )


def _share_of_chain(
    accounts: Accounts, chain: Sequence[Occurrence], whole: Occurrence
) -> EdgeEstimate:
    """The joules of windows in a row: those of the stretch, by their share of its seconds."""
    stretch_s = accounts.duration_s(whole)
    busy_s = sum(accounts.duration_s(each) for each in chain)
    estimates = []
    for rail in accounts.counters:
        one = accounts.estimate(whole, rail)
        low_w, high_w = accounts.power_range_w(rail)
        bias_j = one.bias_j + (stretch_s - busy_s) * (high_w - low_w)
        energy_j = one.energy_j * busy_s / stretch_s
        estimates.append(replace(one, energy_j=energy_j, bias_j=bias_j))
    return together(estimates)
