"""One window: its edges, and readings that cannot be right."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.simulated_device import SimulatedDevice

from profiler.errors import CounterFaultError
from profiler.gauge import LONGEST_STEP, Gauge, Window
from profiler.meters.base import MeterInfo, Rail, Reading


def test_the_standard_error_joins_both_edges():
    gauge = Gauge(SimulatedDevice(), period_s=1e-3, quantum_j=1e-6)
    assert gauge.edge_j(30.0) == pytest.approx(30e-3 / sqrt(6))
    assert gauge.edge_j(0.0) == pytest.approx(1e-6 / sqrt(6))
    assert Gauge(SimulatedDevice()).edge_j(30.0) == 0.0


@pytest.mark.parametrize(
    ("second", "message"),
    [(Reading(1.0, {"cpu": 4.0}), "-1 J"), (Reading(0.0, {"cpu": 5.0}), "in 0 s")],
)
def test_energy_or_time_that_runs_backwards_is_a_fault(second, message):
    class Backwards:
        info = MeterInfo("odd", "odd", "assumed", (Rail("cpu", "cpu"),), ("cpu",))
        readings = iter([Reading(0.0, {"cpu": 5.0}), second])

        def read(self):
            return next(self.readings)

    with pytest.raises(CounterFaultError, match=message):
        Gauge(Backwards()).window(lambda: None, np.random.default_rng(0))


def test_a_window_longer_than_a_wrap_can_be_told_is_a_fault():
    device = SimulatedDevice()
    device.info = MeterInfo(
        "rapl", "cpu", "measured", (Rail("cpu", "cpu"),), ("cpu",), max_read_gap_s=30.0
    )
    with pytest.raises(CounterFaultError, match="wrap unseen after 30 s"):
        Gauge(device, sleep=device.sleep).window(
            lambda: device.sleep(31.0), np.random.default_rng(0)
        )


def test_power_of_a_window():
    assert Window(0.0, 0.5, 2.0).power_w == 4.0


def _gauge(period_s: float | None, longest_s: float | None = None, lag_s: float = 0.0) -> Gauge:
    device = SimulatedDevice(5.0, period_s or 0.0)
    device.info = replace(device.info, lag_s=lag_s)
    return Gauge(device, period_s, longest_s, sleep=device.sleep)


def test_a_tail_outlasts_a_long_step_and_what_the_counter_lags_behind():
    assert _gauge(1e-3).tail_s > 1e-3
    assert _gauge(1e-3, 3e-3).tail_s > 3e-3
    assert _gauge(0.1, lag_s=1.0).tail_s == pytest.approx(_gauge(0.1).tail_s + 1.0)
    assert _gauge(1e-3, 0.5e-3).tail_s == _gauge(1e-3).tail_s  # a step is no shorter than its mean


@given(st.floats(1e-3, 1.0), st.floats(1.0, 1e4))
def test_a_stall_of_this_process_is_not_taken_for_a_step_of_the_counter(period_s, times):
    tail_s = _gauge(period_s, times * period_s).tail_s
    assert tail_s <= _gauge(period_s, LONGEST_STEP * period_s).tail_s * (1 + 1e-12)
    assert tail_s >= min(times, LONGEST_STEP) * period_s


@pytest.mark.parametrize("period_s", [None, 0.0, 1e-4])
def test_a_counter_without_slow_steps_needs_no_tail_but_for_its_lag(period_s):
    gauge = _gauge(period_s)
    assert gauge.tail_s == gauge.extra_tail_s(np.random.default_rng(0)) == 0.0
    late = _gauge(period_s, lag_s=1.0)
    assert late.tail_s == pytest.approx(1.0, abs=2 * (period_s or 0.0))
    assert late.extra_tail_s(np.random.default_rng(0)) <= (period_s or 0.0)


def test_edges_scatter_by_how_old_a_counters_content_may_be():
    jittered = replace(_gauge(1e-3), edge_period_s=1.2e-3)
    assert jittered.edge_j(30.0) == pytest.approx(1.2 * _gauge(1e-3).edge_j(30.0))
    assert replace(_gauge(1e-3), edge_period_s=0.0).edge_j(30.0) == 0.0
    assert jittered.tail_s == _gauge(1e-3).tail_s


def test_the_extra_tail_is_any_part_of_a_step():
    generator = np.random.default_rng(0)
    extra_s = np.array([_gauge(0.02, 0.05).extra_tail_s(generator) for _ in range(500)])
    assert (extra_s >= 0).all() and (extra_s < 0.02).all()
    deciles = np.histogram(extra_s, bins=10, range=(0, 0.02))[0]
    assert deciles.min() > 25 and deciles.max() < 80  # 50 each


@pytest.mark.parametrize("extra_s", [0.0, 0.0125])
def test_a_window_lasts_as_long_as_its_action_and_its_tail(extra_s):
    gauge = _gauge(0.02, 0.03, lag_s=0.1)
    generator = np.random.default_rng(0)
    window = gauge.window(lambda: gauge.sleep(0.5), generator, extra_s)
    assert window.duration_s == pytest.approx(0.5 + gauge.tail_s + extra_s)


def test_a_counter_that_lags_shows_all_of_the_work_only_after_its_lag():
    """A counter whose newest content is 0.3 s old: without the longer tail it misses 0.3 s."""

    class Late(SimulatedDevice):
        lag_s = 0.3

        def read(self) -> Reading:
            shown_s = np.floor(max(self.now_s - self.lag_s, 0.0) / self.period_s) * self.period_s
            return Reading(self.now_s, {"cpu": np.interp(shown_s, self._times, self._joules)})

    def excess_j(lag_s: float) -> float:
        """Joules of a 1 s window at 45 W above 5 W idle, on average over the phases."""
        found = []
        for seed in range(200):
            device = Late(5.0, period_s=0.02)
            device.info = replace(device.info, lag_s=lag_s)
            gauge = Gauge(device, 0.02, sleep=device.sleep)
            device.sleep(1.0)
            window = gauge.window(lambda d=device: d.spend(1.0, 45.0), np.random.default_rng(seed))
            found.append(window.energy_j - 5.0 * window.duration_s)
        return float(np.mean(found))

    assert excess_j(0.3) == pytest.approx(40.0, abs=0.02)
    assert excess_j(0.0) < 40.0 - 5.0


def test_the_variance_of_sampling_is_that_between_the_edges():
    class Sampled(SimulatedDevice):
        def read(self) -> Reading:
            return replace(super().read(), variance_j2={"cpu": 9.0 * self.now_s, "dram": 1e9})

    device = Sampled(5.0)
    window = Gauge(device, sleep=device.sleep).window(
        lambda: device.sleep(0.5), np.random.default_rng(0)
    )
    assert window.sampling_j2 == pytest.approx(4.5)
