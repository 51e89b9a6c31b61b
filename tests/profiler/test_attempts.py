"""Attempts: what is tried again, what is counted, and how a module's own error reads."""

from __future__ import annotations

import numpy as np
import pytest
from stand_ins.simulated_device import DepositMeter, KnownOperation

from profiler.attempts import FAILURES_IN_A_ROW, Attempts, first_line, undisturbed
from profiler.blocks import Pair, Surroundings
from profiler.conditions import FREQUENCY_SHIFT, SUSPEND_GAP, THROTTLED
from profiler.errors import CounterFaultError, InputError, MeterReadError
from profiler.gauge import Window

OPERATION = KnownOperation(DepositMeter(), [10])
CELL = OPERATION.cells()[0]


def _pair(*flags: str) -> Pair:
    return Pair(1, Window(0.0, 1.0, 2.0), Window(1.0, 1.0, 1.0), Surroundings(flags))


def _insist(action, sleep=lambda seconds: pytest.fail("nothing was hot")):
    dropped: list[str] = []
    attempts = Attempts(dropped.append, "the rest is kept", sleep)
    try:
        return attempts.insist(OPERATION, CELL, 7, action), dropped
    except MeterReadError as error:
        return error, dropped


def test_what_is_lost_is_counted_and_tried_again():
    script = iter([MeterReadError("busy"), CounterFaultError("jumped"), None])

    def action(workload, attempt):
        if error := next(script):
            raise error
        return attempt

    assert _insist(action) == (2, ["MeterReadError", "CounterFaultError"])


def test_a_suspend_never_counts_and_ends_the_session_at_last():
    error, dropped = _insist(lambda _, attempt: undisturbed(_pair(SUSPEND_GAP), attempt))
    assert dropped == [SUSPEND_GAP] * FAILURES_IN_A_ROW
    assert "4 blocks in a row were lost: suspend-gap; the rest is kept" in str(error)


def test_an_unusual_clock_is_measured_again_but_never_ends_the_session():
    last = _pair(FREQUENCY_SHIFT)
    found, dropped = _insist(lambda _, attempt: undisturbed(last, attempt))
    assert found is last and found.flags == (FREQUENCY_SHIFT,)
    assert dropped == [FREQUENCY_SHIFT] * (FAILURES_IN_A_ROW - 1)


def test_a_clock_that_comes_back_leaves_no_flag():
    pairs = iter([_pair(FREQUENCY_SHIFT), _pair()])
    found, dropped = _insist(lambda _, attempt: undisturbed(next(pairs), attempt))
    assert found.flags == () and dropped == [FREQUENCY_SHIFT]


def test_a_throttled_device_is_left_to_cool_longer_each_time():
    pairs = iter([_pair(THROTTLED), _pair(FREQUENCY_SHIFT), _pair(THROTTLED), _pair()])
    pauses: list[float] = []
    found, dropped = _insist(lambda _, attempt: undisturbed(next(pairs), attempt), pauses.append)
    assert found.flags == ()
    assert dropped == [THROTTLED, FREQUENCY_SHIFT, THROTTLED]
    first, second = pauses  # the shifted clock between them does not heat
    assert 0 < first < second < 5


def test_a_device_that_stays_throttled_keeps_its_last_block_flagged():
    pauses: list[float] = []
    last = _pair(THROTTLED, FREQUENCY_SHIFT)
    found, dropped = _insist(lambda _, attempt: undisturbed(last, attempt), pauses.append)
    assert found is last and found.flags == (THROTTLED, FREQUENCY_SHIFT)
    assert dropped == [THROTTLED] * (FAILURES_IN_A_ROW - 1)
    assert pauses == sorted(set(pauses)) and len(pauses) == FAILURES_IN_A_ROW - 1


def test_a_throttled_block_that_spans_a_suspend_is_not_kept():
    error, dropped = _insist(
        lambda _, attempt: undisturbed(_pair(SUSPEND_GAP, THROTTLED), attempt),
        lambda seconds: None,
    )
    assert isinstance(error, MeterReadError)
    assert dropped == [SUSPEND_GAP] * FAILURES_IN_A_ROW


@pytest.mark.parametrize("where", ["prepare", "run", "reference"])
@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory\nby far"), KeyError()])
def test_an_operations_own_error_names_operation_layer_and_k(where, error):
    class Failing(KnownOperation):
        def prepare(self, cell, seed):
            if where == "prepare":
                raise error
            workload = super().prepare(cell, seed)

            def fail(repetitions):
                raise error

            setattr(workload, where, fail)
            return workload

    def action(workload, attempt):
        workload.run(1)
        workload.reference(1)

    attempts = Attempts(lambda cause: pytest.fail(cause), "the rest is kept")
    with pytest.raises(InputError, match=r"encode of layer net.weight at k = 10 failed: ") as seen:
        attempts.insist(Failing(DepositMeter(), [10]), CELL, np.int64(1), action)
    assert str(seen.value).endswith("the rest is kept") and "\n" not in str(seen.value)
    assert first_line(error) in str(seen.value)
    assert seen.value.__cause__ is error


def test_the_first_line_of_an_error():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
