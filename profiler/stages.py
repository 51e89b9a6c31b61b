"""The stages of a session: size, pilot, plan, main. Each block goes to the journal at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import median
from typing import Any

import numpy as np

from profiler import design
from profiler.attempts import Attempts, undisturbed
from profiler.blocks import (
    MAX_REPETITIONS,
    Block,
    Pair,
    calibrate,
    measure_block,
    measure_pair,
)
from profiler.conditions import UNSOUND
from profiler.design import FEWEST_PILOT_BLOCKS
from profiler.errors import InputError
from profiler.findings import Findings
from profiler.gauge import Gauge
from profiler.journal import Journal, Kind, Measured
from profiler.pace import Pace, how_to_fit
from profiler.progress import Report, Stage, Standing
from profiler.records import BlockRecord, SizingRecord, at_one_clock, record_from
from profiler.wander import correlation_remark
from profiler.workloads import Cell, Operation, Workload

_MARGIN, _SLACK = 0.97, 1.1
_PASSES = 3
_SIZING_BLOCK = 2**40
"""Added to a cell's position: the seeds of sizing blocks are never those of counted ones."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the blocks of a session, apart from its cells.

    Attributes:
        window_s: the longest that a window is made, calls that outlast it apart.
        idle_power_w: of the device at rest, as the probe found it.
    """

    seed: int
    precision: float
    window_s: float
    max_time_s: float | None = None
    idle_power_w: float = 0.0


class Session:
    """One profiling session over *cells*, new or resumed.

    Args:
        cells: each with the operation that prepares it; the order is the design's.
        gauge: the meter and its counter's period.
        settings: see `Settings`.
        begin_s: when the session began, by ``time.perf_counter``; ``None``: now.
        journal: where each record goes; ``None`` keeps them in memory alone.
        measured: what a resumed journal holds.
        report: called before the first block and after each.
        clock: seconds.
    """

    def __init__(
        self,
        cells: Sequence[tuple[Operation, Cell]],
        gauge: Gauge,
        settings: Settings,
        *,
        begin_s: float | None = None,
        journal: Journal | None = None,
        measured: Measured | None = None,
        report: Report | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.gauge, self.settings = gauge, settings
        self._clock = clock
        self.cells = [cell for _, cell in cells]
        self.found = Findings(self.cells)
        self.dropped: Counter[str] = Counter()
        self.remarks: list[str] = []
        self.cell_flags: dict[int, str] = {}
        self._operations = [operation for operation, _ in cells]
        self._journal, self._report = journal, report
        self._pace = Pace.of(gauge)
        self._pilot = design.pilot_counts(self.cells)
        self._wanted: list[int] | None = None
        self._frequencies: list[float] = []
        self._kept = (
            "what was measured is kept: mend the cause and give --resume"
            if journal
            else "nothing was kept: no journal was asked for"
        )
        self._attempts = Attempts(self._drop, self._kept, gauge.sleep)
        self._begin_s = clock() if begin_s is None else begin_s
        if measured is not None:
            self._restore(measured)

    def run(self) -> None:
        """Measure whatever is not measured yet.

        Raises:
            InputError: an operation failed, or the time limit is below what sizing and two
                pilot blocks a cell need, now that the calls' lengths are known.
            MeterReadError: several blocks in a row were lost.
            OutputError: the journal cannot be written.
        """
        self._size()
        if self._wanted is None:
            cells = len(self.cells)
            order = design.pilot_order(self._pilot, self.settings.seed)
            if not self._stage("pilot", order, 0, keep=FEWEST_PILOT_BLOCKS * cells):
                self._remark("time-capped: --max-time ended the pilot early")
                self._flag(dict.fromkeys(range(cells), "time-capped"))
                self._end()
                return
            self._wanted = self.found.wanted(self.settings.precision).tolist()
            self._write("plan", {"wanted": self._wanted})
        self._main(np.asarray(self._wanted, dtype=np.int64))
        self._end()

    @property
    def blocks(self) -> list[BlockRecord]:
        """What was measured, in order."""
        return self.found.blocks

    @property
    def elapsed_s(self) -> float:
        """Seconds since the session began, pauses between an end and a resume left out."""
        return self._clock() - self._begin_s

    def _restore(self, measured: Measured) -> None:
        for position, line in measured.sizing.items():
            self.found.sizing[position] = record_from(SizingRecord, line)
        for line in measured.blocks:
            self.found.keep(record_from(BlockRecord, line))
        clocks = [record.frequency_hz for record in self.found.sizing.values()]
        clocks += [record.frequency_hz for record in self.found.blocks]
        self._frequencies = [clock for clock in clocks if clock]
        self._wanted = None if measured.plan is None else list(measured.plan["wanted"])
        self.dropped = Counter(measured.dropped)
        self._begin_s -= self.found.end_s

    def _size(self) -> None:
        self._tell("sizing", len(self.found.sizing), len(self.cells), 0, self._pilot_left_s())
        for position in range(len(self.cells)):
            if position in self.found.sizing:
                continue
            self._refuse_hopeless()
            record = self._size_cell(position)
            self._write("sizing", asdict(record))
            self.found.sizing[position] = record
            self._tell("sizing", position + 1, len(self.cells), position, self._pilot_left_s())
        self._refuse_hopeless()

    def _size_cell(self, position: int) -> SizingRecord:
        def size(workload: Workload, attempt: int) -> tuple[int, float]:
            # the meter's own clock: a read waits until the device has finished
            return calibrate(workload, self._sizing_s, lambda: self.gauge.meter.read().time_s)

        number = _SIZING_BLOCK + position
        seed = design.block_seed(self.settings.seed, number)
        operation, cell = self._operations[position], self.cells[position]
        repetitions, call_s = self._attempts.insist(operation, cell, seed, size)

        def measure(workload: Workload, attempt: int) -> Pair:
            generator = np.random.default_rng([seed, attempt])
            pair = measure_pair(
                workload, repetitions, self.gauge, generator, usual_frequency_hz=self._usual_hz
            )
            self._note_frequency(pair)
            return undisturbed(pair, attempt)

        begin_s = self.elapsed_s
        pair = self._attempts.insist(operation, cell, seed, measure)
        end_s = self.elapsed_s
        chosen = self._repetitions(pair, call_s)
        longer_s = (chosen - repetitions) * pair.operation_s / repetitions
        asleep_s = self._sleep_s(chosen, call_s) + self._pace.edge_s
        return SizingRecord(
            cell=position,
            repetitions=chosen,
            call_s=call_s,
            block_s=end_s - begin_s + longer_s + asleep_s,
            end_s=end_s,
            cost_j=pair.cost_j_per_call,
            raw_j=pair.operation.energy_j / repetitions,
            frequency_hz=pair.under.frequency_hz,
        )

    def _repetitions(self, pair: Pair, call_s: float) -> int:
        """Calls a block of this cell: as many as its pilot needs, see `design.window_s`."""
        window_s = design.window_s(
            edge_j=self.gauge.edge_j(self.settings.idle_power_w),
            power_w=(pair.operation.energy_j - pair.loop.energy_j) / max(pair.operation_s, 1e-9),
            precision=self.settings.precision,
            shortest_s=self._sizing_s,
            longest_s=self.settings.window_s,
        )
        return max(1, min(MAX_REPETITIONS, round(window_s / max(call_s, 1e-12))))

    @property
    def _sizing_s(self) -> float:
        return min(self.settings.window_s, self._pace.shortest_window_s)

    def _main(self, wanted: np.typing.NDArray[np.int64]) -> None:
        """The blocks that are still wanted, as far as the time goes."""
        have = self.found.counts
        counts = capped = np.maximum(np.minimum(wanted, design.MAX_BLOCKS), have)
        flags = dict.fromkeys(np.flatnonzero(capped < wanted).tolist(), "block-capped")
        if self.settings.max_time_s is not None:
            left_s = _MARGIN * (self.settings.max_time_s - self.elapsed_s)
            counts = design.cap_to_time(capped, have, self.found.block_lengths_s(), left_s)
        self._flag(flags | self._time_capped(counts < capped))
        for _ in range(_PASSES):  # a block that ends up unsound is one too few
            have = self.found.counts
            first = max(record.block for record in self.blocks) + 1
            order = design.main_order(have, counts, self.settings.seed, first)
            if order and not self._stage("main", order, first, keep=0):
                self._flag(self._time_capped(self.found.counts < counts))
                return

    def _stage(self, stage: Stage, order: Sequence[int], first: int, *, keep: int) -> bool:
        """Measure *order*, numbered from *first*; after *keep* blocks the time may end it."""
        done = {record.block for record in self.blocks}
        todo = [(n, p) for n, p in enumerate(order, first) if n not in done]
        left_s = sum(self.found.sizing[position].block_s for _, position in todo)
        for number, position in todo:
            sizing = self.found.sizing[position]
            limit_s = self.settings.max_time_s
            may_end = limit_s is not None and number - first >= keep
            if may_end and self.elapsed_s + sizing.block_s > (limit_s or 0.0):
                return False
            start_s = self.elapsed_s
            block = self._measure(position, number, sizing)
            record = BlockRecord.of(block, number, stage, position, start_s)
            self._write("block", asdict(record))
            self.found.keep(record)
            left_s = max(left_s - sizing.block_s, 0.0)
            self._tell(stage, number - first + 1, len(order), position, left_s)
        return True

    def _measure(self, position: int, number: int, sizing: SizingRecord) -> Block:
        seed = design.block_seed(self.settings.seed, number)

        def measure(workload: Workload, attempt: int) -> Block:
            block = measure_block(
                workload,
                sizing.repetitions,
                self.gauge,
                np.random.default_rng([seed, attempt]),
                sleep_s=self._sleep_s(sizing.repetitions, sizing.call_s),
                usual_frequency_hz=self._usual_hz,
            )
            self._note_frequency(block)
            return undisturbed(block, attempt)

        return self._attempts.insist(
            self._operations[position], self.cells[position], seed, measure
        )

    def _sleep_s(self, repetitions: int, call_s: float) -> float:
        return self._pace.sleep_share * min(self.settings.window_s, repetitions * call_s)

    def _note_frequency(self, pair: Pair) -> None:
        if pair.under.frequency_hz:
            self._frequencies.append(pair.under.frequency_hz)

    @property
    def _usual_hz(self) -> float | None:
        return median(self._frequencies) if self._frequencies else None

    def _pilot_left_s(self) -> float:
        return self.found.rest_s(self._pace, self.settings.window_s, self._pilot)

    def _refuse_hopeless(self) -> None:
        """Stop where the time limit leaves no interval; slow calls are known only when sized."""
        limit_s = self.settings.max_time_s
        if limit_s is None:
            return
        fewest = np.full(len(self.cells), FEWEST_PILOT_BLOCKS)
        rest_s = self.found.rest_s(self._pace, self._sizing_s, fewest)
        needed_s = self.elapsed_s + rest_s
        if rest_s and needed_s > _SLACK * limit_s:
            raise InputError(
                f"--max-time is {limit_s:g} s, but sizing and {FEWEST_PILOT_BLOCKS} blocks in "
                f"each of {len(self.cells)} cells take about {ceil(needed_s)} s, as the "
                f"{len(self.found.sizing)} cells sized so far show: {how_to_fit(needed_s)}; "
                f"{self._kept}"
            )

    def _time_capped(self, which: np.typing.NDArray[np.bool_]) -> dict[int, str]:
        return dict.fromkeys(np.flatnonzero(which).tolist(), "time-capped")

    def _flag(self, flags: dict[int, str]) -> None:
        self.cell_flags |= flags
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

    def _drop(self, cause: str) -> None:
        self.dropped[cause] += 1
        self._write("dropped", {"cause": cause})

    def _write(self, kind: Kind, record: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(kind, record)

    def _end(self) -> None:
        """Say in the journal that this is all: what a trace made of it cannot find by itself."""
        records = at_one_clock(self.blocks)
        sound = [record for record in records if UNSOUND.isdisjoint(record.flags)]
        if len(sound) < len(records):
            causes = sorted(UNSOUND & {flag for record in records for flag in record.flags})
            self._remark(
                f"unsound: {len(records) - len(sound)} of {len(records)} blocks "
                f"({', '.join(causes)}) enter no estimate"
            )
        remark = correlation_remark(
            [record.cost_j_per_call for record in sound], [record.cell for record in sound]
        )
        if remark is not None:
            self._remark(remark)
        flags = [[position, flag] for position, flag in self.cell_flags.items()]
        limit_s = self.settings.max_time_s
        self._write("end", {"flags": flags, "remarks": self.remarks, "max_time_s": limit_s})

    def _tell(self, stage: Stage, done: int, planned: int, position: int, left_s: float) -> None:
        if self._report is not None:
            cell, width = self.cells[position], self.found.relative_half_width(position)
            self._report(Standing(stage, done, planned, left_s, cell.operation, cell.layer, width))
