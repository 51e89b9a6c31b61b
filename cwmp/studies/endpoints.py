"""The endpoints of one run: what a study looks at, fixed before it ran.

hypervolume
    Of (log10 J, accuracy), against a reference point (J_ref, A_ref)::

        HV = sum over rounds t of  log10(J_ref / J_t)+ (m_t - m_{t-1}),
        m_t = max(m_{t-1}, A_t),  m_0 = A_ref

    the area, in decades x accuracy, that the run's trajectory dominates (Zitzler and Thiele
    1999). Joules beyond J_ref add nothing. Late gains do not hide early ones.
joules to a target
    J_t of the first round with A_t >= target; a run that never gets there is *censored* at its
    last J: all that is known is that it takes more. Nothing is imputed.
final accuracy, worst decile
    Of the last round: on the test set, and the mean over the worst tenth of clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cwmp.studies.runs import RunFile
from cwmp.studies.spec_parts import Scope
from profiler.errors import InputError

TRAINING = "train"


@dataclass(frozen=True, slots=True)
class Waited:
    """Joules until a target was met, or until nobody looked any more.

    Attributes:
        energy_j: of the first round that met it; of the last round where none did.
        reached: whether one did.
    """

    energy_j: float
    reached: bool


def cumulative_j(run: RunFile, scope: Scope) -> NDArray[np.float64] | None:
    """Joules spent up to each round, shape (rounds,); ``None`` where a phase is not priced.

    Args:
        run: a finished run.
        scope: ``total`` of all phases, or ``exchange``: all but training.
    """
    spent: list[float] = []
    for row in run.rounds:
        cells = [
            cell for phase, cell in row.phases.items() if scope == "total" or phase != TRAINING
        ]
        if not cells or any(cell is None for cell in cells):
            return None
        spent.append(sum(cell.value_j for cell in cells if cell is not None))
    return np.cumsum(spent)


def hypervolume(
    energy_j: ArrayLike, accuracy: ArrayLike, reference_j: float, reference_accuracy: float
) -> float:
    """The area above, by the module's formula; 0 where nothing beats the reference.

    Args:
        energy_j: cumulative joules by round, positive, shape (rounds,).
        accuracy: by round, shape (rounds,).

    Raises:
        InputError: shapes that differ, joules that are not positive.

    >>> round(hypervolume([1.0, 10.0], [0.5, 0.9], 100.0, 0.1), 6)
    1.2
    """
    spent = np.asarray(energy_j, dtype=np.float64)
    reached = np.asarray(accuracy, dtype=np.float64)
    if spent.shape != reached.shape or spent.ndim != 1:
        raise InputError(f"joules of shape {spent.shape} and accuracies of {reached.shape}")
    if not (np.all(spent > 0) and reference_j > 0):
        raise InputError("a hypervolume in log joules needs positive joules")
    best = np.maximum(np.maximum.accumulate(reached), reference_accuracy)
    gained = np.diff(best, prepend=reference_accuracy)
    return float(np.sum(np.maximum(np.log10(reference_j / spent), 0.0) * gained))


def joules_to(energy_j: ArrayLike, accuracy: ArrayLike, target: float) -> Waited:
    """Cumulative joules at the first round whose accuracy is *target* or more."""
    spent = np.asarray(energy_j, dtype=np.float64)
    met = np.flatnonzero(np.asarray(accuracy, dtype=np.float64) >= target)
    return Waited(float(spent[met[0]] if met.size else spent[-1]), bool(met.size))


def median_j(waited: Sequence[Waited]) -> float | None:
    """The Kaplan-Meier median of joules to a target; ``None`` where half never gets there.

    S(J) falls at each J where a run met the target by the factor 1 - met / at risk, with those
    censored earlier no longer at risk (Kaplan and Meier 1958); the median is the first J with
    S(J) <= 1/2. Methods stop after equally many rounds and so at different joules: a mean over
    the runs that got there, or one with a made-up value for the others, would reward giving up.

    >>> median_j([Waited(1.0, True), Waited(2.0, True), Waited(3.0, False)])
    2.0
    """
    survival = 1.0
    for energy_j in sorted({each.energy_j for each in waited if each.reached}):
        met = sum(each.reached and each.energy_j == energy_j for each in waited)
        at_risk = sum(each.energy_j >= energy_j for each in waited)
        survival *= 1 - met / at_risk
        if survival <= 0.5 + 1e-12:
            return energy_j
    return None


def sooner(one: Waited, other: Waited) -> int | None:
    """1 if *one* is known to take fewer joules, -1 if more, 0 if equal, ``None`` if not known.

    Gehan's (1965) rule: where the one that did not get there was looked at long enough, it is
    known to be later; otherwise the pair says nothing and is counted as a tie that is censored.
    """
    if one.reached and other.reached:
        return int(np.sign(other.energy_j - one.energy_j))
    if one.reached and one.energy_j <= other.energy_j:
        return 1
    if other.reached and other.energy_j <= one.energy_j:
        return -1
    return None
