"""What a session has found so far: sizings and blocks by cell, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from profiler import design, evidence
from profiler.conditions import UNSOUND
from profiler.pace import Pace
from profiler.records import BlockRecord, SizingRecord
from profiler.scatter import Scatter
from profiler.statistics import t_quantile
from profiler.workloads import Cell


class Findings:
    """The records of a session over *cells*.

    Attributes:
        sizing: cell position -> its sizing.
        blocks: in the order in which they were measured.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.sizing: dict[int, SizingRecord] = {}
        self.blocks: list[BlockRecord] = []
        self._cells = cells
        self._groups = design.groups_of(cells)
        self._by_cell: dict[int, list[BlockRecord]] = {n: [] for n in range(len(cells))}
        self._operations: dict[str, list[int]] = {}
        for position, cell in enumerate(cells):
            self._operations.setdefault(cell.operation, []).append(position)
        self._pilots = dict.fromkeys(self._operations, 0)
        self._scatter: dict[str, tuple[Scatter, int]] = {}

    def keep(self, record: BlockRecord) -> None:
        """Add a block."""
        self.blocks.append(record)
        self._by_cell[record.cell].append(record)
        self._pilots[self._cells[record.cell].operation] += record.stage == "pilot"

    @property
    def counts(self) -> NDArray[np.int64]:
        """Sound blocks a cell, shape (cells,)."""
        sound = (
            sum(UNSOUND.isdisjoint(each.flags) for each in blocks)
            for blocks in self._by_cell.values()
        )
        return np.fromiter(sound, dtype=np.int64, count=len(self._by_cell))

    @property
    def end_s(self) -> float:
        """When the last record ended, in seconds of the session."""
        sized_s = max((record.end_s for record in self.sizing.values()), default=0.0)
        return max([sized_s, *(record.end_s for record in self.blocks)])

    def wanted(self, precision: float) -> NDArray[np.int64]:
        """Blocks a cell that *precision* asks for after the pilot (Stein); shape (cells,)."""
        wanted = self.counts
        self._scatter.clear()
        for members in self._groups.values():
            pilot = list(self._group_statistics(members).values())
            sizing = [self.sizing[n] for n in members]
            widths = design.target_widths(
                [self._cells[n].k for n in members],
                [record.cost_j for record in sizing],
                [record.raw_j for record in sizing],
                precision,
            )
            wanted[members] = np.maximum(wanted[members], design.group_blocks(pilot, widths))
        return wanted

    def statistics(self, position: int) -> evidence.CellStatistics | None:
        """What the blocks of one cell say; ``None`` before its operation's pilot says how sure."""
        members = self._groups[design.group_of(self._cells[position])]
        return self._group_statistics(members).get(position)

    def _group_statistics(self, members: Sequence[int]) -> dict[int, evidence.CellStatistics]:
        """Position -> what is known so far of the cells of one group."""
        scatter = self._scatter_of(self._cells[members[0]].operation)
        blocks = {n: self.cell_blocks(n) for n in members}
        known = {
            n: found
            for n, cell in blocks.items()
            if scatter is not None
            and (found := evidence.cell_statistics(cell, scatter)) is not None
        }
        if not known:
            return {}
        alone = evidence.standing_alone(list(known.values()), [blocks[n] for n in known])
        return dict(zip(known, alone, strict=True))

    def cell_blocks(self, position: int) -> evidence.CellBlocks:
        """The blocks of one cell as the formulas take them; those flagged unsound left out."""
        blocks = [each for each in self._by_cell[position] if UNSOUND.isdisjoint(each.flags)]
        lengths_s = [record.duration_s / record.repetitions for record in blocks]
        return evidence.CellBlocks(
            k=self._cells[position].k,
            costs=np.array([record.cost_j_per_call for record in blocks]),
            pilot=np.array([record.stage == "pilot" for record in blocks], dtype=bool),
            repetitions=blocks[0].repetitions if blocks else 1,
            call_s=float(np.mean(lengths_s)) if blocks else 0.0,
            edge_variance=float(
                np.mean([record.standard_error_j_per_call**2 for record in blocks] or [0.0])
            ),
        )

    def _scatter_of(self, operation: str) -> Scatter | None:
        """The operation's noise model, fitted anew when its pilot has grown by a round."""
        members = self._operations[operation]
        known = self._scatter.get(operation)
        if known is not None and self._pilots[operation] < known[1] + len(members):
            return known[0]
        scatter = evidence.scatter_of([self.cell_blocks(n) for n in members])
        if scatter is not None:
            self._scatter[operation] = (scatter, self._pilots[operation])
        return scatter

    def relative_half_width(self, position: int) -> float | None:
        """Of the 95 % interval of the slope (or mean) that the cell is fitted in."""
        members = self._groups[design.group_of(self._cells[position])]
        known = list(self._group_statistics(members).values())
        if not known:
            return None
        line = evidence.fit_cells(known)
        if line is not None:
            value, half = line.c, t_quantile(0.975, line.degrees_c) * line.se_c
        else:
            cell = known[0]
            value = cell.mean
            half = t_quantile(0.975, cell.degrees) * sqrt(cell.variance / cell.blocks)
        return None if value == 0 else half / abs(value)

    def block_lengths_s(self) -> NDArray[np.float64]:
        """Seconds a block of each cell takes: as sized, scaled to what blocks really took."""
        sized = np.array([self.sizing[n].block_s for n in range(len(self._cells))])
        taken_s = self.blocks[-1].start_s - self.blocks[0].start_s
        expected_s = sum(self.sizing[record.cell].block_s for record in self.blocks[:-1])
        ratio = taken_s / expected_s if expected_s else 1.0
        return sized * max(ratio, 0.1)

    def rest_s(self, pace: Pace, window_s: float, pilot: NDArray[np.int64]) -> float:
        """Seconds until every cell is sized and has its *pilot* blocks; at least."""
        left_s = 0.0
        for n, blocks in self._by_cell.items():
            missing = max(int(pilot[n]) - len(blocks), 0)
            if n in self.sizing:
                left_s += missing * self.sizing[n].block_s
            else:
                left_s += pace.sizing_s(window_s) + missing * pace.block_s(window_s)
        return left_s
