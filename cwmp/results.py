"""What a study leaves: runs in memory; results and ledger as Parquet, the summary as JSON.

Three files in one folder, each written whole or not at all, the summary last: a folder with a
summary is complete. A picture of them comes after. An entry that does not apply is null,
never 0.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cwmp.fl.ledger import PHASES, Joules, Ledger, Total
from cwmp.fl.rounds import RoundRecord
from profiler.errors import CwmpError, InputFileError, OutputError, OutputExistsError
from profiler.files import write_atomic

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA: Literal["cwmp.results"] = "cwmp.results"
VERSION: Literal[1] = 1

RESULTS, LEDGER = "results.parquet", "ledger.parquet"
SUMMARY, PICTURE = "summary.json", "accuracy_vs_joules.png"
FILES = (RESULTS, LEDGER, SUMMARY, PICTURE)


@dataclass(frozen=True)
class RunResult:
    """One method at one budget with one seed.

    Attributes:
        method: its name.
        budget: as it was written; ``100%`` for dense.
        budget_j: joules a client may declare a round.
        seed: of weights, partition and order.
        rounds: what each round did; empty when the run failed.
        ledger: the joules; ``None`` when the run failed.
        reason: why it failed, ``infeasible: ...`` or ``diverged: ...``; empty when it finished.
        entries: of the whole model.
    """

    method: str
    budget: str
    budget_j: float
    seed: int
    rounds: tuple[RoundRecord, ...]
    ledger: Ledger | None
    entries: int
    reason: str = ""

    @property
    def feasible(self) -> bool:
        return not self.reason

    @property
    def outcome(self) -> str:
        """``finished``, ``infeasible`` or ``diverged``."""
        return outcome_of(self.reason)

    @property
    def final_accuracy(self) -> float:
        """Test accuracy after the last round."""
        return self.rounds[-1].accuracy

    @property
    def kept_fraction(self) -> float | None:
        """Entries sent of all entries, over clients and rounds."""
        sent = [touch.k for r in self.rounds for c in r.clients for touch in c.touched]
        messages = sum(len(record.clients) for record in self.rounds)
        return sum(sent) / (self.entries * messages) if messages else None

    @property
    def certificate(self) -> float | None:
        """Captured sum of g^2 over its bound, over clients and rounds; ``None`` unbounded."""
        captured, bound = 0.0, 0.0
        for record in self.rounds:
            found = selection_sums(record)
            if found["bound"] is None or found["captured"] is None:
                return None
            captured, bound = captured + found["captured"], bound + found["bound"]
        return min(1.0, captured / bound) if bound > 0 else None


def outcome_of(reason: str | None) -> str:
    """The word before the colon of a `RunResult.reason`; ``finished`` where there is none."""
    return reason.partition(":")[0] if reason else "finished"


def selection_sums(record: RoundRecord) -> dict[str, float | None]:
    """Sums over clients of what they say of their selections; ``None`` where one does not say."""
    reports = [client.selection for client in record.clients]
    sums: dict[str, float | None] = {}
    for name in ("energy_j", "captured", "total", "bound"):
        values = [None if report is None else getattr(report, name) for report in reports]
        known = [value for value in values if value is not None]
        sums[name] = float(sum(known)) if len(known) == len(values) else None
    return sums


def round_rows(run: RunResult) -> Iterator[dict[str, Any]]:
    """One row a round of ``results.parquet``; one row, without a round, if it failed."""
    head = {
        "method": run.method,
        "budget": run.budget,
        "budget_j": run.budget_j,
        "seed": run.seed,
        "feasible": run.feasible,
        "reason": run.reason or None,
    }
    if run.ledger is None:
        yield head
        return
    ledgers, so_far = dict(run.ledger.rounds()), Total(None)
    for record in run.rounds:
        total = ledgers[record.round].total()
        so_far = add_totals(so_far, total)
        sums = selection_sums(record)
        yield {
            **head,
            "round": record.round,
            "accuracy": record.accuracy,
            "loss": record.loss,
            "train_loss": sum(c.loss for c in record.clients) / len(record.clients),
            "uplink_bytes": sum(client.payload_bytes for client in record.clients),
            "downlink_bytes": record.downlink_bytes * len(record.clients),
            "entries_kept": sum(touch.k for c in record.clients for touch in c.touched),
            "declared_j": sums["energy_j"],
            "captured": sums["captured"],
            "captured_of": sums["total"],
            "bound": sums["bound"],
            **_energy("total", total.energy),
            **_energy("cumulative", so_far.energy),
            "lacks": ",".join(total.lacks) or None,
            **_phases(ledgers[record.round]),
        }


def add_totals(first: Total, second: Total) -> Total:
    """Two totals as one; what either lacks, the sum lacks."""
    if first.energy is None or second.energy is None:
        energy = first.energy or second.energy
    else:
        energy = first.energy + second.energy
    return Total(energy, tuple(dict.fromkeys((*first.lacks, *second.lacks))))


def ledger_rows(run: RunResult) -> Iterator[dict[str, Any]]:
    """One row a cell of ``ledger.parquet``."""
    for entry in run.ledger.entries if run.ledger else ():
        yield {
            "method": run.method,
            "budget": run.budget,
            "seed": run.seed,
            "round": entry.round,
            "client": entry.client,
            "party": entry.party,
            "phase": entry.phase,
            **_energy("energy", entry.energy),
        }


def refuse_results(directory: Path, *, force: bool) -> None:
    """Raise before any work is done when *directory* cannot take results.

    Whether it can be made and written into is tried out; nothing of that is left behind.

    Raises:
        OutputExistsError: it is a file, or holds results and *force* is false.
        InputFileError: the folder that should hold it does not exist.
        OutputError: it cannot be made, or no file can be made in it.
    """
    with _writing_into(directory):
        if directory.exists() and not directory.is_dir():
            raise OutputExistsError(f"{directory} is a file; name a folder for the results")
        if not directory.absolute().parent.is_dir():
            raise InputFileError(f"{directory.absolute().parent} is not a folder; create it first")
        found = [name for name in FILES if (directory / name).exists()]
        if found and not force:
            raise OutputExistsError(
                f"{directory} holds results already ({found[0]}); give --force to replace them"
            )
        _try_out(directory)


def write_results(
    directory: Path, runs: Sequence[RunResult], summary_json: str, *, force: bool = False
) -> None:
    """Write the files of a study into *directory*, which is made if it is absent.

    A picture of earlier results is removed: it would not be of these.

    Raises:
        OutputExistsError: it holds results and *force* is false.
        OutputError: it cannot be written.
    """
    refuse_results(directory, force=force)
    results = _parquet((row for run in runs for row in round_rows(run)), _RESULT_FIELDS)
    ledger = _parquet((row for run in runs for row in ledger_rows(run)), _LEDGER_FIELDS)
    with _writing_into(directory):
        directory.mkdir(exist_ok=True)
        for stale in (SUMMARY, PICTURE):
            (directory / stale).unlink(missing_ok=True)
        write_atomic(directory / RESULTS, results, force=force)
        write_atomic(directory / LEDGER, ledger, force=force)
        write_atomic(directory / SUMMARY, summary_json.encode(), force=force)


def write_picture(directory: Path, picture: bytes) -> None:
    """Write the picture beside the results it shows.

    Raises:
        OutputExistsError: there is one.
        OutputError: it cannot be written.
    """
    with _writing_into(directory):
        write_atomic(directory / PICTURE, picture)


@contextmanager
def _writing_into(directory: Path) -> Iterator[None]:
    try:
        yield
    except CwmpError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write results into {directory}: {error.strerror or error}; "
            "name another folder with -o"
        ) from error


def _try_out(directory: Path) -> None:
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    finally:
        if made:
            directory.rmdir()


def _energy(name: str, energy: Joules | None) -> dict[str, float | str | None]:
    return {
        f"{name}_j": energy.value if energy else None,
        f"{name}_low_j": energy.low if energy else None,
        f"{name}_high_j": energy.high if energy else None,
        f"{name}_origin": energy.origin if energy else None,
    }


def _phases(ledger: Ledger) -> dict[str, float | str | None]:
    columns: dict[str, float | str | None] = {}
    for phase in PHASES:
        columns |= _energy(phase, ledger.phase(phase))
    return columns


def _energy_fields(name: str) -> dict[str, str]:
    return {
        f"{name}_j": "double",
        f"{name}_low_j": "double",
        f"{name}_high_j": "double",
        f"{name}_origin": "string",
    }


_RUN_FIELDS = {"method": "string", "budget": "string", "seed": "int64", "round": "int64"}
_RESULT_FIELDS: Mapping[str, str] = {
    **_RUN_FIELDS,
    "budget_j": "double",
    "feasible": "bool",
    "reason": "string",
    **dict.fromkeys(("accuracy", "loss", "train_loss"), "double"),
    **dict.fromkeys(("uplink_bytes", "downlink_bytes", "entries_kept"), "int64"),
    **dict.fromkeys(("declared_j", "captured", "captured_of", "bound"), "double"),
    **_energy_fields("total"),
    **_energy_fields("cumulative"),
    "lacks": "string",
    **{name: kind for phase in PHASES for name, kind in _energy_fields(phase).items()},
}
_LEDGER_FIELDS: Mapping[str, str] = {
    **_RUN_FIELDS,
    "client": "int64",
    "party": "string",
    "phase": "string",
    **_energy_fields("energy"),
}


def _parquet(rows: Iterable[Mapping[str, Any]], fields: Mapping[str, str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {name: [] for name in fields}
    for row in rows:
        for name, values in columns.items():
            values.append(row.get(name))
    stamp = json.dumps({"schema_name": SCHEMA, "version": VERSION}).encode()
    schema: pa.Schema = pa.schema(
        [(name, pa.type_for_alias(kind)) for name, kind in fields.items()],
        metadata={SCHEMA.encode(): stamp},
    )
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), stream)
    return stream.getvalue()
