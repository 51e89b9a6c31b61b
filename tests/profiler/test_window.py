"""Windows: the joules between two edges, their error, and no wrap missed in between."""

from __future__ import annotations

import threading
from math import sqrt

import pytest
from stand_ins.sysfs import SysfsTree

from profiler.errors import CounterFaultError, InputError, MeterReadError
from profiler.meters.base import MeterInfo, Reading
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.powercap import scan
from profiler.meters.rapl import RaplMeter
from profiler.probe import ProbeResult, RailProbe
from profiler.window import edge_error_j, meter_window


def _probe(**periods_s: float | None) -> ProbeResult:
    rails = tuple(
        RailProbe(name.replace("_", "-"), 9, period, period, 1e-6, 1.0)
        for name, period in periods_s.items()
    )
    return ProbeResult(None, None, None, 1e-6, 1.0, 9, 1.0, rails)


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


def test_error_covers_the_edges_of_a_stepping_counter() -> None:
    clock = ManualClock()
    meter = FakeMeter(10.0, period_s=0.1, clock=clock)
    errors_j = []
    for number in range(500):
        clock.advance(0.0137 + 0.0001 * (number % 7))
        with meter_window(meter, "w", probe=_probe(cpu=0.1)) as window:
            clock.advance(0.4318)
        errors_j.append(window.result.energy_j - 10.0 * 0.4318)
        assert window.result.standard_error_j == pytest.approx(
            window.result.energy_j / 0.4318 * 0.1 / sqrt(6)
        )
    assert max(abs(error) for error in errors_j) <= 10.0 * 0.1 + 1e-9


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
    with meter_window(meter, "long", probe=_probe(package_0=0.01)) as window:
        for _ in range(300):
            tree.advance(0.16)
            meter.read()
    meter.close()
    assert window.result.energy_j == pytest.approx(2400.0, abs=1e-5)
