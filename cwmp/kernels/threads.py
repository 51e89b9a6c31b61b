"""A few threads for kernels that release the interpreter's lock.

Threads of our own and not numba's: they start no OpenMP runtime beside torch's, they survive a
fork (a child starts its own), and what runs on which thread never shows in a result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

MOST_THREADS = 16
_SMALL = 2**19

Task = Callable[[], Any]


def threads_for(entries: int, asked: int | None = None) -> int:
    """How many threads a pass over *entries* gets: one where a second costs more than it saves.

    *asked* is taken as it is, up to 16. Without it, the processors this process may use.
    """
    if asked is not None:
        return max(1, min(asked, MOST_THREADS))
    if entries < _SMALL:
        return 1
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


def in_parallel(tasks: list[Task]) -> list[Any]:
    """The results of *tasks*, in order; the first runs on this thread, the others beside it.

    Raises:
        Exception: the first that a task raised, once all have ended.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    jobs = [_Job(task) for task in tasks]
    for job in jobs[1:]:
        _inbox().put(job)
    jobs[0].run()
    for job in jobs:  # all of them: they write to memory that the caller may let go
        job.wait()
    return [job.result() for job in jobs]


class _Job:
    """A task, run once, and a lock that opens when it has ended."""

    __slots__ = ("_done", "_error", "_task", "_value")

    def __init__(self, task: Task) -> None:
        self._task = task
        self._done = Lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._value: Any = None

    def run(self) -> None:
        try:
            self._value = self._task()
        except BaseException as error:  # handed to the thread that waits
            self._error = error
        finally:
            self._done.release()

    def wait(self) -> None:
        """Until the task has ended; an interrupt meanwhile is raised once it has."""
        interrupt = None
        while True:
            try:
                self._done.acquire()
            except BaseException as error:  # the task goes on and must be waited for
                interrupt = error
                continue
            self._done.release()
            break
        if interrupt is not None:
            raise interrupt

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


_jobs: SimpleQueue[_Job] | None = None
_starting = Lock()


def _inbox() -> SimpleQueue[_Job]:
    """The queue that the workers read; they start when it is first used."""
    global _jobs
    with _starting:
        if _jobs is None:
            _jobs = SimpleQueue()
            for number in range(MOST_THREADS):
                Thread(target=_work, args=(_jobs,), name=f"cwmp-{number}", daemon=True).start()
        return _jobs


def _work(jobs: SimpleQueue[_Job]) -> None:
    while True:
        jobs.get().run()


def _forget() -> None:
    global _jobs, _starting
    _jobs, _starting = None, Lock()


os.register_at_fork(after_in_child=_forget)
