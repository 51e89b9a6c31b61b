"""Every client in this process, one after the other: deterministic, and the reference.

One model is loaded and trained for each client in turn, and each upload is folded into the
average before the next is made, so memory does not grow with the number of clients, but for
what the clients themselves must remember. All receivers of a download hold bit-equal models,
so it is applied once. With *workers* the clients run in that many forked processes, each with
one thread; uploads are read in the same order, and the result is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cwmp.fl.algorithms.base import Algorithm, ClientTask
from cwmp.fl.algorithms.team import Team, team_of
from cwmp.fl.engines.base import Available, Keep, Standing
from cwmp.fl.engines.client import run_client
from cwmp.fl.engines.round import Result, run_round
from cwmp.fl.rounds import Federation, RoundRecord
from profiler.errors import InputError
from profiler.threads import threads_for

if TYPE_CHECKING:
    from cwmp.fl.engines.batched import Batched
    from cwmp.fl.engines.workers import WorkerPool


@dataclass(frozen=True)
class LocalEngine:
    """One process, or one and a few workers.

    Attributes:
        workers: forked processes that run clients; 0 runs them in this one.
        deadline_s: after how long a worker's client is given up as late; ``None`` waits.
        together: clients whose training is done in one go where the model is a small
            perceptron (see `cwmp.fl.together`); 0 never does. Equal to one by one up to
            float32's rounding, and not used with workers.

    Raises:
        InputError: a negative number of workers, or a deadline without workers to keep it.
    """

    workers: int = 0
    deadline_s: float | None = None
    together: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0 or (self.deadline_s is not None and self.workers < 1):
            raise InputError(
                f"{self.workers} workers cannot be used"
                + (" with a deadline: give at least 1" if self.deadline_s is not None else "")
            )

    def run(
        self,
        federation: Federation,
        method: Algorithm | Team,
        *,
        available: Available | None = None,
        start: Standing | None = None,
        keep: Keep | None = None,
    ) -> Iterator[RoundRecord]:
        team = team_of(method, len(federation.shards))
        standing = start or Standing(0, federation.initial)
        with self._clients(federation, team) as clients:
            for number in range(standing.round + 1, federation.rounds + 1):
                with threads_for(sum(layer.parameters for layer in federation.trainer.layers)):
                    standing, record = run_round(
                        federation, team, standing, number, clients.results, available
                    )
                if keep is not None:
                    keep(standing)
                yield record

    def _clients(
        self, federation: Federation, team: Team
    ) -> AbstractContextManager[_Here | WorkerPool | Batched]:
        if not self.workers:
            return nullcontext(self._in_this_process(federation, team))
        from cwmp.fl.engines.workers import WorkerPool

        return WorkerPool(federation, team, self.workers, self.deadline_s)

    def _in_this_process(self, federation: Federation, team: Team) -> _Here | Batched:
        if self.together > 1:
            from cwmp.fl.together import can_train_together

            if can_train_together(federation.trainer, *federation.shards[0]):
                from cwmp.fl.engines.batched import Batched

                return Batched(federation, team, self.together)
        return _Here(federation, team)


@dataclass(frozen=True)
class _Here:
    """Clients in this process."""

    federation: Federation
    team: Team

    def results(self, tasks: Iterator[ClientTask]) -> Iterator[Result]:
        for task in tasks:
            yield run_client(self.federation, self.team, task)
