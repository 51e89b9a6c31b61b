"""``summary.json``: a study in one document."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from costmodels.costfile import Origin
from cwmp.comparison import Mean, Paired
from cwmp.documents import read_document
from cwmp.fl.ledger import Phase
from cwmp.results import SCHEMA, VERSION, RunResult


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Energy(_Strict):
    """Joules, the mean over seeds of a run's sum, with the cost file's interval and origin."""

    value_j: float
    low_j: float
    high_j: float
    origin: Origin
    lacks: tuple[Phase, ...] = ()


class CellSummary(_Strict):
    """One method at one budget over its seeds.

    Attributes:
        method, budget, budget_j: which.
        seeds: the runs behind the row: those that every feasible row shares, or that failed.
        feasible, reason: whether no run failed, and if one did, why; see `RunResult.reason`.
        accuracy: final test accuracy over seeds, with spread and 95 % interval.
        total: joules of the whole run, all clients and the server.
        exchange: the same without local training.
        phases: by phase; null where the cost file has no price.
        declared_j: what the selections declared, over rounds and clients.
        uplink_bytes, downlink_bytes: over rounds and clients.
        kept_fraction: entries sent of all entries.
        certificate: captured sum of g^2 over its bound.
        on_front: whether no round of another row beats this end in (total joules, accuracy).
        on_declared_front: the same for (declared joules, accuracy).
    """

    method: str
    budget: str
    budget_j: float
    seeds: tuple[int, ...]
    feasible: bool
    reason: str | None = None
    accuracy: Mean | None = None
    total: Energy | None = None
    exchange: Energy | None = None
    phases: dict[Phase, Energy | None] = Field(default_factory=dict)
    declared_j: float | None = None
    uplink_bytes: float | None = None
    downlink_bytes: float | None = None
    kept_fraction: float | None = None
    certificate: float | None = None
    on_front: bool = False
    on_declared_front: bool = False

    def covers(self, run: RunResult) -> bool:
        """Whether *run* is one of those behind this row."""
        mine = (run.method, run.budget, run.feasible) == (self.method, self.budget, self.feasible)
        return mine and run.seed in self.seeds


class Comparison(_Strict):
    """CWMP against Top-K, paired by seed; ``budget`` null is the mean over the budgets."""

    method: str
    other: str
    budget: str | None
    result: Paired


class Summary(_Strict):
    """``summary.json``."""

    schema_name: Literal["cwmp.results"] = SCHEMA
    version: Literal[1] = VERSION
    created_utc: str
    config: dict[str, Any]
    costs: dict[str, Any]
    dense_j: float
    interrupted: bool
    table: tuple[CellSummary, ...]
    comparisons: tuple[Comparison, ...]
    conclusion: tuple[str, ...]
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]

    @classmethod
    def load(cls, path: str | Path) -> Summary:
        """Read ``summary.json``.

        Raises:
            InputFileError: the file is absent or unreadable.
            FileFormatError: not a summary, another version, or refused content.
        """
        return read_document(Path(path), cls, SCHEMA, VERSION, "a summary")
