"""Clients in forked processes of one thread each, for the local engine.

A worker inherits data, model and method by the fork; what changes from round to round goes
through a pipe as arrays. One that dies or keeps a client too long is replaced, and its client
is missing from the round.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType

from cwmp.fl.algorithms.base import ClientTask
from cwmp.fl.algorithms.team import Team
from cwmp.fl.engines.client import run_client
from cwmp.fl.engines.messages import (
    error_message,
    read_order,
    read_result,
    result_message,
    state_message,
    task_message,
)
from cwmp.fl.engines.round import Missing, Result
from cwmp.fl.rounds import Federation
from cwmp.fl.training import ModelState
from profiler.errors import InputError

_AHEAD = 4
"""Uploads a worker may be ahead of the one that is read next: memory stays flat."""


class WorkerPool:
    """*count* processes that run the clients of one federation and method.

    Args:
        federation, team: what the workers inherit.
        count: how many.
        deadline_s: after how long a client is given up; ``None`` waits.

    Raises:
        InputError: this platform cannot fork.
    """

    def __init__(
        self, federation: Federation, team: Team, count: int, deadline_s: float | None = None
    ) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise InputError("workers need a system that can fork; use workers=0")
        self.federation, self.team = federation, team
        self.count, self.deadline_s = count, deadline_s
        self._workers: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        self._workers = [self._start() for _ in range(self.count)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def results(self, tasks: Iterator[ClientTask]) -> Iterator[Result]:
        """What came of *tasks*, in their order.

        Raises:
            BudgetError, UpdateError, InputError: as a client raised it.
        """
        waiting: deque[int] = deque()
        done: dict[int, Result] = {}
        left: ClientTask | None = next(tasks, None)
        while left is not None or waiting:
            for worker in self._workers:
                if left is None or len(waiting) >= _AHEAD * self.count:
                    break
                if worker.busy is None:
                    worker.give(left)
                    waiting.append(left.client)
                    left = next(tasks, None)
            if waiting and waiting[0] not in done:
                self._collect(done)
            while waiting and waiting[0] in done:
                yield done.pop(waiting.popleft())

    def _collect(self, done: dict[int, Result]) -> None:
        """Wait for at least one worker, and take what is there."""
        busy = {worker.pipe: worker for worker in self._workers if worker.busy is not None}
        ready = wait(list(busy), self._patience(list(busy.values())))
        for pipe in ready:
            worker = busy[pipe]  # type: ignore[index]
            client, worker.busy = worker.busy, None
            assert client is not None
            try:
                done[client] = read_result(worker.pipe.recv_bytes())
            except (EOFError, OSError):
                done[client] = Missing(client, "died")
                self._replace(worker)
        if not ready:
            self._give_up(done)

    def _patience(self, busy: list[_Worker]) -> float | None:
        if self.deadline_s is None:
            return None
        oldest = min(worker.since_s for worker in busy)
        return max(0.0, oldest + self.deadline_s - time.monotonic())

    def _give_up(self, done: dict[int, Result]) -> None:
        """Stop whoever is past the deadline."""
        now = time.monotonic()
        for worker in list(self._workers):
            late = self.deadline_s is not None and now >= worker.since_s + self.deadline_s
            if worker.busy is not None and late:
                done[worker.busy] = Missing(
                    worker.busy, f"late: nothing came in {self.deadline_s:g} s"
                )
                self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        worker.stop()
        self._workers[self._workers.index(worker)] = self._start()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        inherited = [worker.pipe for worker in self._workers]
        process = context.Process(
            target=_work,
            args=(theirs, ours, inherited, self.federation, self.team),
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)


@dataclass(eq=False)
class _Worker:
    """A process, the client it is busy with, and since when."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    busy: int | None = None
    since_s: float = 0.0
    state: ModelState | None = field(default=None)

    def give(self, task: ClientTask) -> None:
        """Hand over *task*, and the round's model if this worker has another."""
        self.busy, self.since_s = task.client, time.monotonic()
        try:
            if self.state is not task.state:
                self.pipe.send_bytes(state_message(task.state))
                self.state = task.state
            self.pipe.send_bytes(task_message(task))
        except OSError:  # it has died; reading from it will say so
            pass

    def stop(self) -> None:
        """Kill it and wait until it is gone."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _work(
    pipe: Connection,
    parents: Connection,
    others: list[Connection],
    federation: Federation,
    team: Team,
) -> None:
    """What a worker does until its parent is gone."""
    import torch

    for inherited in (parents, *others):
        inherited.close()  # else a sibling's pipe stays open when the parent dies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    torch.set_num_threads(1)
    state = federation.initial
    while True:
        try:
            order = read_order(pipe.recv_bytes(), federation.initial)
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(order, ModelState):
            state = order
            continue
        number, client, memory, message = order
        try:
            task = federation.task(state, number, client, memory, message)
            answer = result_message(run_client(federation, team, task))
        except Exception as error:  # told to the parent, which knows what it means
            answer = error_message(client, error)
        pipe.send_bytes(answer)
