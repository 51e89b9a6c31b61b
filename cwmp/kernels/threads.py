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
_NAP_S = 1.0

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
        BaseException: the first that a task raised, or an interrupt of the waiting, once all
            tasks have ended: they write to memory that the caller may let go.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    jobs = [_Job(task) for task in tasks]
    queue = _inbox(len(jobs) - 1)
    interrupt: BaseException | None = None
    for job in jobs[1:]:
        if queue is not None:
            queue.put(job)
    for job in jobs if queue is None else jobs[:1]:
        try:
            job.run()
        except BaseException as error:
            interrupt = error
    for job in jobs[1:] if queue is not None else []:
        interrupt = job.wait() or interrupt
    if interrupt is not None:
        raise interrupt
    return [job.result() for job in jobs]


class _Job:
    """A task, run once. The lock only wakes who waits; the flag says whether it has ended."""

    __slots__ = ("_ended", "_error", "_task", "_value", "_wake")

    def __init__(self, task: Task) -> None:
        self._task = task
        self._wake = Lock()
        self._wake.acquire()
        self._ended = False
        self._error: BaseException | None = None
        self._value: Any = None

    def run(self) -> None:
        try:
            self._value = self._task()
        except BaseException as error:  # handed to the thread that waits
            self._error = error
        finally:
            self._ended = True
            self._wake.release()

    def wait(self) -> BaseException | None:
        """Until the task has ended; an interrupt meanwhile is returned."""
        interrupt = None
        while not self._ended:
            try:
                self._wake.acquire(timeout=_NAP_S)
            except BaseException as error:  # the task goes on and must be waited for
                interrupt = error
        return interrupt

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


_jobs: SimpleQueue[_Job] = SimpleQueue()
_workers = 0
_starting = Lock()


def _inbox(wanted: int) -> SimpleQueue[_Job] | None:
    """What the workers read, *wanted* of them if they can be had; ``None`` without any."""
    global _workers
    with _starting:
        while _workers < min(wanted, MOST_THREADS):
            try:
                Thread(target=_work, args=(_jobs,), name=f"cwmp-{_workers}", daemon=True).start()
            except RuntimeError:  # no more threads for this process
                break
            _workers += 1
        return _jobs if _workers else None


def _work(jobs: SimpleQueue[_Job]) -> None:
    while True:
        jobs.get().run()


def _forget() -> None:
    global _jobs, _workers, _starting
    _jobs, _workers, _starting = SimpleQueue(), 0, Lock()


os.register_at_fork(after_in_child=_forget)
