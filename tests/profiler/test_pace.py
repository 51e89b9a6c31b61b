"""How long a session must take, against blocks on a simulated clock."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from stand_ins.simulated_device import SimulatedDevice, SimulatedWorkload

from profiler.blocks import calibrate, measure_block, measure_pair
from profiler.design import FEWEST_PILOT_BLOCKS, PILOT_BLOCKS
from profiler.errors import InputError
from profiler.gauge import Gauge
from profiler.pace import Pace


def _pace(period_s: float | None) -> Pace:
    return Pace.of(Gauge(SimulatedDevice(), period_s, period_s))


@pytest.mark.parametrize(
    ("period_s", "expected"), [(None, 0.010), (1e-3, 0.020), (0.1, 2.0), (1.0, 4.0)]
)
def test_windows_without_a_limit_are_twenty_periods_long_or_four_of_a_slow_counter(
    period_s, expected
):
    assert _pace(period_s).window_s([2] * 80, None) == pytest.approx(expected)
    assert _pace(period_s).window_s([2] * 80, 1e7) == pytest.approx(expected)


@pytest.mark.parametrize("pilot", [[PILOT_BLOCKS] * 5, [2] * 60 + [4] * 20])
@pytest.mark.parametrize("max_time_s", [30.0, 300.0, 3000.0])
@pytest.mark.parametrize("period_s", [None, 1e-3, 0.02, 0.1])
def test_a_limit_shortens_windows_until_the_pilot_fits_half_of_it(period_s, max_time_s, pilot):
    pace, cells, blocks = _pace(period_s), len(pilot), sum(pilot)
    window_s = pace.window_s(pilot, max_time_s)
    assert pace.shortest_window_s <= window_s <= pace.window_s(pilot, None)
    whole_s = pace.session_s(cells, window_s, blocks)
    if window_s > pace.shortest_window_s * 1.001:
        assert whole_s <= 0.5 * max_time_s * 1.001
    if window_s < pace.window_s(pilot, None) * 0.999:
        assert pace.session_s(cells, 1.01 * window_s, blocks) > 0.5 * max_time_s


def test_a_shorter_pilot_leaves_longer_windows():
    pace = _pace(0.1)
    assert pace.window_s([2] * 80, 1e3) > 1.2 * pace.window_s([PILOT_BLOCKS] * 80, 1e3)


@pytest.mark.parametrize("period_s", [1e-3, 0.1])
def test_the_least_time_is_what_blocks_of_short_calls_take(period_s):
    device = SimulatedDevice(5.0, period_s)
    gauge = Gauge(device, period_s, period_s, sleep=device.sleep)
    pace, generator = Pace.of(gauge), np.random.default_rng(0)
    window_s = pace.window_s([PILOT_BLOCKS], None)
    workload = SimulatedWorkload(device, 1e-5, 1e-4)
    repetitions, _ = calibrate(workload, window_s, lambda: device.now_s)
    measure_pair(workload, repetitions, gauge, generator)
    sized_s = device.now_s
    # the simulated loop takes a tenth of the operation; settling may take up to 25 ms a window
    assert 0.7 * pace.sizing_s(window_s) < sized_s < 1.3 * pace.sizing_s(window_s) + 0.05
    for _ in range(50):
        measure_block(workload, repetitions, gauge, generator, sleep_s=window_s)
    block_s = (device.now_s - sized_s) / 50
    least_s = pace.block_s(window_s)
    assert 0.98 * least_s < block_s < 1.02 * least_s + 0.1 * window_s + 0.075


def test_a_slow_counter_is_refused_with_the_time_it_needs():
    pace = _pace(0.1)
    least_s = pace.session_s(97, 0.4, 97 * FEWEST_PILOT_BLOCKS)
    pace.refuse_hopeless(97, least_s + 3.1, 3.0, "nvml")
    needed = f"97 cells take at least {ceil(least_s + 3)} s"
    with pytest.raises(InputError, match=needed) as error:
        pace.refuse_hopeless(97, 60.0, 3.0, "nvml")
    message = str(error.value)
    assert "--max-time is 60 s" in message and "nvml, whose counter steps every 0.1 s" in message
    assert "--densities" in message and "--operations" in message and "\n" not in message


def test_sizing_costs_less_than_a_block_and_a_tenth_of_a_window_of_calibration():
    pace = _pace(0.1)
    assert pace.sizing_s(2.0) < 0.6 * pace.block_s(2.0)
