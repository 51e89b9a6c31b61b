"""Every file that a meter reads, with a truth beside it and a way to spoil what it shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stand_ins.boards import BoardTree
from stand_ins.sysfs import SysfsTree

from profiler.meters import hwmon_chips, ina3221_rails
from profiler.meters.base import EnergyMeter
from profiler.meters.battery import BatterySource
from profiler.meters.fake import ManualClock
from profiler.meters.hwmon import HwmonMeter
from profiler.meters.ina3221 import Ina3221Meter
from profiler.meters.pyjoules import PyJoulesSource
from profiler.meters.rapl import RaplSource
from profiler.meters.sampled import SampledMeter

Distort = Callable[[bytes], bytes]


@dataclass
class Bench:
    """A meter, one file of it, and the joules of one rail.

    Attributes:
        path: the file to spoil.
        rail: whose joules are `true_j`.
        let_pass: lets time pass in the stand-in.
        true_text: what the file should hold now.
        length_s: between two reads.
        take_over: keeps the stand-in from writing to the file that a reader has open.
        hold: keeps it from writing to whatever lies at `path`.
        step_j: how far a difference of readings may be off.
    """

    open_meter: Callable[[], EnergyMeter]
    path: Path
    rail: str
    let_pass: Callable[[float], None]
    true_text: Callable[[], bytes]
    true_j: Callable[[], float]
    length_s: float = 0.05
    step_j: float = 1e-5
    distort: Distort | None = None
    take_over: Callable[[bool], None] = lambda _: None
    hold: Callable[[bool], None] = lambda _: None
    meters: list[EnergyMeter] = field(default_factory=list)

    def open(self) -> EnergyMeter:
        """Open the meter, to be sampled as time passes."""
        meter = self.open_meter()
        self.meters.append(meter)
        return meter

    def advance(self) -> None:
        """Let time pass, show what there is, sample it."""
        self.let_pass(self.length_s)
        self.show()
        for meter in self.meters:
            sampled = getattr(meter, "sampled", meter)
            if isinstance(sampled, SampledMeter):
                sampled.sample()

    def show(self) -> None:
        """Write the file anew where it is spoilt."""
        if self.distort is not None:
            self.path.write_bytes(self.distort(self.true_text()))

    def spoil(self, distort: Distort) -> None:
        """From now on the file shows a distorted text."""
        self.distort = distort
        self.hold(True)
        self.take_over(True)
        self.show()

    def mend(self) -> None:
        """The file shows the truth again."""
        self.distort = None
        self.path.write_bytes(self.true_text())
        self.take_over(False)
        self.hold(False)


def manual_time(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """``time.perf_counter``, moved by hand."""
    clock = ManualClock()
    clock.now_s = 1000.0
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def _powercap(request: pytest.FixtureRequest, open_: Callable[[], EnergyMeter]) -> Bench:
    clock = manual_time(request.getfixturevalue("monkeypatch"))
    tree: SysfsTree = request.getfixturevalue("bare_sysfs_tree")
    counter = tree.add("intel-rapl:0", "package-0", 50.0, start_uj=5_000_000)
    tree.add("intel-rapl:0:0", "dram", 5.0, start_uj=77)

    def let_pass(seconds: float) -> None:
        clock.advance(seconds)
        tree.advance(seconds)

    def take_over(taken: bool) -> None:
        counter.stopped = taken

    def true_text() -> bytes:
        return b"%d\n" % (counter.start_uj + int(counter.energy_j * 1e6))

    return Bench(
        open_,
        counter.path,
        "package-0",
        let_pass,
        true_text,
        lambda: counter.energy_j,
        take_over=take_over,
    )


def _rapl(request: pytest.FixtureRequest) -> Bench:
    return _powercap(request, RaplSource().open)


def _rapl_range(request: pytest.FixtureRequest) -> Bench:
    bench = _rapl(request)
    bench.path = bench.path.with_name("max_energy_range_uj")
    bench.true_text, bench.take_over = lambda: b"262143328850\n", lambda _: None
    return bench


def _pyjoules(request: pytest.FixtureRequest) -> Bench:
    pytest.importorskip("pyJoules")
    return _powercap(request, PyJoulesSource().open)


def _board(
    request: pytest.FixtureRequest,
    build: Callable[[BoardTree], tuple[Path, str, str]],
    open_: Callable[[BoardTree, ManualClock], EnergyMeter],
    **traits: float,
) -> Bench:
    """*build* makes the board: the file to spoil, the meter's rail, and the stand-in's."""
    clock = manual_time(request.getfixturevalue("monkeypatch"))
    tree: BoardTree = request.getfixturevalue("board_tree")
    path, rail, load = build(tree)

    def let_pass(seconds: float) -> None:
        clock.advance(seconds)
        tree.advance(seconds)

    return Bench(
        lambda: open_(tree, clock),
        path,
        rail,
        let_pass,
        lambda: tree.true_text(path),
        lambda: tree.loads[load].energy_j,
        hold=lambda held: tree.hold(path, held),
        **traits,  # type: ignore[arg-type]
    )


def _open_hwmon(tree: BoardTree, clock: ManualClock) -> EnergyMeter:
    found = hwmon_chips.scan(tree.root / "class/hwmon")
    return HwmonMeter(found, clock=clock, background=False)


def _open_ina3221(tree: BoardTree, clock: ManualClock) -> EnergyMeter:
    return Ina3221Meter(ina3221_rails.scan(tree.root), clock=clock, background=False)


def _open_battery(_: BoardTree, clock: ManualClock) -> EnergyMeter:
    return BatterySource().open(clock=clock, background=False)


def _hwmon_energy(request: pytest.FixtureRequest) -> Bench:
    def build(tree: BoardTree) -> tuple[Path, str, str]:
        chip = tree.chip("amd_energy", energies={"Esocket0": 60.0})
        return chip / "energy1_input", "amd_energy-Esocket0", "Esocket0"

    return _board(request, build, _open_hwmon)


def _hwmon_power(request: pytest.FixtureRequest) -> Bench:
    def build(tree: BoardTree) -> tuple[Path, str, str]:
        return tree.chip("ina226", powers={"": 8.0}) / "power1_input", "ina226-power1", "power1"

    return _board(request, build, _open_hwmon, step_j=1e-4)


def _hwmon_current(request: pytest.FixtureRequest) -> Bench:
    def build(tree: BoardTree) -> tuple[Path, str, str]:
        return tree.chip("ina219", currents={"": 8.0}) / "curr1_input", "ina219-curr1", "curr1"

    return _board(request, build, _open_hwmon, step_j=1e-4)


def _ina3221(name: str) -> Callable[[pytest.FixtureRequest], Bench]:
    def build(tree: BoardTree) -> tuple[Path, str, str]:
        return tree.jetson({1: ("VDD_IN", 9.0), 2: ("VDD_SOC", 2.0)}) / name, "VDD_IN", "VDD_IN"

    return lambda request: _board(request, build, _open_ina3221, step_j=1e-4)


def _old_ina3221(request: pytest.FixtureRequest) -> Bench:
    def build(tree: BoardTree) -> tuple[Path, str, str]:
        folder = tree.old_jetson({0: ("VDD_IN", 9.0)}, address="1-0040")
        return folder / "in_power0_input", "VDD_IN", "VDD_IN"

    return _board(request, build, _open_ina3221, step_j=1e-4)


def _battery(shows: str, name: str) -> Callable[[pytest.FixtureRequest], Bench]:
    def build(tree: BoardTree) -> tuple[Path, str, str]:
        return tree.battery("BAT0", 20.0, shows=shows) / name, "BAT0", "BAT0"

    return lambda request: _board(request, build, _open_battery, length_s=1.0, step_j=0.05)


def _battery_voltage(request: pytest.FixtureRequest) -> Bench:
    bench = _battery("charge", "voltage_now")(request)
    bench.true_text = lambda: b"5000000\n"
    return bench


BENCHES: dict[str, Callable[[pytest.FixtureRequest], Bench]] = {
    "rapl": _rapl,
    "pyjoules": _pyjoules,
    "hwmon energy": _hwmon_energy,
    "hwmon power": _hwmon_power,
    "hwmon current": _hwmon_current,
    "ina3221 current": _ina3221("curr1_input"),
    "ina3221 voltage": _ina3221("in1_input"),
    "ina3221 old power": _old_ina3221,
    "battery energy": _battery("energy", "energy_now"),
    "battery charge": _battery("charge", "charge_now"),
    "battery voltage": _battery_voltage,
    "battery power": _battery("power", "power_now"),
}
AT_OPENING_ONLY = {"rapl range": _rapl_range}


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Bench:
    """The bench that the test is parametrised with, by name."""
    return {**BENCHES, **AT_OPENING_ONLY}[request.param](request)
