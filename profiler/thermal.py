"""The blocks of an operation at one temperature: what follows it is taken out of their costs.

Cost files and comparisons both take a cell's blocks from here, so that both say the same of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from profiler.scatter import fit_scatter
from profiler.wander import ThermalSlope, thermal_slope

if TYPE_CHECKING:
    import pandas as pd

CELL_KEYS = ("pattern", "layer", "k", "parameters")
"""The columns that tell the cells of one operation apart."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AdjustedBlocks:
    """The blocks of one operation at the session's mean temperature T.

    Attributes:
        costs: E_ij - g t_i (T_ij - T), joules a call by block, shape (n,).
        error_j: s_g t_i (T_ij - T), with s_g the standard error of g, shape (n,). One error of g
            is in all blocks: their mean, squared, adds to the variance of a mean over blocks,
            however many there are.
        slope: g; ``None`` where costs did not visibly follow the temperature and are left as
            they are.
    """

    costs: Floats
    error_j: Floats
    slope: ThermalSlope | None


def adjust_blocks(blocks: pd.DataFrame) -> AdjustedBlocks:
    """The blocks of one operation, adjusted where `profiler.wander.thermal_slope` finds a slope.

    Args:
        blocks: rows of a trace's blocks, of one operation, the sound ones alone.
    """
    cell = blocks.groupby(list(CELL_KEYS), sort=False, dropna=False).ngroup()
    costs = blocks["cost_j_per_call"]
    call_s = (blocks["duration_s"] / blocks["repetitions"]).groupby(cell).transform("mean")
    temperature_c = blocks["temperature_c"]
    scale = _scale(costs, cell, blocks["repetitions"], call_s)
    known = np.flatnonzero(scale > 0)
    slope = thermal_slope(
        *(np.asarray(each)[known] for each in (costs, cell, call_s, temperature_c, scale))
    )
    unadjusted = costs.to_numpy(dtype=np.float64)
    if slope is None:
        return AdjustedBlocks(unadjusted, np.zeros_like(unadjusted), None)
    lever = (call_s * (temperature_c - slope.mean_c)).to_numpy(dtype=np.float64)
    # a block of which no temperature is known is in a cell that does not scatter: left as it is
    lever = np.where(np.isfinite(lever), lever, 0.0)
    return AdjustedBlocks(
        unadjusted - slope.watts_per_k * lever, slope.standard_error * lever, slope
    )


def _scale(costs: pd.Series, cell: pd.Series, repetitions: pd.Series, call_s: pd.Series) -> Floats:
    """A block's standard deviation as the operation's noise model has it, shape (n,).

    0 in the cells that do not scatter. A cell's own deviation would not do: of two or three
    blocks, it is small by chance just where they do not follow the temperature, and weights of
    its inverse square pull the slope to zero.
    """
    groups = costs.groupby(cell)
    variance = groups.transform("var").fillna(0.0).to_numpy(dtype=np.float64)
    count = groups.transform("size").to_numpy(dtype=np.float64)
    first = ~cell.duplicated().to_numpy() & (variance > 0)
    if not first.any():
        return np.zeros_like(variance)
    n, t = (each.to_numpy(dtype=np.float64) for each in (repetitions, call_s))
    scatter = fit_scatter(variance[first], count[first] - 1, n[first], t[first])
    found: Floats = np.where(variance > 0, np.sqrt(scatter.variance(n, t)), 0.0)
    return found
