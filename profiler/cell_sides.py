"""A trace's cells and lines as estimates that can be compared.

The mean of a cell is over all its blocks. Its variance is that of the blocks of the main stage
where there are at least `MAIN_BLOCKS` of them: how many there are was settled before they were
made, so they are an honest sample. With fewer it is the pilot's, as Stein's rule has it; where a
pilot was all that was planned, its blocks are an ordinary sample. The variance of all blocks
together would be too small where it matters: the pilots that scatter little by chance get few
blocks after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.blocks import FREQUENCY_SHIFT, SUSPEND_GAP
from profiler.contrasts import Side
from profiler.design import CellStatistics, fit_cells

if TYPE_CHECKING:
    import pandas as pd

    from profiler.trace import Trace

MAIN_BLOCKS = 12
_UNSOUND = frozenset({SUSPEND_GAP, FREQUENCY_SHIFT})
CellKey = tuple[str, str, str, int]
"""Operation, layer, pattern, k."""


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """A cell of one trace.

    Attributes:
        signature: shape, type and number of parameters of its layer.
        raw_j: joules a call, idle power included: what a line's weights go by.
        side: what a call costs; ``None`` with fewer than two sound blocks.
    """

    signature: tuple[str, str, int]
    raw_j: float
    side: Side | None


def cells_of(trace: Trace) -> dict[CellKey, CellEstimate]:
    """The cells of *trace*, in its order, without the blocks that are flagged unsound."""
    table = trace.blocks
    sound = [_UNSOUND.isdisjoint(str(flags).split(",")) for flags in table["flags"]]
    keys = ["operation", "layer", "pattern", "k"]
    return {
        (str(key[0]), str(key[1]), str(key[2]), int(key[3])): _cell(rows)
        for key, rows in table[np.array(sound, dtype=bool)].groupby(keys, sort=False)
    }


def cell_side(
    costs: Sequence[float] | np.ndarray, pilot: Sequence[bool] | np.ndarray, least_variance: float
) -> Side | None:
    """A cell's mean and its variance, as the top of this file says; ``None`` below two blocks.

    Args:
        costs: joules a call of every sound block, shape (B,).
        pilot: whether a block is of the pilot, shape (B,).
        least_variance: of one block, in J^2: no sample of a few blocks is believed below it.
    """
    values, first = np.asarray(costs, dtype=np.float64), np.asarray(pilot, dtype=bool)
    main = values[~first]
    two_stage = False
    if main.size >= MAIN_BLOCKS or not first.any():
        sample = main
    else:
        sample = values[first]
        two_stage = bool(main.size)
    if sample.size < 2:
        return None
    variance = max(float(np.var(sample, ddof=1)), least_variance) / values.size
    return Side(float(np.mean(values)), variance, sample.size - 1, values.size, two_stage)


def line_sides(
    group: tuple[str, str, str], cells: Mapping[CellKey, CellEstimate]
) -> tuple[Side, Side] | None:
    """a and c of E(k) = a + c k over the cells of *group*, weighted as a session weights them.

    Returns:
        ``None`` where the group has fewer than two different k.
    """
    known = [
        (key[3], cell.raw_j, cell.side)
        for key, cell in cells.items()
        if key[:3] == group and cell.side is not None
    ]
    line = fit_cells(
        [
            CellStatistics(
                k=k,
                mean=side.mean,
                raw=raw_j,
                variance=side.variance * side.blocks,
                degrees=round(side.degrees),
                blocks=side.blocks,
            )
            for k, raw_j, side in known
        ]
    )
    if line is None:
        return None
    blocks = sum(side.blocks for *_, side in known)
    staged = any(side.two_stage for *_, side in known)
    return (
        Side(line.a, line.se_a**2, line.degrees_a, blocks, staged),
        Side(line.c, line.se_c**2, line.degrees_c, blocks, staged),
    )


def _cell(rows: pd.DataFrame) -> CellEstimate:
    raw_j = max(float((rows["energy_j"] / rows["repetitions"]).mean()), 1e-30)
    edges = float((rows["standard_error_j_per_call"] ** 2).mean())
    side = cell_side(
        rows["cost_j_per_call"].to_numpy(),
        (rows["stage"] == "pilot").to_numpy(),
        max(edges, (1e-6 * raw_j) ** 2),
    )
    first = rows.iloc[0]
    signature = (str(first["shape"]), str(first["dtype"]), int(first["parameters"]))
    return CellEstimate(signature, raw_j, side)
