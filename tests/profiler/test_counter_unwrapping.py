"""Wraps are removed exactly; what no wrap explains is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import CounterFaultError
from profiler.meters.counter import UnwrappedCounter

UNIT_J = 1e-6
GUARD_W = 1000.0
SLACK_S = 0.1
RANGE = 300_000_000  # 300 J: wraps after 0.3 s at the guard power


def _counter(range_units: int | None = RANGE) -> UnwrappedCounter:
    return UnwrappedCounter("counter", UNIT_J, GUARD_W, SLACK_S, range_units)


@given(
    start=st.integers(0, RANGE - 1),
    steps=st.lists(st.tuples(st.floats(0.0, 0.19), st.floats(0.0, 1.0)), min_size=1, max_size=50),
)
def test_sum_of_steps_is_recovered_across_any_number_of_wraps(
    start: int, steps: list[tuple[float, float]]
) -> None:
    counter = _counter()
    counter.start(start, 0.0)
    now_s, truth = 0.0, 0
    for elapsed_s, share in steps:
        now_s += elapsed_s
        truth += int(share * GUARD_W * elapsed_s / UNIT_J)
        raw = (start + truth) % RANGE
        assert counter.advance(raw, now_s, now_s) == pytest.approx(truth * UNIT_J, abs=1e-12)


@given(last=st.integers(0, RANGE), raw=st.integers(0, RANGE), elapsed_s=st.floats(0.0, 1.0))
def test_accepts_exactly_what_one_wrap_at_plausible_power_explains(
    last: int, raw: int, elapsed_s: float
) -> None:
    counter = _counter()
    counter.start(last, 0.0)
    candidates = [raw - last, raw - last + RANGE]
    plausible_j = GUARD_W * (elapsed_s + SLACK_S)
    believable = [step for step in candidates if step >= 0 and step * UNIT_J <= plausible_j]
    in_time = elapsed_s < RANGE * UNIT_J / GUARD_W - SLACK_S
    if in_time and believable:
        assert counter.advance(raw, elapsed_s, elapsed_s) == pytest.approx(min(believable) * UNIT_J)
    else:
        with pytest.raises(CounterFaultError):
            counter.advance(raw, elapsed_s, elapsed_s)


def test_too_long_a_gap_is_a_fault_even_if_the_value_looks_fine() -> None:
    counter = _counter()
    counter.start(0, 0.0)
    gap_s = counter.max_read_gap_s
    assert gap_s == pytest.approx(0.2)
    with pytest.raises(CounterFaultError, match="wrapped twice"):
        counter.advance(10, 0.25, 0.25)


def test_gap_is_judged_by_the_longest_time_it_can_have_been() -> None:
    counter = _counter()
    counter.start(0, before_s=0.0)
    with pytest.raises(CounterFaultError, match="wrapped twice"):
        counter.advance(10, before_s=0.15, after_s=0.21)


def test_counting_goes_on_after_too_long_a_gap() -> None:
    counter = _counter()
    counter.start(0, 0.0)
    assert counter.advance(5000, 0.1, 0.1) == pytest.approx(5e-3)
    with pytest.raises(CounterFaultError, match="wrapped twice"):
        counter.advance(100, 60.0, 60.0)
    assert counter.losses == 1
    assert counter.advance(3100, 60.1, 60.1) == pytest.approx(5e-3 + 3e-3)
    assert counter.losses == 1


def test_reset_is_told_from_a_wrap_and_counting_goes_on() -> None:
    counter = _counter()
    counter.start(200_000_000, 0.0)
    with pytest.raises(CounterFaultError, match="reset"):
        counter.advance(150_000_000, 0.01, 0.01)
    assert counter.losses == 1
    assert counter.advance(150_001_000, 0.02, 0.02) == pytest.approx(1e-3)


def test_value_out_of_range_is_not_believed_and_loses_nothing() -> None:
    counter = _counter()
    counter.start(1000, 0.0)
    with pytest.raises(CounterFaultError, match="outside"):
        counter.advance(RANGE + 1, 0.01, 0.01)
    assert counter.advance(3000, 0.02, 0.02) == pytest.approx(2e-3)
    assert counter.losses == 0


def test_implausible_leap_forward_is_a_fault() -> None:
    counter = _counter()
    counter.start(0, 0.0)
    with pytest.raises(CounterFaultError, match="1000 W"):
        counter.advance(250_000_000, 0.01, 0.01)


def test_counter_that_never_wraps_may_not_go_back() -> None:
    counter = _counter(None)
    counter.start(1000, 0.0)
    assert counter.max_read_gap_s is None
    assert counter.advance(2000, 1e6, 1e6) == pytest.approx(1e-3)
    with pytest.raises(CounterFaultError, match="went back"):
        counter.advance(1999, 1e6 + 1, 1e6 + 1)


@pytest.mark.parametrize("raw", [-1, RANGE + 1])
def test_value_outside_the_range_is_a_fault(raw: int) -> None:
    counter = _counter()
    with pytest.raises(CounterFaultError, match="outside"):
        counter.start(raw, 0.0)
    counter.start(0, 0.0)
    with pytest.raises(CounterFaultError, match="outside"):
        counter.advance(raw, 0.01, 0.01)


@pytest.mark.parametrize("range_units", [0, 100_000_000])
def test_range_too_small_to_follow_is_a_fault(range_units: int) -> None:
    with pytest.raises(CounterFaultError, match="too soon"):
        _counter(range_units).start(0, 0.0)


@given(
    moves=st.lists(st.tuples(st.floats(0.001, 0.5), st.booleans()), min_size=1, max_size=30),
    stall_s=st.floats(0.01, 2.0),
)
def test_a_stall_is_a_fault_exactly_while_one_value_is_seen_for_too_long(
    moves: list[tuple[float, bool]], stall_s: float
) -> None:
    counter = UnwrappedCounter("counter", UNIT_J, GUARD_W, SLACK_S, stall_s=stall_s)
    counter.start(7, 0.0, 0.0)
    now_s, raw, seen_s, losses = 0.0, 7, 0.0, 0
    for elapsed_s, moved in moves:
        now_s += elapsed_s
        raw += moved
        if moved:
            seen_s = now_s
        if now_s - seen_s > stall_s:
            losses += 1
            with pytest.raises(CounterFaultError, match="stands still at"):
                counter.advance(raw, now_s, now_s)
        else:
            assert counter.advance(raw, now_s, now_s) == pytest.approx((raw - 7) * UNIT_J)
        assert counter.losses == losses


def test_a_stall_is_judged_by_the_shortest_time_it_can_have_been() -> None:
    counter = UnwrappedCounter("counter", UNIT_J, GUARD_W, SLACK_S, stall_s=1.0)
    counter.start(7, before_s=0.0, after_s=3.0)
    assert counter.advance(7, before_s=3.9, after_s=9.0) == 0.0
    with pytest.raises(CounterFaultError, match="stands still"):
        counter.advance(7, before_s=4.1, after_s=4.1)


def test_a_counter_read_too_late_is_not_called_stopped_at_once() -> None:
    counter = UnwrappedCounter("counter", UNIT_J, GUARD_W, SLACK_S, RANGE, stall_s=1.0)
    counter.start(7, 0.0)
    with pytest.raises(CounterFaultError, match="wrapped twice"):
        counter.advance(7, 60.0, 60.0)
    assert counter.advance(7, 60.1, 60.1) == 0.0


def test_without_a_bound_a_rail_may_draw_nothing() -> None:
    counter = UnwrappedCounter("counter", UNIT_J, GUARD_W, SLACK_S)
    counter.start(7, 0.0)
    assert counter.advance(7, 1e6, 1e6) == 0.0
