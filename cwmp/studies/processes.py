"""The runs of a sweep in forked processes, which inherit the data and answer through pipes.

Each process takes a run, writes its file and asks for the next. One that is killed is replaced
and its run started again, from its checkpoint; killed a second time at the same run, the sweep
stops and says so. Processes whose parent is gone stop after the round they are in.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import profiler.errors
from cwmp.fl.data import Dataset
from cwmp.studies.grid import Planned
from cwmp.studies.runs import RoundRow
from profiler.errors import CwmpError, InputError, OutputError

Tell = Callable[[Planned, RoundRow | None], None]
_ATTEMPTS = 2


def run_in_processes(
    left: Sequence[Planned],
    directory: Path,
    data: Mapping[str, Dataset],
    workers: int,
    every: int,
    tell: Tell,
) -> None:
    """Run *left* in *workers* processes; see `cwmp.studies.sweep.sweep`.

    Raises:
        CwmpError: as a run raised it, once all processes are stopped.
        OutputError: a worker was killed twice at the same run.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise InputError("several workers need a system that can fork; use one")
    crew = _Crew(left, directory, data, every, tell)
    try:
        for _ in range(min(workers, len(left))):
            crew.hire()
        while crew.busy:
            crew.listen()
    finally:
        crew.dismiss()


@dataclass(eq=False)
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    at: int = -1


class _Crew:
    """The processes, and which run each is at."""

    def __init__(
        self,
        left: Sequence[Planned],
        directory: Path,
        data: Mapping[str, Dataset],
        every: int,
        tell: Tell,
    ) -> None:
        self.left, self.directory, self.data, self.every = left, directory, data, every
        self.tell = tell
        self.queue = list(range(len(left)))
        self.killed = dict.fromkeys(self.queue, 0)
        self.workers: list[_Worker] = []

    @property
    def busy(self) -> bool:
        return any(worker.at >= 0 for worker in self.workers)

    def hire(self) -> None:
        """One more process, at the next run."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        inherited = [ours, *(worker.pipe for worker in self.workers)]
        process = context.Process(target=self._work, args=(theirs, inherited), daemon=True)
        # a Ctrl-C goes to the whole group: one that comes before the child ignores it waits
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        self._next(worker)

    def listen(self) -> None:
        """Wait for somebody to say something, and act on it."""
        speakers = {worker.pipe: worker for worker in self.workers if worker.at >= 0}
        for pipe in wait(list(speakers)):
            worker = speakers[pipe]  # type: ignore[index]
            try:
                said = json.loads(worker.pipe.recv_bytes())
            except (EOFError, OSError):
                self._again(worker)
                continue
            if "row" in said:
                self.tell(self.left[worker.at], RoundRow.model_validate(said["row"]))
            elif "error" in said:
                kind = getattr(profiler.errors, said["error"], CwmpError)
                raise kind(said["said"])
            else:
                self.tell(self.left[worker.at], None)
                self._next(worker)

    def dismiss(self) -> None:
        """Stop everybody."""
        for worker in self.workers:
            worker.pipe.close()
            worker.process.kill()
            worker.process.join()

    def _next(self, worker: _Worker) -> None:
        worker.at = self.queue.pop(0) if self.queue else -1
        if worker.at >= 0:
            with suppress(OSError):  # it has died meanwhile: listening to it will say so
                worker.pipe.send_bytes(str(worker.at).encode())

    def _again(self, worker: _Worker) -> None:
        """A process was killed: its run is tried once more, in a new one."""
        worker.pipe.close()
        worker.process.join()
        self.workers.remove(worker)
        self.killed[worker.at] += 1
        if self.killed[worker.at] >= _ATTEMPTS:
            job = self.left[worker.at].job
            raise OutputError(
                f"the run of {job.method} at {job.budget} with seed {job.seed} was killed twice "
                f"(exit code {worker.process.exitcode}; too little memory?): use fewer workers"
            )
        self.queue.insert(0, worker.at)
        self.hire()

    def _work(self, pipe: Connection, inherited: Sequence[Connection]) -> None:
        """What a process does until it is told nothing more."""
        from cwmp.studies.sweep import run_one

        for other in inherited:
            other.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent may have set a handler
        parent = os.getppid()

        def seen(row: RoundRow) -> None:
            if os.getppid() != parent:
                os._exit(1)
            pipe.send_bytes(json.dumps({"row": row.model_dump(mode="json")}).encode())

        while True:
            try:
                at = int(pipe.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)
            try:
                run_one(self.left[at], self.directory, self.data, self.every, seen)
                answer: dict[str, int | str] = {"done": at}
            except CwmpError as error:
                answer = {"error": type(error).__name__, "said": str(error)}
            except MemoryError:
                os._exit(1)
            pipe.send_bytes(json.dumps(answer).encode())
