"""From the runs of a study to its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from cwmp.fl.ledger import weakest
from cwmp.selectors.costs import SelectionCosts
from cwmp.studies.controls import bound_shares, control_verdicts
from cwmp.studies.endpoints import (
    TRAINING,
    Waited,
    cumulative_j,
    hypervolume,
    joules_to,
    median_j,
)
from cwmp.studies.grid import Plan
from cwmp.studies.inference import bootstrap_mean
from cwmp.studies.runs import EnergyCell, RunFile
from cwmp.studies.sources import spread_of
from cwmp.studies.spec_parts import Scope
from cwmp.studies.summary import DeviceCosts, MeanOf, StudyCell, StudySummary, Target

SCOPES: tuple[Scope, Scope] = ("total", "exchange")
Place = tuple[str, float, str, str, str]
"""(device, alpha, method, budget, control) of a cell."""


def summarise(plan: Plan, runs: Sequence[RunFile]) -> StudySummary:
    """What *runs* of *plan* show; runs that are missing are counted and said.

    Args:
        plan: the study.
        runs: those that are done, labelled as the plan labels them.
    """
    from cwmp.studies.comparing import compare
    from cwmp.studies.verdicts import verdicts, warnings

    book = Book(plan, runs)
    cells = tuple(book.cell(place) for place in book.places)
    tests = tuple(compare(book))
    controls = tuple(control_verdicts(plan, runs))
    costs = tuple(_device_costs(plan))
    places = plan.spec.family_places()
    return StudySummary(
        created_utc=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        spec=plan.spec.model_dump(mode="json", by_alias=True),
        planned=len(plan.tasks),
        done=len(runs),
        family=plan.spec.family.name,
        family_tests=len(places),
        costs=costs,
        reference_j={f"{d}, {a:g}": j for (d, a), j in book.reference_j.items()},
        cells=cells,
        tests=tests,
        controls=controls,
        verdicts=tuple(verdicts(plan.spec, costs, cells, tests)),
        warnings=tuple(warnings(plan, costs, cells, tests, controls, len(runs))),
    )


class Book:
    """The runs of a study by their place in the grid, and their endpoints, each made once.

    Attributes:
        plan: the study.
        places: every cell that is planned, in order.
        reference_j: J_ref of the hypervolume in the study's scope by (device, alpha); ``None``
            where no dense run has ended or its joules are not priced.
    """

    def __init__(self, plan: Plan, runs: Sequence[RunFile]) -> None:
        self.plan = plan
        planned = [_place(task.labels) for task in plan.tasks]
        self.places: tuple[Place, ...] = tuple(dict.fromkeys(planned))
        self._planned = Counter(planned)
        self._runs: dict[Place, dict[int, RunFile]] = {place: {} for place in self.places}
        for run in runs:
            self._runs[_place(run.labels)][run.labels["seed"]] = run
        self.scope: Scope = plan.spec.endpoints.joules
        self._references = {
            (device, alpha, scope): self._reference(device, alpha, scope)
            for device in plan.fleets
            for alpha in plan.spec.alphas
            for scope in SCOPES
        }
        self.reference_j = {
            (d, a): j for (d, a, scope), j in self._references.items() if scope == self.scope
        }

    def finished(self, place: Place) -> dict[int, RunFile]:
        """By seed. None where any run of the cell failed: the mean of those that survived would
        flatter it."""
        found = self._runs.get(place, {})
        if any(run.status != "finished" for run in found.values()):
            return {}
        return found

    def endpoint(self, run: RunFile, name: str, scope: Scope | None = None) -> float | None:
        """One number of one finished run; ``None`` where it has none."""
        if name == "final_accuracy":
            return run.final_accuracy
        if name == "worst_decile":
            return run.rounds[-1].worst_decile
        scope = scope or self.scope
        spent = cumulative_j(run, scope)
        reference_j = self._references[run.labels["device"], run.labels["alpha"], scope]
        if spent is None or reference_j is None or not spent[0] > 0:
            return None
        accuracy = [row.accuracy for row in run.rounds]
        guess = self.plan.spec.endpoints.reference.accuracy
        return hypervolume(spent, accuracy, reference_j, guess)

    def waited(self, run: RunFile, target: float) -> Waited | None:
        """Joules of the study's scope to *target*; ``None`` where they are not priced."""
        spent = cumulative_j(run, self.scope)
        if spent is None:
            return None
        return joules_to(spent, [row.accuracy for row in run.rounds], target)

    def spent_j(self, run: RunFile) -> float | None:
        """Joules of the whole run in the study's scope."""
        spent = cumulative_j(run, self.scope)
        return None if spent is None else float(spent[-1])

    def cell(self, place: Place) -> StudyCell:
        """The summary of one cell."""
        device, alpha, method, budget, control = place
        every = self._runs[place]
        counts = Counter(str(run.status) for run in every.values())
        missing = self._planned[place] - len(every)
        outcome = {**counts, **({"missing": missing} if missing else {})}
        failed = [run.reason for run in every.values() if run.status != "finished"]
        plain = StudyCell(
            device=device,
            alpha=alpha,
            method=method,
            budget=budget,
            control=control,
            runs=outcome,
            reason=failed[0] if failed else "",
        )
        runs = list(self.finished(place).values())
        if not runs:
            return plain
        phases = {name: _mean_phase(runs, name) for name in runs[0].rounds[-1].phases}
        shares = [share for run in runs for share in bound_shares(run)]
        return plain.model_copy(
            update={
                "final_accuracy": self._mean(runs, "final_accuracy"),
                "worst_decile": self._mean(runs, "worst_decile"),
                "hypervolume": {s: self._mean(runs, "hypervolume", s) for s in SCOPES},
                "targets": tuple(self._targets(runs)),
                "phases": phases,
                "total": _added(list(phases.values())),
                "exchange": _added([v for name, v in phases.items() if name != TRAINING]),
                "uplink_bytes": float(
                    np.mean([sum(row.uplink_bytes for row in run.rounds) for run in runs])
                ),
                "spent": self._spent(runs),
                "certificate": min(shares) if shares else None,
            }
        )

    def _spent(self, runs: Sequence[RunFile]) -> float | None:
        """Declared joules over what those who took part could declare, in all rounds and runs."""
        declared_j = allowed_j = 0.0
        for run in runs:
            if run.budget_j is None or len(run.job.devices) > 1:
                return None
            if not self.plan.spec.takes_budget(run.labels["method"]):
                return None
            asked = run.job.per_round or run.job.clients
            for row in run.rounds:
                if row.declared_j is None:
                    return None
                declared_j += row.declared_j
                allowed_j += run.budget_j * (asked - len(row.absent))
        return declared_j / allowed_j if allowed_j else None

    def _mean(
        self, runs: Sequence[RunFile], name: str, scope: Scope | None = None
    ) -> MeanOf | None:
        values = [self.endpoint(run, name, scope) for run in runs]
        known = [value for value in values if value is not None]
        return mean_of(known) if len(known) == len(values) else None

    def _targets(self, runs: Sequence[RunFile]) -> Iterator[Target]:
        for accuracy in self.plan.spec.endpoints.targets:
            waited = [self.waited(run, accuracy) for run in runs]
            known = [each for each in waited if each is not None]
            if len(known) == len(runs):
                yield Target(
                    accuracy=accuracy,
                    reached=sum(each.reached for each in known),
                    n=len(known),
                    median_j=median_j(known),
                )

    def _reference(self, device: str, alpha: float, scope: Scope) -> float | None:
        stated = self.plan.spec.endpoints.reference.energy_j
        if stated != "dense":
            return stated if scope == self.scope else None
        spent = [
            cumulative_j(run, scope)
            for run in self.finished((device, alpha, "dense", "100%", "")).values()
        ]
        known = [float(each[-1]) for each in spent if each is not None]
        return max(known) if known else None


def mean_of(values: Sequence[float]) -> MeanOf:
    """The mean with its bootstrap interval."""
    found = bootstrap_mean(values)
    return MeanOf(n=found.n, mean=found.mean, low=found.low, high=found.high)


def _place(labels: Mapping[str, object]) -> Place:
    return (
        str(labels["device"]),
        float(str(labels["alpha"])),
        str(labels["method"]),
        str(labels["budget"]),
        str(labels["control"]),
    )


def _mean_phase(runs: Sequence[RunFile], name: str) -> EnergyCell | None:
    """Mean over runs of the joules of a phase over all rounds."""
    cells = [row.phases.get(name) for run in runs for row in run.rounds]
    known = [cell for cell in cells if cell is not None]
    if len(known) < len(cells):
        return None
    summed = _added(known)
    assert summed is not None  # a finished run has rounds
    return EnergyCell(
        value_j=summed.value_j / len(runs),
        low_j=summed.low_j / len(runs),
        high_j=summed.high_j / len(runs),
        origin=summed.origin,
    )


def _added(cells: Sequence[EnergyCell | None]) -> EnergyCell | None:
    """The sum; ``None`` where a part is unknown. Intervals of one cost file are added."""
    known = [cell for cell in cells if cell is not None]
    if not known or len(known) < len(cells):
        return None
    return EnergyCell(
        value_j=sum(cell.value_j for cell in known),
        low_j=sum(cell.low_j for cell in known),
        high_j=sum(cell.high_j for cell in known),
        origin=weakest(cell.origin for cell in known),
    )


def _device_costs(plan: Plan) -> Iterator[DeviceCosts]:
    for device, kinds in plan.fleets.items():
        for kind, costs in zip(kinds, plan.costs[device], strict=True):
            prices = SelectionCosts.from_cost_file(costs)
            marginal_j = [layer.marginal_j for layer in prices.layers]
            yield DeviceCosts(
                device=device,
                kind=kind.name,
                file=f"costs/{kind.costs.name}",
                measured_on=costs.device,
                origin=costs.origin,
                basis=costs.basis,
                spread=spread_of(prices),
                layer_ratio=max(marginal_j) / min(marginal_j),
                dense_j=prices.dense_j,
                message_share=prices.message_j / prices.dense_j,
                opening_share=opening_share(prices),
            )


def opening_share(prices: SelectionCosts) -> float:
    """Joules of opening every layer, over the dense cost: (sum of E_l(1) - c_l) / J_dense."""
    opening_j = sum(float(layer.energy_j(1)) - layer.marginal_j for layer in prices.layers)
    return max(opening_j, 0.0) / prices.dense_j
