"""A Raspberry Pi 5's power chip, read through a program on PATH."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from stand_ins.boards import BoardTree, Vcgencmd

from profiler.errors import (
    CounterFaultError,
    InputError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.meters import find_meter
from profiler.meters.base import energy_between, sampling_variance_between
from profiler.meters.fake import ManualClock
from profiler.meters.pmic import SOURCE, parse

LINES = "   VDD_CORE_A current(7)=2.50000000A\n   VDD_CORE_V volt(15)=0.80000000V\n"


def test_power_is_current_times_voltage_of_each_rail() -> None:
    text = LINES + "   EXT5V_V volt(24)=5.08530000V\n      BATT_V volt(25)=0.00000000V\n"
    assert parse(text) == {"VDD_CORE": pytest.approx(2.0)}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no current"),
        ("   EXT5V_V volt(24)=5.08530000V\n", "no current"),
        (LINES.splitlines()[0], "a current without a voltage for VDD_CORE"),
        (LINES + "VDD_", "'VDD_'"),
        (LINES.replace("0.80000000V", "0.8000"), "VDD_CORE_V volt"),
        (LINES.replace("0.80000000V", "-0.80000000V"), "VDD_CORE_V volt"),
        (LINES.replace("2.50000000A", "nanA"), "VDD_CORE_A current"),
        (LINES.replace("2.50000000A", "2.50000000V"), "VDD_CORE_A current"),
        (LINES.replace("2.50000000A", "4294967.29500000A"), "too much to be true"),
        ("Segmentation fault\n" + LINES, "'Segmentation fault'"),
    ],
)
def test_anything_else_is_a_fault_that_names_the_line(text: str, error: str) -> None:
    with pytest.raises(CounterFaultError, match="pmic_read_adc") as caught:
        parse(text)
    assert error in str(caught.value)


def test_every_rail_counts_and_the_scope_is_said(vcgencmd: Vcgencmd) -> None:
    (report,) = SOURCE.discover()
    assert report.usable and report.device == "Raspberry Pi 5 Model B Rev 1.0"
    meter = SOURCE.open(background=False)
    assert set(meter.info.selected) == set(vcgencmd.watts)
    assert {rail.name: rail.domain for rail in meter.info.rails}["DDR_VDD2"] == "dram"
    assert any("USB" in sentence for sentence in meter.info.scope)
    assert any("runs vcgencmd, 5 times a second" in sentence for sentence in meter.info.scope)
    meter.close()


def test_a_changing_power_is_integrated_within_its_stated_error(vcgencmd: Vcgencmd) -> None:
    clock = ManualClock()
    meter = SOURCE.open(clock=clock, background=False)
    start, truth_j = meter.read(), 0.0
    for number in range(40):
        amperes = 2.0 + math.sin(number / 5) + (number % 9 > 5)
        before_w = sum(vcgencmd.watts.values())
        vcgencmd.rails["VDD_CORE"] = (amperes, 0.8)
        vcgencmd.show()
        # the power jumps to its new level a tenth of a second after the last sample
        truth_j += 0.1 * before_w + 0.1 * sum(vcgencmd.watts.values())
        clock.advance(meter.period_s)
        meter.sample()
    end = meter.read()
    joules = energy_between(start, end, meter.info.selected)
    error_j = math.sqrt(sampling_variance_between(start, end, meter.info.selected))
    assert joules == pytest.approx(truth_j)
    assert 0 < error_j < 0.05 * truth_j
    meter.close()


def test_a_program_that_hangs_is_given_up(
    vcgencmd: Vcgencmd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.meters.pmic.TIMEOUT_S", 0.1)
    vcgencmd.script(wait_s=30.0)
    with pytest.raises(MeterReadError, match=r"did not answer within 0\.1 s"):
        SOURCE.open()
    (report,) = SOURCE.discover()
    assert not report.usable and report.remedy


def test_faults_midway_lose_the_window(vcgencmd: Vcgencmd) -> None:
    clock = ManualClock()
    meter = SOURCE.open(clock=clock, background=False)
    start = meter.read()

    def sampled() -> None:
        clock.advance(meter.period_s)
        meter.sample()
        meter.read()

    vcgencmd.script(code=1)
    with pytest.raises(MeterReadError, match="ended with 1"):
        sampled()
    vcgencmd.script()
    vcgencmd.say(LINES)
    with pytest.raises(CounterFaultError, match="no longer shows rail 3V7_WL_SW"):
        sampled()
    vcgencmd.show()
    sampled()
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(start, meter.read(), meter.info.selected)
    meter.close()


def test_another_board_s_firmware_is_told_from_a_fault(vcgencmd: Vcgencmd) -> None:
    vcgencmd.say('error=1 error_msg="Command not registered"\n')
    (report,) = SOURCE.discover()
    assert not report.usable and report.cause is not None
    assert "knows no pmic_read_adc" in report.cause
    with pytest.raises(MeterNotFoundError, match="Raspberry Pi 5"):
        SOURCE.open()


def test_a_user_who_may_not_ask_is_told_how(vcgencmd: Vcgencmd) -> None:
    vcgencmd.say("Can't open device file: /dev/vcio\n")
    vcgencmd.script(code=255, to=2)
    with pytest.raises(MeterPermissionError, match="usermod -aG video"):
        SOURCE.open()
    (report,) = SOURCE.discover()
    assert report.remedy is not None and report.remedy.startswith("sudo usermod")


def test_absence_is_reported_and_refused(
    board_tree: BoardTree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (report,) = SOURCE.discover()
    assert report.cause == "vcgencmd is not on PATH"
    assert report.remedy is not None and "raspi-utils" in report.remedy
    with pytest.raises(MeterNotFoundError, match="not on PATH"):
        SOURCE.open()
    assert find_meter().info.name == "modelled"


def test_auto_takes_it_on_a_raspberry_pi(vcgencmd: Vcgencmd) -> None:
    meter = find_meter()
    assert meter.info.name == "pmic"
    meter.close()


@pytest.mark.parametrize("how", [{"argument": "x"}, {"device": "cuda:0"}, {"rails": ["EXT5V"]}])
def test_what_it_cannot_do_is_refused(vcgencmd: Vcgencmd, how: dict[str, object]) -> None:
    assert vcgencmd.watts
    with pytest.raises(InputError):
        SOURCE.open(**how)  # type: ignore[arg-type]
