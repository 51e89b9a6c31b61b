"""hwmon chips: names, which rails count, joules counted and joules summed."""

from __future__ import annotations

import math
import time

import pytest
from stand_ins.boards import BoardTree

from profiler.errors import CounterFaultError, InputError, MeterNotFoundError, MeterReadError
from profiler.meters import find_meter
from profiler.meters.base import energy_between, sampling_variance_between
from profiler.meters.fake import ManualClock
from profiler.meters.hwmon import SOURCE, HwmonMeter
from profiler.meters.hwmon_chips import ChipRail, scan
from profiler.probe import probe

I2C = "devices/platform/fd880000.i2c/i2c-0"


def _scan(tree: BoardTree) -> tuple[ChipRail, ...]:
    return scan(tree.root / "class/hwmon")


def _reasons(tree: BoardTree) -> dict[str, str | None]:
    """Each rail and why it does not count."""
    return {each.rail.name: each.rail.excluded_because for each in _scan(tree)}


def _simulated(tree: BoardTree, *rails: str) -> tuple[HwmonMeter, ManualClock]:
    clock = ManualClock()
    return HwmonMeter(_scan(tree), rails or None, clock=clock, background=False), clock


def test_sockets_count_and_their_cores_lie_inside(board_tree: BoardTree) -> None:
    board_tree.chip("amd_energy", energies={"Ecore000": 3.0, "Ecore001": 4.0, "Esocket0": 60.0})
    assert _reasons(board_tree) == {
        "amd_energy-Ecore000": "lies inside amd_energy-Esocket0",
        "amd_energy-Ecore001": "lies inside amd_energy-Esocket0",
        "amd_energy-Esocket0": None,
    }


def test_counted_joules_are_those_of_the_sockets(board_tree: BoardTree) -> None:
    board_tree.chip(
        "amd_energy", energies={"Ecore000": 3.0, "Esocket0": 60.0, "Esocket1": lambda t: 20 + t}
    )
    meter = SOURCE.open()
    assert meter.info.selected == ("amd_energy-Esocket0", "amd_energy-Esocket1")
    start = meter.read()
    for _ in range(40):
        board_tree.advance(0.25)
        end = meter.read()
    joules = energy_between(start, end, meter.info.selected)
    truth_j = board_tree.loads["Esocket0"].energy_j + board_tree.loads["Esocket1"].energy_j
    assert joules == pytest.approx(truth_j, abs=3e-6)
    assert sampling_variance_between(start, end, meter.info.selected) == 0
    meter.close()


def test_a_voltage_regulator_s_core_and_soc_power_add_up(board_tree: BoardTree) -> None:
    def power_w(now_s: float) -> float:
        return 40.0 + 20.0 * math.sin(2 * math.pi * now_s / 0.9)

    board_tree.chip("zenpower", powers={"SVI2_P_Core": power_w, "SVI2_P_SoC": 9.0})
    meter, clock = _simulated(board_tree)
    assert meter.sampled is not None
    start = meter.read()
    for _ in range(200):
        clock.advance(meter.sampled.period_s)
        board_tree.advance(meter.sampled.period_s)
        meter.sampled.sample()
    end = meter.read()
    joules = energy_between(start, end, meter.info.selected)
    truth_j = sum(load.energy_j for load in board_tree.loads.values())
    error_j = math.sqrt(sampling_variance_between(start, end, meter.info.selected))
    assert meter.info.selected == ("zenpower-SVI2_P_Core", "zenpower-SVI2_P_SoC")
    assert abs(joules - truth_j) < 3 * error_j < 0.01 * truth_j
    meter.close()


def test_the_regulator_s_power_is_not_added_to_the_sockets_joules(board_tree: BoardTree) -> None:
    board_tree.chip("zenpower", powers={"SVI2_P_Core": 40.0, "SVI2_P_SoC": 9.0})
    board_tree.chip("amd_energy", number=1, device="devices/e.0", energies={"Esocket0": 60.0})
    board_tree.chip("ina226", number=2, device=f"{I2C}/0-0040", powers={"": 90.0})
    assert _reasons(board_tree) == {
        "zenpower-SVI2_P_Core": "amd_energy-Esocket0 counts the same processor",
        "zenpower-SVI2_P_SoC": "amd_energy-Esocket0 counts the same processor",
        "amd_energy-Esocket0": None,
        "ina226-power1": "may contain amd_energy-Esocket0",
    }


def test_amd_s_model_has_its_assumed_gain_and_the_regulator_s_figure_none(
    board_tree: BoardTree,
) -> None:
    board_tree.chip("zenpower", powers={"SVI2_P_Core": 40.0, "SVI2_P_SoC": 10.0})
    meter, _ = _simulated(board_tree)
    assert meter.info.systematic_share is None
    meter.close()
    board_tree.chip("amd_energy", number=1, device="devices/e.0", energies={"Esocket0": 60.0})
    meter, _ = _simulated(board_tree)
    assert meter.info.selected == ("amd_energy-Esocket0",)
    assert meter.info.systematic_share == pytest.approx(0.10)
    meter.close()
    meter, _ = _simulated(board_tree, "amd_energy-Esocket0", "zenpower-SVI2_P_Core")
    assert (
        meter.info.systematic_share is None
    )  # of the one; what is known of the other bounds no sum
    assert "SVI2_P_Core: amd_energy-Esocket0 counts" in meter.info.scope[-1]
    meter.close()


def test_a_board_s_only_monitor_counts(board_tree: BoardTree) -> None:
    board_tree.chip("ina226", device=f"{I2C}/0-0040", powers={"": 7.5}, update_interval=20)
    meter, clock = _simulated(board_tree)
    assert meter.sampled is not None
    assert meter.sampled.period_s == pytest.approx(0.020) == meter.info.lag_s
    assert meter.info.systematic_share == pytest.approx(0.012)
    for _ in range(10):
        clock.advance(0.02)
        meter.sampled.sample()
    assert meter.read().energy_j == {"ina226-power1": pytest.approx(1.5)}
    meter.close()


def test_current_times_voltage_where_a_monitor_shows_no_power(board_tree: BoardTree) -> None:
    board_tree.chip("ina219", device=f"{I2C}/0-0041", currents={"": 3.0})
    meter, clock = _simulated(board_tree)
    assert meter.sampled is not None
    clock.advance(0.1)
    meter.sampled.sample()
    assert meter.read().energy_j == {"ina219-curr1": pytest.approx(0.3)}
    meter.close()


def test_of_several_monitors_the_user_must_choose(board_tree: BoardTree) -> None:
    board_tree.chip("ina226", device=f"{I2C}/0-0040", powers={"": 7.5})
    board_tree.chip("ina226", number=1, device=f"{I2C}/0-0041", powers={"": 2.5})
    names = ["ina226-power1@0-0040", "ina226-power1@0-0041"]
    assert list(_reasons(board_tree)) == names
    (report,) = SOURCE.discover()
    assert not report.usable and report.remedy == f"choose with --rails from {', '.join(names)}"
    with pytest.raises(InputError, match=r"add up.*choose with --rails from ina226-power1@0-0040"):
        SOURCE.open()
    meter = SOURCE.open(rails=names[1:])
    assert meter.info.selected == (names[1],)
    meter.close()


def test_names_do_not_depend_on_the_number_of_the_chip(board_tree: BoardTree) -> None:
    board_tree.chip("ina226", number=7, device=f"{I2C}/0-0040", powers={"VDD main, 5V": 7.5})
    board_tree.chip("ina226", number=3, device=f"{I2C}/0-0041", powers={"VDD main, 5V": 2.5})
    assert set(_reasons(board_tree)) == {
        "ina226-VDD_main_5V@0-0040",
        "ina226-VDD_main_5V@0-0041",
    }


@pytest.mark.parametrize(
    ("chip", "device", "because"),
    [
        ("amdgpu", "devices/pci0/0000:03:00.0", "powers a graphics card"),
        ("nvme", "devices/pci0/nvme0", "powers a drive"),
        ("corsairpsu", "devices/usb/1-1", "a power supply's own figure"),
        ("BAT0", "devices/acpi/power_supply/BAT0", "a battery or charger; see --meter battery"),
        ("cros_ec", "devices/acpi/power_supply/CROS", "a battery or charger; see --meter battery"),
        ("mystery", "devices/mystery.0", "nothing says what mystery powers"),
    ],
)
def test_what_is_no_processor_s_is_shown_and_not_counted(
    board_tree: BoardTree, chip: str, device: str, because: str
) -> None:
    board_tree.chip(chip, device=device, powers={"": 30.0})
    assert _reasons(board_tree) == {f"{chip}-power1": because}
    (report,) = SOURCE.discover()
    assert not report.usable and report.cause is not None and because in report.cause
    meter = SOURCE.open(rails=[f"{chip}-power1"])
    assert meter.info.covers == ("gpu" if chip == "amdgpu" else "cpu")
    meter.close()


def test_chips_without_energy_or_power_and_ina3221_are_no_rails(board_tree: BoardTree) -> None:
    board_tree.chip("coretemp")
    board_tree.jetson({1: ("VDD_IN", 9.0)}, chip=1)
    (report,) = SOURCE.discover()
    assert not report.usable and not report.rails
    with pytest.raises(MeterNotFoundError, match="shows energy or power"):
        SOURCE.open()


def test_joules_are_taken_before_watts_of_the_same_chip(board_tree: BoardTree) -> None:
    board_tree.chip("ina238", energies={"": 5.0}, powers={"": 5.0}, update_interval=4)
    assert _reasons(board_tree) == {"ina238-energy1": None}
    (report,) = SOURCE.discover()
    assert report.usable and report.unit == "uJ"


def test_an_averaged_power_lags_by_its_average(board_tree: BoardTree) -> None:
    board_tree.chip("power_meter", averages={"": 80.0}, power1_average_interval=1000)
    meter, _ = _simulated(board_tree)
    assert meter.info.lag_s == pytest.approx(1.0)
    assert meter.info.selected == ("power_meter-power1",)
    meter.close()


def test_counters_and_powers_can_be_read_together(board_tree: BoardTree) -> None:
    board_tree.chip("amd_energy", energies={"Esocket0": 60.0})
    board_tree.chip("ina226", number=1, device=f"{I2C}/0-0040", powers={"": lambda t: 5 + t})
    meter, clock = _simulated(board_tree, "ina226-power1", "amd_energy-Esocket0")
    assert meter.sampled is not None
    start = meter.read()
    for _ in range(20):
        clock.advance(0.01)
        board_tree.advance(0.01)
        meter.sampled.sample()
    end = meter.read()
    assert list(end.energy_j) == ["ina226-power1", "amd_energy-Esocket0"]
    assert end.energy_j["amd_energy-Esocket0"] == pytest.approx(12.0, abs=1e-5)
    assert end.energy_j["ina226-power1"] == pytest.approx(1.02, abs=1e-3)
    assert sampling_variance_between(start, end, ["ina226-power1"]) > 0
    assert sampling_variance_between(start, end, ["amd_energy-Esocket0"]) == 0
    meter.close()


def test_probing_a_sampled_rail_finds_its_period(board_tree: BoardTree) -> None:
    board_tree.chip("ina226", powers={"": 7.5}, update_interval=25)
    with board_tree.ticking():
        meter = SOURCE.open()
        found = probe(meter, max_time_s=0.6)
        meter.close()
    assert found.period_s is not None
    assert 0.02 < found.period_s < 0.2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("7", "reset"),
        ("-5\n", "outside its range"),
        ("", "whole number"),
        ("lots", "whole number"),
        ("999999999999999", "reset or is broken"),
        (None, "No such file"),
    ],
)
def test_a_counter_s_fault_is_said_and_never_joules(
    board_tree: BoardTree, text: str | None, error: str
) -> None:
    folder = board_tree.chip("amd_energy", energies={"Esocket0": 60.0})
    meter = SOURCE.open()
    board_tree.advance(1.0)
    meter.read()
    if text is None:
        board_tree.vanish(folder / "energy1_input")
    else:
        board_tree.put(folder / "energy1_input", f"{text}\n")
    with pytest.raises((CounterFaultError, MeterReadError), match=f"energy1_input.*{error}"):
        meter.read()
    meter.close()


def test_a_socket_that_stands_still_is_a_fault(
    board_tree: BoardTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.meters.hwmon.STALL_S", 0.05)
    board_tree.chip("amd_energy", energies={"Esocket0": 60.0})
    meter = SOURCE.open()
    time.sleep(0.1)
    with pytest.raises(CounterFaultError, match="stands still"):
        meter.read()
    meter.close()


def test_a_failing_chip_is_reported_where_it_is_looked_for(board_tree: BoardTree) -> None:
    folder = board_tree.chip("amd_energy", energies={"Esocket0": 60.0})
    board_tree.fail(folder / "energy1_input")
    (report,) = SOURCE.discover()
    assert not report.usable and "Input/output error" in (report.cause or "")
    with pytest.raises(MeterReadError, match="energy1_input"):
        SOURCE.open()


def test_auto_takes_a_processor_s_rails_and_not_a_board_s(board_tree: BoardTree) -> None:
    board_tree.chip("ina226", powers={"": 7.5})
    assert find_meter().info.name == "modelled"
    board_tree.chip("zenpower", number=1, device="devices/z.0", powers={"SVI2_P_Core": 40.0})
    meter = find_meter()
    assert (meter.info.name, meter.info.selected) == ("hwmon", ("zenpower-SVI2_P_Core",))
    meter.close()


@pytest.mark.parametrize("how", [{"argument": "x"}, {"device": "cuda:0"}, {"rails": ["psys"]}])
def test_what_it_cannot_do_is_refused(board_tree: BoardTree, how: dict[str, object]) -> None:
    board_tree.chip("zenpower", powers={"SVI2_P_Core": 40.0})
    with pytest.raises(InputError):
        SOURCE.open(**how)  # type: ignore[arg-type]
