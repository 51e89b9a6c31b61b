"""The stages of a session: size, pilot, plan, main. Each block goes to the journal at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import median
from typing import Any, TypeVar

import numpy as np

from profiler import design
from profiler.blocks import Block, Gauge, calibrate, cpu_frequency_hz, measure_block
from profiler.errors import CounterFaultError, MeterReadError
from profiler.journal import Journal, Kind, Measured
from profiler.progress import Report, Stage, Standing
from profiler.records import BlockRecord, SizingRecord, record_from
from profiler.statistics import t_quantile
from profiler.workloads import Cell, Operation, Workload

_Result = TypeVar("_Result")
FAILURES_IN_A_ROW = 4
FEWEST_PILOT_BLOCKS = 2
_MARGIN = 0.97
_SHORT_SLEEP = 0.25
"""Of a window: how long to sleep where the meter has no steps to average over."""
_SIZING_BLOCK = 2**40
"""Added to a cell's position: the seeds of sizing blocks are never those of counted ones."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the blocks of a session, apart from its cells."""

    seed: int
    precision: float
    window_s: float
    max_time_s: float | None = None


class Session:
    """One profiling session over *cells*, new or resumed.

    Args:
        cells: each with the operation that prepares it; the order is the design's.
        gauge: the meter and its counter's period.
        settings: see `Settings`.
        journal: where each record goes; ``None`` keeps them in memory alone.
        measured: what a resumed journal holds.
        report: called after each block.
    """

    def __init__(
        self,
        cells: Sequence[tuple[Operation, Cell]],
        gauge: Gauge,
        settings: Settings,
        *,
        journal: Journal | None = None,
        measured: Measured | None = None,
        report: Report | None = None,
    ) -> None:
        self.gauge, self.settings = gauge, settings
        self.cells = [cell for _, cell in cells]
        self.blocks: list[BlockRecord] = []
        self.dropped: Counter[str] = Counter()
        self.remarks: list[str] = []
        self.cell_flags: dict[int, str] = {}
        self._operations = [operation for operation, _ in cells]
        self._groups = design.groups_of(self.cells)
        self._journal, self._report = journal, report
        self._sizing: dict[int, SizingRecord] = {}
        self._plan: dict[str, Any] | None = None
        self._by_cell: dict[int, list[BlockRecord]] = {n: [] for n in range(len(cells))}
        self._frequencies: list[float] = []
        self._begin_s = time.perf_counter() - (0.0 if measured is None else self._restore(measured))

    def run(self) -> None:
        """Measure whatever is not measured yet.

        Raises:
            MeterReadError: `FAILURES_IN_A_ROW` blocks in a row were lost.
            OutputError: the journal cannot be written.
        """
        self._size()
        order = design.pilot_order(len(self.cells), design.PILOT_BLOCKS, self.settings.seed)
        if self._plan is None:
            if not self._stage("pilot", order, 0, keep=FEWEST_PILOT_BLOCKS * len(self.cells)):
                self._remark("time-capped: --max-time ended the pilot early")
            self._plan = self._make_plan()
            self._write("plan", self._plan)
        counts = np.asarray(self._plan["extra"], dtype=np.int64)
        self._flag(self._plan["flags"])
        main = design.main_order(counts, self.settings.seed)
        if not self._stage("main", main, len(order), keep=0):
            lacking = {
                position: "time-capped"
                for position, have in enumerate(self._by_cell.values())
                if sum(record.stage == "main" for record in have) < counts[position]
            }
            self._flag(lacking)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the session began, pauses between an end and a resume left out."""
        return time.perf_counter() - self._begin_s

    def _restore(self, measured: Measured) -> float:
        self._sizing = {n: record_from(SizingRecord, r) for n, r in measured.sizing.items()}
        self._plan = measured.plan
        self.dropped = Counter(measured.dropped)
        for line in measured.blocks:
            self._keep(record_from(BlockRecord, line))
        sized_s = sum(record.block_s for record in self._sizing.values())
        return max([sized_s, *(record.end_s for record in self.blocks)])

    def _size(self) -> None:
        for position in range(len(self.cells)):
            if position not in self._sizing:
                record = self._size_cell(position)
                self._write("sizing", asdict(record))
                self._sizing[position] = record
            self._tell("sizing", position + 1, len(self.cells), position, left_s=0.0)
        if frequency := cpu_frequency_hz():
            self._frequencies.append(frequency)

    def _size_cell(self, position: int) -> SizingRecord:
        number = _SIZING_BLOCK + position

        def size(workload: Workload, attempt: int) -> tuple[int, float]:
            # the meter's own clock: a read waits until the device has finished
            return calibrate(
                workload, self.settings.window_s, lambda: self.gauge.meter.read().time_s
            )

        repetitions, call_s = self._insist(position, number, size)
        if frequency := cpu_frequency_hz():
            self._frequencies.append(frequency)
        begin_s = time.perf_counter()
        block = self._measure(position, number, repetitions, call_s)
        return SizingRecord(
            cell=position,
            repetitions=repetitions,
            call_s=call_s,
            block_s=time.perf_counter() - begin_s,
            cost_j=block.cost_j_per_call,
            raw_j=block.operation.energy_j / repetitions,
        )

    def _stage(self, stage: Stage, order: Sequence[int], first: int, *, keep: int) -> bool:
        """Measure *order*, numbered from *first*; after *keep* blocks the time may end it."""
        done = {record.block for record in self.blocks}
        left_s = sum(self._sizing[p].block_s for n, p in enumerate(order, first) if n not in done)
        for place, position in enumerate(order):
            number = first + place
            if number in done:
                continue
            limit_s = self.settings.max_time_s
            if place >= keep and limit_s is not None and self.elapsed_s >= limit_s:
                return False
            sizing = self._sizing[position]
            start_s = self.elapsed_s
            block = self._measure(position, number, sizing.repetitions, sizing.call_s)
            record = BlockRecord.of(block, number, stage, position, start_s)
            self._write("block", asdict(record))
            self._keep(record)
            left_s = max(left_s - sizing.block_s, 0.0)
            self._tell(stage, place + 1, len(order), position, left_s)
        return True

    def _measure(self, position: int, number: int, repetitions: int, call_s: float) -> Block:
        share = 1.0 if self.gauge.stepped else _SHORT_SLEEP
        sleep_s = share * min(self.settings.window_s, repetitions * call_s)

        def measure(workload: Workload, attempt: int) -> Block:
            return measure_block(
                workload,
                repetitions,
                self.gauge,
                np.random.default_rng([design.block_seed(self.settings.seed, number), attempt]),
                sleep_s=sleep_s,
                usual_frequency_hz=median(self._frequencies) if self._frequencies else None,
            )

        return self._insist(position, number, measure)

    def _insist(
        self, position: int, number: int, action: Callable[[Workload, int], _Result]
    ) -> _Result:
        """*action* on the workload of block *number*, again while the meter fails.

        Each failure is counted; after `FAILURES_IN_A_ROW` the session ends.
        """
        seed = design.block_seed(self.settings.seed, number)
        lost: list[Exception] = []
        while len(lost) < FAILURES_IN_A_ROW:
            workload = self._operations[position].prepare(self.cells[position], seed)
            try:
                return action(workload, len(lost))
            except (MeterReadError, CounterFaultError) as error:
                lost.append(error)
                cause = type(error).__name__
                self.dropped[cause] += 1
                self._write("dropped", {"cause": cause})
            finally:
                workload.close()
        raise MeterReadError(
            f"{len(lost)} blocks in a row were lost: {lost[-1]}; "
            + (
                "what was measured is kept, mend the meter and give --resume"
                if self._journal
                else "nothing was kept: no journal was asked for"
            )
        ) from lost[-1]

    def _make_plan(self) -> dict[str, Any]:
        """Block counts from the pilot (Stein), capped by `design.MAX_BLOCKS` and by time."""
        have = np.array([len(blocks) for blocks in self._by_cell.values()], dtype=np.int64)
        wanted = have.copy()
        for members in self._groups.values():
            pilot = [found for n in members if (found := self._statistics(n)) is not None]
            sizing = [self._sizing[n] for n in members]
            widths = design.target_widths(
                [self.cells[n].k for n in members],
                [record.cost_j for record in sizing],
                [record.raw_j for record in sizing],
                self.settings.precision,
            )
            wanted[members] = np.maximum(have[members], design.group_blocks(pilot, widths))
        capped = np.maximum(np.minimum(wanted, design.MAX_BLOCKS), have)
        flags = dict.fromkeys(np.flatnonzero(capped < wanted).tolist(), "block-capped")
        counts = capped
        if self.settings.max_time_s is not None:
            left_s = _MARGIN * (self.settings.max_time_s - self.elapsed_s)
            counts = design.cap_to_time(capped, have, self._block_lengths_s(), left_s)
            flags |= dict.fromkeys(np.flatnonzero(counts < capped).tolist(), "time-capped")
        return {
            "extra": (counts - have).tolist(),
            "wanted": wanted.tolist(),
            "flags": {str(n): flag for n, flag in flags.items()},
        }

    def _block_lengths_s(self) -> list[float]:
        """Seconds a block of each cell takes: as sized, scaled to what the pilot really took."""
        sized = [self._sizing[n].block_s for n in range(len(self.cells))]
        first, last = self.blocks[0], self.blocks[-1]
        expected_s = sum(sized[record.cell] for record in self.blocks)
        ratio = max((last.end_s - first.start_s) / expected_s, 0.1)
        return [ratio * length_s for length_s in sized]

    def _flag(self, flags: dict[Any, str]) -> None:
        self.cell_flags |= {int(position): flag for position, flag in flags.items()}
        for flag, cause in (
            ("time-capped", "--max-time allowed fewer blocks than the precision asks for"),
            ("block-capped", f"the precision asks for more than {design.MAX_BLOCKS} blocks"),
        ):
            count = sum(found == flag for found in self.cell_flags.values())
            self.remarks = [text for text in self.remarks if not text.startswith(f"{flag}: in ")]
            if count:
                self._remark(f"{flag}: in {count} of {len(self.cells)} cells {cause}")

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _keep(self, record: BlockRecord) -> None:
        self.blocks.append(record)
        self._by_cell[record.cell].append(record)

    def _write(self, kind: Kind, record: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(kind, record)

    def _statistics(self, position: int) -> design.CellStatistics | None:
        blocks = self._by_cell[position]
        return design.cell_statistics(
            self.cells[position].k,
            [record.cost_j_per_call for record in blocks],
            [record.raw_j_per_call for record in blocks],
            [record.stage == "pilot" for record in blocks],
            float(np.mean([record.standard_error_j_per_call**2 for record in blocks] or [0.0])),
        )

    def _tell(self, stage: Stage, done: int, planned: int, position: int, left_s: float) -> None:
        if self._report is None:
            return
        cell = self.cells[position]
        width = self._relative_half_width(position)
        standing = Standing(stage, done, planned, left_s, cell.operation, cell.layer, width)
        self._report(standing)

    def _relative_half_width(self, position: int) -> float | None:
        members = self._groups[design.group_of(self.cells[position])]
        known = [found for n in members if (found := self._statistics(n)) is not None]
        if not known:
            return None
        line = design.fit_cells(known)
        if line is not None:
            value, half = line.c, t_quantile(0.975, line.degrees_c) * line.se_c
        else:
            cell = known[0]
            value = cell.mean
            half = t_quantile(0.975, cell.degrees) * sqrt(cell.variance / cell.blocks)
        return None if value == 0 else half / abs(value)
