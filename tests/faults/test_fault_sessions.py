"""Faults inside a running session, a window, a monitor: the block is lost and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ledger import Ledger, check_message, time_limit
from stand_ins.boards import BoardTree
from stand_ins.nvml import FakeGpu, NvmlLibrary
from stand_ins.perf import FakeEvent, PerfKernel
from stand_ins.sessions import profile_known, read_journal
from stand_ins.simulated_device import DepositMeter, KnownOperation
from stand_ins.sysfs import SysfsTree

from profiler import attempts, conditions, session, window
from profiler.errors import CwmpError, MeterError, MeterReadError
from profiler.meters import hwmon_chips
from profiler.meters.base import EnergyMeter, Reading
from profiler.meters.hwmon import HwmonMeter
from profiler.meters.nvml import NvmlSource
from profiler.meters.perf import PerfSource
from profiler.meters.rapl import RaplSource
from profiler.monitor import EnergyMonitor
from profiler.progress import Standing
from profiler.window import meter_window

START_J = 5.0


@dataclass
class Deposits:
    """A real meter over a stand-in's counter, in which operations deposit their joules.

    `KnownOperation` adds to ``energy_j``; each sum is shown to the meter at once.
    """

    meter: EnergyMeter
    show: Callable[[float], None]
    total_j: float = 0.0

    @property
    def energy_j(self) -> float:
        return self.total_j

    @energy_j.setter
    def energy_j(self, joules: float) -> None:
        self.total_j = joules
        self.show(joules)


class Watched:
    """A meter, and whether a read of it has failed."""

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter, self.failed = meter, False
        self.info = meter.info

    def read(self) -> Reading:
        try:
            return self._meter.read()
        except CwmpError:
            self.failed = True
            raise

    def close(self) -> None:
        self._meter.close()


def _rapl(request: pytest.FixtureRequest) -> tuple[Deposits, dict[str, Callable[[], None]]]:
    tree: SysfsTree = request.getfixturevalue("bare_sysfs_tree")
    counter = tree.add("intel-rapl:0", "package-0", 0.0, start_uj=int(START_J * 1e6))
    tree.add("intel-rapl:0:0", "core", 0.0, start_uj=5)

    def show(joules: float) -> None:
        counter.energy_j = joules
        if not counter.stopped:
            counter.path.write_bytes(b"%015d\n" % (counter.start_uj + int(joules * 1e6)))

    faults = {
        "empty text": lambda: counter.path.write_bytes(b"") and None,
        "letters": lambda: counter.path.write_bytes(b"N/A\n") and None,
        "half a line": lambda: counter.path.write_bytes(b"50") and None,
        "starts again": lambda: counter.path.write_bytes(b"12\n") and None,
        "jumps": lambda: counter.path.write_bytes(b"250000000000\n") and None,
        "2**64": lambda: counter.path.write_bytes(b"%d\n" % 2**64) and None,
    }
    return Deposits(RaplSource().open(), show), faults


def _hwmon(request: pytest.FixtureRequest) -> tuple[Deposits, dict[str, Callable[[], None]]]:
    tree: BoardTree = request.getfixturevalue("board_tree")
    path = tree.chip("amd_energy", energies={"Esocket0": 0.0}) / "energy1_input"

    def write(text: str) -> None:
        path.unlink(missing_ok=True)
        path.write_text(text)

    def show(joules: float) -> None:
        write(f"{round((START_J + joules) * 1e6)}\n")

    found = hwmon_chips.scan(tree.root / "class/hwmon")
    faults = {
        "vanishes": lambda: path.unlink(missing_ok=True),
        "fails": lambda: tree.fail(path),
        "a fraction": lambda: write("5000000.5\n"),
    }
    return Deposits(HwmonMeter(found), show), faults


def _perf(request: pytest.FixtureRequest) -> tuple[Deposits, dict[str, Callable[[], None]]]:
    kernel: PerfKernel = request.getfixturevalue("perf_kernel")
    kernel.offer("pkg")

    def show(joules: float, **changes: int) -> None:
        kernel.show(FakeEvent("pkg", energy_j=joules, **changes))

    show(0.0)
    deposits = Deposits(PerfSource(kernel.shared_library).open(), show)
    faults = {
        "EIO": lambda: show(deposits.total_j, read_error=5),
        "a short read": lambda: show(deposits.total_j, read_error=-1),
    }
    return deposits, faults


def _nvml(request: pytest.FixtureRequest) -> tuple[Deposits, dict[str, Callable[[], None]]]:
    library: NvmlLibrary = request.getfixturevalue("nvml_library")

    def show(joules: float, **changes: Any) -> None:
        energy_mj = 5_000_000 + round(joules * 1e3)
        library.show(FakeGpu(energy_mj=energy_mj).but(**changes))

    meter = NvmlSource().open()
    meter._info = replace(meter.info, covers="cpu", lag_s=0.0)  # type: ignore[attr-defined]
    deposits = Deposits(meter, show)
    faults = {
        "GPU lost": lambda: show(deposits.total_j, status=15),
        "unknown error": lambda: show(deposits.total_j, status=999),
        "driver reloaded": lambda: show(deposits.total_j, energy_mj=0),
    }
    return deposits, faults


METERS = {"rapl": _rapl, "hwmon energy": _hwmon, "perf": _perf, "nvml": _nvml}
FAULTS = {
    "rapl": ("empty text", "letters", "half a line", "starts again", "jumps", "2**64"),
    "hwmon energy": ("vanishes", "fails", "a fraction"),
    "perf": ("EIO", "a short read"),
    "nvml": ("GPU lost", "unknown error", "driver reloaded"),
}
EVERY = [(name, fault) for name, faults in FAULTS.items() for fault in faults]


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_PROBE_S", 0.05)
    monkeypatch.setattr(attempts, "_COOLING_S", 1e-4)


class _Doing(KnownOperation):
    """Does something at the start of a run in the session's pilot, after three of its blocks."""

    done = 0

    def arm(self, inject: Callable[[], None], *, ever: bool = False) -> None:
        """Do *inject* once, or *ever* after."""
        injected = [False]

        def hook() -> None:
            if self.done >= 3 and (ever or not injected[0]):
                injected[0] = True
                inject()

        self.hook = hook

    def follow(self, standing: Standing) -> None:
        """The session's report of its progress."""
        if standing.stage == "pilot":
            self.done = standing.done


def _operation(deposits: Any, cells: tuple[int, ...] = (10, 100)) -> _Doing:
    # Steps of a counter are microjoules or millijoules: deposits of a joule are whole.
    return _Doing(deposits, cells, a_j=0.02, c_j=5e-4, call_s=2e-4, scatter=0.01)


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize(("name", "fault"), EVERY)
def test_a_passing_fault_drops_its_block_and_no_other(
    request: pytest.FixtureRequest, ledger: Ledger, name: str, fault: str
) -> None:
    deposits, faults = METERS[name](request)
    operation = _operation(deposits)
    inject = faults[fault]
    watched = Watched(deposits.meter)

    def spoil() -> None:
        """The fault holds until a read has failed."""
        usual = deposits.show

        def stay_silent(joules: float) -> None:
            if watched.failed:
                deposits.show = usual
                usual(joules)

        inject()
        deposits.show = stay_silent

    operation.arm(spoil)
    with time_limit(60):
        trace = profile_known(
            meter=watched,
            extra_operations=[operation],
            progress=operation.follow,
            precision=0.2,
            max_time_s=20,
        )
    deposits.meter.close()
    assert sum(trace.metadata.dropped.values()) >= 1, "the fault passed unseen"
    assert set(trace.metadata.dropped) <= {"MeterReadError", "CounterFaultError"}
    assert trace.blocks["block"].tolist() == list(range(len(trace.blocks)))
    for k, blocks in trace.blocks.groupby("k"):
        truth_j = operation.energy_j(int(k))
        assert (abs(blocks["cost_j_per_call"] / truth_j - 1) < 0.4).all(), "a wrong block"
    ledger.add(name, f"in a session: {fault}", "session", "detected")


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize(
    ("name", "fault"),
    [("rapl", "letters"), ("hwmon energy", "vanishes"), ("perf", "EIO"), ("nvml", "GPU lost")],
)
def test_a_lasting_fault_ends_the_session_and_it_is_resumed(
    request: pytest.FixtureRequest, ledger: Ledger, tmp_path: Path, name: str, fault: str
) -> None:
    deposits, faults = METERS[name](request)
    operation = _operation(deposits)
    usual = deposits.show

    def spoil() -> None:
        deposits.show = lambda _: None
        faults[fault]()

    operation.arm(spoil, ever=True)
    path = tmp_path / "t.journal"
    asked = {"extra_operations": [operation], "precision": 0.2, "journal": path}
    asked["progress"] = operation.follow
    with time_limit(60), pytest.raises(MeterReadError, match="blocks in a row") as ended:
        profile_known(meter=deposits.meter, **asked)
    check_message(ended.value)
    before = read_journal(path)
    operation.hook = lambda: None
    deposits.show = usual
    usual(deposits.total_j)
    with time_limit(60):
        trace = profile_known(meter=deposits.meter, resume=True, **asked)
    deposits.meter.close()
    kept = trace.blocks.set_index("block")["energy_j"]
    assert all(kept[block["block"]] == block["energy_j"] for block in before.blocks)
    assert sum(trace.metadata.dropped.values()) >= attempts.FAILURES_IN_A_ROW
    ledger.add(name, f"in a session, lasting: {fault}", "session", "detected")


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, step_s: float
) -> None:
    meter = DepositMeter()
    operation = _operation(meter)
    real, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])

    def step() -> None:
        ahead[0] = step_s

    operation.arm(step)
    trace = profile_known(
        meter=meter, extra_operations=[operation], progress=operation.follow, precision=0.2
    )
    assert trace.metadata.dropped == {} and ahead[0] == step_s
    for k, blocks in trace.blocks.groupby("k"):
        assert (abs(blocks["cost_j_per_call"] / operation.energy_j(int(k)) - 1) < 0.4).all()
        assert (blocks["duration_s"] < 10).all() if "duration_s" in blocks else True
    ledger.add("every meter", f"the wall clock steps by {step_s:g} s", "session", "harmless")


@contextmanager
def _asleep(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    slept = [0.0]
    for module in (conditions, window):
        monkeypatch.setattr(module, "suspended_s", lambda: slept[0])
    yield slept


@pytest.mark.usefixtures("no_probe")
def test_a_host_that_sleeps_in_a_session(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    meter = DepositMeter()
    operation = _operation(meter)
    with _asleep(monkeypatch) as slept:

        def sleep() -> None:
            slept[0] += 100.0
            meter.energy_j += 500.0  # what a machine asleep draws in that time

        operation.arm(sleep)
        trace = profile_known(
            meter=meter, extra_operations=[operation], progress=operation.follow, precision=0.2
        )
    assert trace.metadata.dropped == {"suspend-gap": 1}
    assert trace.blocks["cost_j_per_call"].max() < 1.0
    ledger.add("every meter", "the host sleeps", "session", "detected")


def test_a_host_that_sleeps_in_a_window(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    meter = DepositMeter()
    with (
        _asleep(monkeypatch) as slept,
        pytest.raises(MeterError, match="slept for 100 s") as refused,
        meter_window(meter, "asleep"),
    ):
        slept[0] = 100.0
        meter.energy_j = 500.0
    check_message(refused.value)
    ledger.add("every meter", "the host sleeps", "window", "detected")


@pytest.mark.parametrize(("name", "fault"), EVERY)
def test_a_fault_in_a_window_gives_no_number(
    request: pytest.FixtureRequest, ledger: Ledger, name: str, fault: str
) -> None:
    deposits, faults = METERS[name](request)
    with pytest.raises(CwmpError) as refused, meter_window(deposits.meter, "step"):
        deposits.energy_j += 1.0
        faults[fault]()
    check_message(refused.value)
    deposits.energy_j += 1.0
    with meter_window(deposits.meter, "next") as after:
        deposits.energy_j += 2.0
    assert after.result.energy_j == pytest.approx(2.0, abs=2e-3)
    deposits.meter.close()
    ledger.add(name, f"in a window: {fault}", "window", "detected")


@pytest.mark.parametrize(("name", "fault"), EVERY)
def test_a_fault_under_a_monitor_drops_that_occurrence(
    request: pytest.FixtureRequest, ledger: Ledger, name: str, fault: str
) -> None:
    deposits, faults = METERS[name](request)
    from profiler.probe import probe

    probed = probe(deposits.meter, max_time_s=0.02)
    with EnergyMonitor(deposits.meter, probe=probed) as monitor:
        for number in range(5):
            with monitor.window("step"):
                deposits.energy_j += 2.0
                if number == 2:
                    faults[fault]()
            deposits.energy_j += 0.0
        summary = monitor.summary("step")
    assert summary.n == 4 and sum(summary.dropped.values()) == 1
    assert summary.energy is not None
    assert summary.energy.mean_j == pytest.approx(2.0, abs=2e-3)
    deposits.meter.close()
    ledger.add(name, f"under a monitor: {fault}", "window", "detected")
