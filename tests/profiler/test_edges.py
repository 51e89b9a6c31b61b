"""Unaligned edges: what they miss on average is given back, and the rest has its own law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins.jittered import JitteredDevice

from profiler.monitor import EnergyMonitor
from profiler.windows.edges import Before, Counter, EdgeEstimate, energy_of, half_width_95, together

REST_W, WORK_W = 60.0, 600.0


@settings(max_examples=40)
@given(
    st.lists(st.floats(0.01, 10.0), min_size=1, max_size=6), st.sampled_from([0.0, 0.1, 1.0, 10.0])
)
def test_half_width_holds_95_per_cent_of_the_sum(widths: list[float], normal: float) -> None:
    generator = np.random.default_rng(0)
    sums = normal * generator.standard_normal(40_000)
    for width in widths:
        sums += generator.uniform(-width, width, sums.size)
    assert np.mean(np.abs(sums) <= half_width_95(widths, normal)) == pytest.approx(0.95, abs=0.006)


def test_half_widths_known_in_closed_form() -> None:
    assert half_width_95([2.0]) == pytest.approx(1.9, abs=1e-3)
    assert half_width_95([1.0, 1.0]) == pytest.approx(2 - math.sqrt(0.2), abs=1e-3)
    assert half_width_95([], 3.0) == pytest.approx(3 * 1.959964)
    assert half_width_95([]) == 0.0


def test_many_uniform_errors_are_normal() -> None:
    assert half_width_95([1.0] * 30) == pytest.approx(1.959964 * math.sqrt(10.0))


def test_mean_loss_at_the_end_is_given_back() -> None:
    counter = Counter(0.1, 0.1)
    # 60 W before, 600 W for a second: the counter shows (600 - 60) W x 50 ms less, on average.
    found = energy_of(600.0 - 27.0, 1.0, counter, Before(REST_W))
    assert found.energy_j == pytest.approx(600.0)
    assert found.deviation_j == pytest.approx(
        math.hypot(60, 600 / (1 - 0.9 * 0.05 / 0.95)) * 0.1 / math.sqrt(12) / 0.95
    )


def test_counter_without_steps_needs_no_correction_but_has_its_unit() -> None:
    found = energy_of(5.0, 1.0, Counter(quantum_j=0.01), Before(REST_W))
    assert found.energy_j == 5.0
    assert sorted(found.uniform_j) == [0.0, 0.0, 0.0, 0.005, 0.005]
    assert found.half_width_j == pytest.approx(half_width_95([0.005, 0.005]))


def test_shared_errors_add_up_and_independent_ones_do_not() -> None:
    one = EdgeEstimate(1.0, (0.3,), (0.4,), normal_j=0.3, shared_j=0.1, bias_j=0.2)
    both = together([one, one])
    assert both.energy_j == 2.0
    assert both.normal_j == pytest.approx(0.3 * math.sqrt(2))
    assert (both.shared_j, both.bias_j) == pytest.approx((0.2, 0.4))
    assert both.uniform_j == (0.3, 0.3, 0.4, 0.4)


CELLS = [
    (0.02, 0.001, False),
    (0.2, 0.02, False),
    (1.0, 0.1, False),
    (10.0, 0.1, False),
    (0.02, 0.001, True),
    (0.02, 0.1, True),
    (0.2, 0.02, True),
]


@pytest.mark.parametrize(("length_s", "period_s", "quiet"), CELLS)
def test_stated_intervals_cover_and_are_not_biased(
    length_s: float, period_s: float, quiet: bool
) -> None:
    runs, count = 150, 6
    generator = np.random.default_rng(11)
    truth_j = length_s * WORK_W
    single, total, errors_j = 0, 0, []
    for _ in range(runs):
        device = JitteredDevice(REST_W, period_s, generator)
        with EnergyMonitor(
            device, probe=device.probed(), sleep=device.sleep, draw=generator.random, quiet=quiet
        ) as monitor:
            windows = []
            for _ in range(count):
                device.sleep(generator.uniform(2.5, 9) * period_s)
                with monitor.window("work") as window:
                    device.spend(length_s, WORK_W)
                windows.append(window)
            found = monitor.summary("work")
        one = windows[0].result.energy
        assert one is not None and one.mean_j is not None and one.half_width_j is not None
        assert found.total_j is not None and found.total_half_width_j is not None
        single += abs(one.mean_j - truth_j) <= one.half_width_j
        total += abs(found.total_j - count * truth_j) <= found.total_half_width_j
        errors_j.append(found.total_j / count - truth_j)
    # 4 standard errors of a share of 0.95 below; 3 of the mean above.
    assert single / runs >= 0.88
    assert total / runs >= 0.88
    error = np.std(errors_j) / math.sqrt(runs)
    assert abs(np.mean(errors_j)) <= max(0.01 * truth_j, 0.0) + 3 * error
