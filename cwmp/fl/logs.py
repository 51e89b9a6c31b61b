"""Rounds as they end, for those with tools of their own: a CSV file, or TensorBoard.

What is not known is left out, never 0: an empty cell of the CSV, no point in TensorBoard. A name
that a spreadsheet would take for a formula gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from cwmp.fl.ledger import ALL_PHASES
from profiler.errors import FileFormatError, InputError, MissingExtraError, OutputError
from profiler.files import refuse_existing

if TYPE_CHECKING:
    from cwmp.studies.runs import EnergyCell, RoundRow

_NUMBERS = ("accuracy", "loss", "worst_decile", "train_loss", "uplink_bytes", "downlink_bytes",
            "entries_kept", "declared_j", "captured", "captured_of", "bound")  # fmt: skip
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
_LABELS = ("device", "alpha", "method", "budget", "control", "seed")
COLUMNS: tuple[str, ...] = (
    *_LABELS, "round", *_NUMBERS, "total_j", "total_low_j", "total_high_j", "total_origin",
    "cumulative_j", *(f"{phase}_j" for phase in ALL_PHASES), "lacks", "absent",
)  # fmt: skip
"""Of the CSV, in their order; joules are of the round, but ``cumulative_j``."""


class RunLog(Protocol):
    """Takes rounds of runs, in the order they end; rounds of several runs may alternate."""

    def round(self, row: RoundRow, labels: Mapping[str, object] | None = None) -> None:
        """Write one round down; *labels* say of which run: method, budget, seed, ..."""

    def close(self) -> None:
        """Write what is left. Closing twice is allowed."""


def open_log(text: str, *, force: bool = False, append: bool = False) -> RunLog:
    """A log written as ``csv:PATH`` or ``tensorboard:DIR``.

    Args:
        text: as a command line has it.
        force: replace a CSV file that is there.
        append: go on with one.

    Raises:
        InputError: it is written otherwise.
        OutputExistsError: the file exists and *force* is false.
        MissingExtraError: TensorBoard is asked for and not installed.
    """
    kind, _, place = text.partition(":")
    if kind == "csv" and place:
        return CsvLog(Path(place), force=force, append=append)
    if kind == "tensorboard" and place:
        return TensorBoardLog(Path(place))
    raise InputError(f"cannot read the log {text!r}: write csv:PATH or tensorboard:DIR")


class CsvLog:
    """One line a round, readable at any moment: each line is flushed when its round ends.

    Args:
        path: of the file.
        force: replace a file that is there.
        append: go on with a file that is there. Rounds that a run does again after an
            interruption are then in it twice: the later line counts.

    Raises:
        OutputExistsError: the file exists and neither is asked for.
        FileFormatError: it is to be gone on with, and is no such log.
        InputFileError: its folder does not exist.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, *, force: bool = False, append: bool = False) -> None:
        refuse_existing(path, force=force or append)
        goes_on = append and path.is_file() and path.stat().st_size > 0
        if goes_on:
            _refuse_foreign(path)
        self.path = path
        try:
            self._file: IO[str] = path.open("a" if goes_on else "w", encoding="utf-8", newline="")
        except OSError as error:
            raise _unwritable(path, error) from error
        self._writer = csv.DictWriter(self._file, COLUMNS, restval="")
        if not goes_on:
            self._write(dict(zip(COLUMNS, COLUMNS, strict=True)))

    def round(self, row: RoundRow, labels: Mapping[str, object] | None = None) -> None:
        """Append a line.

        Raises:
            OutputError: it cannot be written.
        """
        given = labels or {}
        line: dict[str, Any] = {name: no_formula(given.get(name, "")) for name in _LABELS}
        line |= {name: getattr(row, name) for name in ("round", *_NUMBERS)}
        if row.total is not None:
            total = row.total
            line |= {"total_j": total.value_j, "total_low_j": total.low_j}
            line |= {"total_high_j": total.high_j, "total_origin": total.origin}
        line["cumulative_j"] = None if row.cumulative is None else row.cumulative.value_j
        for phase in ALL_PHASES:
            cell = row.phases.get(phase)
            line[f"{phase}_j"] = None if cell is None else cell.value_j
        line["lacks"] = " ".join(row.lacks)
        line["absent"] = len(row.absent)
        self._write(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._writer.writerow(line)
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error


def no_formula(value: object) -> object:
    """*value*, as text with an apostrophe before what a spreadsheet would calculate."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def _refuse_foreign(path: Path) -> None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path} cannot be gone on with: {error}") from error
    if tuple(head) != COLUMNS:
        raise FileFormatError(f"{path} is not a log of rounds: name another file")


class TensorBoardLog:
    """Scalars by round, one run of TensorBoard for each run: ``tensorboard --logdir DIR``.

    Args:
        directory: of the event files; each run has a folder of its own in it.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                "a log for TensorBoard needs it installed: pip install 'cwmp[tensorboard]'"
            ) from error
        self.directory = directory
        self._make: Any = SummaryWriter
        self._writers: dict[tuple[str, ...], Any] = {}
        self._folders: set[str] = set()

    def round(self, row: RoundRow, labels: Mapping[str, object] | None = None) -> None:
        """Add the round's scalars to those of its run.

        Raises:
            OutputError: they cannot be written.
        """
        given = labels or {}
        key = tuple(str(given.get(name, "")) for name in _LABELS)
        try:
            if key not in self._writers:
                self._writers[key] = self._make(str(self.directory / self._folder(key)))
            writer = self._writers[key]
            for name, value in _scalars(row):
                writer.add_scalar(name, value, row.round)
            writer.flush()
        except OSError as error:
            raise _unwritable(self.directory, error) from error

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()

    def _folder(self, key: tuple[str, ...]) -> str:
        """A name from the labels that is one folder and no other run's."""
        parts = (re.sub(r"[^\w.,+%=-]+", "_", part).strip(".") for part in key)
        wanted = "-".join(part for part in parts if part)[:120] or "run"
        name, number = wanted, 1
        while name in self._folders:
            number += 1
            name = f"{wanted}-{number}"
        self._folders.add(name)
        return name


def _scalars(row: RoundRow) -> Iterator[tuple[str, float]]:
    """Tags and values of what is known."""
    for name in _NUMBERS:
        value = getattr(row, name)
        if value is not None:
            yield name, float(value)
    cells: dict[str, EnergyCell | None] = {"total": row.total, "cumulative": row.cumulative}
    for name, cell in (*cells.items(), *row.phases.items()):
        if cell is not None:
            yield f"joules/{name}", cell.value_j
    yield "absent_clients", float(len(row.absent))


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write the log {path}: {error.strerror or error}; make room there")
