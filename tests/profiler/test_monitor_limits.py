"""`EnergyMonitor`: what it cannot resolve, bounds beside the interval, power at rest."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from stand_ins.jittered import JitteredDevice
from stand_ins.monitors import made_up_probe, monitor_threads
from stand_ins.simulated_device import SimulatedDevice
from stand_ins.sysfs import SysfsTree

from profiler import EnergyMonitor
from profiler.errors import InputError
from profiler.meters.base import Systematic
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.powercap import scan
from profiler.meters.rapl import RaplMeter
from profiler.probe import ProbeResult, RailProbe, probe


class _Falling(SimulatedDevice):
    def read(self):  # type: ignore[no-untyped-def]
        reading = super().read()
        return type(reading)(reading.time_s, {"cpu": -reading.energy_j["cpu"]})


def test_counter_that_runs_backwards_gives_no_joules() -> None:
    device = _Falling(10.0)
    with EnergyMonitor(device, probe=made_up_probe()) as monitor:
        with monitor.window("w"):
            device.sleep(1.0)
        assert dict(monitor.summary("w").dropped) == {"the counter ran backwards": 1}


def test_short_window_has_a_limit_that_holds_and_a_row_of_them_a_total() -> None:
    generator = np.random.default_rng(5)
    for _ in range(30):
        device = JitteredDevice(60.0, 0.1, generator)
        with EnergyMonitor(device, probe=device.probed(), sleep=device.sleep) as monitor:
            device.sleep(generator.uniform(0.3, 0.9))
            with monitor.window("lone"):
                device.spend(0.02, 600.0)
            device.sleep(generator.uniform(0.3, 0.9))
            for _ in range(100):
                with monitor.window("step"):
                    device.spend(0.02, 600.0)
        lone, step = monitor.summary("lone"), monitor.summary("step")
        assert lone.energy is not None and lone.energy.mean_j is None
        assert lone.energy.upper_limit_j is not None and lone.energy.upper_limit_j >= 12.0
        assert step.energy is not None and step.energy.basis == "edges"
        assert step.total_j == pytest.approx(1200.0, rel=0.07)
        assert step.total_half_width_j is not None and step.total_half_width_j < 100.0
        table = monitor.table()
        assert "< " in next(line for line in table.splitlines() if line.startswith("lone"))
        assert "only a limit is known" in table


def test_nothing_is_printed_below_zero_or_as_a_bare_zero() -> None:
    generator, limits = np.random.default_rng(6), 0
    for _ in range(20):
        device = JitteredDevice(60.0, 0.02, generator)
        with EnergyMonitor(
            device, probe=device.probed(), sleep=device.sleep, quiet=True, above_rest=True
        ) as monitor:
            for _ in range(4):
                with monitor.window("w"):
                    device.spend(0.001, 60.0)
            lines = monitor.table().splitlines()[1:3]
        for line in lines:
            assert not re.search(r"(?<!\+)-\d|\b0(\.0+)? [munkp]?J", line), line
        limits += sum("< " in line for line in lines)
    assert limits >= 20


def test_systematic_error_is_its_own_column_and_not_in_the_interval() -> None:
    generator = np.random.default_rng(7)
    systematic = (Systematic(0.05, "gain, assumed"),)
    found = []
    for terms in ((), systematic):
        device = JitteredDevice(10.0, 0.001, np.random.default_rng(7), systematic=terms)
        with EnergyMonitor(device, probe=device.probed(), sleep=device.sleep) as monitor:
            device.sleep(0.01 * generator.uniform())
            with monitor.window("w", quiet=True):
                device.spend(1.0, 100.0)
            found.append(monitor.summary("w"))
            table = monitor.table()
    plain, gained = found
    assert plain.systematic_j == 0.0
    assert gained.systematic_j == pytest.approx(5.0, rel=0.01)
    assert gained.energy is not None and plain.energy is not None
    assert gained.energy.half_width_j == pytest.approx(plain.energy.half_width_j, rel=0.2)
    assert "+- 5.0" in table and "systematic: +- 5 % (gain, assumed)" in table


def test_unsteady_power_around_an_edge_is_bounded_beside_the_interval() -> None:
    device = JitteredDevice(60.0, 0.1, np.random.default_rng(8))
    with EnergyMonitor(device, probe=device.probed(), sleep=device.sleep) as monitor:
        device.sleep(0.5)
        for seconds in (1.0, 10.0):
            device.sleep(0.5)
            with monitor.window(f"{seconds:g} s"):
                device.spend(seconds, 600.0)
        short, long = monitor.summary("1 s"), monitor.summary("10 s")
    assert short.systematic_j == 0.0
    # Over 100 steps the power of the last one is not known: (600 - 60) W times its mean age.
    assert long.systematic_j == pytest.approx(540 * 0.0527, rel=0.25)


def test_lagging_sensor_is_waited_for_or_bounded() -> None:
    device = JitteredDevice(60.0, 0.1, np.random.default_rng(9), lag_s=1.0)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        device.sleep(seconds)

    probed = device.probed()
    with EnergyMonitor(device, probe=probed, sleep=sleep, draw=lambda: 0.0) as monitor:
        device.sleep(2.0)
        with monitor.window("quiet", quiet=True):
            device.spend(1.0, 600.0)
        assert slept == pytest.approx([1.0 + 1.25 * (probed.period_p99_s or 0.0)] * 2)
        with monitor.window("w"):
            device.spend(1.0, 600.0)
        assert (monitor.summary("w").systematic_j or 0.0) > 400.0


def test_rest_is_taken_again_when_asked() -> None:
    device = SimulatedDevice(10.0)
    with EnergyMonitor(
        device, probe=made_up_probe(idle_w=99.0), sleep=device.sleep, above_rest=True
    ) as monitor:
        monitor.rest(2.0)
        with monitor.window("w"):
            device.spend(1.0, 30.0)
            with pytest.raises(InputError, match="while a window is open"):
                monitor.rest()
        above = monitor.summary("w").above_rest
    assert above is not None and above.mean_j == pytest.approx(20.0)


def test_meter_that_wraps_is_read_while_the_monitor_is_open(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", 50.0, range_uj=100_000_000)
    meter = RaplMeter(scan(bare_sysfs_tree.powercap), guard_power_w=100.0)
    with bare_sysfs_tree.ticking():
        probed = probe(meter, max_time_s=0.2)
        with EnergyMonitor(meter, probe=probed) as monitor:
            assert monitor_threads() == 1
            with monitor.window("long"):
                time.sleep(1.2)
            found = monitor.summary("long")
    assert monitor_threads() == 0
    meter.close()
    # Unread for 1.2 s, more than the 0.9 s that rule out a second wrap, it would have been lost.
    assert found.n == 1 and found.duration_s is not None
    assert found.total_j == pytest.approx(50.0 * found.duration_s, rel=0.3)


def test_minor_rail_that_steps_slowly_does_not_spoil_the_others() -> None:
    clock = ManualClock()
    meter = FakeMeter({"cpu": 100.0, "aux": 1.0}, period_s=0.001, clock=clock)
    rails = (
        RailProbe("cpu", 9, 0.001, 0.001, None, 100.0),
        RailProbe("aux", 9, 1.0, 1.0, None, 1.0),
    )
    probed = ProbeResult(1.0, 1.0, None, 1e-6, 101.0, 9, 1.0, rails)
    with EnergyMonitor(meter, probe=probed, sleep=clock.advance) as monitor:
        clock.advance(2.5)
        for _ in range(3):
            with monitor.window("w"):
                clock.advance(0.5)
            clock.advance(0.0123)
        found = monitor.summary("w")
    assert found.total_j == pytest.approx(151.5, rel=0.02)
    assert found.total_half_width_j is not None and found.total_half_width_j < 1.0
