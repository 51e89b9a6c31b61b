"""A study in one document: each method and budget over its seeds, and how they compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from costmodels.costfile import Origin
from cwmp.comparison import FEW_RUNS, Mean, Paired, compare_paired, mean_of, pareto_front
from cwmp.fl.ledger import PHASES, Joules, Phase, Total, sum_phases, weakest
from cwmp.results import SCHEMA, VERSION, RunResult
from profiler.errors import FileFormatError
from profiler.files import read_json
from profiler.trace import describe


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
        method, budget, budget_j, seeds: which runs.
        feasible, reason: whether the budget opens a layer, and if not, why.
        accuracy: final test accuracy over seeds, with spread and 95 % interval.
        total: joules of the whole run, all clients and the server.
        exchange: the same without local training.
        phases: by phase; null where the cost file has no price.
        declared_j: what the selections declared, over rounds and clients.
        uplink_bytes, downlink_bytes: over rounds and clients.
        kept_fraction: entries sent of all entries.
        certificate: captured sum of g^2 over its bound.
        on_front: on the Pareto front of (total joules, accuracy).
        on_declared_front: on that of (declared joules, accuracy).
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
        path = Path(path)
        raw = read_json(path)
        if not isinstance(raw, dict) or raw.get("schema_name") != SCHEMA:
            raise FileFormatError(f"{path} is not a summary: its schema is not {SCHEMA!r}")
        if raw.get("version") != VERSION:
            raise FileFormatError(
                f"{path} has version {raw.get('version')!r}; this release reads {VERSION}"
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise FileFormatError(f"{path} is refused: {describe(error)}") from error


def summarise_cells(runs: Sequence[RunResult], resolution: float) -> tuple[CellSummary, ...]:
    """One summary for each (method, budget), in the order they first appear."""
    grouped: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        grouped.setdefault((run.method, run.budget), []).append(run)
    return _with_fronts([_cell(group, resolution) for group in grouped.values()])


def compare_methods(
    runs: Sequence[RunResult], method: str, other: str, resolution: float
) -> tuple[Comparison, ...]:
    """*method* against *other* at each budget both ran, then over those budgets together.

    The last one averages a seed's differences over the budgets before it compares seeds, so
    that runs of one seed are not taken for independent.
    """
    scores = {
        (run.method, run.budget, run.seed): run.final_accuracy for run in runs if run.feasible
    }
    budgets = [b for m, b, _ in scores if m == method]
    comparisons = []
    pairs: dict[int, list[tuple[float, float]]] = {}
    for budget in dict.fromkeys(budgets):
        seeds = [s for m, b, s in scores if (m, b) == (method, budget)]
        shared = [seed for seed in seeds if (other, budget, seed) in scores]
        if not shared:
            continue
        ours = [scores[method, budget, seed] for seed in shared]
        theirs = [scores[other, budget, seed] for seed in shared]
        paired = compare_paired(ours, theirs, resolution=resolution)
        comparisons.append(Comparison(method=method, other=other, budget=budget, result=paired))
        for seed, a, b in zip(shared, ours, theirs, strict=True):
            pairs.setdefault(seed, []).append((a, b))
    if len(comparisons) > 1:
        whole = [found for found in pairs.values() if len(found) == len(comparisons)]
        if whole:
            means = [
                [sum(side) / len(found) for side in zip(*found, strict=True)] for found in whole
            ]
            ours, theirs = [m[0] for m in means], [m[1] for m in means]
            step = resolution / len(comparisons)
            paired = compare_paired(ours, theirs, resolution=step)
            comparisons.append(Comparison(method=method, other=other, budget=None, result=paired))
    return tuple(comparisons)


def small_sample_warning(seeds: int) -> str | None:
    """A warning when there are too few seeds to conclude much."""
    if seeds >= FEW_RUNS:
        return None
    runs = "1 seed gives no interval" if seeds == 1 else f"{seeds} seeds give wide intervals"
    return f"{runs}: use --seeds 10 before concluding from a difference"


def _cell(runs: Sequence[RunResult], resolution: float) -> CellSummary:
    first = runs[0]
    seeds = tuple(run.seed for run in runs)
    if not first.feasible:
        return CellSummary(
            method=first.method,
            budget=first.budget,
            budget_j=first.budget_j,
            seeds=seeds,
            feasible=False,
            reason=first.reason,
        )
    phases = [{p: run.ledger.phase(p) for p in PHASES} for run in runs if run.ledger]
    totals = [sum_phases(found) for found in phases]
    exchanges = [sum_phases({p: e for p, e in found.items() if p != "train"}) for found in phases]
    declared = [_declared_j(run) for run in runs]
    records = [record for run in runs for record in run.rounds]
    uplink = sum(client.payload_bytes for record in records for client in record.clients)
    downlink = sum(record.downlink_bytes * len(record.clients) for record in records)
    return CellSummary(
        method=first.method,
        budget=first.budget,
        budget_j=first.budget_j,
        seeds=seeds,
        feasible=True,
        accuracy=mean_of([run.final_accuracy for run in runs], resolution=resolution),
        total=_mean_energy(totals),
        exchange=_mean_energy(exchanges),
        phases={p: _mean_energy([Total(found[p]) for found in phases]) for p in PHASES},
        declared_j=_mean_or_none(declared),
        uplink_bytes=uplink / len(runs),
        downlink_bytes=downlink / len(runs),
        kept_fraction=_mean_or_none([run.kept_fraction for run in runs]),
        certificate=_mean_or_none([run.certificate for run in runs]),
    )


def _declared_j(run: RunResult) -> float | None:
    reports = [client.selection for record in run.rounds for client in record.clients]
    return _mean_or_none([None if r is None else r.energy_j for r in reports], total=True)


def _mean_or_none(values: Sequence[float | None], *, total: bool = False) -> float | None:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return sum(known) / (1 if total else len(known))


def _mean_energy(totals: Sequence[Total]) -> Energy | None:
    known: list[Joules] = [total.energy for total in totals if total.energy is not None]
    if not known or len(known) < len(totals):
        return None
    return Energy(
        value_j=sum(energy.value for energy in known) / len(known),
        low_j=sum(energy.low for energy in known) / len(known),
        high_j=sum(energy.high for energy in known) / len(known),
        origin=weakest(energy.origin for energy in known),
        lacks=totals[0].lacks,
    )


def _with_fronts(cells: Sequence[CellSummary]) -> tuple[CellSummary, ...]:
    total = _front(cells, [cell.total.value_j if cell.total else None for cell in cells])
    declared = _front(cells, [cell.declared_j for cell in cells])
    return tuple(
        cell.model_copy(update={"on_front": i in total, "on_declared_front": i in declared})
        for i, cell in enumerate(cells)
    )


def _front(cells: Sequence[CellSummary], joules: Sequence[float | None]) -> set[int]:
    points = [
        (i, spent_j, cell.accuracy.mean)
        for i, (cell, spent_j) in enumerate(zip(cells, joules, strict=True))
        if spent_j is not None and cell.accuracy is not None
    ]
    found = pareto_front([x for _, x, _ in points], [y for _, _, y in points])
    return {points[position][0] for position in found}
