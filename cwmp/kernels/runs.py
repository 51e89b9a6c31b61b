"""A set of positions seen from its other sides: what it lacks, and the runs it is made of.

Positions ascend strictly within 0 to n - 1. A set of r maximal runs is two ascending sequences:
how many entries are missing before each run, within 0 to n - k, and the number, from 0, of the
last kept entry in each run, of which the last is k - 1.
"""

from __future__ import annotations

from cwmp.kernels.jit import compiled
from cwmp.kernels.rice import Positions


@compiled
def missing_from(positions: Positions, missing: Positions) -> None:
    """Fill *missing*, of n - k entries, with what *positions* lack; the inverse of itself."""
    at = 0
    expected = 0
    for i in range(positions.size):
        position = positions[i]
        for number in range(expected, position):
            missing[at] = number
            at += 1
        expected = position + 1
    for tail in range(at, missing.size):
        missing[tail] = expected
        expected += 1


@compiled
def split_runs(positions: Positions, missing: Positions, last: Positions) -> None:
    """Fill *missing* and *last*, of one entry a run."""
    run = -1
    previous = -2
    for i in range(positions.size):
        position = positions[i]
        if position != previous + 1:
            run += 1
            missing[run] = position - i
        last[run] = i
        previous = position


@compiled
def join_runs(missing: Positions, last: Positions, positions: Positions) -> None:
    """The inverse of `split_runs`; *positions* has one entry more than the last of *last*."""
    i = 0
    for run in range(missing.size):
        for kept in range(i, last[run] + 1):
            positions[kept] = missing[run] + kept
        i = last[run] + 1
