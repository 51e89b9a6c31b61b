"""How many blocks, of what length, in what order: pure functions over arrays.

The rule is Stein's, for a line. Cells of one (operation, layer, pattern) group are fitted
together as E(k) = a + c k, so they get the same number of blocks B. The sizing stage, whose
blocks enter no estimate, fixes absolute half-widths::

    w_a = precision * max(|a0|, FLOOR * e_low)
    w_c = precision * max(|c0|, FLOOR * e_high / k_high)

a0 and c0 are the line through the sizing blocks; e_low and e_high the raw joules of a call
(idle power included) at the smallest and largest k. The floor keeps a cost that drowns in its
own call, and would need endless blocks to pin to a few percent of nothing, from taking the
session. The pilot's spread s then sets B = max(n0, ceil((t s_a / w_a)^2), the same for c),
where s_a and s_c are the standard errors of a and c from one block a cell.

What the blocks of a cell say is in `profiler.evidence`. Because cells of one operation lend each
other degrees of freedom there, the pilot is short where there are many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.errors import InputError
from profiler.evidence import CellStatistics, fit_cells
from profiler.statistics import fit_line, t_quantile
from profiler.workloads import Cell

PILOT_BLOCKS, SHORT_PILOT_BLOCKS, FEWEST_PILOT_BLOCKS = 6, 3, 2
"""A pilot's usual length, where many cells share an operation, and the least under a time limit."""
PILOT_DEGREES = 30
"""Degrees of freedom an operation's pilot is to have, where six blocks a cell reach that."""
MAX_BLOCKS = 500
FLOOR = 0.25
_PASSES = 4
_LINE, _Z95 = 1.5, 1.96

Group = tuple[str, str, str]


def group_of(cell: Cell) -> Group:
    """What is fitted by one line: operation, layer and pattern."""
    return (cell.operation, cell.layer, cell.pattern)


def groups_of(cells: Sequence[Cell]) -> dict[Group, list[int]]:
    """Group -> the positions of its cells, in the order of first appearance."""
    groups: dict[Group, list[int]] = {}
    for position, cell in enumerate(cells):
        groups.setdefault(group_of(cell), []).append(position)
    return groups


@dataclass(frozen=True, slots=True)
class Widths:
    """Absolute half-widths that a group aims at; *c* is ``None`` where all cells share one k."""

    a: float
    c: float | None


def target_widths(k: ArrayLike, cost: ArrayLike, raw: ArrayLike, precision: float) -> Widths:
    """Half-widths from the sizing blocks alone, by the formula at the top of this file.

    Args:
        k: shape (m,).
        cost: marginal joules a call in the sizing blocks, shape (m,).
        raw: joules of a call, idle power included, shape (m,).
        precision: wanted relative half-width.

    Raises:
        InputError: *precision* is not positive, or no energy was seen at all.
    """
    x, y, e = (np.asarray(values, dtype=np.float64) for values in (k, cost, raw))
    if not precision > 0:
        raise InputError(f"the precision is {precision}; it must be positive")
    low, high = int(np.argmin(x)), int(np.argmax(x))
    smallest = max(float(e.max()) * 1e-9, 1e-18)
    if x[low] == x[high]:
        scale = max(abs(float(np.mean(y))), FLOOR * float(np.mean(e)), smallest)
        return Widths(precision * scale, None)
    line = fit_line(x, y, np.maximum(e, smallest) ** 2, np.ones_like(x))
    a = max(abs(line.a), FLOOR * float(e[low]), smallest)
    c = max(abs(line.c), FLOOR * float(e[high] / x[high]), smallest / float(x[high]))
    return Widths(precision * a, precision * c)


def group_blocks(pilot: Sequence[CellStatistics], widths: Widths) -> int:
    """Blocks a cell, pilot included, for the fitted a and c to reach *widths* (Stein)."""
    if not pilot:
        return 0
    least = min(cell.blocks for cell in pilot)
    line = fit_cells([replace(cell, blocks=1) for cell in pilot])
    if line is None or widths.c is None:
        variance = float(np.mean([cell.variance for cell in pilot]))
        wanted = _stein(sqrt(variance), min(cell.degrees for cell in pilot), widths.a)
    else:
        wanted = max(
            _stein(line.se_a, line.degrees_a, widths.a), _stein(line.se_c, line.degrees_c, widths.c)
        )
    return max(least, wanted)


def window_s(
    *, edge_j: float, power_w: float, precision: float, shortest_s: float, longest_s: float
) -> float:
    """Seconds a window of a cell lasts: what makes its pilot just long enough.

    With the counter's steps alone, n0 blocks of windows of T seconds know a cost to a share of
    t sqrt(2) edge / (P T sqrt(n0)). Longer windows would spend more than asked for in the pilot;
    shorter ones need more blocks than they save, for the number goes with 1 / T^2. So::

        T = LINE t sqrt(2) edge / (sqrt(n0) precision P)

    between the bounds, with n0 and t at their least and LINE = 1.5 since a slope is less sure than
    its cells.

    Args:
        edge_j: standard error of one window from the counter's steps.
        power_w: what the operation draws above its loop, as sized.
        precision: wanted relative half-width.
        shortest_s, longest_s: the bounds.
    """
    if not (edge_j > 0 and power_w > 0):
        return longest_s if edge_j > 0 else shortest_s
    wanted_s = _LINE * _Z95 * sqrt(2 / SHORT_PILOT_BLOCKS) * edge_j / (precision * power_w)
    return min(max(wanted_s, shortest_s), longest_s)


def cap_to_time(
    wanted: ArrayLike, have: ArrayLike, block_s: ArrayLike, time_left_s: float
) -> NDArray[np.int64]:
    """Blocks a cell that fit in *time_left_s*: every cell keeps the same share of its wish.

    B = max(have, floor(f wanted)) with the largest f in [0, 1] whose missing blocks fit.

    Args:
        wanted: blocks by Stein's rule, shape (m,).
        have: blocks already measured, shape (m,).
        block_s: seconds a block of each cell takes, shape (m,).
        time_left_s: may be negative: then nothing is added.
    """
    wish, done = np.asarray(wanted, dtype=np.int64), np.asarray(have, dtype=np.int64)
    lengths = np.asarray(block_s, dtype=np.float64)

    def at(share: float) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = np.maximum(done, np.floor(share * wish).astype(np.int64))
        return counts

    def fits(share: float) -> bool:
        return bool(np.sum((at(share) - done) * lengths) <= time_left_s)

    if fits(1.0):
        return at(1.0)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return at(low)


def pilot_counts(cells: Sequence[Cell]) -> NDArray[np.int64]:
    """Pilot blocks a cell, shape (cells,): `SHORT_PILOT_BLOCKS` to `PILOT_BLOCKS`.

    As many as give the cell's operation `PILOT_DEGREES`, one less than its blocks a cell.
    """
    of_operation = {cell.operation: 0 for cell in cells}
    for cell in cells:
        of_operation[cell.operation] += 1
    wanted = {
        name: min(max(1 + ceil(PILOT_DEGREES / count), SHORT_PILOT_BLOCKS), PILOT_BLOCKS)
        for name, count in of_operation.items()
    }
    return np.array([wanted[cell.operation] for cell in cells], dtype=np.int64)


def pilot_order(counts: ArrayLike, seed: int) -> list[int]:
    """Cell positions: rounds, each a fresh random order of the cells that still want a block."""
    blocks = np.asarray(counts, dtype=np.int64)
    generator = np.random.default_rng([seed, 1])
    return [
        int(cell)
        for done in range(int(blocks.max(initial=0)))
        for cell in generator.permutation(np.flatnonzero(blocks > done))
    ]


def main_order(have: ArrayLike, counts: ArrayLike, seed: int, first: int) -> list[int]:
    """Cell positions of the main blocks from number *first* on: the widest intervals first.

    In pass p of P every cell gets what brings it to p / P of its *counts*, in random order. Those
    that ask for most, whose intervals are widest against what is wanted, are served from the
    first pass on, the others wait until the rest has caught up; a session that is stopped leaves
    intervals of about equal standing.

    Args:
        have: blocks already measured, shape (m,).
        counts: blocks a cell in the end, shape (m,).
    """
    reached, wanted = np.asarray(have, dtype=np.int64), np.asarray(counts, dtype=np.int64)
    generator = np.random.default_rng([seed, 2, first])
    order: list[int] = []
    for done in range(1, _PASSES + 1):
        target = np.maximum(reached, -(-done * wanted // _PASSES))
        target = np.minimum(target, np.maximum(wanted, reached))
        missing = np.repeat(np.arange(wanted.size), target - reached)
        order += generator.permutation(missing).tolist()
        reached = target
    return order


def block_seed(seed: int, block: int) -> int:
    """The seed of one block's values and indices; the same when a session is resumed."""
    return int(np.random.SeedSequence([seed, 3, block]).generate_state(1)[0])


def _stein(error: float, degrees: float, half_width: float) -> int:
    """(t s / w)^2 rounded up: `profiler.statistics.stein_blocks` for any degrees of freedom."""
    return ceil((t_quantile(0.975, degrees) * error / half_width) ** 2)
