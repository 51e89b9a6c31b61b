"""Tasks side by side: all have ended when the call returns, whatever one of them raised."""

from __future__ import annotations

import os
import time

import pytest

from cwmp.kernels.threads import MOST_THREADS, in_parallel, threads_for


def test_results_come_in_the_order_of_the_tasks() -> None:
    tasks = [lambda n=n: (time.sleep(0.01 * (3 - n % 3)), n)[1] for n in range(7)]
    assert in_parallel(tasks) == list(range(7))
    assert in_parallel([lambda: 5]) == [5]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_waits_until_all_tasks_have_ended(place: int) -> None:
    ended = []

    def task(number: int) -> None:
        if number == place:
            raise MemoryError("no room")
        time.sleep(0.1)
        ended.append(number)

    with pytest.raises(MemoryError, match="no room"):
        in_parallel([lambda n=n: task(n) for n in range(3)])
    assert sorted(ended) == [n for n in range(3) if n != place]


def test_small_work_gets_one_thread_and_a_wish_is_a_wish() -> None:
    assert threads_for(1000) == 1
    assert threads_for(10**9) == min(MOST_THREADS, len(os.sched_getaffinity(0)))
    assert threads_for(1000, 3) == 3
    assert threads_for(1000, 99) == MOST_THREADS


def test_a_child_process_has_threads_of_its_own() -> None:
    assert in_parallel([lambda: 1, lambda: 2]) == [1, 2]
    child = os.fork()
    if child == 0:
        os._exit(0 if in_parallel([lambda: 3, lambda: 4]) == [3, 4] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
