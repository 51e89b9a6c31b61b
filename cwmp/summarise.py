"""From runs to a summary: each method and budget over its seeds, and how they compare."""

from __future__ import annotations

from collections.abc import Sequence

from cwmp.comparison import (
    EQUAL_JOULES,
    FEW_RUNS,
    Trajectory,
    compare_paired,
    mean_of,
    pareto_ends,
)
from cwmp.curves import Scope, mean_curve
from cwmp.fl.ledger import PHASES, Joules, Phase, Total, sum_phases, weakest
from cwmp.results import RunResult
from cwmp.summary import CellSummary, Comparison, Energy


def comparable_runs(runs: Sequence[RunResult]) -> tuple[RunResult, ...]:
    """The runs that may be set beside each other: the same seeds for every method and budget.

    Kept are the seeds that all rows without a failure have finished; an interruption leaves
    some with more. A row with a failed run is left with its failures alone: the mean of the
    seeds that survived would flatter it. Runs come row by row, rows in the order of *runs*.
    """
    rows: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        rows.setdefault((run.method, run.budget), []).append(run)
    whole = [{run.seed for run in row} for row in rows.values() if all(r.feasible for r in row)]
    shared = set.intersection(*whole) if whole else set()
    kept: list[RunResult] = []
    for row in rows.values():
        failures = [run for run in row if not run.feasible]
        kept += failures or [run for run in row if run.seed in shared]
    return tuple(kept)


def summarise_cells(runs: Sequence[RunResult], resolution: float) -> tuple[CellSummary, ...]:
    """One summary for each (method, budget) of comparable *runs*, in the order they appear."""
    grouped: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        grouped.setdefault((run.method, run.budget), []).append(run)
    cells = [_cell(group, resolution) for group in grouped.values()]
    total, declared = (_front(cells, runs, scope) for scope in ("total", "declared"))
    return tuple(
        cell.model_copy(update={"on_front": i in total, "on_declared_front": i in declared})
        for i, cell in enumerate(cells)
    )


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
    """A warning when there are too few seeds to conclude much; none where nothing ran."""
    if seeds == 0 or seeds >= FEW_RUNS:
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
    ledgers = [run.ledger.by_phase() for run in runs if run.ledger]
    phases = {phase: _mean_joules([found[phase] for found in ledgers]) for phase in PHASES}
    exchange: dict[Phase, Joules | None] = {
        phase: found for phase, found in phases.items() if phase != "train"
    }
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
        total=_energy(sum_phases(phases)),
        exchange=_energy(sum_phases(exchange)),
        phases={phase: _energy(Total(found)) for phase, found in phases.items()},
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


def _mean_joules(energies: Sequence[Joules | None]) -> Joules | None:
    """The mean over runs; ``None`` unless every run knows it, so that runs add up alike."""
    known = [energy for energy in energies if energy is not None]
    if not known or len(known) < len(energies):
        return None
    return Joules(
        value=sum(energy.value for energy in known) / len(known),
        low=sum(energy.low for energy in known) / len(known),
        high=sum(energy.high for energy in known) / len(known),
        origin=weakest(energy.origin for energy in known),
    )


def _energy(total: Total) -> Energy | None:
    energy = total.energy
    if energy is None:
        return None
    return Energy(
        value_j=energy.value,
        low_j=energy.low,
        high_j=energy.high,
        origin=energy.origin,
        lacks=total.lacks,
    )


def _front(cells: Sequence[CellSummary], runs: Sequence[RunResult], scope: Scope) -> set[int]:
    """Rows whose end no other row's round beats; none where the totals are not of one kind."""
    if scope == "total" and len(kinds_of_total(cells)) != 1:
        return set()
    positions, found = [], []
    for i, cell in enumerate(cells):
        exchange_j = cell.exchange.value_j if cell.exchange else None
        changeable_j = exchange_j if scope == "total" else cell.declared_j
        if changeable_j is None:
            continue
        lacks: tuple[Phase, ...] = cell.total.lacks if cell.total else ()
        curve = mean_curve([run for run in runs if cell.covers(run)], scope, lacks)
        positions.append(i)
        found.append(Trajectory(curve.joules, curve.accuracy, EQUAL_JOULES * changeable_j))
    return {positions[position] for position in pareto_ends(found)}


def kinds_of_total(cells: Sequence[CellSummary]) -> tuple[tuple[Phase, ...], ...]:
    """What the totals of feasible rows lack, each set of phases once; () is a full total."""
    return tuple(dict.fromkeys(cell.total.lacks for cell in cells if cell.total))
