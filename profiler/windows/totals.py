"""The instrument's error of the sum of a window's occurrences: what their edges share counts once.

Of an occurrence's joules, an edge of age a is off by a coefficient times a (see
`profiler.windows.edges`)::

    + f P_before (1 + m / (L - m)) a_start - f P_earlier m / (L - m) a_earlier - f P_end a_end

One reading may be the end of one occurrence and the earlier edge of the next; and an end and a
start less than a quarter of a step apart have one age but for a gap g, in which a step falls with
probability g / tau: P (a_end - a_start) then has variance P^2 g (tau - g). So coefficients are
added up by reading before they are squared.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from profiler.windows.edges import EdgeEstimate, half_width_95, together
from profiler.windows.occurrences import Accounts, Occurrence, chains

_SAME_STEP = 0.25


def total_half_width_j(
    accounts: Accounts,
    occurrences: Sequence[Occurrence],
    by_rail: Mapping[str, Sequence[EdgeEstimate]],
) -> float | None:
    """Of the 95 % interval of the sum; ``None`` where nothing is known of the error.

    Args:
        accounts: of the monitor.
        occurrences: resolved ones, shape (n,).
        by_rail: their estimates, in the same order.
    """
    whole = together(each for estimates in by_rail.values() for each in estimates)
    uniform_j: list[float] = []
    variance_j2 = whole.normal_j**2
    for rail, estimates in by_rail.items():
        if not accounts.counters[rail].period_s:
            uniform_j += [width for each in estimates for width in each.uniform_j]
            continue
        by_row, gaps_j2 = _by_row(accounts, occurrences, rail, estimates)
        widths_j = [abs(width) for width in by_row.values()]
        varying = accounts.counters[rail].variation * math.sqrt(2.0)
        rounding_j2 = len(estimates) * accounts.counters[rail].quantum_j ** 2 / 6
        uniform_j += widths_j
        variance_j2 += sum((varying * width) ** 2 for width in widths_j) + gaps_j2 + rounding_j2
    return half_width_95(uniform_j, math.hypot(math.sqrt(variance_j2), whole.shared_j)) or None


def _by_row(
    accounts: Accounts,
    occurrences: Sequence[Occurrence],
    rail: str,
    estimates: Sequence[EdgeEstimate],
) -> tuple[dict[int, float], float]:
    """Signed half-widths by the reading they come from, and the variance that gaps add."""
    step_s = accounts.counters[rail].period_s
    place = {id(each): number for number, each in enumerate(occurrences)}
    same_age: dict[int, int] = {}
    gaps_j2 = 0.0
    for chain in chains(accounts.log, occurrences, _SAME_STEP * step_s):
        for one, other in pairwise(chain):
            same_age[other.start] = one.end
            power_w = estimates[place[id(one)]].energy_j / accounts.duration_s(one)
            gap_s = accounts.log.seconds(one.done, other.start)
            gaps_j2 += power_w**2 * gap_s * max(step_s - gap_s, 0.0)
    by_row: defaultdict[int, float] = defaultdict(float)
    for each, found in zip(occurrences, estimates, strict=True):
        start_j, earlier_j = found.start_j[:2]
        by_row[same_age.get(each.start, each.start)] += start_j
        by_row[each.end] -= found.end_j[0]
        earlier = accounts.earlier_row(each, rail)
        if earlier is not None:
            by_row[same_age.get(earlier, earlier)] -= earlier_j
    return dict(by_row), gaps_j2
