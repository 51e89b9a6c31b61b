"""What the blocks of a cell say: its mean, how sure that is, and the line through a group's cells.

The spread of a cell is moderated by that of its operation's other cells, and the line is weighted
by the noise model behind that (`profiler.scatter`), which knows a cell's calls and seconds but not
its joules: weights that did would favour the cells that came out low by chance, and bias the line.
A group whose blocks, all of them, scatter more than that allows stands alone (`standing_alone`):
one noisy layer among quiet ones would otherwise be thought as sure as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from profiler.scatter import Scatter, fit_scatter, looks_larger
from profiler.statistics import Line, fit_line

_LEAST_EDGE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class CellStatistics:
    """What the blocks of one cell say.

    Attributes:
        k: the cell's k.
        mean: mean marginal joules a call over all its blocks; may be negative.
        variance: of one block, from the pilot alone, moderated by the operation's other cells.
        degrees: degrees of freedom behind it.
        model: a block's variance as the operation's noise model has it; weights the line.
        blocks: all its blocks.
        most_degrees: those behind the variances of all the operation's cells together.
    """

    k: int
    mean: float
    variance: float
    degrees: float
    model: float
    blocks: int
    most_degrees: float = inf


@dataclass(frozen=True, slots=True)
class CellBlocks:
    """The blocks of one cell, before its operation's noise is known.

    Attributes:
        k: the cell's k.
        costs: marginal joules a call by block, shape (B,).
        pilot: whether a block belongs to the pilot, bool, shape (B,).
        repetitions: calls a block; their harmonic square mean where blocks differ in it.
        call_s: mean seconds a call.
        edge_variance: mean squared standard error of a block from the counter's steps.
    """

    k: int
    costs: NDArray[np.float64]
    pilot: NDArray[np.bool_]
    repetitions: float
    call_s: float
    edge_variance: float

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the cell's own variance: pilot blocks minus one."""
        return max(int(self.pilot.sum()) - 1, 0)

    @property
    def variance(self) -> float:
        """Of one block, from the pilot; at least a tenth of what the counter's steps make.

        Blocks that agree to the tick are not exact. The whole of it as a least value would
        make every interval too wide.
        """
        first = self.costs[self.pilot]
        own = float(np.var(first, ddof=1)) if first.size >= 2 else 0.0
        scale = float(np.mean(np.abs(self.costs))) if self.costs.size else 0.0
        return max(own, _LEAST_EDGE_SHARE * self.edge_variance, (1e-9 * scale) ** 2, 1e-40)


def scatter_of(cells: Sequence[CellBlocks]) -> Scatter | None:
    """The noise model of one operation's cells; ``None`` where none has two pilot blocks."""
    known = [cell for cell in cells if cell.degrees > 0]
    if not known:
        return None
    return fit_scatter(
        [cell.variance for cell in known],
        [cell.degrees for cell in known],
        [cell.repetitions for cell in known],
        [cell.call_s for cell in known],
    )


def cell_statistics(cell: CellBlocks, scatter: Scatter) -> CellStatistics | None:
    """Mean over all blocks, spread from the pilot's; ``None`` for a cell without a block."""
    if not cell.costs.size:
        return None
    model = scatter.variance(cell.repetitions, cell.call_s)
    variance, degrees = scatter.moderate(cell.variance, cell.degrees, model)
    if not degrees > 0:
        return None
    return CellStatistics(
        k=cell.k,
        mean=float(np.mean(cell.costs)),
        variance=float(variance),
        degrees=float(degrees),
        model=float(model),
        blocks=cell.costs.size,
        most_degrees=scatter.degrees,
    )


def standing_alone(
    group: Sequence[CellStatistics], blocks: Sequence[CellBlocks]
) -> list[CellStatistics]:
    """*group*, or where its blocks scatter more than its moderated variances allow, by itself.

    With r = sum_i (B_i - 1) s_i^2 / s~_i^2 / nu over all blocks, nu = sum_i (B_i - 1), a group
    whose r is above the 95 % point of F(nu, degrees behind s~) gets r s~_i^2 on nu degrees.

    Args:
        group: the cells of one layer, operation and pattern.
        blocks: the same cells' blocks.
    """
    degrees = sum(cell.costs.size - 1 for cell in blocks)
    if degrees < 1:
        return list(group)
    spread = sum(
        float(np.sum((cell.costs - cell.costs.mean()) ** 2)) / known.variance
        for known, cell in zip(group, blocks, strict=True)
    )
    ratio, common = spread / degrees, min(cell.most_degrees for cell in group)
    common = min(common, max(cell.degrees for cell in group) * len(group))
    if not looks_larger(ratio, degrees, common):
        return list(group)
    return [
        replace(cell, variance=ratio * cell.variance, degrees=degrees, most_degrees=degrees)
        for cell in group
    ]


def estimates(
    cells: Sequence[CellBlocks], groups: Sequence[Hashable], scatter: Scatter
) -> list[CellStatistics | None]:
    """What the cells of one operation say: moderated, and groups that scatter more by themselves.

    Args:
        cells: of one operation.
        groups: what each is fitted together with, its layer and pattern.
        scatter: the operation's noise model.
    """
    found = [cell_statistics(cell, scatter) for cell in cells]
    for group in dict.fromkeys(groups):
        members = [n for n, own in enumerate(groups) if own == group and found[n] is not None]
        known = [each for n in members if (each := found[n]) is not None]
        if known:
            alone = standing_alone(known, [cells[n] for n in members])
            for n, each in zip(members, alone, strict=True):
                found[n] = each
    return found


def fit_cells(cells: Sequence[CellStatistics]) -> Line | None:
    """The weighted line through the cells; ``None`` when they share one k."""
    if len({cell.k for cell in cells}) < 2:
        return None
    return fit_line(
        [cell.k for cell in cells],
        [cell.mean for cell in cells],
        [cell.variance / cell.blocks for cell in cells],
        [cell.degrees for cell in cells],
        [cell.blocks / cell.model for cell in cells],
        min(cell.most_degrees for cell in cells),
    )
