"""Batteries: joules of a charge that falls, and never while something else feeds the machine."""

from __future__ import annotations

import os
import time

import pytest
from stand_ins.boards import BoardTree

from profiler.errors import CounterFaultError, InputError, MeterNotFoundError, MeterReadError
from profiler.meters import find_meter
from profiler.meters.base import energy_between
from profiler.meters.battery import SOURCE, BatteryMeter
from profiler.meters.fake import ManualClock
from profiler.meters.power_supply import batteries
from profiler.meters.sampled import SampledMeter
from profiler.probe import probe, update_statistics
from profiler.window import meter_window


def _open(tree: BoardTree) -> BatteryMeter:
    supplies = tree.root / "class/power_supply"
    return BatteryMeter(batteries(supplies), supplies, background=False)


@pytest.mark.parametrize("shows", ["energy", "charge"])
def test_what_the_gauge_loses_is_what_is_spent(board_tree: BoardTree, shows: str) -> None:
    board_tree.battery("BAT0", lambda t: 10 + t / 100, shows=shows)
    meter = _open(board_tree)
    start = meter.read()
    for _ in range(30):
        board_tree.advance(20.0)
        end = meter.read()
    joules = energy_between(start, end, ["BAT0"])
    # whole microwatthours or microamperehours at 5 V
    assert joules == pytest.approx(board_tree.loads["BAT0"].energy_j, abs=0.05)
    meter.close()


def test_charge_is_weighed_with_the_voltage_at_the_time(board_tree: BoardTree) -> None:
    folder = board_tree.battery("BAT0", 10.0, shows="charge")
    meter = _open(board_tree)
    before = int((folder / "charge_now").read_text())
    start = meter.read()
    board_tree.put(folder / "charge_now", f"{before - 1000}\n")
    board_tree.put(folder / "voltage_now", "4000000\n")
    joules = energy_between(start, meter.read(), ["BAT0"])
    assert joules == pytest.approx(1000e-6 * 3600 * (5.0 + 4.0) / 2)
    meter.close()


def test_several_batteries_add_up(board_tree: BoardTree) -> None:
    board_tree.battery("BAT0", 12.0)
    folder = board_tree.battery("BAT1", 0.0, shows="charge", status="Not charging")
    meter = _open(board_tree)
    start = meter.read()
    board_tree.advance(100.0)
    assert energy_between(start, meter.read(), meter.info.selected) == pytest.approx(1200, abs=0.1)
    board_tree.put(folder / "status", "Charging\n")
    with pytest.raises(CounterFaultError, match="BAT1 says Charging"):
        meter.read()
    meter.close()


def test_a_gauge_s_coarse_steps_are_seen_as_they_are(board_tree: BoardTree) -> None:
    board_tree.battery("BAT0", 9.0, every_s=30.0)
    meter = _open(board_tree)
    times_s, energies_j = [], []
    for second in range(600):
        times_s.append(float(second))
        energies_j.append(meter.read().energy_j["BAT0"])
        board_tree.advance(1.0)
    found = update_statistics(times_s, energies_j)
    assert found.updates == 19
    assert found.period_s == pytest.approx(30.0)
    assert found.quantum_j == pytest.approx(270.0)
    assert any("minutes" in sentence for sentence in meter.info.scope)
    meter.close()


def test_a_gauge_too_slow_to_be_probed_gets_long_quiet_and_an_honest_error(
    board_tree: BoardTree,
) -> None:
    board_tree.battery("BAT0", 9.0, every_s=60.0)
    meter = _open(board_tree)

    def sleep(seconds: float) -> None:
        for _ in range(round(seconds)):
            board_tree.advance(1.0)

    found = probe(meter, max_time_s=0.05)
    assert (found.period_s, found.rail("BAT0").updates) == (60.0, 0)
    with (
        pytest.raises(InputError, match=r"battery takes up to 60 s .* rest before each run"),
        meter_window(meter, "no rest", probe=found, sleep=sleep),
    ):
        pass
    with meter_window(meter, "rest", probe=found, resting=True, sleep=sleep) as resting:
        sleep(600)
    window = meter_window(meter, "run", probe=found, rest=resting.result, sleep=sleep)
    begun_s = board_tree.now_s
    with window as running:
        sleep(300)
    assert board_tree.now_s - begun_s > 300 + 2 * 75
    assert resting.result.standard_error_j is not None
    assert running.result.standard_error_j is not None
    assert running.result.standard_error_j > 0
    meter.close()


@pytest.mark.parametrize(("shows", "sign"), [("power", 1), ("current", 1), ("current", -1)])
def test_a_power_alone_is_sampled_whatever_its_sign(
    board_tree: BoardTree, shows: str, sign: int
) -> None:
    board_tree.battery("BAT0", 10.0, shows=shows, sign=sign)
    clock = ManualClock()
    meter = SOURCE.open(clock=clock, background=False)
    assert isinstance(meter, SampledMeter)
    for _ in range(5):
        clock.advance(meter.period_s)
        meter.sample()
    assert meter.read().energy_j == {"BAT0": pytest.approx(50.0)}
    meter.close()


@pytest.mark.parametrize("shows", ["energy", "power"])
@pytest.mark.parametrize(
    ("status", "online", "cause"),
    [
        ("Charging", True, "AC says that power comes from outside"),
        ("Discharging", True, "AC says that power comes from outside"),
        ("Charging", False, "BAT0 says Charging"),
        ("Full", False, "BAT0 says Full"),
        ("Not charging", False, "BAT0 says Not charging"),
        ("Unknown", False, "BAT0 says Unknown"),
    ],
)
def test_with_a_charger_it_is_of_no_use(
    board_tree: BoardTree, shows: str, status: str, online: bool, cause: str
) -> None:
    board_tree.battery("BAT0", 10.0, shows=shows, status=status)
    board_tree.charger(online=online)
    (report,) = SOURCE.discover()
    assert not report.usable and report.device is not None
    assert cause in (report.cause or "") and report.remedy == "unplug the charger"
    with pytest.raises(MeterNotFoundError, match=f"{cause}; unplug"):
        SOURCE.open()


@pytest.mark.parametrize("shows", ["energy", "charge", "power", "current"])
def test_a_charger_plugged_in_midway_is_a_fault_and_its_joules_are_lost(
    board_tree: BoardTree, shows: str
) -> None:
    board_tree.battery("BAT0", 10.0, shows=shows)
    board_tree.charger(online=False, kind="USB")
    clock = ManualClock()
    meter = SOURCE.open(clock=clock, background=False)

    def look() -> None:
        clock.advance(1.0)
        if isinstance(meter, SampledMeter):
            meter.sample()
        else:
            assert isinstance(meter, BatteryMeter)
            meter.poll()

    look()
    start = meter.read()
    board_tree.charger(online=True, kind="USB")
    look()
    board_tree.charger(online=False, kind="USB")
    look()
    with pytest.raises(CounterFaultError, match="unplug the charger"):
        meter.read()
    look()
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(start, meter.read(), ["BAT0"])
    meter.close()


def test_the_thread_sees_a_charger_between_two_reads(
    board_tree: BoardTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.meters.battery.POLL_S", 0.01)
    board_tree.battery("BAT0", 10.0)
    meter = SOURCE.open()
    meter.read()
    board_tree.charger(online=True)
    time.sleep(0.2)
    board_tree.charger(online=False)
    time.sleep(0.05)
    with pytest.raises(CounterFaultError, match="AC says"):
        meter.read()
    meter.close()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("40000001", CounterFaultError),  # a gauge that corrects itself upwards
        ("1", CounterFaultError),  # or loses 144 kJ at once
        ("-3", CounterFaultError),
        ("", CounterFaultError),
        ("full", CounterFaultError),
        (None, MeterReadError),
    ],
)
def test_a_gauge_s_fault_is_said_and_never_joules(
    board_tree: BoardTree, text: str | None, error: type[Exception]
) -> None:
    folder = board_tree.battery("BAT0", 10.0)
    meter = _open(board_tree)
    meter.read()
    if text is None:
        board_tree.vanish(folder / "energy_now")
    else:
        board_tree.put(folder / "energy_now", text)
    with pytest.raises(error):
        meter.read()
    meter.close()


def test_a_battery_that_rises_loses_the_window(board_tree: BoardTree) -> None:
    folder = board_tree.battery("BAT0", 10.0)
    meter = _open(board_tree)
    start = meter.read()
    board_tree.put(folder / "energy_now", "40000500\n")
    with pytest.raises(CounterFaultError, match="the energy taken from BAT0 went back"):
        meter.read()
    board_tree.put(folder / "energy_now", "39999000\n")
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(start, meter.read(), ["BAT0"])
    meter.close()


def test_a_gauge_that_stands_still_is_a_fault_unless_another_is_emptied(
    board_tree: BoardTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.meters.battery.STALL_S", 0.05)
    board_tree.battery("BAT0", 10.0)
    alone = _open(board_tree)
    board_tree.battery("BAT1", 0.0, status="Full")
    both = _open(board_tree)
    time.sleep(0.1)
    with pytest.raises(CounterFaultError, match="the energy taken from BAT0 stands still"):
        alone.read()
    assert both.read().energy_j == {"BAT0": 0.0, "BAT1": 0.0}


def test_batteries_of_other_things_are_left_out(board_tree: BoardTree) -> None:
    mouse = board_tree.battery("hid-mouse-battery", 0.1)
    (mouse / "scope").write_text("Device\n")
    empty = board_tree.battery("BAT1", 0.0)
    (empty / "present").write_text("0\n")
    (report,) = SOURCE.discover()
    assert not report.usable and report.cause == "no battery shows its charge"
    with pytest.raises(MeterNotFoundError, match="no battery"):
        SOURCE.open()
    board_tree.battery("BAT0", 10.0)
    meter = SOURCE.open()
    assert meter.info.selected == ("BAT0",)
    meter.close()


def test_batteries_that_cannot_be_added_must_be_chosen(board_tree: BoardTree) -> None:
    board_tree.battery("BAT0", 10.0)
    board_tree.battery("BAT1", 3.0, shows="power")
    with pytest.raises(InputError, match="choose one kind with --rails"):
        SOURCE.open()
    (report,) = SOURCE.discover()
    assert not report.usable and "--rails" in (report.remedy or "")
    for rail in ("BAT0", "BAT1"):
        SOURCE.open(rails=[rail]).close()


def test_auto_never_takes_a_battery(board_tree: BoardTree) -> None:
    board_tree.battery("BAT0", 10.0)
    assert find_meter().info.name == "modelled"


@pytest.mark.parametrize("how", [{"argument": "x"}, {"device": "cuda:0"}, {"rails": ["BAT9"]}])
def test_what_it_cannot_do_is_refused(board_tree: BoardTree, how: dict[str, object]) -> None:
    board_tree.battery("BAT0", 10.0)
    with pytest.raises(InputError):
        SOURCE.open(**how)  # type: ignore[arg-type]


def test_a_power_says_that_its_own_refresh_is_unknown_and_a_charge_does_not(
    board_tree: BoardTree,
) -> None:
    board_tree.battery("BAT0", 10.0, shows="power")
    with_power = SOURCE.open(clock=ManualClock(), background=False)
    assert any("renews it is unknown" in sentence for sentence in with_power.info.scope)
    with_power.close()
    board_tree.battery("BAT0", 10.0, shows="energy")
    meter = _open(board_tree)
    assert not any("renews" in sentence for sentence in meter.info.scope)
    meter.close()


def test_a_forked_child_is_told_to_open_its_own(board_tree: BoardTree) -> None:
    board_tree.battery("BAT0", 10.0)
    meter = _open(board_tree)
    child = os.fork()
    if not child:
        try:
            meter.read()
        except MeterReadError as error:
            os._exit(7 if "open a meter after the fork" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    meter.close()
