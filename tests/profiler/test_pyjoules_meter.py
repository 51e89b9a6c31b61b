"""pyJoules as a meter: what it returns put right, and what it does not see said."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from stand_ins.kernel_files import without_privilege
from stand_ins.nvml import FakeGpu, NvmlLibrary
from stand_ins.sysfs import SysfsTree

from profiler.errors import (
    CounterFaultError,
    InputError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.meters.pyjoules import PyJoulesSource
from profiler.meters.rapl import RaplSource

rapl_device = pytest.importorskip("pyJoules.device.rapl_device")
SOURCE = PyJoulesSource()


@pytest.fixture
def workstation(bare_sysfs_tree: SysfsTree) -> SysfsTree:
    """Two sockets in the order of their zones, so that pyJoules sees all that is counted."""
    tree = bare_sysfs_tree
    tree.add("intel-rapl:0", "package-0", 40.0, start_uj=17)
    tree.add("intel-rapl:0:0", "core", 30.0, start_uj=4_000)
    tree.add("intel-rapl:0:1", "dram", 6.0, start_uj=262_143_000_000)
    tree.add("intel-rapl:1", "package-1", 90.0, start_uj=262_142_000_000)
    tree.add("intel-rapl:1:0", "dram", 9.0, start_uj=5_000_000)
    return tree


def test_rails_and_joules_are_those_of_rapl(workstation: SysfsTree) -> None:
    ours, theirs = RaplSource().open(), SOURCE.open()
    assert set(theirs.info.selected) == set(ours.info.selected)
    assert set(theirs.info.rails) == set(ours.info.rails)
    for _ in range(5):
        workstation.advance(0.02)
        assert theirs.read().energy_j == pytest.approx(dict(ours.read().energy_j), abs=1e-9)
    assert theirs.read().energy_j["package-1"] == pytest.approx(9.0), "a wrap lies within"
    assert theirs.info.max_read_gap_s == ours.info.max_read_gap_s
    assert not any("pyJoules" in sentence for sentence in theirs.info.scope)
    ours.close()
    theirs.close()


def test_both_agree_within_a_step_on_ticking_counters(workstation: SysfsTree) -> None:
    ours, theirs = RaplSource().open(), SOURCE.open()
    with workstation.ticking():
        pairs = [(time.perf_counter(), theirs.read(), ours.read(), time.perf_counter())]
        for _ in range(40):
            time.sleep(0.003)
            pairs.append((time.perf_counter(), theirs.read(), ours.read(), time.perf_counter()))
    ours.close()
    theirs.close()
    opened = {"package-0": "intel-rapl:0", "package-1": "intel-rapl:1", "dram-1": "intel-rapl:1:0"}
    for before_s, their, our, after_s in pairs:
        for rail, zone in opened.items():
            least_j, most_j = workstation.counters[zone].bounds_j(before_s, after_s)
            step_j = most_j - least_j
            assert abs(their.energy_j[rail] - our.energy_j[rail]) <= step_j + 1e-9
    assert pairs[-1][1].energy_j["package-1"] > 5.0


def test_sockets_are_named_by_their_zones_and_the_missing_are_said(sysfs_tree: SysfsTree) -> None:
    meter = SOURCE.open()
    assert meter.info.selected == ("package-1", "dram-1", "dram-0")
    sysfs_tree.advance(0.02)
    assert meter.read().energy_j == pytest.approx(
        {"package-1": 0.6, "dram-1": 0.1, "dram-0": 0.16}, abs=2e-6
    )
    assert any("does not see package-0: " in sentence for sentence in meter.info.scope)
    meter.close()


def test_dies_are_not_seen_and_half_a_machine_is_no_default(bare_sysfs_tree: SysfsTree) -> None:
    for die in (0, 1):
        bare_sysfs_tree.add(f"intel-rapl:{die}", f"package-0-die-{die}", start_uj=die + 1)
        bare_sysfs_tree.add(f"intel-rapl:{die}:0", "dram", start_uj=die + 10)
    with pytest.raises(MeterNotFoundError, match=r"does not see package-0-die-0.*--meter rapl"):
        SOURCE.open()
    report = SOURCE.discover()[0]
    assert not report.usable and report.remedy == "use --meter rapl"
    meter = SOURCE.open(rails=["dram-0-die-1"])
    bare_sysfs_tree.advance(0.1)
    assert meter.read().energy_j == pytest.approx({"dram-0-die-1": 1.0})
    meter.close()


def test_its_root_is_as_before_when_the_meter_is_open(workstation: SysfsTree) -> None:
    usual = rapl_device.RAPL_API_DIR
    meter = SOURCE.open()
    assert usual == rapl_device.RAPL_API_DIR
    workstation.advance(0.1)
    assert meter.read().energy_j["package-0"] == pytest.approx(4.0)
    meter.close()
    workstation.counters["intel-rapl:0"].say(b"x" * 16)
    with pytest.raises(CounterFaultError):
        SOURCE.open()
    assert usual == rapl_device.RAPL_API_DIR


@pytest.mark.parametrize("text", [b"nan\n", b"inf\n", b"1.5\n", b"-5\n", b"many\n", b"\xff\n", b""])
def test_what_pyjoules_would_pass_on_is_a_fault(workstation: SysfsTree, text: bytes) -> None:
    meter = SOURCE.open()
    (workstation.powercap / "intel-rapl:0" / "energy_uj").write_bytes(text)
    with pytest.raises(CounterFaultError, match="intel-rapl:0/energy_uj"):
        meter.read()
    meter.close()


def test_failing_and_vanishing_zones_are_errors_that_name_the_file(workstation: SysfsTree) -> None:
    meter = SOURCE.open()
    workstation.break_reading("intel-rapl:0")
    with pytest.raises(MeterReadError, match=r"intel-rapl:0/energy_uj.*Input/output"):
        meter.read()
    workstation.vanish("intel-rapl:1")
    with pytest.raises(MeterReadError):
        meter.read()
    meter.close()


def test_permission_is_asked_for_as_by_rapl(workstation: SysfsTree) -> None:
    meter = SOURCE.open()
    workstation.forbid("intel-rapl:1")
    with without_privilege():
        with pytest.raises(MeterPermissionError, match=r"intel-rapl:1/energy_uj; sudo chmod o\+r"):
            SOURCE.open()
        report = SOURCE.discover()[0]
        # pyJoules opens its files anew at each read, so permission can be lost midway.
        with pytest.raises(MeterPermissionError, match=r"intel-rapl:1/energy_uj; sudo chmod o\+r"):
            meter.read()
    assert not report.usable and report.remedy is not None
    assert report.remedy.startswith("sudo chmod o+r")
    meter.close()


def test_a_counter_that_stands_still_is_a_fault(
    workstation: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = SOURCE.open()
    real = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + 2.0)
    with pytest.raises(CounterFaultError, match="stands still"):
        meter.read()
    meter.close()


def test_without_pyjoules_the_report_says_how_to_get_it(
    workstation: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyJoules.device.rapl_device", None)
    (report,) = SOURCE.discover()
    assert not report.usable
    assert report.cause is not None and "pyJoules cannot be imported" in report.cause
    assert report.remedy is not None and "pip install pyJoules" in report.remedy
    with pytest.raises(MeterNotFoundError, match="pip install pyJoules"):
        SOURCE.open()


def test_without_counters_the_cause_is_that_of_rapl(bare_sysfs_tree: SysfsTree) -> None:
    report = SOURCE.discover()[0]
    assert not report.usable and report.cause and report.remedy
    assert report.cause == RaplSource().discover()[0].cause


def test_a_tree_that_pyjoules_does_not_find(workstation: SysfsTree) -> None:
    (workstation.powercap / "intel-rapl").unlink()
    with pytest.raises(MeterNotFoundError, match="sees no processor counter"):
        SOURCE.open()


def test_millijoules_of_a_gpu_are_millijoules(
    bare_sysfs_tree: SysfsTree, nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu = FakeGpu(energy_mj=10_000)
    nvml_library.show(gpu)
    reports = SOURCE.discover()
    assert [(report.source, report.usable) for report in reports] == [
        ("pyjoules", False),
        ("pyjoules", True),
    ]
    meter = SOURCE.open(device="cuda:0")
    assert (meter.info.name, meter.info.covers) == ("pyjoules", "gpu")
    nvml_library.show(gpu.but(energy_mj=12_500))
    assert meter.read().energy_j == pytest.approx({"gpu-0": 2.5})
    nvml_library.show(gpu.but(energy_mj=1))
    with pytest.raises(CounterFaultError, match="reset"):
        meter.read()
    nvml_library.show(gpu.but(status=15))
    with pytest.raises(MeterReadError, match="gpu-0"):
        meter.read()
    meter.close()
    nvml_library.show(gpu)
    named = SOURCE.open(rails=["gpu-0"])  # a rail of its own names the GPUs
    assert named.info.covers == "gpu"
    named.close()


def test_an_argument_or_an_unknown_device_is_refused(workstation: SysfsTree) -> None:
    with pytest.raises(InputError, match="no argument"):
        SOURCE.open("rapl")
    with pytest.raises(InputError):
        SOURCE.open(device="mps")


def test_opening_twice_leaves_nothing_open(workstation: SysfsTree) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        meter = SOURCE.open()
        meter.read()
        meter.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
