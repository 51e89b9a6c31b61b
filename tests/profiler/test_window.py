"""Windows: the joules between two edges, their error, and no wrap missed in between."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import hypot, sqrt
from statistics import fmean, stdev

import pytest
from stand_ins.simulated_device import SimulatedDevice
from stand_ins.sysfs import SysfsTree

from profiler.errors import CounterFaultError, InputError, MeterReadError
from profiler.meters.base import MeterInfo, Reading, Systematic
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.powercap import scan
from profiler.meters.rapl import RaplMeter
from profiler.probe import ProbeResult, RailProbe
from profiler.window import WindowResult, edge_error_j, meter_window


def _probe(idle_w: float = 1.0, **periods_s: float | None) -> ProbeResult:
    rails = tuple(
        RailProbe(name.replace("_", "-"), 9, period, period, 1e-6, idle_w)
        for name, period in periods_s.items()
    )
    slowest_s = max((period for period in periods_s.values() if period), default=None)
    return ProbeResult(slowest_s, slowest_s, None, 1e-6, idle_w, 9, 1.0, rails)


def test_energy_by_rail_and_in_all() -> None:
    clock = ManualClock()
    meter = FakeMeter({"package-0": 20.0, "dram-0": 4.0}, clock=clock, origin="measured")
    clock.advance(0.3)
    with meter_window(meter, "epoch") as window:
        clock.advance(0.5)
    result = window.result
    assert result.name == "epoch"
    assert result.origin == "measured"
    assert result.duration_s == pytest.approx(0.5)
    assert result.rail_energy_j == pytest.approx({"package-0": 10.0, "dram-0": 2.0})
    assert result.energy_j == pytest.approx(12.0)
    assert result.standard_error_j is None
    assert result.as_dict()["rail_energy_j"] == result.rail_energy_j


def test_windows_may_lie_inside_one_another() -> None:
    clock = ManualClock()
    meter = FakeMeter(10.0, clock=clock)
    with meter_window(meter, "outer") as outer:
        clock.advance(0.1)
        with meter_window(meter, "first") as first:
            clock.advance(0.2)
        with meter_window(meter, "second") as second:
            clock.advance(0.3)
    energies_j = [window.result.energy_j for window in (outer, first, second)]
    assert energies_j == pytest.approx([6.0, 2.0, 3.0])


def test_error_adds_up_over_rails_that_step_apart() -> None:
    error_j = edge_error_j({"a": 30.0, "b": 4.0}, 2.0, _probe(a=0.001, b=0.003))
    assert error_j == pytest.approx(sqrt((15.0 * 0.001) ** 2 / 6 + (2.0 * 0.003) ** 2 / 6))


def test_rail_that_never_stepped_adds_no_error_and_one_never_probed_is_refused() -> None:
    assert edge_error_j({"a": 30.0, "b": 0.0}, 1.0, _probe(a=0.001, b=None)) == pytest.approx(
        30.0 * 0.001 / sqrt(6)
    )
    with pytest.raises(InputError, match="not probed"):
        edge_error_j({"c": 1.0}, 1.0, _probe(a=0.001))


REST_W, WORK_J, TAU_S = 60.0, 300.0, 0.1


def _slow_window(device: SimulatedDevice, draw: Callable[[], float]) -> WindowResult:
    """Half a second at 600 W under a counter that steps every 100 ms."""
    device.sleep(draw() * TAU_S)
    probed = _probe(cpu=TAU_S, idle_w=REST_W)
    with meter_window(device, "work", probe=probed, sleep=device.sleep, draw=draw) as window:
        device.spend(0.5, WORK_J)
    return window.result


def test_slow_counter_misses_nothing_at_the_end_of_the_work() -> None:
    draw = random.Random(0).random
    device = SimulatedDevice(REST_W, TAU_S)
    results = [_slow_window(device, draw) for _ in range(500)]
    errors_j = [result.energy_j - WORK_J for result in results]
    errors = [result.standard_error_j for result in results]
    # Read right after the work it would miss (600 - 60) W x 50 ms = 27 J.
    assert abs(fmean(errors_j)) < 4 * stdev(errors_j) / sqrt(500)
    edges_j = REST_W * TAU_S / sqrt(6)
    for result, error_j in zip(results, errors, strict=True):
        assert error_j == pytest.approx(edges_j * hypot(1.0, result.quiet_s / 0.4))
    assert stdev(errors_j) == pytest.approx(edges_j, rel=0.15)
    covered = sum(
        abs(off_j) <= 1.96 * error_j for off_j, error_j in zip(errors_j, errors, strict=True)
    )
    assert covered >= 0.93 * 500


def test_quiet_is_not_in_the_duration_but_said() -> None:
    result = _slow_window(SimulatedDevice(REST_W, TAU_S), lambda: 0.5)
    assert result.duration_s == pytest.approx(0.5)
    assert result.quiet_s == pytest.approx(1.75 * TAU_S)


def test_work_right_before_a_window_is_not_in_it() -> None:
    device = SimulatedDevice(REST_W, TAU_S)
    device.spend(0.55, 330.0)
    probed = _probe(cpu=TAU_S, idle_w=REST_W)
    with meter_window(device, "w", probe=probed, sleep=device.sleep, draw=lambda: 0.0) as window:
        device.sleep(0.5)
    assert window.result.energy_j == pytest.approx(30.0, abs=REST_W * TAU_S)


def test_measured_rest_goes_before_the_probes_and_brings_its_error() -> None:
    device = SimulatedDevice(REST_W, TAU_S)
    probed = _probe(cpu=TAU_S, idle_w=999.0)
    window = partial(meter_window, device, probe=probed, sleep=device.sleep, draw=lambda: 0.25)
    with window("rest", resting=True) as resting:
        device.sleep(2.0)
    assert resting.result.quiet_s == 0.0
    assert resting.result.duration_s == pytest.approx(2.0 + 1.5 * TAU_S)
    with window("work", rest=resting.result) as working:
        device.spend(0.5, WORK_J)
    assert working.result.energy_j == pytest.approx(WORK_J, abs=REST_W * TAU_S)
    edges_j = REST_W * TAU_S / sqrt(6)
    assert working.result.standard_error_j == pytest.approx(
        hypot(edges_j, 0.15 / 2.15 * edges_j), rel=0.06
    )


@pytest.mark.parametrize("period_s", [None, 20e-6])
def test_counter_without_slow_steps_is_not_waited_for(period_s: float | None) -> None:
    clock = ManualClock()
    meter = FakeMeter(10.0, period_s=0.0, clock=clock)
    slept: list[float] = []
    with meter_window(meter, "w", probe=_probe(cpu=period_s), sleep=slept.append) as window:
        clock.advance(0.5)
    assert slept == []
    assert window.result.energy_j == pytest.approx(5.0)
    assert window.result.standard_error_j == pytest.approx(10.0 * (period_s or 0.0) / sqrt(6))


def test_pause_before_a_window_does_it_no_harm(
    sysfs_tree: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = RaplMeter(scan(sysfs_tree.powercap))
    real = time.perf_counter
    for pauses_s in (300.0, 600.0, 900.0):
        monkeypatch.setattr(time, "perf_counter", lambda late_s=pauses_s: real() + late_s)
        with meter_window(meter, "w") as window:
            sysfs_tree.advance(0.01)
        assert window.result.rail_energy_j["package-0"] == pytest.approx(0.5, abs=2e-6)
    meter.close()


def test_loss_that_an_inner_window_met_fails_the_outer_one_too() -> None:
    meter = FakeMeter(clock=ManualClock())
    inner = None
    with pytest.raises(CounterFaultError, match="lost"), meter_window(meter, "outer"):
        meter.reset()
        with meter_window(meter, "inner") as inner:
            pass
    assert inner is not None and inner.result.energy_j == 0.0


def test_failed_read_at_the_edge_is_raised() -> None:
    meter = FakeMeter(faults={2: MeterReadError("gone")}, clock=ManualClock())
    with pytest.raises(MeterReadError, match="gone"), meter_window(meter, "w") as window:
        pass
    with pytest.raises(InputError, match="no result"):
        _ = window.result


def test_error_of_the_block_goes_first_and_leaves_no_result() -> None:
    meter = FakeMeter(faults={2: MeterReadError("gone")}, clock=ManualClock())
    with pytest.raises(KeyError), meter_window(meter, "w") as window:
        raise KeyError("mine")
    with pytest.raises(InputError, match="no result"):
        _ = window.result


def test_open_window_has_no_result() -> None:
    meter = FakeMeter(clock=ManualClock())
    with meter_window(meter, "w") as window, pytest.raises(InputError, match="has not ended"):
        _ = window.result


class Wrapping:
    """A meter that must be read often, and can tell when it has been read in between."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.reads = 0
        self.read_in_between = threading.Event()
        self.fail_at = fail_at

    @property
    def info(self) -> MeterInfo:
        inner = FakeMeter(clock=ManualClock()).info
        return MeterInfo(
            "wrapping", "x", "assumed", inner.rails, inner.selected, max_read_gap_s=0.004
        )

    def read(self) -> Reading:
        self.reads += 1
        if self.reads >= 3:
            self.read_in_between.set()
        if self.reads == self.fail_at:
            raise CounterFaultError("it was reset")
        return Reading(float(self.reads), {"cpu": float(self.reads)})

    def close(self) -> None: ...


def _keep_alive_threads() -> int:
    return sum(thread.name == "cwmp-keep-alive" for thread in threading.enumerate())


def test_meter_that_wraps_is_read_while_the_block_runs() -> None:
    meter = Wrapping()
    with meter_window(meter, "long"):
        assert meter.read_in_between.wait(30)
    assert _keep_alive_threads() == 0


def test_read_that_failed_in_between_is_raised_at_the_end() -> None:
    meter = Wrapping(fail_at=2)
    ran = []
    with pytest.raises(CounterFaultError, match="reset"), meter_window(meter, "long") as window:
        while meter.reads < 2:
            meter.read_in_between.wait(0.001)
        ran.append(True)
    assert ran
    with pytest.raises(InputError):
        _ = window.result
    assert _keep_alive_threads() == 0


def test_meter_that_does_not_wrap_is_left_alone() -> None:
    with meter_window(FakeMeter(clock=ManualClock()), "w"):
        assert _keep_alive_threads() == 0


def test_wraps_inside_a_window_are_removed(bare_sysfs_tree: SysfsTree) -> None:
    tree = bare_sysfs_tree
    tree.add("intel-rapl:0", "package-0", 50.0, range_uj=400_000_000)
    meter = RaplMeter(scan(tree.powercap), guard_power_w=100.0)
    assert meter.info.max_read_gap_s == pytest.approx(3.9)
    with meter_window(meter, "long") as window:
        for _ in range(300):
            tree.advance(0.16)
            meter.read()
    meter.close()
    assert window.result.energy_j == pytest.approx(2400.0, abs=1e-5)


def test_lagging_sensor_gets_a_longer_quiet_and_sampling_its_error() -> None:
    class Lagging(SimulatedDevice):
        def read(self) -> Reading:
            reading = super().read()
            return replace(reading, variance_j2={"cpu": 4.0 * reading.time_s})

    device = Lagging(REST_W, TAU_S)
    device.info = replace(device.info, lag_s=1.0, systematic=(Systematic(0.05, "gain"),))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        device.sleep(seconds)

    probed = _probe(cpu=TAU_S, idle_w=REST_W)
    with meter_window(device, "w", probe=probed, sleep=sleep, draw=lambda: 0.0) as window:
        device.spend(0.5, WORK_J)
    assert slept == pytest.approx([1.0 + 1.25 * TAU_S] * 2)
    edges_j = REST_W * TAU_S / sqrt(6)
    seconds = 0.5 + slept[1]
    assert window.result.standard_error_j == pytest.approx(
        sqrt(edges_j**2 * (1 + (slept[1] / 0.4) ** 2) + 4.0 * seconds)
    )
    assert window.result.systematic == 0.05
    assert window.result.systematic_j == pytest.approx(0.05 * abs(window.result.energy_j))


def test_a_measured_window_without_known_gain_says_so() -> None:
    device = SimulatedDevice(REST_W, TAU_S)
    device.info = replace(device.info, origin="measured", systematic=())
    with meter_window(device, "w") as window:
        device.spend(0.5, WORK_J)
    assert window.result.systematic is None and window.result.systematic_j is None
