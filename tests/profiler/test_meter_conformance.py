"""What every meter must do, run over every meter."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand_ins.amd import FakeAmdGpu
from stand_ins.boards import BoardTree
from stand_ins.nvml import FakeGpu
from stand_ins.perf import FakeEvent
from stand_ins.streams import FileWriter

from profiler.errors import InputError, MeterReadError
from profiler.meters import amd, amd_gpus, hwmon_chips, ina3221_rails, nvml
from profiler.meters.amd import AmdSource
from profiler.meters.base import EnergyMeter, choose_rails, energy_between
from profiler.meters.battery import BatterySource
from profiler.meters.external.meter import ExternalSource
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.hwmon import HwmonMeter
from profiler.meters.ina3221 import Ina3221Meter
from profiler.meters.modelled import ModelledMeter
from profiler.meters.nvml import NvmlSource
from profiler.meters.perf import PerfSource
from profiler.meters.pmic import PmicSource
from profiler.meters.pyjoules import PyJoulesSource
from profiler.meters.rapl import RaplSource
from profiler.meters.recording import record
from profiler.meters.replay import ReplayMeter
from profiler.meters.sampled import SampledMeter


@dataclass
class Subject:
    """A meter to open, a way to make it spend, and whether its clock is the real one."""

    open: Callable[..., EnergyMeter]
    spend: Callable[[], None]


def _rapl(request: pytest.FixtureRequest) -> Subject:
    tree = request.getfixturevalue("sysfs_tree")
    return Subject(RaplSource().open, lambda: tree.advance(0.01))


def _perf(request: pytest.FixtureRequest) -> Subject:
    kernel = request.getfixturevalue("perf_kernel")
    names = ("pkg", "cores", "ram", "gpu", "psys")
    kernel.offer(*names, cpus={0: (1, 0), 28: (0, 0)})
    kernel.show(*(FakeEvent(name, cpu) for name in names for cpu in (0, 28)))
    return Subject(PerfSource(kernel.shared_library).open, lambda: kernel.spend(0.5))


def _pyjoules(request: pytest.FixtureRequest) -> Subject:
    pytest.importorskip("pyJoules")
    tree = request.getfixturevalue("sysfs_tree")
    return Subject(PyJoulesSource().open, lambda: tree.advance(0.01))


def _nvml(request: pytest.FixtureRequest) -> Subject:
    library = request.getfixturevalue("nvml_library")
    gpu = FakeGpu()
    library.show(gpu, gpu.but(uuid="GPU-2"))
    spent_mj = [0]

    def spend() -> None:
        spent_mj[0] += 300
        energy_mj = gpu.energy_mj + spent_mj[0]
        library.show(gpu.but(energy_mj=energy_mj), gpu.but(uuid="GPU-2", energy_mj=energy_mj + 7))

    return Subject(NvmlSource().open, spend)


def _by_hand(tree: BoardTree, open_: Callable[..., EnergyMeter]) -> Subject:
    """A meter that samples a board when it spends, on a clock of its own."""
    clock = ManualClock()
    opened: list[SampledMeter] = []

    def open_by_hand(*, rails: Sequence[str] | None = None) -> EnergyMeter:
        meter = open_(rails=rails, clock=clock, background=False)
        sampled = getattr(meter, "sampled", meter)
        opened.extend([sampled] if isinstance(sampled, SampledMeter) else [])
        return meter

    def spend() -> None:
        tree.advance(0.05)
        clock.advance(0.05)
        for sampled in opened:
            sampled.sample()

    return Subject(open_by_hand, spend)


def _ina3221(request: pytest.FixtureRequest) -> Subject:
    tree: BoardTree = request.getfixturevalue("board_tree")
    tree.jetson({1: ("VDD_IN", 9.0), 2: ("VDD_CPU_GPU_CV", 4.0), 3: ("VDD_SOC", 2.0)})
    return _by_hand(tree, lambda **how: Ina3221Meter(ina3221_rails.scan(tree.root), **how))


def _hwmon(request: pytest.FixtureRequest) -> Subject:
    tree: BoardTree = request.getfixturevalue("board_tree")
    tree.chip("amd_energy", energies={"Ecore000": 3.0, "Esocket0": 60.0, "Esocket1": 45.0})
    tree.chip("ina226", number=1, device="devices/i2c-1/1-0041", powers={"": 8.0})
    hwmon = tree.root / "class/hwmon"
    return _by_hand(tree, lambda **how: HwmonMeter(hwmon_chips.scan(hwmon), **how))


def _pmic(request: pytest.FixtureRequest) -> Subject:
    request.getfixturevalue("vcgencmd")
    return _by_hand(request.getfixturevalue("board_tree"), PmicSource().open)


def _battery(request: pytest.FixtureRequest) -> Subject:
    tree: BoardTree = request.getfixturevalue("board_tree")
    tree.battery("BAT0", 12.0)
    tree.battery("BAT1", 3.0, shows="charge")
    return Subject(BatterySource().open, lambda: tree.advance(1.0))


def _nvml_power(request: pytest.FixtureRequest) -> Subject:
    library = request.getfixturevalue("nvml_library")
    request.getfixturevalue("monkeypatch").setattr(nvml, "PERIOD_S", 0.002)
    gpu = FakeGpu(status=3, power_w=2.0).with_(instant=0)
    library.show(gpu, gpu.but(uuid="GPU-2"))
    return Subject(NvmlSource().open, lambda: time.sleep(0.02))


def _amd(request: pytest.FixtureRequest, counted_w: float = 2.0) -> Subject:
    module = request.getfixturevalue("amd_module")
    request.getfixturevalue("monkeypatch").setattr(amd, "PERIOD_S", 0.002)
    request.getfixturevalue("monkeypatch").setattr(amd_gpus, "_CHECK_S", 0.02)
    gpu = FakeAmdGpu(power_w=2.0, counted_w=counted_w)
    module.show(gpu, gpu.but(bdf="0000:c6:00.0"))
    return Subject(AmdSource().open, lambda: time.sleep(0.02))


def _amd_power(request: pytest.FixtureRequest) -> Subject:
    return _amd(request, counted_w=0.0)


def _external(request: pytest.FixtureRequest) -> Subject:
    writer = FileWriter(request.getfixturevalue("tmp_path") / "plug.csv", watts="1")
    request.addfinalizer(writer.stop)

    def open_(*, rails: Sequence[str] | None = None) -> EnergyMeter:
        return ExternalSource().open(f"{writer.path}#offset=none", rails=rails)

    return Subject(open_, lambda: time.sleep(0.05))


def _modelled(request: pytest.FixtureRequest) -> Subject:
    return Subject(ModelledMeter, lambda: sum(range(200_000)) and None)


def _replay(request: pytest.FixtureRequest) -> Subject:
    clock = ManualClock()
    source = FakeMeter({"package-0": 20.0, "dram-0": 2.0}, clock=clock)
    path: Path = request.getfixturevalue("tmp_path") / "recording.csv"
    recording = record(source, path, duration_s=1.0, interval_s=0.01, sleep=clock.advance)

    def open_(*, rails: Sequence[str] | None = None) -> EnergyMeter:
        return ReplayMeter(recording, rails, clock=clock)

    return Subject(open_, lambda: clock.advance(0.05))


def _fake(request: pytest.FixtureRequest) -> Subject:
    clock = ManualClock()

    def open_(*, rails: Sequence[str] | None = None) -> EnergyMeter:
        return FakeMeter({"package-0": 20.0, "dram-0": 2.0}, rails=rails, clock=clock)

    return Subject(open_, lambda: clock.advance(0.05))


SUBJECTS = {
    "rapl": _rapl,
    "perf": _perf,
    "pyjoules": _pyjoules,
    "nvml": _nvml,
    "nvml-power": _nvml_power,
    "amd": _amd,
    "amd-power": _amd_power,
    "ina3221": _ina3221,
    "hwmon": _hwmon,
    "pmic": _pmic,
    "battery": _battery,
    "external": _external,
    "modelled": _modelled,
    "replay": _replay,
    "fake": _fake,
}


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    no_cuda = SimpleNamespace(is_available=lambda: False, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=no_cuda))
    return SUBJECTS[request.param](request)


def test_info_is_consistent(subject: Subject) -> None:
    meter = subject.open()
    info = meter.info
    names = [rail.name for rail in info.rails]
    assert isinstance(meter, EnergyMeter)
    assert len(set(names)) == len(names)
    assert info.selected == choose_rails(info.rails, None)
    assert info.origin in ("measured", "modelled", "assumed")
    assert (info.origin == "measured") or info.assumptions
    assert info.device and info.name in SUBJECTS
    assert all((rail.excluded_because is None) == rail.counted for rail in info.rails)
    assert info is meter.info
    meter.close()


def test_reads_exactly_the_selected_rails(subject: Subject) -> None:
    meter = subject.open()
    assert tuple(meter.read().energy_j) == meter.info.selected
    meter.close()


def test_starts_at_zero_and_never_falls(subject: Subject) -> None:
    meter = subject.open()
    readings = [meter.read()]
    for _ in range(20):
        subject.spend()
        readings.append(meter.read())
    meter.close()
    rails = meter.info.selected
    assert all(readings[0].energy_j[rail] < 0.1 for rail in rails)
    for earlier, later in itertools.pairwise(readings):
        assert later.time_s >= earlier.time_s
        for rail in rails:
            assert later.energy_j[rail] >= earlier.energy_j[rail]
    assert energy_between(readings[0], readings[-1], rails) > 0
    assert readings[-1].time_s > readings[0].time_s


def test_any_rail_can_be_selected_by_itself(subject: Subject) -> None:
    every = subject.open()
    every.close()
    for rail in every.info.rails:
        meter = subject.open(rails=[rail.name])
        assert meter.info.selected == (rail.name,)
        assert list(meter.read().energy_j) == [rail.name]
        assert meter.info.rails == every.info.rails
        meter.close()


@pytest.mark.parametrize("rails", [["no-such-rail"], []])
def test_an_unknown_rail_or_none_at_all_is_refused(subject: Subject, rails: list[str]) -> None:
    with pytest.raises(InputError, match="rail"):
        subject.open(rails=rails)


def test_close_is_idempotent_and_final(subject: Subject) -> None:
    meter = subject.open()
    meter.read()
    meter.close()
    meter.close()
    with pytest.raises(MeterReadError, match="closed"):
        meter.read()


def test_two_meters_do_not_disturb_each_other(subject: Subject) -> None:
    one = subject.open()
    subject.spend()
    two = subject.open()
    before = two.read()
    one.close()
    subject.spend()
    assert energy_between(before, two.read(), two.info.selected) > 0
    two.close()
