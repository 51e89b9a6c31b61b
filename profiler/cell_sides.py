"""A trace's cells and lines as estimates that can be compared.

The convention is that of the sessions (Stein's two-stage rule): a cell's mean is over all its
blocks, its variance from the pilot's alone, moderated by the operation's other cells
(`profiler.scatter`). That is exact for whatever number of blocks was chosen after a look at the
pilot. The variance of all blocks together would not be: pilots that scatter little by chance get
few blocks after them, so that it is too small just where the mean is uncertain. Simulated with ten
cells of which each chose its own blocks, it found differences in 17 % of tables that differ in
nothing, instead of 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.conditions import FREQUENCY_SHIFT, SUSPEND_GAP, THROTTLED
from profiler.contrasts import Side
from profiler.design import CellBlocks, CellStatistics, cell_statistics, fit_cells, scatter_of

if TYPE_CHECKING:
    import pandas as pd

    from profiler.trace import Trace

_UNSOUND = frozenset({SUSPEND_GAP, FREQUENCY_SHIFT, THROTTLED})
CellKey = tuple[str, str, str, int]
"""Operation, layer, pattern, k."""


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """A cell of one trace.

    Attributes:
        signature: shape, type and number of parameters of its layer.
        statistics: what its blocks say; ``None`` where they are too few to say how they scatter.
        two_stage: whether the spread behind it decided how many blocks were made.
    """

    signature: tuple[str, str, int]
    statistics: CellStatistics | None
    two_stage: bool

    @property
    def side(self) -> Side | None:
        """What a call costs."""
        found = self.statistics
        if found is None:
            return None
        variance = found.variance / found.blocks
        return Side(found.mean, variance, found.degrees, found.blocks, self.two_stage)


def cells_of(trace: Trace) -> dict[CellKey, CellEstimate]:
    """The cells of *trace*, in its order, without the blocks that are flagged unsound."""
    table = trace.blocks
    sound = [_UNSOUND.isdisjoint(str(flags).split(",")) for flags in table["flags"]]
    found: dict[CellKey, CellEstimate] = {}
    for operation, rows in table[np.array(sound, dtype=bool)].groupby("operation", sort=False):
        grouped = list(rows.groupby(["layer", "pattern", "k"], sort=False))
        blocks = [_blocks(int(key[2]), cell) for key, cell in grouped]
        estimates = operation_estimates([each for each, _ in blocks])
        for (key, cell), (_, staged), statistics in zip(grouped, blocks, estimates, strict=True):
            first = cell.iloc[0]
            signature = (str(first["shape"]), str(first["dtype"]), int(first["parameters"]))
            whole = (str(operation), str(key[0]), str(key[1]), int(key[2]))
            found[whole] = CellEstimate(signature, statistics, staged)
    return found


def operation_estimates(cells: Sequence[CellBlocks]) -> list[CellStatistics | None]:
    """What the cells of one operation say; their *pilot* is the sample that variances are of."""
    scatter = scatter_of(cells)
    if scatter is None:
        return [None] * len(cells)
    return [cell_statistics(cell, scatter) for cell in cells]


def sample_of(pilot: ArrayLike) -> tuple[NDArray[np.bool_], bool]:
    """Which blocks a cell's variance is of, and whether it decided how many were made.

    Args:
        pilot: whether a block is of the pilot, shape (B,); without any, all blocks serve.
    """
    first = np.asarray(pilot, dtype=bool)
    if not first.any():
        return ~first, False
    return first, not bool(first.all())


def line_sides(
    group: tuple[str, str, str], cells: Mapping[CellKey, CellEstimate]
) -> tuple[Side, Side] | None:
    """a and c of E(k) = a + c k over the cells of *group*, weighted as a session weights them.

    Returns:
        ``None`` where the group has fewer than two different k.
    """
    members = [cell for key, cell in cells.items() if key[:3] == group]
    known = [cell.statistics for cell in members if cell.statistics is not None]
    line = fit_cells(known)
    if line is None:
        return None
    blocks = sum(each.blocks for each in known)
    staged = any(cell.two_stage for cell in members)
    return (
        Side(line.a, line.se_a**2, line.degrees_a, blocks, staged),
        Side(line.c, line.se_c**2, line.degrees_c, blocks, staged),
    )


def _blocks(k: int, rows: pd.DataFrame) -> tuple[CellBlocks, bool]:
    sample, staged = sample_of((rows["stage"] == "pilot").to_numpy())
    cell = CellBlocks(
        k=k,
        costs=rows["cost_j_per_call"].to_numpy(),
        pilot=sample,
        repetitions=int(rows["repetitions"].iloc[0]),
        call_s=float((rows["duration_s"] / rows["repetitions"]).mean()),
        edge_variance=float((rows["standard_error_j_per_call"] ** 2).mean()),
    )
    return cell, staged
