"""The numbers behind a picture: accuracy and cumulative joules by round, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.ledger import PHASES, Phase, weakest
from cwmp.results import RunResult, selection_sums
from cwmp.summary import CellSummary, Energy

Scope = Literal["total", "declared"]
"""All phases, or what the budgets cap: the uplink and applying each upload once."""
_PHASES: dict[Scope, tuple[Phase, ...]] = {"total": PHASES, "declared": ("uplink", "update")}


@dataclass(frozen=True)
class Curve:
    """One method at one budget.

    Attributes:
        method, budget: which.
        joules: mean over seeds of the joules spent up to each round, shape (rounds,).
        accuracy: mean over seeds, shape (rounds,).
        spread: standard deviation over seeds, shape (rounds,); zeros for a single seed.
        on_front: whether its end is on the Pareto front of this scope.
    """

    method: str
    budget: str
    joules: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    spread: NDArray[np.float64]
    on_front: bool


def curves_of(
    runs: Sequence[RunResult], table: Sequence[CellSummary], scope: Scope
) -> tuple[Curve, ...]:
    """One curve for each feasible row of *table* whose joules are known."""
    curves = []
    for cell in table:
        if not cell.feasible or (cell.total if scope == "total" else cell.declared_j) is None:
            continue
        own = [r for r in runs if (r.method, r.budget) == (cell.method, cell.budget)]
        accuracy = np.array([[record.accuracy for record in run.rounds] for run in own])
        spent = np.array([_spent(run, scope) for run in own])
        curves.append(
            Curve(
                method=cell.method,
                budget=cell.budget,
                joules=np.cumsum(spent, axis=1).mean(axis=0),
                accuracy=accuracy.mean(axis=0),
                spread=accuracy.std(axis=0, ddof=1) if len(own) > 1 else 0 * accuracy[0],
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


def _spent(run: RunResult, scope: Scope) -> list[float]:
    """Joules of each round, as far as they are priced."""
    if scope == "declared":
        return [selection_sums(record)["energy_j"] or 0.0 for record in run.rounds]
    spent = []
    for _, ledger in run.ledger.rounds() if run.ledger else ():
        total = ledger.total()
        spent.append(total.energy.value if total.energy else 0.0)
    return spent
