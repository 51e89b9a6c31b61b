"""RAPL on a tree whose truth is known: energy, wraps, and every way a counter can fail."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_ins.sysfs import RANGE_UJ, SysfsTree

from profiler.errors import (
    CounterFaultError,
    InputError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.meters.base import energy_between
from profiler.meters.powercap import scan
from profiler.meters.rapl import RaplMeter, RaplSource

SOURCE = RaplSource()


def _zone(tree: SysfsTree, name: str = "intel-rapl:2") -> Path:
    return tree.powercap / name / "energy_uj"


def test_energy_is_the_power_of_each_rail_times_time(sysfs_tree: SysfsTree) -> None:
    meter = SOURCE.open()
    sysfs_tree.advance(0.02)
    energy_j = meter.read().energy_j
    meter.close()
    assert energy_j == pytest.approx(
        {"package-1": 0.6, "dram-1": 0.1, "package-0": 1.0, "dram-0": 0.16}, abs=2e-6
    )


def test_wraps_are_removed(bare_sysfs_tree: SysfsTree) -> None:
    counter = bare_sysfs_tree.add("intel-rapl:0", "package-0", 90.0, range_uj=400_000_000)
    meter = RaplMeter(scan(bare_sysfs_tree.powercap), guard_power_w=100.0)
    for _ in range(300):
        bare_sysfs_tree.advance(0.1)
        energy_j = meter.read().energy_j["package-0"]
        assert energy_j == pytest.approx(counter.shown[-1][2] * 1e-6, abs=1e-9)
    meter.close()
    assert energy_j == pytest.approx(2700.0)
    assert energy_j > 6 * 400.0


@pytest.mark.parametrize("jitter", [0.1, 0.6])
def test_reads_of_a_ticking_counter_lie_between_its_states(
    bare_sysfs_tree: SysfsTree, jitter: float
) -> None:
    tree = bare_sysfs_tree
    rails = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:1:0": "dram-1"}
    power_w = {"intel-rapl:0": 40.0, "intel-rapl:1": 120.0, "intel-rapl:1:0": 9.0}
    tree.add("intel-rapl:0", "package-0", lambda t: 40.0 + 30.0 * (t % 0.02 > 0.01), start_uj=17)
    tree.add("intel-rapl:1", "package-1", 120.0, start_uj=RANGE_UJ - 2_000_000)
    tree.add("intel-rapl:1:0", "dram", 9.0, start_uj=5_000_000)
    meter = SOURCE.open()
    reads = []
    with tree.ticking(jitter=jitter):
        end_s = time.perf_counter() + 0.3
        while time.perf_counter() < end_s:
            before_s = time.perf_counter()
            reading = meter.read()
            reads.append((before_s, reading, time.perf_counter()))
            time.sleep(0.0007)
    meter.close()
    assert len(reads) > 10
    for before_s, reading, after_s in reads:
        assert before_s <= reading.time_s <= after_s
        for zone, rail in rails.items():
            least_j, most_j = tree.counters[zone].bounds_j(before_s, after_s)
            assert least_j - 1e-9 <= reading.energy_j[rail] <= most_j + 1e-9
    # A window is right to within what the counters gained in the steps at its two edges.
    first, last = reads[0], reads[-1]
    for zone, rail in rails.items():
        shown = tree.counters[zone].shown
        longest_s = max(b - a for (a, *_), (b, *_) in itertools.pairwise(shown))
        measured_j = last[1].energy_j[rail] - first[1].energy_j[rail]
        most_w = power_w[zone] + 30.0 * (zone == "intel-rapl:0")
        elapsed_s = last[1].time_s - first[1].time_s
        step_j = most_w * 2 * (longest_s + last[2] - last[0] + first[2] - first[0])
        assert measured_j >= power_w[zone] * elapsed_s - step_j
        assert measured_j <= most_w * elapsed_s + step_j
    assert tree.counters["intel-rapl:1"].energy_j > 2.0, "the wrap was not reached"


def test_selecting_a_contained_rail_is_the_users_choice(sysfs_tree: SysfsTree) -> None:
    meter = SOURCE.open(rails=["psys"])
    sysfs_tree.advance(0.01)
    assert meter.read().energy_j == pytest.approx({"psys": 1.5})
    meter.close()


def test_max_read_gap_is_that_of_the_smallest_selected_counter(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", start_uj=1)
    bare_sysfs_tree.add("intel-rapl:0:0", "dram", start_uj=2, range_uj=65_000_000_000)
    meter = SOURCE.open()
    assert meter.info.max_read_gap_s == pytest.approx(65.0 - 0.1)
    meter.close()
    meter = SOURCE.open(rails=["package-0"])
    assert meter.info.max_read_gap_s == pytest.approx(RANGE_UJ * 1e-9 - 0.1)
    meter.close()


def test_two_wraps_in_one_gap_are_refused(
    sysfs_tree: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = SOURCE.open()
    real = time.perf_counter
    before = meter.read()
    monkeypatch.setattr(time, "perf_counter", lambda: real() + 300.0)
    with pytest.raises(CounterFaultError, match="may have wrapped twice"):
        meter.read()
    # One fault for the four counters, and what spans it is refused.
    after = meter.read()
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(before, after, meter.info.selected)
    sysfs_tree.advance(0.01)
    assert energy_between(after, meter.read(), ["package-0"]) == pytest.approx(0.5, abs=2e-6)
    meter.close()


def test_reset_is_not_taken_for_a_wrap(sysfs_tree: SysfsTree) -> None:
    meter = SOURCE.open()
    sysfs_tree.advance(0.01)
    meter.read()
    counter = sysfs_tree.counters["intel-rapl:1"]
    counter.start_uj, counter.energy_j = 0, 0.0
    counter.show()
    with pytest.raises(CounterFaultError, match=r"intel-rapl:1/energy_uj .*reset"):
        meter.read()
    meter.close()


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"-5\n", b"nan\n", b"1e6\n", b"12 34\n", b"9" * 40, b"\xff\xfe\n", b"0x1F\n"],
)
@pytest.mark.parametrize("when", ["open", "read"])
def test_text_that_is_no_count_is_a_fault_that_names_the_file(
    sysfs_tree: SysfsTree, text: bytes, when: str
) -> None:
    path = _zone(sysfs_tree)
    if when == "open":
        path.write_bytes(text)
        with pytest.raises(CounterFaultError, match=str(path)):
            SOURCE.open()
        return
    meter = SOURCE.open()
    path.write_bytes(text)
    with pytest.raises(CounterFaultError, match=str(path)):
        meter.read()
    path.write_bytes(b"262143000001\n")
    assert meter.read().energy_j["package-0"] == pytest.approx(1e-6)
    meter.close()


def test_count_beyond_the_range_is_a_fault(sysfs_tree: SysfsTree) -> None:
    meter = SOURCE.open()
    _zone(sysfs_tree).write_text(f"{RANGE_UJ + 1}\n")
    with pytest.raises(CounterFaultError, match="outside its range"):
        meter.read()
    meter.close()


@pytest.mark.parametrize("text", ["0\n", "", "many\n"])
def test_range_that_is_no_range_is_a_fault(sysfs_tree: SysfsTree, text: str) -> None:
    (sysfs_tree.powercap / "intel-rapl:2" / "max_energy_range_uj").write_text(text)
    with pytest.raises(CounterFaultError):
        SOURCE.open()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENODEV, errno.ENODATA])
def test_failing_read_is_an_error_that_names_the_file(
    sysfs_tree: SysfsTree, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    meter = SOURCE.open()

    def fail(*_: Any) -> bytes:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(MeterReadError, match="intel-rapl:1/energy_uj"):
            meter.read()
    sysfs_tree.advance(0.01)
    assert meter.read().energy_j["package-0"] == pytest.approx(0.5)
    meter.close()


def test_failing_counter_is_seen_when_looking(sysfs_tree: SysfsTree) -> None:
    path = _zone(sysfs_tree)
    path.unlink()
    path.symlink_to("/proc/self/mem")  # opens, but reading its beginning is an input/output error
    (report,) = SOURCE.discover()
    assert not report.usable
    assert report.cause is not None and str(path) in report.cause


def test_zone_that_vanishes_between_looking_and_opening(sysfs_tree: SysfsTree) -> None:
    zones = scan(sysfs_tree.powercap)
    _zone(sysfs_tree).unlink()
    with pytest.raises(MeterReadError, match="intel-rapl:2/energy_uj"):
        RaplMeter(zones)


@pytest.fixture
def root_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Refuse to open what lies under a folder, as the kernel refuses all but root."""

    def refuse(folder: str) -> None:
        real = os.open

        def guarded(path: Any, *args: Any, **kwargs: Any) -> int:
            if str(path).endswith(f"{folder}/energy_uj"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", guarded)

    return refuse


def test_root_only_counter_says_how_to_open_it_in_one_line(
    sysfs_tree: SysfsTree, root_only: Callable[[str], None]
) -> None:
    root_only("intel-rapl:2:2")
    with pytest.raises(MeterPermissionError) as caught:
        SOURCE.open()
    message = str(caught.value)
    assert "\n" not in message
    assert str(_zone(sysfs_tree, "intel-rapl:2:2")) in message
    assert "sudo chmod o+r" in message and "'cwmp devices'" in message
    assert "KERNEL" not in message  # what follows chmod can be pasted
    (report,) = SOURCE.discover()
    assert not report.usable
    assert report.cause == f"only root may read {_zone(sysfs_tree, 'intel-rapl:2:2')}"
    assert report.remedy is not None and "udev" in report.remedy
    assert any(line.startswith("KERNEL==") for line in report.remedy.splitlines())
    assert len(report.rails) == 9


def test_root_only_rail_that_is_not_selected_does_no_harm(
    sysfs_tree: SysfsTree, root_only: Callable[[str], None]
) -> None:
    root_only("intel-rapl:0")
    (report,) = SOURCE.discover()
    assert report.usable
    SOURCE.open().close()


def test_failing_to_open_leaves_no_file_open(
    sysfs_tree: SysfsTree, root_only: Callable[[str], None]
) -> None:
    root_only("intel-rapl:2:2")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(MeterPermissionError):
        SOURCE.open()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_report_of_a_usable_tree(sysfs_tree: SysfsTree) -> None:
    (report,) = SOURCE.discover()
    assert report.usable and report.cause is None
    assert report.path == str(sysfs_tree.powercap)
    assert report.unit == "uJ"
    assert sum(rail.counted for rail in report.rails) == 4


def test_no_zone_is_an_error_with_cause_and_remedy(bare_sysfs_tree: SysfsTree) -> None:
    (report,) = SOURCE.discover()
    assert not report.usable and report.cause and report.remedy
    with pytest.raises(MeterNotFoundError, match="no RAPL counter"):
        SOURCE.open()


def test_gpu_or_argument_is_refused(sysfs_tree: SysfsTree) -> None:
    with pytest.raises(InputError, match="nvml"):
        SOURCE.open(device="cuda:0")
    with pytest.raises(InputError, match="no argument"):
        SOURCE.open("package-0")
