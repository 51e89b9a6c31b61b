"""Blocks to cells: the mean energy of a call for each (layer, operation, pattern, k).

Stein's two-stage rule: the mean is over all of a cell's blocks, its standard error is
s_pilot / sqrt(B) with the pilot's n0 - 1 degrees of freedom, which is exact for normal
differences although B was chosen after the pilot. Without pilot rows all blocks serve.

Blocks in which the host slept or changed its clock (`UNSOUND`) enter no estimate; `unsound_blocks`
counts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from costmodels.leastsquares import nonnegative_least_squares
from profiler.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from profiler.trace import Trace

UNSOUND = frozenset({"suspend-gap", "frequency-shift"})
"""Flags of blocks that did not measure the operation under one condition."""
_KEYS = ["pattern", "layer", "k", "parameters"]


@dataclass(frozen=True, slots=True)
class CellMean:
    """The mean marginal energy of one call and what is known of its error.

    Attributes:
        operation, pattern, layer, kind, shape, dtype, parameters, k, payload_bytes, macs: as
            in the trace's columns.
        mean_j: mean of ``cost_j_per_call``; may be negative.
        variance: squared standard error of the mean, positive.
        degrees: degrees of freedom behind *variance*.
        counter_variance, relative_variance: the same variance as the operation's noise model
            has it, `noise_variance`: J^2, and a share of the squared energy.
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
    counter_variance: float
    relative_variance: float
    weight_degrees: float
    blocks: int

    @property
    def weight_variance(self) -> float:
        """The noise model at the mean; its inverse weights the cell in its layer's line."""
        noise = self.counter_variance + self.relative_variance * self.mean_j**2
        return max(noise, float(_least_variance(self.mean_j)) / self.blocks)

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
        raw = [_raw_cell(cell) for _, cell in rows.groupby(_KEYS, sort=False, dropna=False)]
        cells.extend(_with_noise_model(str(operation), raw))
    return tuple(cells)


def unsound_blocks(trace: Trace) -> int:
    """How many blocks of *trace* `cell_means` leaves out."""
    return int(_unsound(trace).sum())


def _unsound(trace: Trace) -> NDArray[np.bool_]:
    flags = trace.blocks["flags"]
    return np.array([not UNSOUND.isdisjoint(text.split(",")) for text in flags], dtype=bool)


@dataclass(frozen=True, slots=True)
class _Raw:
    """A cell before its error is known.

    The variance of one block is that of the (pilot's) blocks, ``None`` for a single one, and
    at least what the counter's steps alone account for: blocks that agree to the tick are not
    exact.
    """

    cell: CellMean
    block_variance: float | None
    instrument_variance: float
    inverse_repetitions: float


def _raw_cell(rows: pd.DataFrame) -> _Raw:
    costs = rows["cost_j_per_call"].to_numpy(dtype=np.float64)
    pilot = costs[(rows["stage"] == "pilot").to_numpy()]
    sample = pilot if pilot.size >= 2 else costs
    first = rows.iloc[0]
    payload, macs = first["payload_bytes"], first["macs"]
    spread = float(np.var(sample, ddof=1)) if sample.size >= 2 else None
    instrument = rows["standard_error_j_per_call"].to_numpy(dtype=np.float64)
    cell = CellMean(
        operation=first["operation"],
        pattern=first["pattern"],
        layer=first["layer"],
        kind=first["kind"],
        shape=parse_shape(first["shape"]),
        dtype=first["dtype"],
        parameters=int(first["parameters"]),
        k=int(first["k"]),
        payload_bytes=None if _absent(payload) else int(payload),
        macs=None if _absent(macs) else float(macs),
        mean_j=float(costs.mean()),
        variance=0.0,
        degrees=float(max(sample.size - 1, 1)),
        counter_variance=0.0,
        relative_variance=0.0,
        weight_degrees=0.0,
        blocks=int(costs.size),
    )
    inverse = float(np.mean(1.0 / rows["repetitions"].to_numpy(dtype=np.float64) ** 2))
    return _Raw(cell, spread, float(np.mean(instrument**2)), inverse)


def _with_noise_model(operation: str, raw: list[_Raw]) -> list[CellMean]:
    """Give each cell its own variance and, for its weight, the one that the noise model says."""
    by_counter, relative, degrees = _noise_model(operation, raw)
    finished = []
    for item in raw:
        cell = replace(
            item.cell,
            counter_variance=by_counter * item.inverse_repetitions / item.cell.blocks,
            relative_variance=relative / item.cell.blocks,
            weight_degrees=degrees,
        )
        own = max(item.block_variance or 0.0, item.instrument_variance) / cell.blocks
        least = float(_least_variance(cell.mean_j)) / cell.blocks
        finished.append(replace(cell, variance=max(own or cell.weight_variance, least)))
    return finished


def _noise_model(operation: str, raw: list[_Raw]) -> tuple[float, float, float]:
    """A block's variance as v0 / repetitions^2 + (r mean)^2: v0, r^2 and degrees of freedom.

    A cell's own s^2 has few degrees of freedom, and weighting by it favours the cells that
    happen to look precise: their line then claims too narrow an interval. Two numbers fitted to
    all cells of one operation, counter steps (v0) and a relative part (r), do not follow single
    cells. Fitted by the gamma likelihood's reweighting, w = degrees / prediction^2.
    """
    spread = np.array([max(item.block_variance or 0.0, item.instrument_variance) for item in raw])
    known = np.array([item.block_variance is not None for item in raw]) | (spread > 0)
    if not known.any():
        raise InputError(
            f"every cell of {operation!r} has a single block, so nothing says how uncertain "
            "it is: profile with more blocks"
        )
    mean = np.array([item.cell.mean_j for item in raw])
    floor = _least_variance(mean)
    design = np.column_stack([[item.inverse_repetitions for item in raw], mean**2])
    degrees = np.array([item.cell.degrees for item in raw])
    seen = np.maximum(spread, floor)
    predicted = seen
    for _ in range(10):
        weight = degrees / predicted**2
        coefficients = nonnegative_least_squares(design[known], seen[known], weight[known])
        predicted = np.maximum(design @ coefficients, floor)
    return float(coefficients[0]), float(coefficients[1]), float(degrees[known].sum())


def _least_variance(mean: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """What rounding alone leaves of a variance: nothing is known to a part in 10^9."""
    return np.asarray((1e-9 * mean) ** 2 + 1e-40)


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
