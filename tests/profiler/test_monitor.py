"""`EnergyMonitor`: named windows that come and go, and what is said of them at the end."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stand_ins.jittered import JitteredDevice
from stand_ins.nvml import FakeGpu, NvmlLibrary
from stand_ins.simulated_device import SimulatedDevice
from stand_ins.sysfs import SysfsTree

from profiler import EnergyMonitor, find_meter
from profiler.errors import FileFormatError, InputError, MeterReadError, OutputExistsError
from profiler.meters.base import Systematic
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.powercap import scan
from profiler.meters.rapl import RaplMeter
from profiler.probe import ProbeResult, RailProbe, probe
from profiler.windows import edge_reader as edge_reader_module
from profiler.windows.table import read_windows


def _probe(period_s: float | None = None, idle_w: float = 10.0, *rails: str) -> ProbeResult:
    found = tuple(
        RailProbe(rail, 9, period_s, period_s, None, idle_w) for rail in rails or ("cpu",)
    )
    return ProbeResult(period_s, period_s, None, 1e-6, idle_w, 9, 1.0, found)


def _smooth(
    power: object = 10.0, faults: dict[int, Exception] | None = None
) -> tuple[FakeMeter, ManualClock]:
    clock = ManualClock()
    return FakeMeter(power, period_s=0.0, quantum_j=0.0, clock=clock, faults=faults), clock  # type: ignore[arg-type]


def test_occurrences_of_a_name_are_summed_up() -> None:
    meter, clock = _smooth()
    with EnergyMonitor(meter, probe=_probe(), above_rest=True) as monitor:
        for seconds in (1.0, 2.0, 3.0):
            with monitor.window("epoch") as window:
                clock.advance(seconds)
            assert window.result.total_j == pytest.approx(10 * seconds)
            clock.advance(0.5)
        found = monitor.summary("epoch")
    assert (found.n, found.duration_s) == (3, pytest.approx(2.0))
    assert found.energy is not None and found.energy.mean_j == pytest.approx(20.0)
    assert found.energy.half_width_j == pytest.approx(4.302653 * 10 / np.sqrt(3))
    assert found.energy.basis == "student"
    assert found.total_j == pytest.approx(60.0)
    assert found.above_rest is not None and found.above_rest.mean_j == pytest.approx(0.0)
    assert not found.above_rest.detected


def test_rails_stand_by_themselves() -> None:
    meter, clock = _smooth({"package-0": 20.0, "dram-0": 4.0})
    with EnergyMonitor(meter, probe=_probe(None, 1.0, "package-0", "dram-0")) as monitor:
        with monitor.window("w"):
            clock.advance(0.5)
        rails = {name: joules.mean_j for name, joules in monitor.summary("w").rails.items()}
        table = monitor.table()
    assert rails == pytest.approx({"package-0": 10.0, "dram-0": 2.0})
    assert "  package-0" in table and "  dram-0" in table


def test_windows_overlap_without_nesting() -> None:
    meter, clock = _smooth()
    with EnergyMonitor(meter, probe=_probe()) as monitor:
        monitor.begin("a")
        clock.advance(1.0)
        monitor.begin("b")
        clock.advance(2.0)
        monitor.end("a")
        clock.advance(4.0)
        assert monitor.end("b").result.total_j == pytest.approx(60.0)
        assert monitor.summary("a").total_j == pytest.approx(30.0)
        with pytest.raises(InputError, match="no window 'a' is open"):
            monitor.end("a")
        monitor.begin("a")
        with pytest.raises(InputError, match="open already"):
            monitor.begin("a")
    assert monitor.summary("a").dropped == {"still open when the monitor was closed": 1}


def test_inner_windows_never_sleep_in_the_outer_one() -> None:
    device = SimulatedDevice(10.0, 0.02)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        device.sleep(seconds)

    probed = _probe(0.02)
    with EnergyMonitor(device, probe=probed, sleep=sleep, quiet=True) as monitor:
        with monitor.window("outer") as outer:
            assert len(slept) == 1
            for _ in range(50):
                with monitor.window("inner"):
                    device.spend(0.1, 10.0)
            assert len(slept) == 1
        assert len(slept) == 2
        assert outer.result.duration_s == pytest.approx(5.0)
        assert outer.result.total_j == pytest.approx(500.0, rel=0.002)


def test_windows_do_not_sleep_unless_asked() -> None:
    device = SimulatedDevice(10.0, 0.02)
    slept: list[float] = []
    monitor = EnergyMonitor(device, probe=_probe(0.02), sleep=slept.append)
    device.sleep(1.0)
    with monitor.window("w"):
        device.spend(1.0, 10.0)
    assert slept == []
    with monitor.window("w", quiet=True):
        device.spend(1.0, 10.0)
    assert len(slept) == 2


def test_decorated_functions_keep_name_signature_and_value() -> None:
    meter, clock = _smooth()
    with EnergyMonitor(meter, probe=_probe()) as monitor:

        @monitor.measured
        def bare(seconds: float, *, twice: bool = False) -> str:
            """Docs."""
            clock.advance(seconds * (1 + twice))
            return "done"

        @monitor.measured("step")
        def named(seconds: float) -> None:
            clock.advance(seconds)

        assert bare(1.0, twice=True) == "done"
        named(3.0)
        assert (bare.__name__, bare.__doc__) == ("bare", "Docs.")
        assert list(inspect.signature(bare).parameters) == ["seconds", "twice"]
        names = {each.name: each.total_j for each in monitor.summaries()}
    assert names == pytest.approx({bare.__qualname__: 20.0, "step": 30.0})


def test_decorated_coroutine_is_metered_until_it_returns() -> None:
    meter, clock = _smooth()
    with EnergyMonitor(meter, probe=_probe()) as monitor:

        @monitor.measured("fetch")
        async def fetch() -> int:
            clock.advance(1.0)
            await asyncio.sleep(0)
            clock.advance(1.0)
            return 7

        assert inspect.iscoroutinefunction(fetch)
        assert asyncio.run(fetch()) == 7
        assert monitor.summary("fetch").total_j == pytest.approx(20.0)


def test_generators_are_refused_when_decorated() -> None:
    meter, _ = _smooth()
    with EnergyMonitor(meter, probe=_probe()) as monitor:

        def rows() -> object:
            yield 1

        async def async_rows() -> object:
            yield 1

        for function in (rows, async_rows):
            with pytest.raises(InputError, match="put a window inside"):
                monitor.measured(function)
            with pytest.raises(InputError, match="put a window inside"):
                monitor.measured("rows")(function)


def test_exception_passes_through_and_the_window_is_dropped_and_counted() -> None:
    meter, clock = _smooth()
    with EnergyMonitor(meter, probe=_probe()) as monitor:

        @monitor.measured("step")
        def step(fail: bool) -> None:
            clock.advance(1.0)
            if fail:
                raise KeyError("mine")

        step(False)
        with pytest.raises(KeyError, match="mine"):
            step(True)
        step(False)
        with pytest.raises(ZeroDivisionError), monitor.window("only") as window:
            _ = 1 / 0
        with pytest.raises(InputError, match="ended by an exception"):
            _ = window.result
        found, only = monitor.summary("step"), monitor.summary("only")
        table = monitor.table()
    assert (found.n, dict(found.dropped)) == (2, {"ended by an exception": 1})
    assert (only.n, only.energy) == (0, None)
    assert "step: 1 dropped: ended by an exception" in table


@pytest.mark.parametrize("failing_read", [4, 5])
def test_failed_reading_drops_the_window_and_not_the_program(failing_read: int) -> None:
    meter, clock = _smooth(faults={failing_read: MeterReadError("the counter is gone")})
    with EnergyMonitor(meter, probe=_probe()) as monitor:
        for _ in range(3):
            with monitor.window("w"):
                clock.advance(1.0)
        found = monitor.summary("w")
    assert (found.n, dict(found.dropped)) == (2, {"the counter is gone": 1})
    assert found.total_j == pytest.approx(20.0)


def test_lost_joules_drop_every_window_around_them() -> None:
    meter, clock = _smooth()
    with EnergyMonitor(meter, probe=_probe()) as monitor:
        with monitor.window("outer"):
            meter.reset()
            with monitor.window("inner"):
                clock.advance(1.0)
            clock.advance(1.0)
        assert monitor.summary("inner").n == 1
        assert dict(monitor.summary("outer").dropped) == {"joules were lost": 1}


def test_window_over_a_suspend_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, clock = _smooth()
    gaps_s = iter([5.0, 5.0, 5.0, 65.0])
    monkeypatch.setattr(edge_reader_module, "suspended_s", lambda: next(gaps_s))
    with EnergyMonitor(meter, probe=_probe()) as monitor:
        for _ in range(2):
            with monitor.window("w"):
                clock.advance(1.0)
        assert dict(monitor.summary("w").dropped) == {"the host slept": 1}
        assert monitor.summary("w").n == 1


class _Falling(SimulatedDevice):
    def read(self):  # type: ignore[no-untyped-def]
        reading = super().read()
        return type(reading)(reading.time_s, {"cpu": -reading.energy_j["cpu"]})


def test_counter_that_runs_backwards_gives_no_joules() -> None:
    device = _Falling(10.0)
    with EnergyMonitor(device, probe=_probe()) as monitor:
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
        device, probe=_probe(idle_w=99.0), sleep=device.sleep, above_rest=True
    ) as monitor:
        monitor.rest(2.0)
        with monitor.window("w"):
            device.spend(1.0, 30.0)
            with pytest.raises(InputError, match="while a window is open"):
                monitor.rest()
        above = monitor.summary("w").above_rest
    assert above is not None and above.mean_j == pytest.approx(20.0)


def test_windows_from_several_threads() -> None:
    meter = FakeMeter(10.0, period_s=0.0)
    with EnergyMonitor(meter, probe=_probe()) as monitor:

        def work(name: str) -> None:
            for _ in range(200):
                with monitor.window(name), monitor.window("all"):
                    pass

        threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = {each.name: each.n for each in monitor.summaries()}
        assert not any(each.dropped for each in monitor.summaries())
        assert monitor._reader.open_windows == 0
    assert found == {"t0": 200, "t1": 200, "t2": 200, "t3": 200, "all": 800}


def test_forked_child_is_refused_and_the_parent_goes_on() -> None:
    meter = FakeMeter(10.0, period_s=0.0)
    with EnergyMonitor(meter, probe=_probe()) as monitor:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with monitor.window("w"):
                    pass
            except InputError as error:
                monitor.close()
                code = 0 if "fork" in str(error) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with monitor.window("w"):
            time.sleep(0.001)
        assert monitor.summary("w").n == 1


def test_gpu_work_is_waited_for_at_every_edge(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu(uuid="GPU-11111111-aaaa")
    nvml_library.show(gpu)
    waited: list[int] = []
    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 1,
        get_device_properties=lambda _: SimpleNamespace(uuid="GPU-11111111-aaaa"),
        synchronize=lambda *ordinal: waited.append(*ordinal),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    meter = find_meter("nvml", device="cuda:0")
    with EnergyMonitor(meter, probe=_probe(0.02, 10.0, "gpu-0")) as monitor:
        waited.clear()
        with monitor.window("kernel"):
            assert waited == [0]
            nvml_library.show(gpu.but(energy_mj=gpu.energy_mj + 4000))
        assert waited == [0, 0]
    meter.close()


def test_saved_windows_are_read_back_and_nothing_is_replaced(tmp_path: Path) -> None:
    meter, clock = _smooth()
    path = tmp_path / "windows.json"
    with EnergyMonitor(meter, probe=_probe()) as monitor:
        with monitor.window("w"):
            clock.advance(1.0)
        monitor.save(path)
        with pytest.raises(OutputExistsError):
            monitor.save(str(path))
    document = read_windows(path)
    assert document["windows"][0]["energy"]["mean_j"] == pytest.approx(10.0)
    assert document["rails"] == ["cpu"] and document["origin"] == "assumed"
    for change in ({"schema_version": 2}, {"schema_name": "cwmp.trace"}):
        path.write_text(json.dumps({**document, **change}))
        with pytest.raises(FileFormatError, match=r"schema|version"):
            read_windows(path)


def test_monitor_opens_and_closes_its_own_meter_and_leaves_anothers() -> None:
    own = EnergyMonitor("fake:5", probe=_probe())
    own.close()
    own.close()
    with pytest.raises(MeterReadError):
        own._meter.read()
    with pytest.raises(InputError, match="closed"), own.window("w"):
        pass
    meter, _ = _smooth()
    EnergyMonitor(meter, probe=_probe()).close()
    assert meter.read().energy_j["cpu"] == 0.0
    with pytest.raises(InputError, match="has them already"):
        EnergyMonitor(meter, rails=["cpu"])
    with pytest.raises(InputError, match="no rail"):
        EnergyMonitor("fake", rails=["gpu"])
    assert monitor_threads() == 0


def monitor_threads() -> int:
    return sum(thread.name == "cwmp-keep-alive" for thread in threading.enumerate())


def test_summary_of_an_unknown_window_and_an_empty_table() -> None:
    meter, _ = _smooth()
    with EnergyMonitor(meter, probe=_probe()) as monitor:
        assert monitor.table() == "no window has ended"
        with pytest.raises(InputError, match="no window 'w' has ended"):
            monitor.summary("w")


def test_interrupted_quiet_leaves_no_window_open() -> None:
    device = SimulatedDevice(10.0, 0.02)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monitor = EnergyMonitor(device, probe=_probe(0.02), sleep=interrupted)
    with pytest.raises(KeyboardInterrupt), monitor.window("w", quiet=True):
        pass
    assert monitor._reader.open_windows == 0
    with monitor.window("w"):
        device.sleep(1.0)
    assert monitor.summary("w").n == 1


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
