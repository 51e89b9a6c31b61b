"""What must not happen whatever an update, a budget or an interrupt is like."""

from __future__ import annotations

import signal
import threading
import time
from decimal import Decimal

import numpy as np
import pytest
import torch

from cwmp import CostWeighted, ErrorFeedback, SelectionCosts, TopK
from cwmp.kernels import threads
from cwmp.kernels.magnitudes import ALL_BITS, threshold_bits
from cwmp.selectors.reference import ReferenceCostWeighted
from profiler.errors import BudgetError, UpdateError

COSTS = SelectionCosts.linear({"a": (30_000,)}, {"a": 1.0})


def test_a_thread_that_takes_subnormals_for_zero_stays_within_the_budget() -> None:
    numbers = np.random.default_rng(0)
    large = np.arange(30_000) % 600 == 0
    update = {"a": np.where(large, numbers.standard_normal(30_000), 1e-40).astype(np.float32)}
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        for rule in (TopK(COSTS), CostWeighted(COSTS)):
            assert rule.select(update, 100.0).energy_j <= 100
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(("p", "cheap"), [(0.1, 1e-30), (1, 1e-300)])
def test_costs_that_score_beyond_float64_take_the_reference_path(p: float, cheap: float) -> None:
    shapes = {"a": (300,), "b": (300,)}
    costs = SelectionCosts.linear(shapes, {"a": 1.0, "b": cheap})
    numbers = np.random.default_rng(1)
    update = {n: (1e10 * numbers.standard_normal(s)).astype(np.float32) for n, s in shapes.items()}
    budget_j = 100.5 * cheap
    selection = CostWeighted(costs, p, 1).select(update, budget_j)
    assert selection.energy_j <= budget_j
    assert selection.entries == ReferenceCostWeighted(costs, p, 1).select(update, budget_j).entries


def test_a_sum_that_overflows_is_refused_even_unchecked() -> None:
    feedback = ErrorFeedback(TopK(COSTS), check=False)
    big = {"a": np.full(30_000, 3e38, dtype=np.float32)}
    feedback.select(big, 100.0)
    with pytest.raises(UpdateError, match="NaN or inf"):
        feedback.select(big, 100.0)


def test_nan_in_many_layers_is_refused_at_once() -> None:
    shapes = {f"layer{number}": (100,) for number in range(40)}
    costs = SelectionCosts.linear(shapes, dict.fromkeys(shapes, 1.0))
    update = {name: np.full(100, np.nan, dtype=np.float32) for name in shapes}
    assert (threshold_bits(np.nan, np.ones(3)) == ALL_BITS).all()  # not found by walking there
    with pytest.raises(UpdateError, match="NaN or inf in 100 of 100"):
        TopK(costs).select(update, 100.0)


@pytest.mark.parametrize("budget", [100, np.float32(100), np.array(100.0), torch.tensor(100.0)])
def test_any_number_is_a_budget(budget: object) -> None:
    update = {"a": np.random.default_rng(0).standard_normal(30_000).astype(np.float32)}
    selection = CostWeighted(COSTS).select(update, budget)
    assert selection.entries == 100
    assert type(selection.bound) is float
    assert selection.captured <= selection.bound


@pytest.mark.parametrize("budget", ["5%", None, [1.0, 2.0], Decimal("NaN")])
def test_what_is_no_number_of_joules_is_refused(budget: object) -> None:
    with pytest.raises(BudgetError, match="budget is"):
        TopK(COSTS).select({"a": np.ones(30_000, dtype=np.float32)}, budget)


def test_interrupts_wait_for_every_task_and_hang_none() -> None:
    ended: list[int] = []

    def task(number: int) -> None:
        time.sleep(0.05 * number)
        ended.append(number)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for round_number in range(6):
            ended.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.01 + 0.02 * round_number)
            with pytest.raises(KeyboardInterrupt):
                threads.in_parallel([lambda n=n: task(n) for n in range(1, 5)])
            assert set(ended) >= {2, 3, 4}  # the first ran on the thread that was interrupted
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_without_threads_to_be_had_the_caller_does_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads._forget()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert threads.in_parallel([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
    monkeypatch.undo()
    assert threads.in_parallel([lambda: 4, lambda: 5]) == [4, 5]
