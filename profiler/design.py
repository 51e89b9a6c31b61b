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
where s_a and s_c are the standard errors of a and c from one block a cell. The line's weights
are 1/e^2, for a block's scatter grows with the energy in it; weights taken from each cell's own
few pilot blocks would favour those that look precise by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.errors import InputError
from profiler.statistics import Line, fit_line, t_quantile
from profiler.workloads import Cell

PILOT_BLOCKS, FEWEST_PILOT_BLOCKS = 6, 2
MAX_BLOCKS = 500
FLOOR = 0.25

Group = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class CellStatistics:
    """What the blocks of one cell say.

    Attributes:
        k: the cell's k.
        mean: mean marginal joules a call over all its blocks; may be negative.
        raw: joules of a call, idle power included: what the line's weights go by.
        variance: of one block, from the pilot alone, at least that of the counter's edges.
        degrees: pilot blocks minus one.
        blocks: all its blocks.
    """

    k: int
    mean: float
    raw: float
    variance: float
    degrees: int
    blocks: int


def group_of(cell: Cell) -> Group:
    """What is fitted by one line: operation, layer and pattern."""
    return (cell.operation, cell.layer, cell.pattern)


def groups_of(cells: Sequence[Cell]) -> dict[Group, list[int]]:
    """Group -> the positions of its cells, in the order of first appearance."""
    groups: dict[Group, list[int]] = {}
    for position, cell in enumerate(cells):
        groups.setdefault(group_of(cell), []).append(position)
    return groups


def cell_statistics(
    k: int, costs: ArrayLike, raw: ArrayLike, pilot: ArrayLike, edge_variance: float
) -> CellStatistics | None:
    """Mean over all blocks, spread from the pilot's; ``None`` with fewer than two pilot blocks.

    Args:
        k: the cell's k.
        costs: marginal joules a call by block, shape (B,).
        raw: joules a call by block, idle power included, shape (B,).
        pilot: whether a block belongs to the pilot, bool, shape (B,).
        edge_variance: mean squared standard error of a block from counter steps.
    """
    values = np.asarray(costs, dtype=np.float64)
    first = values[np.asarray(pilot, dtype=bool)]
    if first.size < 2:
        return None
    call_j = max(float(np.mean(np.asarray(raw, dtype=np.float64))), 1e-30)
    variance = max(float(np.var(first, ddof=1)), edge_variance, (1e-6 * call_j) ** 2)
    return CellStatistics(k, float(np.mean(values)), call_j, variance, first.size - 1, values.size)


def fit_cells(cells: Sequence[CellStatistics]) -> Line | None:
    """The weighted line through the cells; ``None`` when they share one k."""
    if len({cell.k for cell in cells}) < 2:
        return None
    return fit_line(
        [cell.k for cell in cells],
        [cell.mean for cell in cells],
        [cell.variance / cell.blocks for cell in cells],
        [cell.degrees for cell in cells],
        [cell.blocks / cell.raw**2 for cell in cells],
    )


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


def pilot_order(cells: int, blocks: int, seed: int) -> list[int]:
    """Cell positions: *blocks* rounds, each a fresh random order of all cells."""
    generator = np.random.default_rng([seed, 1])
    return [int(cell) for _ in range(blocks) for cell in generator.permutation(cells)]


def main_order(extra: ArrayLike, seed: int, first: int) -> list[int]:
    """Cell positions of the main blocks from number *first* on, *extra* a cell, at random."""
    counts = np.asarray(extra, dtype=np.int64)
    order = np.repeat(np.arange(counts.size), counts)
    return [int(cell) for cell in np.random.default_rng([seed, 2, first]).permutation(order)]


def block_seed(seed: int, block: int) -> int:
    """The seed of one block's values and indices; the same when a session is resumed."""
    return int(np.random.SeedSequence([seed, 3, block]).generate_state(1)[0])


def _stein(error: float, degrees: float, half_width: float) -> int:
    """(t s / w)^2 rounded up: `profiler.statistics.stein_blocks` for any degrees of freedom."""
    return ceil((t_quantile(0.975, degrees) * error / half_width) ** 2)
