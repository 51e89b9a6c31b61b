"""A block's joules on a device that is simulated to the joule."""

from __future__ import annotations

import gc
from dataclasses import replace
from math import hypot, sqrt

import numpy as np
import pytest
from stand_ins.simulated_device import SimulatedDevice, SimulatedWorkload

from profiler import blocks
from profiler.blocks import Block, calibrate, calibration_s, measure_block, measure_pair
from profiler.conditions import Conditions, HostObserver
from profiler.errors import InputError, MeterReadError
from profiler.gauge import Gauge
from profiler.meters.base import Reading

CALM = Conditions(frequency_hz=2e9, temperature_c=50.0, throttled=7)


class ScriptedObserver:
    """Sees *looks* one after the other, and the last of them from then on."""

    def __init__(self, *looks: Conditions) -> None:
        self.looks = list(looks)

    def observe(self) -> Conditions:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def _block(
    device: SimulatedDevice, seed: int = 0, repetitions: int = 100, observer=None, **kwargs
) -> Block:
    observer = observer or ScriptedObserver(Conditions())
    gauge = Gauge(device, device.period_s, sleep=device.sleep, observer=observer)
    workload = SimulatedWorkload(device, 1e-4, 3e-3)
    generator = np.random.default_rng(seed)
    return measure_block(workload, repetitions, gauge, generator, sleep_s=0.01, **kwargs)


def test_marginal_and_gross_costs_of_a_call():
    block = _block(SimulatedDevice(idle_w=5.0))
    # a call spends 3 mJ in 0.1 ms; its loop 5 W for 0.01 ms; sleep draws 5 W
    assert block.cost_j_per_call == pytest.approx(3e-3 - 5e-5)
    assert block.gross_j_per_call == pytest.approx(3e-3 - 5e-4)
    assert block.standard_error_j_per_call == 0.0


def test_the_three_windows_come_in_every_order():
    orders = set()
    for seed in range(60):
        block = _block(SimulatedDevice(), seed)
        starts = [block.operation.start_s, block.loop.start_s, block.sleep.start_s]
        orders.add(tuple(np.argsort(starts)))
    assert len(orders) == 6


@pytest.mark.parametrize("repetitions", [203, 210, 3])
def test_the_mean_over_blocks_is_right_however_the_window_falls_on_the_steps(repetitions):
    """20.3, 21 and 0.3 steps long; read right after the work, the first would miss 2 %."""
    truth = 3e-3 - 5e-5
    costs, errors = [], []
    for seed in range(400):
        block = _block(SimulatedDevice(5.0, period_s=1e-3), seed, repetitions=repetitions)
        costs.append(block.cost_j_per_call)
        errors.append(block.standard_error_j_per_call)
    standard_error = np.std(costs, ddof=1) / sqrt(len(costs))
    assert abs(np.mean(costs) - truth) < 3.5 * standard_error
    assert standard_error * repetitions < 0.06 * 5.0 * 1e-3
    # two windows with edges at 5 W; tails of random length make every phase as likely at both
    assert np.mean(errors) == pytest.approx(sqrt(2) * 5e-3 / sqrt(6) / repetitions, rel=0.05)
    assert np.std(costs) == pytest.approx(np.mean(errors), rel=0.12)


def test_gross_costs_take_the_tail_off_with_the_rest_of_the_time():
    costs = [
        _block(SimulatedDevice(5.0, period_s=1e-3), seed, repetitions=203).gross_j_per_call
        for seed in range(400)
    ]
    assert abs(np.mean(costs) - (3e-3 - 5e-4)) < 3.5 * np.std(costs, ddof=1) / sqrt(400)


def test_garbage_is_collected_again_after_a_block_even_one_that_fails():
    class Failing(SimulatedWorkload):
        seen: bool | None = None

        def run(self, repetitions: int) -> None:
            Failing.seen = gc.isenabled()
            raise MeterReadError("no answer")

    device = SimulatedDevice()
    with pytest.raises(MeterReadError):
        measure_block(
            Failing(device, 1e-4, 1e-3),
            1,
            Gauge(device, sleep=device.sleep),
            np.random.default_rng(0),
            sleep_s=0.01,
        )
    assert Failing.seen is False
    assert gc.isenabled()


def test_a_pair_is_a_block_without_the_sleep():
    device = SimulatedDevice(5.0)
    workload = SimulatedWorkload(device, 1e-4, 3e-3)
    gauge = Gauge(device, sleep=device.sleep)
    pair = measure_pair(workload, 100, gauge, np.random.default_rng(0))
    assert pair.cost_j_per_call == pytest.approx(3e-3 - 5e-5)
    settling_s = 2 * 25e-3  # nothing of the process's own time passes on the simulated clock
    assert device.now_s <= 1e-4 + 100 * 1.1e-4 + settling_s
    with pytest.raises(InputError, match="at least one call"):
        measure_pair(workload, 0, gauge, np.random.default_rng(0))


def test_no_repetitions_are_refused():
    with pytest.raises(InputError, match="at least one call"):
        _block(SimulatedDevice(), repetitions=0)


@pytest.mark.parametrize("call_s", [1e-7, 3e-6, 1e-3, 0.02])
def test_calibration_fills_the_target(call_s):
    device = SimulatedDevice()
    workload = SimulatedWorkload(device, call_s, 1e-6)
    repetitions, seen_s = calibrate(workload, 0.01, lambda: device.now_s)
    assert seen_s == pytest.approx(call_s)
    assert repetitions == max(1, round(0.01 / call_s))


@pytest.mark.parametrize("target_s", [0.01, 0.4, 2.0])
@pytest.mark.parametrize("call_s", [3e-7, 3e-6, 1e-4])
def test_calibration_takes_about_one_window_and_little_of_a_long_one(target_s, call_s):
    device = SimulatedDevice()
    workload = SimulatedWorkload(device, call_s, 1e-6)
    repetitions, seen_s = calibrate(workload, target_s, lambda: device.now_s)
    assert repetitions * seen_s == pytest.approx(target_s, rel=0.02)
    least_s = calibration_s(target_s)
    assert 0.9 * least_s < device.now_s < 2.1 * least_s + call_s
    assert least_s <= min(0.6 * target_s, 0.06) * (1 + 1e-9)


def test_a_stall_while_calibrating_does_not_shorten_the_blocks():
    device = SimulatedDevice()
    workload = SimulatedWorkload(device, 1e-4, 1e-6)
    calls = iter(range(100))

    def run(repetitions):
        stall_s = 0.04 if next(calls) % 3 == 1 else 0.0
        device.spend(repetitions * 1e-4 + stall_s, 1e-6)

    workload.run = run
    assert calibrate(workload, 0.01, lambda: device.now_s)[0] == 100


def test_calibration_is_bounded_where_a_call_takes_no_time():
    device = SimulatedDevice()
    workload = SimulatedWorkload(device, 0.0, 0.0)
    repetitions, _ = calibrate(workload, 0.01, lambda: device.now_s)
    assert repetitions == blocks.MAX_REPETITIONS


def test_a_suspend_inside_a_block_is_flagged():
    slept = replace(CALM, suspended_s=2.5)
    looks = ScriptedObserver(CALM, CALM, slept)
    assert _block(SimulatedDevice(), observer=looks).flags == ("suspend-gap",)
    assert _block(SimulatedDevice(), observer=ScriptedObserver(slept)).flags == ()


def test_throttling_inside_a_block_is_flagged_and_what_came_before_it_is_not():
    hot = replace(CALM, throttled=8, temperature_c=99.0)
    block = _block(SimulatedDevice(), observer=ScriptedObserver(CALM, CALM, hot))
    assert block.flags == ("throttled",)
    assert block.under.temperature_c == 50.0
    block = _block(SimulatedDevice(), observer=ScriptedObserver(hot))
    assert block.flags == () and block.under.temperature_c == 99.0


@pytest.mark.parametrize(("khz", "flags"), [("2000000", ()), ("1500000", ("frequency-shift",))])
def test_a_shift_of_the_clock_is_flagged(khz, flags, tmp_path, monkeypatch):
    folder = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_cur_freq").write_text(f"{khz}\n")
    monkeypatch.setenv("CWMP_SYSFS", str(tmp_path))
    block = _block(SimulatedDevice(), observer=HostObserver(), usual_frequency_hz=2e9)
    assert block.flags == flags
    assert block.under.frequency_hz == float(khz) * 1e3


def test_the_clock_is_looked_at_right_after_the_operation():
    """After its loop or a sleep a device has fallen back to a lower clock."""
    device = SimulatedDevice()

    class Clocked(SimulatedWorkload):
        last = ""

        def run(self, repetitions: int) -> None:
            super().run(repetitions)
            Clocked.last = "operation"

        def reference(self, repetitions: int) -> None:
            super().reference(repetitions)
            Clocked.last = "loop"

    class Clock:
        def observe(self) -> Conditions:
            return Conditions(frequency_hz=2e9 if Clocked.last == "operation" else 1e9)

    gauge = Gauge(device, sleep=device.sleep, observer=Clock())
    for seed in range(12):
        pair = measure_pair(
            Clocked(device, 1e-4, 3e-3),
            100,
            gauge,
            np.random.default_rng(seed),
            usual_frequency_hz=2e9,
        )
        assert pair.under.frequency_hz == 2e9 and pair.flags == ()


def test_without_a_frequency_there_is_none():
    assert _block(SimulatedDevice(), usual_frequency_hz=2e9).under.frequency_hz is None


def test_all_windows_of_a_block_end_in_one_tail_that_differs_between_blocks():
    """A tail that differed would leave its joules in the marginal cost."""
    tails = []
    for seed in range(40):
        device = SimulatedDevice(5.0, period_s=1e-3)
        block = _block(device, seed)
        own_s = [100 * 1e-4, 100 * 1e-5, 0.01]
        windows = [block.operation, block.loop, block.sleep]
        tail_s = [w.duration_s - own for w, own in zip(windows, own_s, strict=True)]
        assert tail_s == pytest.approx([tail_s[0]] * 3, abs=1e-9)
        tails.append(tail_s[0])
    least_s = Gauge(SimulatedDevice(5.0, 1e-3), 1e-3).tail_s
    assert min(tails) >= least_s
    assert max(tails) <= least_s + 1e-3
    assert np.std(tails) == pytest.approx(1e-3 / sqrt(12), rel=0.25)


def test_the_sampling_of_a_power_is_part_of_a_blocks_error():
    class Sampled(SimulatedDevice):
        """A sensor whose sums gain a variance of 4e-6 J^2 with each second."""

        def read(self) -> Reading:
            shown = super().read()
            return replace(shown, variance_j2={"cpu": 4e-6 * shown.time_s})

    block = _block(Sampled(5.0, period_s=1e-3), repetitions=200)
    plain = _block(SimulatedDevice(5.0, period_s=1e-3), repetitions=200)
    assert plain.operation.sampling_j2 == 0.0
    sampled_j2 = 4e-6 * (block.operation.duration_s + block.loop.duration_s)
    assert block.operation.sampling_j2 == pytest.approx(4e-6 * block.operation.duration_s)
    assert block.standard_error_j_per_call == pytest.approx(
        hypot(plain.standard_error_j_per_call, sqrt(sampled_j2) / 200)
    )
