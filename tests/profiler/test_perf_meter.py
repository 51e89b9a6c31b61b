"""Energy by perf events, on a C library that answers as the kernel does."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stand_ins.perf import FakeEvent, PerfKernel

from profiler.errors import (
    CounterFaultError,
    CwmpError,
    InputError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.meters import find_meter
from profiler.meters.base import Rail
from profiler.meters.perf import PerfSource
from profiler.meters.perf_events import EnergyEvent, PerfEvents, scan

ALL = ("pkg", "cores", "ram", "gpu", "psys")


@pytest.fixture
def laptop(perf_kernel: PerfKernel) -> PerfKernel:
    """One package with every event there is."""
    perf_kernel.offer(*ALL)
    perf_kernel.show(*(FakeEvent(name) for name in ALL))
    return perf_kernel


def _source(kernel: PerfKernel) -> PerfSource:
    return PerfSource(kernel.shared_library)


def test_package_and_memory_are_counted_and_nothing_twice(laptop: PerfKernel) -> None:
    meter = _source(laptop).open()
    assert {rail.name: rail.excluded_because for rail in meter.info.rails} == {
        "package-0": None,
        "core-0": "lies inside package-0",
        "dram-0": None,
        "uncore-0": "lies inside package-0",
        "psys": "contains the packages",
    }
    assert meter.info.selected == ("package-0", "dram-0")
    laptop.spend(2.5)
    assert meter.read().energy_j == pytest.approx({"package-0": 2.5, "dram-0": 2.5}, abs=1e-9)
    meter.close()


def test_each_package_is_read_on_its_own_cpu(perf_kernel: PerfKernel) -> None:
    perf_kernel.offer("pkg", "psys", cpus={0: (1, 0), 28: (0, 0)})
    perf_kernel.show(*(FakeEvent(name, cpu) for name in ("pkg", "psys") for cpu in (0, 28)))
    meter = _source(perf_kernel).open()
    assert meter.info.selected == ("package-1", "package-0")
    names = [rail.name for rail in meter.info.rails]
    assert names == ["package-1", "psys-1", "package-0", "psys-0"]
    perf_kernel.show(FakeEvent("pkg", 0, energy_j=1.0), FakeEvent("pkg", 28, energy_j=7.0))
    assert meter.read().energy_j == pytest.approx({"package-1": 1.0, "package-0": 7.0})
    meter.close()


def test_dies_are_named_where_a_package_has_several(perf_kernel: PerfKernel) -> None:
    perf_kernel.offer("pkg", cpus={0: (0, 0), 8: (0, 1), 16: (1, 0)})
    events = scan(perf_kernel.pmu, perf_kernel.cpus)
    assert [event.rail.name for event in events] == [
        "package-0-die-0",
        "package-0-die-1",
        "package-1",
    ]


def _two_dies(kernel: PerfKernel, second_w: float) -> dict[str, str | None]:
    kernel.offer("pkg", cpus={0: (0, 0), 8: (0, 1)})
    kernel.show(
        FakeEvent("pkg", 0, power_w=100, swing_w=20, period_ms=1),
        FakeEvent("pkg", 8, power_w=second_w, swing_w=20, period_ms=1),
    )
    meter = _source(kernel).open()
    rails = {rail.name: rail.excluded_because for rail in meter.info.rails}
    meter.close()
    return rails


def test_dies_that_show_one_counter_are_counted_once(perf_kernel: PerfKernel) -> None:
    assert _two_dies(perf_kernel, 100) == {
        "package-0-die-0": None,
        "package-0-die-1": "shows package-0-die-0's counter",
    }
    (report,) = _source(perf_kernel).discover()
    assert [rail.counted for rail in report.rails] == [True, False]
    assert perf_kernel.open_counters == 0


def test_dies_with_counters_of_their_own_are_both_counted(perf_kernel: PerfKernel) -> None:
    assert set(_two_dies(perf_kernel, 101).values()) == {None}


def test_ranges_of_cpus_are_understood(perf_kernel: PerfKernel) -> None:
    perf_kernel.offer("pkg", cpus={cpu: (cpu, 0) for cpu in (0, 1, 2, 5)})
    (perf_kernel.pmu / "cpumask").write_text("0-2,5\n")
    assert [event.cpu for event in scan(perf_kernel.pmu, perf_kernel.cpus)] == [0, 1, 2, 5]


def test_an_event_of_unknown_content_is_shown_but_not_counted(perf_kernel: PerfKernel) -> None:
    perf_kernel.offer("pkg", "npu")
    rails = [event.rail for event in scan(perf_kernel.pmu, perf_kernel.cpus)]
    assert Rail("npu-0", "npu", False, "may overlap with package-0") in rails


def test_a_ticking_counter_follows_the_power(perf_kernel: PerfKernel) -> None:
    perf_kernel.offer("pkg")
    event = FakeEvent("pkg", power_w=60.0, swing_w=40.0, period_ms=1.0)
    perf_kernel.show(event)
    meter = _source(perf_kernel).open()
    first = meter.read()
    time.sleep(0.3)
    last = meter.read()
    meter.close()
    energy_j = last.energy_j["package-0"] - first.energy_j["package-0"]
    elapsed_s = last.time_s - first.time_s
    # Within a step, and the length of the reads, of what any phase of the swing can give.
    step_j = 100.0 * 3e-3
    assert 20.0 * elapsed_s - step_j <= energy_j <= 100.0 * elapsed_s + step_j
    assert energy_j > 1.0


def test_counters_are_let_go_once(laptop: PerfKernel) -> None:
    meter = _source(laptop).open()
    assert laptop.open_counters == 2
    meter.close()
    meter.close()
    assert laptop.open_counters == 0


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_refusal_names_the_setting_and_the_command(laptop: PerfKernel, code: int) -> None:
    laptop.show(FakeEvent("pkg"), FakeEvent("ram", open_error=code))
    with pytest.raises(MeterPermissionError) as caught:
        _source(laptop).open()
    message = str(caught.value)
    assert "\n" not in message
    assert "/proc/sys/kernel/perf_event_paranoid" in message and "energy-ram" in message
    assert "sudo sysctl kernel.perf_event_paranoid=0" in message and "CAP_PERFMON" in message
    assert laptop.open_counters == 0
    (report,) = _source(laptop).discover()
    assert not report.usable and report.remedy is not None
    assert report.remedy.startswith("sudo sysctl")
    assert len(report.rails) == 5


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP])
def test_an_event_that_is_offered_but_not_there(laptop: PerfKernel, code: int) -> None:
    laptop.show(FakeEvent("pkg"), FakeEvent("ram", open_error=code))
    with pytest.raises(MeterNotFoundError, match=r"energy-ram.*no such counter") as caught:
        _source(laptop).open()
    assert os.strerror(code) in str(caught.value)
    meter = _source(laptop).open(rails=["package-0"])
    assert "memory has no rail" in " ".join(meter.info.scope)
    meter.close()


def test_another_refusal_is_an_error_with_its_cause(laptop: PerfKernel) -> None:
    laptop.show(FakeEvent("pkg", open_error=errno.EMFILE), FakeEvent("ram"))
    with pytest.raises(MeterReadError, match="Too many open files"):
        _source(laptop).open()


@pytest.mark.parametrize(
    ("fault", "says"), [(errno.EIO, "Input/output error"), (-1, "0 of 8 bytes")]
)
def test_failing_read_names_the_event_and_the_next_one_counts_on(
    laptop: PerfKernel, fault: int, says: str
) -> None:
    meter = _source(laptop).open()
    laptop.show(FakeEvent("pkg", read_error=fault, energy_j=1.0), FakeEvent("ram", energy_j=1.0))
    with pytest.raises(MeterReadError, match=f"energy-pkg.*{says}"):
        meter.read()
    laptop.show(FakeEvent("pkg", energy_j=2.0), FakeEvent("ram", energy_j=2.0))
    assert meter.read().energy_j == pytest.approx({"package-0": 2.0, "dram-0": 2.0})
    meter.close()


def test_event_that_vanishes_midway(laptop: PerfKernel) -> None:
    meter = _source(laptop).open()
    laptop.show()
    with pytest.raises(MeterReadError, match="No such device"):
        meter.read()
    meter.close()
    assert laptop.open_counters == 0


@pytest.mark.parametrize(("joules", "says"), [(-1.0, "went from|went back"), (5000.0, "1000 W")])
def test_a_jump_is_a_fault(laptop: PerfKernel, joules: float, says: str) -> None:
    meter = _source(laptop).open()
    laptop.spend(2.0)
    before = meter.read()
    laptop.spend(joules)
    with pytest.raises(CounterFaultError, match=says):
        meter.read()
    assert meter.read().losses > before.losses
    meter.close()


def test_counter_that_stands_still_is_a_fault(
    laptop: PerfKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = _source(laptop).open()
    laptop.spend(1.0)
    meter.read()
    real = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + 1.5)
    with pytest.raises(CounterFaultError, match="energy-pkg on CPU 0 stands still"):
        meter.read()
    laptop.spend(1.0)
    assert meter.read().energy_j["package-0"] == pytest.approx(2.0)
    meter.close()


def test_graphics_that_draw_nothing_are_no_fault(
    laptop: PerfKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = _source(laptop).open(rails=["uncore-0"])
    real = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + 60.0)
    assert meter.read().energy_j == {"uncore-0": 0.0}
    meter.close()


def test_without_events_the_report_says_why(
    perf_kernel: PerfKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.meters.perf.virtualisation", lambda: None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (report,) = _source(perf_kernel).discover()
    assert not report.usable and report.path == str(perf_kernel.pmu)
    assert report.cause is not None and "no energy event" in report.cause
    assert report.remedy == "sudo modprobe rapl"
    with pytest.raises(MeterNotFoundError, match="sudo modprobe rapl"):
        _source(perf_kernel).open()


def test_no_system_call_is_made_on_an_unknown_machine(
    laptop: PerfKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(MeterNotFoundError, match="riscv64"):
        _source(laptop).open()


def test_single_cores_are_said_to_be_left_out(laptop: PerfKernel) -> None:
    laptop.pmu.with_name("power_core").mkdir()
    meter = _source(laptop).open()
    assert any("power_core" in sentence for sentence in meter.info.scope)
    meter.close()


def test_auto_takes_perf_where_powercap_is_masked(
    laptop: PerfKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.meters.perf.SOURCE._library", laptop.shared_library)
    meter = find_meter()
    assert (meter.info.name, meter.info.origin) == ("perf", "measured")
    meter.close()


def test_gpu_or_argument_is_refused(laptop: PerfKernel) -> None:
    with pytest.raises(InputError, match="nvml"):
        _source(laptop).open(device="cuda:0")
    with pytest.raises(InputError, match="no argument"):
        _source(laptop).open("pkg")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("type", "power\n"),
        ("type", ""),
        ("cpumask", "all\n"),
        ("cpumask", "\n"),
        ("events/energy-pkg", "event=\n"),
        ("events/energy-pkg", "umask=0x02\n"),
        ("events/energy-pkg.scale", "0\n"),
        ("events/energy-pkg.scale", "inf\n"),
        ("events/energy-pkg.scale", "-1e-10\n"),
        ("events/energy-pkg.scale", "1e400\n"),
        ("events/energy-pkg.unit", "Watts\n"),
    ],
)
def test_files_that_say_something_else_are_faults(laptop: PerfKernel, name: str, text: str) -> None:
    (laptop.pmu / name).write_text(text)
    with pytest.raises(CounterFaultError, match=name.partition(".")[0]):
        _source(laptop).open()
    (report,) = _source(laptop).discover()
    assert not report.usable and report.cause and report.remedy


@pytest.mark.parametrize("name", ["type", "cpumask", "events/energy-ram.unit"])
def test_a_file_that_is_missing_is_named(laptop: PerfKernel, name: str) -> None:
    (laptop.pmu / name).unlink()
    with pytest.raises(MeterReadError, match=name):
        _source(laptop).open()


def test_a_package_named_twice_is_not_counted_twice(perf_kernel: PerfKernel) -> None:
    perf_kernel.offer("pkg", cpus={0: (0, 0), 1: (0, 0)})
    with pytest.raises(CounterFaultError, match="twice"):
        scan(perf_kernel.pmu, perf_kernel.cpus)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        [
            "type",
            "cpumask",
            "events/energy-pkg",
            "events/energy-pkg.scale",
            "events/energy-ram.unit",
        ]
    ),
    text=st.binary(max_size=24),
)
def test_any_content_is_understood_or_refused(laptop: PerfKernel, name: str, text: bytes) -> None:
    path = laptop.pmu / name
    sound = path.read_bytes()
    path.write_bytes(text)
    try:
        meter = _source(laptop).open()
    except CwmpError:
        pass
    else:
        assert meter.info.selected
        meter.close()
    finally:
        path.write_bytes(sound)
    assert laptop.open_counters == 0


def test_the_real_kernel_accepts_the_call() -> None:
    clock = EnergyEvent(Path("software/cpu-clock"), 1, 0, 0, 1e-9, Rail("clock", "package"))
    kernel = PerfEvents()
    try:
        handle = kernel.open(clock)
    except (MeterPermissionError, MeterNotFoundError) as error:
        pytest.skip(f"this kernel does not let tests count: {error}")
    before, begun_s = kernel.read(handle, clock), time.perf_counter()
    time.sleep(0.02)
    after, elapsed_s = kernel.read(handle, clock), time.perf_counter() - begun_s
    assert 0 < after - before <= 1.1e9 * elapsed_s + 1e6
    kernel.close(handle)
    with pytest.raises(MeterReadError, match="Bad file descriptor"):
        kernel.read(handle, clock)
