"""Accuracy against cumulative joules, round by round, as the mean over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.ledger import Phase, sum_phases
from cwmp.results import RunResult, selection_sums

Scope = Literal["total", "declared"]
"""All phases, or what the budgets cap: the uplink and applying each upload once."""


@dataclass(frozen=True)
class MeanCurve:
    """What some runs came to by each round.

    Attributes:
        joules: mean over runs of the joules spent up to each round, shape (rounds,).
        accuracy: mean over runs, shape (rounds,).
        spread: standard deviation of the accuracy over runs, shape (rounds,); zeros for one run.
    """

    joules: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    spread: NDArray[np.float64]


def mean_curve(runs: Sequence[RunResult], scope: Scope, lacks: Sequence[Phase] = ()) -> MeanCurve:
    """The mean of finished *runs*; joules without the phases in *lacks*."""
    accuracy = np.array([[record.accuracy for record in run.rounds] for run in runs])
    spent = np.array([_spent(run, scope, lacks) for run in runs])
    return MeanCurve(
        joules=np.cumsum(spent, axis=1).mean(axis=0),
        accuracy=accuracy.mean(axis=0),
        spread=accuracy.std(axis=0, ddof=1) if len(runs) > 1 else 0 * accuracy[0],
    )


def _spent(run: RunResult, scope: Scope, lacks: Sequence[Phase]) -> list[float]:
    """Joules of each round."""
    if scope == "declared":
        return [selection_sums(record)["energy_j"] or 0.0 for record in run.rounds]
    spent = []
    for _, ledger in run.ledger.rounds() if run.ledger else ():
        phases = ledger.by_phase()
        energy = sum_phases({p: e for p, e in phases.items() if p not in lacks}).energy
        spent.append(energy.value if energy else 0.0)
    return spent
