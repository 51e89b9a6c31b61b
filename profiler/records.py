"""What a session keeps of a sizing and of a block: journal lines, then rows of the trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar, cast

from profiler.blocks import Block
from profiler.conditions import FREQUENCY_SHIFT, is_shifted
from profiler.errors import FileFormatError
from profiler.meters.base import MeterInfo
from profiler.workloads import Cell

if TYPE_CHECKING:
    import pandas as pd

_Record = TypeVar("_Record", "SizingRecord", "BlockRecord")


@dataclass(frozen=True, slots=True)
class SizingRecord:
    """What the sizing block of one cell fixed; it enters no estimate.

    Attributes:
        cell: the cell's position in the design.
        repetitions: calls in each of the cell's blocks.
        call_s: seconds a call takes.
        block_s: seconds a whole block takes, preparation included.
        end_s: when it ended, in seconds of the session.
        cost_j: marginal joules a call.
        raw_j: joules a call, idle power included.
        frequency_hz: of the clock right after the operation; ``None`` where none is shown.
    """

    cell: int
    repetitions: int
    call_s: float
    block_s: float
    end_s: float
    cost_j: float
    raw_j: float
    frequency_hz: float | None = None


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One measured block; *block*, *stage* and the rest as the trace's columns."""

    block: int
    stage: str
    cell: int
    repetitions: int
    start_s: float
    duration_s: float
    energy_j: float
    reference_duration_s: float
    reference_energy_j: float
    sleep_duration_s: float
    sleep_energy_j: float
    cost_j_per_call: float
    gross_j_per_call: float
    standard_error_j_per_call: float
    temperature_c: float | None = None
    frequency_hz: float | None = None
    flags: tuple[str, ...] = ()

    @classmethod
    def of(cls, block: Block, number: int, stage: str, cell: int, start_s: float) -> BlockRecord:
        """The record of *block*, the *number*-th of its session, begun at *start_s*."""
        return cls(
            block=number,
            stage=stage,
            cell=cell,
            repetitions=block.repetitions,
            start_s=start_s,
            duration_s=block.operation.duration_s,
            energy_j=block.operation.energy_j,
            reference_duration_s=block.loop.duration_s,
            reference_energy_j=block.loop.energy_j,
            sleep_duration_s=block.sleep.duration_s,
            sleep_energy_j=block.sleep.energy_j,
            cost_j_per_call=block.cost_j_per_call,
            gross_j_per_call=block.gross_j_per_call,
            standard_error_j_per_call=block.standard_error_j_per_call,
            temperature_c=block.under.temperature_c,
            frequency_hz=block.under.frequency_hz,
            flags=block.flags,
        )

    @property
    def raw_j_per_call(self) -> float:
        """Joules a call, idle power included."""
        return self.energy_j / self.repetitions

    @property
    def end_s(self) -> float:
        """When its windows were over, at the earliest."""
        return self.start_s + self.duration_s + self.reference_duration_s + self.sleep_duration_s


def record_from(kind: type[_Record], line: Mapping[str, Any]) -> _Record:
    """A record read back from a journal.

    Raises:
        FileFormatError: a field is missing or unknown.
    """
    wanted = {field.name for field in fields(kind)}
    if set(line) != wanted:
        odd = sorted(wanted ^ set(line))[0]
        raise FileFormatError(f"the journal's {kind.__name__} does not match in {odd!r}")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in line.items()}
    return kind(**cast("Any", values))


def at_one_clock(records: Sequence[BlockRecord]) -> list[BlockRecord]:
    """*records* with `FREQUENCY_SHIFT` where, and only where, a clock was off the session's median.

    While a session runs, its usual clock is what was seen so far; if that changes for good, blocks
    of both would stand side by side. Known in the end, one clock holds for all.
    """
    clocks = [record.frequency_hz for record in records if record.frequency_hz]
    if not clocks:
        return list(records)
    usual_hz, told = median(clocks), []
    for record in records:
        others = tuple(flag for flag in record.flags if flag != FREQUENCY_SHIFT)
        shifted = record.frequency_hz and is_shifted(record.frequency_hz, usual_hz)
        told.append(replace(record, flags=(*others, FREQUENCY_SHIFT) if shifted else others))
    return told


def block_table(
    records: Sequence[BlockRecord],
    cells: Sequence[Cell],
    info: MeterInfo,
    *,
    model: str,
    period_s: float | None,
    cell_flags: Mapping[int, str],
) -> pd.DataFrame:
    """The trace's table, in the order of the block numbers.

    Args:
        records: the blocks.
        cells: the design, in the order that the records' *cell* points into.
        info: the meter.
        model: the model's name.
        period_s: the counter's update period.
        cell_flags: cell position -> a flag that all its blocks carry.
    """
    import pandas as pd

    rows = []
    for record in sorted(at_one_clock(records), key=lambda record: record.block):
        cell = cells[record.cell]
        row = asdict(record) | asdict(cell)
        flags = [*record.flags, *([cell_flags[record.cell]] if record.cell in cell_flags else [])]
        row |= {
            "device": info.device,
            "meter": info.name,
            "rail": "+".join(info.selected),
            "origin": info.origin,
            "model": model,
            "shape": "x".join(map(str, cell.shape)),
            "density": cell.density,
            "period_s": period_s,
            "flags": ",".join(flags),
        }
        rows.append(row)
    return pd.DataFrame(rows)
