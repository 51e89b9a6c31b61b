"""A job from its first round to its `RunFile`, over interruptions if it has a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cwmp.fl.checkpoint import Checkpoint
from cwmp.fl.data import Dataset
from cwmp.fl.engines.base import Engine, Standing
from cwmp.fl.engines.local import LocalEngine
from cwmp.fl.job import Job, Prepared
from cwmp.fl.ledger import Total
from cwmp.fl.rounds import RoundRecord
from cwmp.studies.rows import client_sums, row_of
from cwmp.studies.runs import RoundRow, RunFile, Status
from profiler.errors import BudgetError, RoundError, UpdateError

RowSeen = Callable[[Job, RoundRow], None]
_FAILURES: Mapping[type[Exception], Status] = {
    BudgetError: "infeasible",
    UpdateError: "diverged",
    RoundError: "failed",
}


@dataclass(frozen=True)
class RunOptions:
    """How a job is run; nothing of it changes what comes out.

    Attributes:
        engine: runs the clients.
        checkpoint: where the run stands is kept here after every *every* rounds, and taken up
            from here; ``None`` keeps nothing. It is left there: whoever has saved the result
            removes it.
        every: rounds between two checkpoints.
        seen: called with each round's row, for progress and logs.
    """

    engine: Engine = field(default_factory=LocalEngine)
    checkpoint: Path | None = None
    every: int = 10
    seen: RowSeen | None = None


def run_job(
    job: Job,
    labels: Mapping[str, Any],
    *,
    data: Dataset | None = None,
    options: RunOptions | None = None,
) -> RunFile:
    """Run *job* to its end, or to what ends it.

    A budget that opens no layer, training that diverges, and a round without a single update end
    the run; the file says so, with the rounds before it.

    Args:
        job: what is run.
        labels: its place in a study's grid, copied to the file.
        data: the examples, if they are in memory already.
        options: how.

    Raises:
        InputError, InputFileError, FileFormatError, LayerMismatchError: a job that cannot be
            run with its data, model or costs; a checkpoint of another run.
    """
    started_s = time.monotonic()
    how = options or RunOptions()
    prepared = job.prepare(data)
    book = _Book(job, prepared, how)
    status: Status = "finished"
    reason = ""
    try:
        book.run()
    except (BudgetError, UpdateError, RoundError) as error:
        status = next(s for kind, s in _FAILURES.items() if isinstance(error, kind))
        reason = f"{status}: {str(error).removeprefix(f'{status}: ')}"
    prices = prepared.fleet.devices[0].prices
    return RunFile(
        labels=dict(labels),
        job=job,
        status=status,
        reason=reason,
        budget_j=prepared.budget.joules(prices.dense_j),
        dense_j=prices.dense_j,
        entries=sum(layer.parameters for layer in prepared.trainer.layers),
        rounds=tuple(book.rows),
        by_client_j=tuple(book.by_client_j),
        duration_s=time.monotonic() - started_s,
        software=_software(),
    )


class _Book:
    """The rounds of a run, charged and written down as they come."""

    def __init__(self, job: Job, prepared: Prepared, how: RunOptions) -> None:
        self.job, self.prepared, self.how = job, prepared, how
        self.charging = prepared.fleet.charging(prepared.federation)
        self.records: list[RoundRecord] = []
        self.rows: list[RoundRow] = []
        self.by_client_j = [0.0] * job.clients
        self._so_far = Total(None)
        self._standing: Standing | None = None

    def run(self) -> None:
        """From the checkpoint, or from the start, to the last round."""
        prepared, how = self.prepared, self.how
        kept = Checkpoint(how.checkpoint, self.job.key) if how.checkpoint else None
        start = None
        found = kept.load(prepared.federation.initial) if kept else None
        if found is not None:
            start, records = found
            for record in records:
                self._enter(record)
        rounds = how.engine.run(
            prepared.federation,
            prepared.team,
            available=self.charging.available,
            start=start,
            keep=self._keep,
        )
        try:
            for record in rounds:
                row = self._enter(record)
                if how.seen is not None:
                    how.seen(self.job, row)
                if kept and self._standing and record.round % how.every == 0:
                    kept.save(self._standing, self.records)
        finally:  # an interruption's traceback keeps the engine from ending what it started
            if isinstance(rounds, Generator):
                rounds.close()

    def _keep(self, standing: Standing) -> None:
        self._standing = standing

    def _enter(self, record: RoundRecord) -> RoundRow:
        entries = self.charging.charge(record, self.job.method)
        row, self._so_far = row_of(record, entries, self._so_far)
        spent_j = client_sums(entries, self.job.clients)
        self.by_client_j = [a + b for a, b in zip(self.by_client_j, spent_j, strict=True)]
        self.records.append(record)
        self.rows.append(row)
        return row


@cache
def _software() -> dict[str, str]:
    import platform

    packages = {name: version(name) for name in ("cwmp", "torch", "numpy")}
    return {"python": platform.python_version(), **packages}
