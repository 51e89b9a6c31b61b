"""One finished run as a file: what the tables, the tests and the page of a study are made from.

``DIR/runs/KEY.json``, written whole or not at all when the run ends; KEY follows from the job, so
that a run that is there is a run that need not be done again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from costmodels.costfile import Origin
from cwmp.documents import read_document
from cwmp.fl.job import Job
from profiler.files import write_atomic

SCHEMA: Literal["cwmp.run"] = "cwmp.run"
VERSION: Literal[1] = 1
Status = Literal["finished", "infeasible", "diverged", "failed"]


class _Strict(BaseModel):
    # an infinite loss as text that is read again: null would make the file unreadable
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class EnergyCell(_Strict):
    """Joules with the interval and origin that the costs give them."""

    value_j: float
    low_j: float
    high_j: float
    origin: Origin


class AbsentClient(_Strict):
    """A client that was asked in vain."""

    client: int
    reason: str


class RoundRow(_Strict):
    """One round.

    Attributes:
        round: from 1.
        accuracy, loss: of the new model on the test set.
        worst_decile: mean accuracy of the worst tenth of clients.
        train_loss: mean over the clients that took part.
        uplink_bytes, downlink_bytes: over clients.
        entries_kept: over clients.
        declared_j, captured, captured_of, bound: sums over clients of what their selections
            declare; null where one does not say.
        phases: joules of the round by phase; null where the costs do not price it.
        lacks: phases that the totals do not hold.
        total, cumulative: over the phases that are priced; cumulative from round 1.
        absent: who was asked in vain.
    """

    round: int
    accuracy: float
    loss: float
    worst_decile: float | None = None
    train_loss: float
    uplink_bytes: int
    downlink_bytes: int
    entries_kept: int
    declared_j: float | None = None
    captured: float | None = None
    captured_of: float | None = None
    bound: float | None = None
    phases: dict[str, EnergyCell | None]
    lacks: tuple[str, ...] = ()
    total: EnergyCell | None = None
    cumulative: EnergyCell | None = None
    absent: tuple[AbsentClient, ...] = ()


class RunFile(_Strict):
    """``runs/KEY.json``.

    Attributes:
        labels: how the study names the run's place in its grid: method, budget, alpha, seed,
            device (the name of the fleet), and ``control`` for controls, else "".
        job: what was run.
        status, reason: how it ended; the reason is empty where it finished.
        budget_j, dense_j: joules of the budget, and of sending everything, on the first device.
        rounds: one row a round; those that ended, where it did not finish.
        by_client_j: total joules of each client.
        duration_s: wall-clock, by the monotonic clock.
        software: versions.
    """

    schema_name: Literal["cwmp.run"] = SCHEMA
    version: Literal[1] = VERSION
    labels: dict[str, Any]
    job: Job
    status: Status
    reason: str = ""
    budget_j: float | None = None
    dense_j: float | None = None
    entries: int = 0
    rounds: tuple[RoundRow, ...] = ()
    by_client_j: tuple[float, ...] = ()
    duration_s: float = 0.0
    software: dict[str, str] = {}

    @property
    def final_accuracy(self) -> float:
        """Test accuracy after the last round."""
        return self.rounds[-1].accuracy

    @classmethod
    def load(cls, path: Path) -> RunFile:
        """Read one run.

        Raises:
            InputFileError: the file is absent or unreadable.
            FileFormatError: not a run, another version, or refused content.
        """
        return read_document(path, cls, SCHEMA, VERSION, "a run")

    def save(self, path: Path) -> None:
        """Write it whole or not at all; a run of the same job is replaced."""
        write_atomic(path, (self.model_dump_json() + "\n").encode(), force=True)
