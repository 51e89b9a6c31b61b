"""Blocks to cells: the mean energy of a call for each (layer, operation, pattern, k).

Stein's two-stage rule: the mean is over all of a cell's blocks, its standard error is
s_pilot / sqrt(B), with s from the pilot alone, which is exact for normal differences although B was
chosen after the pilot. Without pilot rows all blocks serve. The spread of a cell is moderated by
that of the operation's other cells, and cells are weighted by the noise model behind that, which
knows their calls and seconds but not their joules (`profiler.scatter`).

Blocks in which the host slept, was throttled or changed its clock (`UNSOUND`) enter no estimate;
`unsound_blocks` counts them. Where costs follow the device's temperature they are adjusted to its
mean (`thermal_slopes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from profiler import evidence
from profiler.conditions import UNSOUND as UNSOUND
from profiler.errors import FileFormatError, InputError
from profiler.scatter import Scatter
from profiler.thermal import CELL_KEYS, adjust_blocks
from profiler.wander import ThermalSlope

if TYPE_CHECKING:
    import pandas as pd

    from profiler.trace import Trace


@dataclass(frozen=True, slots=True)
class CellMean:
    """The mean marginal energy of one call and what is known of its error.

    Attributes:
        operation, pattern, layer, kind, shape, dtype, parameters, k, payload_bytes, macs: as
            in the trace's columns.
        mean_j: mean of ``cost_j_per_call``; may be negative.
        variance: squared standard error of the mean, moderated, positive.
        degrees: degrees of freedom behind *variance*.
        weight_variance: the same as the operation's noise model has it; its inverse weights the
            cell in its layer's line.
        weight_degrees: degrees of freedom behind the noise model.
        blocks: blocks averaged.
    """

    operation: str
    pattern: str
    layer: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    k: int
    payload_bytes: int | None
    macs: float | None
    mean_j: float
    variance: float
    degrees: float
    weight_variance: float
    weight_degrees: float
    blocks: int

    @property
    def group(self) -> str:
        """What is left out together in cross-validation: a layer signature; a message size."""
        if self.layer == "*" and self.operation != "train":
            return f"{self.parameters}:{self.k}"
        return f"{self.kind}:{'x'.join(map(str, self.shape))}:{self.dtype}"


def cell_means(trace: Trace) -> tuple[CellMean, ...]:
    """The cells of *trace*, in the order of their first blocks; those flagged unsound left out.

    Raises:
        InputError: no sound block, or an operation has no cell with two of them and no
            instrument error either, so that nothing says how uncertain its means are.
        FileFormatError: a shape that is not integers joined by x.
    """
    blocks = trace.blocks[~_unsound(trace)]
    if blocks.empty:
        flagged = f" but {len(trace.blocks)} flagged as unsound" if len(trace.blocks) else ""
        raise InputError(f"the trace holds no blocks{flagged}: profile again")
    cells: list[CellMean] = []
    for operation, rows in blocks.groupby("operation", sort=False):
        cells.extend(_of_operation(str(operation), rows))
    return tuple(cells)


def unsound_blocks(trace: Trace) -> int:
    """How many blocks of *trace* `cell_means` leaves out."""
    return int(_unsound(trace).sum())


def _unsound(trace: Trace) -> NDArray[np.bool_]:
    flags = trace.blocks["flags"]
    return np.array([not UNSOUND.isdisjoint(text.split(",")) for text in flags], dtype=bool)


def _of_operation(operation: str, rows: pd.DataFrame) -> list[CellMean]:
    """The cells of one operation, which share a noise model."""
    adjusted = adjust_blocks(rows)
    rows = rows.assign(cost_j_per_call=adjusted.costs, thermal_error_j=adjusted.error_j)
    tables = _tables(rows)
    found = [_blocks_of(table) for table in tables]
    scatter = evidence.scatter_of(found) or _instrument_alone(operation, found)
    groups = [tuple(table.iloc[0][["layer", "pattern"]]) for table in tables]
    said = evidence.estimates(found, groups, scatter)
    return [
        _cell_mean(table, statistics)
        for table, statistics in zip(tables, said, strict=True)
        if statistics is not None
    ]


def thermal_slopes(trace: Trace) -> dict[str, ThermalSlope]:
    """Operation -> how its costs followed the temperature, and what they are adjusted to.

    Operations whose costs did not, or not visibly, are left out.
    """
    blocks = trace.blocks[~_unsound(trace)]
    slopes = {str(name): adjust_blocks(rows).slope for name, rows in blocks.groupby("operation")}
    return {name: slope for name, slope in slopes.items() if slope is not None}


def _tables(rows: pd.DataFrame) -> list[pd.DataFrame]:
    return [table for _, table in rows.groupby(list(CELL_KEYS), sort=False, dropna=False)]


def _blocks_of(rows: pd.DataFrame) -> evidence.CellBlocks:
    costs = rows["cost_j_per_call"].to_numpy(dtype=np.float64)
    pilot = (rows["stage"] == "pilot").to_numpy(dtype=bool)
    instrument = rows["standard_error_j_per_call"].to_numpy(dtype=np.float64)
    repetitions = rows["repetitions"].to_numpy(dtype=np.float64)
    return evidence.CellBlocks(
        k=int(rows["k"].iloc[0]),
        costs=costs,
        pilot=pilot if pilot.sum() >= 2 else np.ones_like(pilot),
        repetitions=float(np.mean(repetitions**-2.0) ** -0.5),
        call_s=float(np.mean(rows["duration_s"].to_numpy(dtype=np.float64) / repetitions)),
        edge_variance=float(np.mean(instrument**2)),
    )


def _instrument_alone(operation: str, cells: list[evidence.CellBlocks]) -> Scatter:
    """A noise model from the counter's steps, where no cell has two blocks.

    Raises:
        InputError: the counter has no steps either.
    """
    variance_j2 = [cell.edge_variance * cell.repetitions**2 for cell in cells]
    if not any(variance_j2):
        raise InputError(
            f"every cell of {operation!r} has a single block, so nothing says how uncertain "
            "it is: profile with more blocks"
        )
    return Scatter(float(np.mean(variance_j2)), 0.0, 1.0, inf, 1.0)


def _cell_mean(rows: pd.DataFrame, found: evidence.CellStatistics) -> CellMean:
    first = rows.iloc[0]
    payload, macs = first["payload_bytes"], first["macs"]
    least = _least_variance(found.mean)
    thermal = float(rows["thermal_error_j"].mean()) ** 2  # one error of the slope is in all blocks
    return CellMean(
        operation=first["operation"],
        pattern=first["pattern"],
        layer=first["layer"],
        kind=first["kind"],
        shape=parse_shape(first["shape"]),
        dtype=first["dtype"],
        parameters=int(first["parameters"]),
        k=found.k,
        payload_bytes=None if _absent(payload) else int(payload),
        macs=None if _absent(macs) else float(macs),
        mean_j=found.mean,
        variance=max(found.variance, least) / found.blocks + thermal,
        degrees=max(found.degrees, 1.0),
        weight_variance=max(found.model, least) / found.blocks,
        weight_degrees=found.most_degrees,
        blocks=found.blocks,
    )


def _least_variance(mean_j: float) -> float:
    """What rounding alone leaves of a variance: nothing is known to a part in 10^9."""
    return (1e-9 * mean_j) ** 2 + 1e-40


def parse_shape(text: str) -> tuple[int, ...]:
    """``8x3x3x3`` as integers; a scalar is the empty text.

    Raises:
        FileFormatError: anything else.
    """
    try:
        shape = tuple(int(part) for part in text.split("x")) if text else ()
    except ValueError as error:
        raise FileFormatError(f"shape {text!r} is not integers joined by x") from error
    if any(size < 1 for size in shape):
        raise FileFormatError(f"shape {text!r} has a side below 1")
    return shape


def _absent(value: object) -> bool:
    import pandas as pd

    return bool(pd.isna(value))
