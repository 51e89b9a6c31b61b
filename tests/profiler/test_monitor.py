"""`EnergyMonitor`: named windows that come and go, and what is said of them at the end."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stand_ins.monitors import made_up_probe, monitor_threads, smooth_meter
from stand_ins.nvml import FakeGpu, NvmlLibrary
from stand_ins.simulated_device import SimulatedDevice

from profiler import EnergyMonitor, find_meter
from profiler.errors import FileFormatError, InputError, MeterReadError, OutputExistsError
from profiler.meters.fake import FakeMeter
from profiler.windows import edge_reader as edge_reader_module
from profiler.windows.table import read_windows


def test_occurrences_of_a_name_are_summed_up() -> None:
    meter, clock = smooth_meter()
    with EnergyMonitor(meter, probe=made_up_probe(), above_rest=True) as monitor:
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
    meter, clock = smooth_meter({"package-0": 20.0, "dram-0": 4.0})
    with EnergyMonitor(meter, probe=made_up_probe(None, 1.0, "package-0", "dram-0")) as monitor:
        with monitor.window("w"):
            clock.advance(0.5)
        rails = {name: joules.mean_j for name, joules in monitor.summary("w").rails.items()}
        table = monitor.table()
    assert rails == pytest.approx({"package-0": 10.0, "dram-0": 2.0})
    assert "  package-0" in table and "  dram-0" in table


def test_windows_overlap_without_nesting() -> None:
    meter, clock = smooth_meter()
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:
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

    probed = made_up_probe(0.02)
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
    monitor = EnergyMonitor(device, probe=made_up_probe(0.02), sleep=slept.append)
    device.sleep(1.0)
    with monitor.window("w"):
        device.spend(1.0, 10.0)
    assert slept == []
    with monitor.window("w", quiet=True):
        device.spend(1.0, 10.0)
    assert len(slept) == 2


def test_decorated_functions_keep_name_signature_and_value() -> None:
    meter, clock = smooth_meter()
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:

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
    meter, clock = smooth_meter()
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:

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
    meter, _ = smooth_meter()
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:

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
    meter, clock = smooth_meter()
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:

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
    meter, clock = smooth_meter(faults={failing_read: MeterReadError("the counter is gone")})
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:
        for _ in range(3):
            with monitor.window("w"):
                clock.advance(1.0)
        found = monitor.summary("w")
    assert (found.n, dict(found.dropped)) == (2, {"the counter is gone": 1})
    assert found.total_j == pytest.approx(20.0)


def test_lost_joules_drop_every_window_around_them() -> None:
    meter, clock = smooth_meter()
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:
        with monitor.window("outer"):
            meter.reset()
            with monitor.window("inner"):
                clock.advance(1.0)
            clock.advance(1.0)
        assert monitor.summary("inner").n == 1
        assert dict(monitor.summary("outer").dropped) == {"joules were lost": 1}


def test_window_over_a_suspend_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, clock = smooth_meter()
    gaps_s = iter([5.0, 5.0, 5.0, 65.0])
    monkeypatch.setattr(edge_reader_module, "suspended_s", lambda: next(gaps_s))
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:
        for _ in range(2):
            with monitor.window("w"):
                clock.advance(1.0)
        assert dict(monitor.summary("w").dropped) == {"the host slept": 1}
        assert monitor.summary("w").n == 1


def test_windows_from_several_threads() -> None:
    meter = FakeMeter(10.0, period_s=0.0)
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:

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
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:
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
    with EnergyMonitor(meter, probe=made_up_probe(0.02, 10.0, "gpu-0")) as monitor:
        waited.clear()
        with monitor.window("kernel"):
            assert waited == [0]
            nvml_library.show(gpu.but(energy_mj=gpu.energy_mj + 4000))
        assert waited == [0, 0]
    meter.close()


def test_saved_windows_are_read_back_and_nothing_is_replaced(tmp_path: Path) -> None:
    meter, clock = smooth_meter()
    path = tmp_path / "windows.json"
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:
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
    own = EnergyMonitor("fake:5", probe=made_up_probe())
    own.close()
    own.close()
    with pytest.raises(MeterReadError):
        own._meter.read()
    with pytest.raises(InputError, match="closed"), own.window("w"):
        pass
    meter, _ = smooth_meter()
    EnergyMonitor(meter, probe=made_up_probe()).close()
    assert meter.read().energy_j["cpu"] == 0.0
    with pytest.raises(InputError, match="has them already"):
        EnergyMonitor(meter, rails=["cpu"])
    with pytest.raises(InputError, match="no rail"):
        EnergyMonitor("fake", rails=["gpu"])
    assert monitor_threads() == 0


def test_summary_of_an_unknown_window_and_an_empty_table() -> None:
    meter, _ = smooth_meter()
    with EnergyMonitor(meter, probe=made_up_probe()) as monitor:
        assert monitor.table() == "no window has ended"
        with pytest.raises(InputError, match="no window 'w' has ended"):
            monitor.summary("w")


def test_interrupted_quiet_leaves_no_window_open() -> None:
    device = SimulatedDevice(10.0, 0.02)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monitor = EnergyMonitor(device, probe=made_up_probe(0.02), sleep=interrupted)
    with pytest.raises(KeyboardInterrupt), monitor.window("w", quiet=True):
        pass
    assert monitor._reader.open_windows == 0
    with monitor.window("w"):
        device.sleep(1.0)
    assert monitor.summary("w").n == 1
