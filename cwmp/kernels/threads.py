"""A few threads for kernels that release the interpreter's lock.

Threads of our own and not numba's: they start no OpenMP runtime beside torch's, they survive a
fork (a child starts its own), and what runs on which thread never shows in a result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")

_SMALL = 2**19
MOST_THREADS = 16
_pool: ThreadPoolExecutor | None = None


def threads_for(entries: int, asked: int | None = None) -> int:
    """How many threads a pass over *entries* gets: one where a second would cost more than it saves.

    *asked* is taken as it is. Without it, the processors this process may use, 16 at most.
    """
    if asked is not None:
        return max(1, asked)
    if entries < _SMALL:
        return 1
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


def in_parallel(tasks: list[Callable[[], _T]]) -> list[_T]:
    """The results of *tasks*, in order; the first runs on this thread, the others beside it."""
    if len(tasks) == 1:
        return [tasks[0]()]
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="cwmp")
    waiting = [_pool.submit(task) for task in tasks[1:]]
    return [tasks[0](), *(future.result() for future in waiting)]


def _forget() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget)
