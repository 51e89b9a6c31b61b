"""RAPL on counters that stop, vanish, refuse, fail, mirror and step as real ones do."""

from __future__ import annotations

import itertools
import os
import random
import time

import pytest
from stand_ins.kernel_files import without_privilege
from stand_ins.steps import BROADWELL, ICE_LAKE, MEMORY, Steps
from stand_ins.sysfs import SysfsTree

from profiler.errors import CounterFaultError, MeterPermissionError, MeterReadError
from profiler.meters.base import energy_between
from profiler.meters.powercap import scan
from profiler.meters.processor import STALL_S, gain, scope
from profiler.meters.rapl import RaplMeter, RaplSource

SOURCE = RaplSource()


class Clock:
    """``time.perf_counter``, moved on at will."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = time.perf_counter
        self.ahead_s = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: real() + self.ahead_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_counter_that_stops_is_a_fault_until_it_moves(sysfs_tree: SysfsTree, clock: Clock) -> None:
    meter = SOURCE.open()
    sysfs_tree.advance(0.01)
    before = meter.read()
    stopped = sysfs_tree.counters["intel-rapl:2"]
    stopped.stopped = True
    for _ in range(3):
        clock.ahead_s += 0.9 * STALL_S
        sysfs_tree.advance(0.9 * STALL_S)
        try:
            meter.read()
        except CounterFaultError as error:
            assert "intel-rapl:2/energy_uj stands still" in str(error)
            assert "--rails" in str(error)
            break
    else:
        pytest.fail("a stopped counter passed unseen")
    with pytest.raises(CounterFaultError, match="stands still"):
        meter.read()
    stopped.stopped = False
    sysfs_tree.advance(0.01)
    after = meter.read()
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(before, after, ["package-0"])
    sysfs_tree.advance(0.01)
    assert energy_between(after, meter.read(), ["package-0"]) == pytest.approx(0.5, abs=2e-6)
    meter.close()


def test_memory_that_never_moved_is_a_fault_and_not_0_joules(
    sysfs_tree: SysfsTree, clock: Clock
) -> None:
    meter = SOURCE.open()
    sysfs_tree.counters["intel-rapl:2:2"].stopped = True
    clock.ahead_s += 1.1 * STALL_S
    sysfs_tree.advance(1.1 * STALL_S)
    with pytest.raises(CounterFaultError, match=r"intel-rapl:2:2/energy_uj stands still"):
        meter.read()
    meter.close()


@pytest.mark.parametrize("rail", ["core-0", "uncore-0"])
def test_cores_and_graphics_may_be_switched_off(
    sysfs_tree: SysfsTree, clock: Clock, rail: str
) -> None:
    meter = SOURCE.open(rails=[rail])
    clock.ahead_s += 10 * STALL_S
    assert meter.read().energy_j == {rail: 0.0}
    meter.close()


def test_a_pause_without_reads_is_no_stall(sysfs_tree: SysfsTree, clock: Clock) -> None:
    meter = SOURCE.open()
    meter.read()
    clock.ahead_s += 20 * STALL_S
    sysfs_tree.advance(20 * STALL_S)
    assert meter.read().energy_j["package-0"] == pytest.approx(1000.0)
    meter.close()


def test_memory_that_stands_at_zero_is_not_counted(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", start_uj=1)
    bare_sysfs_tree.add("intel-rapl:0:0", "dram", 0.0)
    _, dram = (zone.rail for zone in scan(bare_sysfs_tree.powercap))
    assert dram.excluded_because is not None and dram.excluded_because.startswith("stands at 0")
    meter = SOURCE.open()
    assert meter.info.selected == ("package-0",)
    assert any("memory" in sentence for sentence in meter.info.scope)
    meter.close()


def test_zone_that_vanishes_while_open_is_an_error_that_names_it(
    bare_sysfs_tree: SysfsTree,
) -> None:
    tree = bare_sysfs_tree
    tree.add("intel-rapl:0", "package-0", 40.0, start_uj=7)
    tree.add("intel-rapl:1", "package-1", 60.0, start_uj=9, mortal=True)
    meter = SOURCE.open()
    tree.advance(0.1)
    assert meter.read().energy_j == pytest.approx({"package-0": 4.0, "package-1": 6.0})
    tree.vanish("intel-rapl:1")
    for _ in range(2):
        with pytest.raises(MeterReadError, match=r"intel-rapl:1/energy_uj failed: No such process"):
            meter.read()
    meter.close()
    assert [zone.rail.name for zone in scan(tree.powercap)] == ["package-0"]


def test_zone_that_appears_after_opening_is_not_read(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", 40.0, start_uj=7)
    meter = SOURCE.open()
    bare_sysfs_tree.add("intel-rapl:1", "package-1", 60.0, start_uj=9)
    bare_sysfs_tree.advance(0.1)
    assert meter.read().energy_j == pytest.approx({"package-0": 4.0})
    assert meter.info.selected == ("package-0",)
    meter.close()


def test_permissions_as_the_kernel_refuses_them(sysfs_tree: SysfsTree) -> None:
    sysfs_tree.forbid("intel-rapl:1")
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with without_privilege():
        with pytest.raises(MeterPermissionError, match=r"intel-rapl:1/energy_uj.*sudo chmod o\+r"):
            SOURCE.open()
        (report,) = SOURCE.discover()
    assert not report.usable and report.remedy is not None and "udev" in report.remedy
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_input_output_error_before_opening(sysfs_tree: SysfsTree) -> None:
    sysfs_tree.break_reading("intel-rapl:2")
    with pytest.raises(MeterReadError, match=r"intel-rapl:2/energy_uj failed: Input/output"):
        SOURCE.open()


def test_several_wraps_in_one_gap_are_refused(bare_sysfs_tree: SysfsTree, clock: Clock) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", 90.0, start_uj=5, range_uj=400_000_000)
    meter = RaplMeter(scan(bare_sysfs_tree.powercap), guard_power_w=100.0)
    before = meter.read()
    bare_sysfs_tree.advance(40.0)  # nine times
    clock.ahead_s += 40.0
    with pytest.raises(CounterFaultError, match="may have wrapped twice"):
        meter.read()
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(before, meter.read(), ["package-0"])
    meter.close()


def test_twins_and_mirrored_dies_are_read_once(bare_sysfs_tree: SysfsTree) -> None:
    tree = bare_sysfs_tree
    tree.add("intel-rapl:0", "package-0-die-0", 40.0, start_uj=7)
    tree.add("intel-rapl:0:0", "dram", 4.0, start_uj=70)
    tree.add_mirror("intel-rapl:1", "package-0-die-1", of="intel-rapl:0")
    tree.add_mirror("intel-rapl:1:0", "dram", of="intel-rapl:0:0")
    tree.add_mirror("intel-rapl-mmio:0", "package-0-die-0", of="intel-rapl:0")
    tree.add("intel-rapl:2", "package-1", 50.0, start_uj=8)
    meter = SOURCE.open()
    assert meter.info.selected == ("package-0-die-0", "dram-0-die-0", "package-1")
    tree.advance(0.1)
    assert sum(meter.read().energy_j.values()) == pytest.approx(9.4)
    meter.close()


@pytest.mark.parametrize(
    ("zones", "because"),
    [
        (("package-0", "package-0-die-0"), "lies inside package-0"),
        (("package-0-die-0", "package-0"), "lies inside package-0"),
        (("package-0", "package-0"), "may show package-0 a second time"),
        (("package-0", "packages"), "may overlap with the packages"),
    ],
)
def test_what_may_be_the_same_joules_is_not_added(
    bare_sysfs_tree: SysfsTree, zones: tuple[str, str], because: str
) -> None:
    for number, name in enumerate(zones):
        bare_sysfs_tree.add(f"intel-rapl:{number}", name, start_uj=number + 1)
    rails = [zone.rail for zone in scan(bare_sysfs_tree.powercap)]
    assert [rail.excluded_because for rail in rails if not rail.counted] == [because]


def test_mmio_beside_dies_is_not_added(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0-die-0", start_uj=1)
    bare_sysfs_tree.add("intel-rapl-mmio:0", "package-0", start_uj=2)
    rails = {z.rail.name: z.rail.excluded_because for z in scan(bare_sysfs_tree.powercap)}
    assert rails == {"package-0-die-0": None, "mmio-package-0": "may mirror the packages"}


@pytest.mark.parametrize("steps", [ICE_LAKE, BROADWELL], ids=["Ice Lake", "Broadwell"])
def test_counters_that_step_as_real_ones_do_are_followed(
    bare_sysfs_tree: SysfsTree, steps: Steps
) -> None:
    tree = bare_sysfs_tree
    tree.add("intel-rapl:0", "package-0", 60.0, start_uj=262_143_000_000)
    tree.add("intel-rapl:0:0", "dram", 6.0, start_uj=2)
    meter = SOURCE.open()
    reads = []
    with tree.ticking(steps={"intel-rapl:0": steps, "intel-rapl:0:0": MEMORY}):
        for _ in range(120):
            before_s = time.perf_counter()
            reads.append((before_s, meter.read(), time.perf_counter()))
            time.sleep(0.0009)
    meter.close()
    for before_s, reading, after_s in reads:
        for zone, rail in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram-0")):
            least_j, most_j = tree.counters[zone].bounds_j(before_s, after_s)
            assert least_j - 1e-9 <= reading.energy_j[rail] <= most_j + 1e-9
    assert reads[-1][1].energy_j["package-0"] > 1.0
    for earlier, later in itertools.pairwise(reads):
        assert later[1].energy_j["package-0"] >= earlier[1].energy_j["package-0"]


@pytest.mark.parametrize("steps", [ICE_LAKE, BROADWELL, MEMORY])
def test_steps_have_the_quantiles_that_were_measured(steps: Steps) -> None:
    generator = random.Random(1)
    drawn = sorted(steps.draw(generator) for _ in range(40_000))
    assert drawn[400] == pytest.approx(steps.p1_s, rel=0.02)
    assert drawn[20_000] == pytest.approx(steps.median_s, rel=0.02)
    assert drawn[39_600] == pytest.approx(steps.p99_s, rel=0.05)
    assert sum(drawn) / len(drawn) == pytest.approx(steps.mean_s, rel=0.01)
    assert steps.mean_s == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize(
    ("vendor", "share", "cites"),
    [
        ("GenuineIntel", 0.05, "Khan et al. 2018"),
        ("AuthenticAMD", 0.10, "Schoene et al. 2021"),
        (None, 0.10, "no validation"),
    ],
)
def test_the_gain_is_stated_by_vendor(
    sysfs_tree: SysfsTree,
    monkeypatch: pytest.MonkeyPatch,
    vendor: str | None,
    share: float,
    cites: str,
) -> None:
    monkeypatch.setattr("profiler.meters.rapl.cpu_vendor", lambda: vendor)
    meter = SOURCE.open()
    (term,) = meter.info.systematic
    assert meter.info.systematic_share == share
    assert cites in term.cause and "assumed" in term.cause
    meter.close()


def test_psys_has_a_scope_and_a_gain_of_its_own(sysfs_tree: SysfsTree) -> None:
    meter = SOURCE.open(rails=["psys"])
    assert any("board's maker" in sentence for sentence in meter.info.scope)
    assert "psys" in meter.info.systematic[0].cause
    meter.close()
    assert gain("GenuineIntel", meter.info.rails[:1]) == meter.info.systematic
    assert scope(meter.info.rails[:1]) == meter.info.scope
