"""Clients in groups, whose local training is done together; everything else one by one.

A method's client calls `Trainer.train` somewhere in the middle of what it does, from a state of
its own choosing. So each client of a group runs in a thread that stops where it asks for
training; when all have asked, `cwmp.fl.together` trains them at once and they go on. Only one
thread runs at any time, in a fixed order: the result does not depend on the scheduler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from cwmp.fl.algorithms.base import ClientTask, Upload
from cwmp.fl.algorithms.team import Team
from cwmp.fl.engines.client import run_client
from cwmp.fl.engines.round import Result
from cwmp.fl.rounds import Federation
from cwmp.fl.states import LocalResult, ModelState
from cwmp.fl.together import Request, train_together
from cwmp.fl.training import Trainer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batched:
    """Runs the clients of a federation in groups of *size*."""

    federation: Federation
    team: Team
    size: int

    def results(self, tasks: Iterator[ClientTask]) -> Iterator[Result]:
        """What came of *tasks*, in their order.

        Raises:
            BudgetError, UpdateError, InputError: as the first client that failed raised it.
        """
        while group := list(islice(tasks, self.size)):
            clients = [_Client(self.federation, self.team, task) for task in group]
            for client in clients:
                client.go_on()
            while asking := [client for client in clients if client.request is not None]:
                requests = [client.request for client in asking if client.request is not None]
                trained = train_together(self.federation.trainer, requests)
                for client, result in zip(asking, trained, strict=True):
                    client.request, client.answer = None, result
                    client.go_on()
            for client in clients:
                yield client.result()


@dataclass
class _Client:
    """One client's work in a thread that runs only inside `go_on`."""

    federation: Federation
    team: Team
    task: ClientTask
    request: Request | None = None
    answer: LocalResult | None = None
    upload: Upload | None = None
    error: BaseException | None = None
    _turn: Event = field(default_factory=Event)
    _back: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def go_on(self) -> None:
        """Let it run until it asks for training again, or has ended."""
        self._back.clear()
        if self._thread is None:
            self._thread = Thread(target=self._work, daemon=True)
            self._thread.start()
        else:
            self._turn.set()
        self._back.wait()

    def result(self) -> Upload:
        if self._thread is not None:
            self._thread.join()
        if self.error is not None:
            raise self.error
        assert self.upload is not None
        return self.upload

    def ask(self, request: Request) -> LocalResult:
        """Called in the thread: stop here until the answer is there."""
        self.request = request
        self._turn.clear()
        self._back.set()
        self._turn.wait()
        answer, self.answer = self.answer, None
        assert answer is not None
        return answer

    def _work(self) -> None:
        parked = _ParkedTrainer(self.federation.trainer, self)
        try:
            self.upload = run_client(self.federation, self.team, self.task, trainer=parked)
        except BaseException as error:  # handed to the thread that waits
            self.error = error
        finally:
            self._back.set()


class _ParkedTrainer(Trainer):
    """A trainer whose plain training is done with the others'; the rest is the real one's."""

    def __init__(self, trainer: Trainer, client: _Client) -> None:
        self.__dict__.update(trainer.__dict__)
        self._trainer, self._client = trainer, client

    def train(
        self,
        state: ModelState,
        x: Tensor,
        y: Tensor,
        generator: np.random.Generator,
        *,
        lr_factor: float = 1.0,
        **special: Any,
    ) -> LocalResult:
        if special or y.ndim != 1:
            return self._trainer.train(state, x, y, generator, lr_factor=lr_factor, **special)
        return self._client.ask(Request(state, x, y, generator, lr_factor))
