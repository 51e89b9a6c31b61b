"""The numbers behind a picture: accuracy and cumulative joules by round, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cwmp.curves import MeanCurve, Scope, mean_curve
from cwmp.fl.ledger import PHASES, Phase, weakest
from cwmp.results import RunResult
from cwmp.summary import CellSummary, Energy

_PHASES: dict[Scope, tuple[Phase, ...]] = {"total": PHASES, "declared": ("uplink", "update")}


@dataclass(frozen=True)
class Curve(MeanCurve):
    """One method at one budget.

    Attributes:
        method, budget: which.
        on_front: whether its end is on the Pareto front of this scope.
    """

    method: str
    budget: str
    on_front: bool


def curves_of(
    runs: Sequence[RunResult], table: Sequence[CellSummary], scope: Scope
) -> tuple[Curve, ...]:
    """One curve for each feasible row of *table* whose joules are known, over the row's seeds."""
    curves = []
    for cell in table:
        if not cell.feasible or (cell.total if scope == "total" else cell.declared_j) is None:
            continue
        own = [run for run in runs if cell.covers(run)]
        mean = mean_curve(own, scope, cell.total.lacks if cell.total else ())
        curves.append(
            Curve(
                joules=mean.joules,
                accuracy=mean.accuracy,
                spread=mean.spread,
                method=cell.method,
                budget=cell.budget,
                on_front=cell.on_front if scope == "total" else cell.on_declared_front,
            )
        )
    return tuple(curves)


def describe_origin(table: Sequence[CellSummary], scope: Scope) -> str:
    """``modelled; downlink assumed; without train``: what stands behind the joules shown."""
    origins: dict[str, list[Phase]] = {}
    for phase in _PHASES[scope]:
        known = [cell.phases[phase] for cell in table if cell.feasible]
        label = _origin_of(known)
        if label:
            origins.setdefault(label, []).append(phase)
    if not origins:
        return "not priced"
    main = max((o for o in origins if o != _ABSENT), key=lambda o: len(origins[o]), default=_ABSENT)
    rest = [f"{', '.join(found)} {label}" for label, found in origins.items() if label != main]
    return "; ".join([main, *rest])


_ABSENT = "not priced"


def _origin_of(energies: Sequence[Energy | None]) -> str:
    if any(energy is None for energy in energies):
        return _ABSENT
    spent = [energy for energy in energies if energy is not None and energy.value_j > 0]
    found = {energy.origin for energy in spent}
    if not found:
        return ""
    return weakest(found) if len(found) == 1 else f"partly {weakest(found)}"
