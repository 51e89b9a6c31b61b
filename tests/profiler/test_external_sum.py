"""The sum of a stream: the trapezoid over its own times, and no joule from a fault."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import CounterFaultError, MeterError, MeterReadError
from profiler.meters.external.format import Sample
from profiler.meters.external.sum import StreamSum
from profiler.meters.external.timing import MOST_DRIFT, Timing

PERIOD_S, OFFSET_S = 0.1, 1000.0
TIMING = Timing(
    PERIOD_S, OFFSET_S, lag_s=0.3, arrival_error_s=0.0, longest_pause_s=PERIOD_S, fastest_s=0.05
)


def _sum(*, negative: bool = False, counts_energy: bool = False) -> StreamSum:
    return StreamSum(TIMING, 1000.0, negative, counts_energy)


def _feed(total: StreamSum, *samples: tuple[float, float]) -> StreamSum:
    for stamp_s, value in samples:
        total.add(stamp_s + OFFSET_S + 0.05, Sample(stamp_s, value))
    return total


@given(st.lists(st.tuples(st.floats(0.01, 0.9), st.floats(0.0, 1000.0)), min_size=2, max_size=30))
def test_the_sum_is_the_trapezoid_and_its_variance(steps: list[tuple[float, float]]) -> None:
    times_s = [sum(length for length, _ in steps[: row + 1]) for row in range(len(steps))]
    watts = [value for _, value in steps]
    total = _feed(_sum(), *zip(times_s, watts, strict=True))
    joules = variance_j2 = 0.0
    for row in range(1, len(steps)):
        length_s = times_s[row] - times_s[row - 1]
        joules += (watts[row] + watts[row - 1]) / 2 * length_s
        variance_j2 += (watts[row] - watts[row - 1]) ** 2 * length_s**2 / 12
        if row > 1:
            back = (watts[row] - watts[row - 1]) * (watts[row - 2] - watts[row - 1])
            mean_s = (times_s[row] - times_s[row - 2]) / 2
            variance_j2 += 10 / 12 * max(back, 0.0) * mean_s**2
    assert total.energy_j == pytest.approx(joules)
    assert total.variance_j2 == pytest.approx(variance_j2)
    assert total.losses == 0 and total.failure is None


def test_a_jump_at_a_random_moment_is_within_the_variance() -> None:
    """The error of one jump between two samples is uniform: its variance is what is added."""
    total = _feed(_sum(), (0.0, 10.0), (0.1, 50.0))
    errors_j = [
        10 * share * 0.1 + 50 * (1 - share) * 0.1 - total.energy_j
        for share in [(number + 0.5) / 1000 for number in range(1000)]
    ]
    assert sum(errors_j) == pytest.approx(0.0, abs=1e-9)
    scatter_j2 = sum(error**2 for error in errors_j) / len(errors_j)
    assert scatter_j2 == pytest.approx(total.variance_j2, rel=1e-3)


def test_undated_samples_carry_the_error_of_their_arrival() -> None:
    timing = Timing(PERIOD_S, 0.0, 0.3, arrival_error_s=0.02, longest_pause_s=PERIOD_S)
    total = StreamSum(timing, 1000.0, False, False)
    total.add(1.0, Sample(None, 10.0))
    total.add(1.1, Sample(None, 30.0))
    assert total.energy_j == pytest.approx(2.0)
    assert total.variance_j2 == pytest.approx(400 * (0.01 / 12 + 0.0004))


def test_a_stream_that_counts_energy_is_taken_at_its_word() -> None:
    total = _feed(_sum(counts_energy=True), (0.0, 5e6), (0.1, 5e6), (0.2, 5e6 + 3), (0.3, 5e6 + 4))
    assert total.energy_j == pytest.approx(4.0) and total.variance_j2 == 0.0


def test_a_sample_seen_before_is_dropped_and_counted() -> None:
    total = _feed(_sum(), (0.0, 10.0), (0.1, 10.0), (0.1, 900.0), (0.2, 10.0))
    assert total.duplicates == 1 and total.losses == 0
    assert total.energy_j == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("bad", "kind", "says"),
    [
        ((0.05, 10.0), CounterFaultError, "went back"),
        ((2.0, 10.0), MeterReadError, "no sample for 1.9 s"),
        ((0.2, 1e6), CounterFaultError, "over 1000 W"),
        ((0.2, -5.0), CounterFaultError, "negative=yes"),
    ],
)
def test_a_fault_is_a_loss_and_counting_goes_on(
    bad: tuple[float, float], kind: type[MeterError], says: str
) -> None:
    total = _feed(_sum(), (0.0, 10.0), (0.1, 10.0))
    before_j, _ = total.energy_j, _feed(total, bad)
    assert isinstance(total.failure, kind) and says in str(total.failure)
    assert total.energy_j == before_j and total.losses >= 1
    later_s = max(bad[0], 0.2)
    _feed(total, (later_s + 0.1, 10.0))
    losses = total.losses
    _feed(total, (later_s + 0.2, 10.0))
    assert total.losses == losses
    assert total.energy_j >= before_j + 1.0 - 1e-9


def test_watts_below_zero_are_believed_where_the_supply_takes_back() -> None:
    total = _feed(_sum(negative=True), (0.0, 10.0), (0.1, -10.0), (0.2, -10.0))
    assert total.energy_j == pytest.approx(-1.0) and total.losses == 0


@pytest.mark.parametrize("age_s", [0.5, -0.5])
def test_a_sample_that_comes_too_late_or_too_early_is_a_loss(age_s: float) -> None:
    total = _feed(_sum(), (0.0, 10.0))
    total.add(0.1 + OFFSET_S + age_s, Sample(0.1, 10.0))
    assert total.losses == 1 and "drifted" in str(total.failure)


@pytest.mark.parametrize(("joules", "says"), [(4.0, "fell"), (5e5, "jumped")])
def test_an_energy_that_falls_or_jumps_is_a_reset(joules: float, says: str) -> None:
    total = _feed(_sum(counts_energy=True), (0.0, 1000.0), (0.1, 1001.0), (0.2, joules))
    assert says in str(total.failure) and total.energy_j == pytest.approx(1.0)


_WILD = st.tuples(st.floats(-5, 5), st.floats(-2000, 2000))


@given(st.lists(_WILD, max_size=20), st.booleans())
def test_no_sequence_gives_more_than_the_guard_power_allows(
    samples: list[tuple[float, float]], counts_energy: bool
) -> None:
    total = _feed(_sum(counts_energy=counts_energy), *samples)
    assert math.isfinite(total.energy_j) and total.energy_j >= 0
    assert total.energy_j <= 1000.0 * (70.0 * (1 + total.losses) if counts_energy else 10.0 * 20)
    assert (total.failure is None) == (total.losses == 0)


@pytest.mark.parametrize(
    ("drift", "lost"), [(0.9, False), (-0.9, False), (4.0, True), (-4.0, True)]
)
def test_a_slow_drift_of_the_clock_is_followed_and_a_fast_one_is_not(
    drift: float, lost: bool
) -> None:
    total = _sum()
    for number in range(20_000):
        stamp_s = number * PERIOD_S
        came_s = stamp_s * (1 + drift * MOST_DRIFT) + OFFSET_S + 0.05 + 0.02 * (number % 3)
        total.add(came_s, Sample(stamp_s, 10.0))
    assert (total.losses > 0) == lost
    if not lost:
        assert total.energy_j == pytest.approx(10.0 * (20_000 - 1) * PERIOD_S)


def test_power_that_moves_faster_than_the_stream_is_no_certainty() -> None:
    total = _feed(_sum(), *((number * PERIOD_S, 10.0 * (number % 2)) for number in range(5)))
    # four steps of 10 W, three of them against the one before
    assert total.variance_j2 == pytest.approx(PERIOD_S**2 * (4 * 100 + 3 * 1000) / 12)
