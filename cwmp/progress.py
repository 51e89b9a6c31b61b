"""The cells of a study's grid, and how it tells whoever watches where it is in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cwmp.fl.ledger import Entry, Ledger
from cwmp.fl.rounds import Federation, RoundRecord


@dataclass(frozen=True, slots=True)
class Cell:
    """One method at one budget.

    Attributes:
        method: its name.
        budget: as reported.
        budget_j: joules a client may declare a round.
        reason: why it cannot run; empty if it can.
    """

    method: str
    budget: str
    budget_j: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One finished round, for whoever shows progress.

    Attributes:
        run, runs: running number of the run, from 1, and how many there are.
        round, rounds: the same for the round in its run.
        cell, seed: which run.
        accuracy: of the new model on the test set.
        spent_j: joules of the run so far, of the phases that are priced; ``None`` if none is.
        elapsed_s: since the study began.
    """

    run: int
    runs: int
    round: int
    rounds: int
    cell: Cell
    seed: int
    accuracy: float
    elapsed_s: float
    spent_j: float | None = None


Progress = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Tick:
    """Tells whoever watches that a round of one run has finished."""

    run: int
    runs: int
    started_s: float
    progress: Progress | None

    def __call__(
        self, cell: Cell, federation: Federation, record: RoundRecord, charged: Sequence[Entry]
    ) -> None:
        """*charged* are the entries of the run's ledger so far."""
        if self.progress is None:
            return
        spent = Ledger(tuple(charged)).total().energy
        self.progress(
            Step(
                run=self.run,
                runs=self.runs,
                round=record.round,
                rounds=federation.rounds,
                cell=cell,
                seed=federation.seed,
                accuracy=record.accuracy,
                elapsed_s=time.monotonic() - self.started_s,
                spent_j=None if spent is None else spent.value,
            )
        )
