"""The scripted counter keeps to its script, so that tests built on it mean something."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import CounterFaultError, InputError, MeterReadError
from profiler.meters.base import energy_between
from profiler.meters.fake import FakeMeter, FakeSource, ManualClock


def test_constant_power_by_rail() -> None:
    clock = ManualClock()
    meter = FakeMeter({"package-0": 20.0, "dram-0": 3.0}, clock=clock)
    clock.advance(0.5)
    assert meter.read().energy_j == pytest.approx({"package-0": 10.0, "dram-0": 1.5})


@given(st.floats(1e-4, 0.1), st.floats(1e-6, 0.5), st.floats(0.1, 100.0), st.floats(0.0, 3.0))
def test_shows_the_state_of_its_last_step_in_whole_quanta(
    period_s: float, quantum_j: float, power_w: float, elapsed_s: float
) -> None:
    clock = ManualClock()
    meter = FakeMeter(power_w, period_s=period_s, quantum_j=quantum_j, clock=clock)
    clock.advance(elapsed_s)
    energy_j = meter.read().energy_j["cpu"]
    truth_j = power_w * elapsed_s
    assert energy_j <= truth_j * (1 + 1e-6) + 1e-9
    assert energy_j >= truth_j - power_w * period_s - quantum_j - 1e-6
    quanta = energy_j / quantum_j
    assert quanta == pytest.approx(round(quanta), abs=1e-6 * max(1.0, quanta))


def test_script_of_lengths_and_powers() -> None:
    clock = ManualClock()
    meter = FakeMeter([(1.0, 10.0), (0.5, 100.0), (1.0, 1.0)], clock=clock)
    seen = []
    for _ in range(8):
        clock.advance(0.5)
        seen.append(meter.read().energy_j["cpu"])
    assert seen == pytest.approx([5.0, 10.0, 60.0, 60.5, 61.0, 61.5, 62.0, 62.5])


def test_power_function_is_integrated() -> None:
    clock = ManualClock()
    meter = FakeMeter(lambda t: 10.0 + 5.0 * math.sin(t), clock=clock)
    clock.advance(2.0)
    assert meter.read().energy_j["cpu"] == pytest.approx(20.0 + 5.0 * (1 - math.cos(2.0)), rel=1e-4)


def test_power_function_needs_steps() -> None:
    with pytest.raises(InputError, match="period_s"):
        FakeMeter(lambda t: t, period_s=0.0)


def test_spent_joules_show_at_the_next_step() -> None:
    clock = ManualClock()
    meter = FakeMeter(0.0, period_s=0.1, clock=clock)
    clock.advance(0.05)
    meter.spend(2.5)
    assert meter.read().energy_j["cpu"] == 0.0
    clock.advance(0.05)
    assert meter.read().energy_j["cpu"] == pytest.approx(2.5)
    with pytest.raises(InputError):
        meter.spend(-1.0)
    with pytest.raises(InputError):
        meter.spend(1.0, "dram-0")


def test_faults_come_at_the_reads_they_were_set_for() -> None:
    fault = MeterReadError("the cable fell out")
    meter = FakeMeter(faults={2: fault}, clock=ManualClock())
    meter.read()
    with pytest.raises(MeterReadError, match="cable"):
        meter.read()
    assert meter.read().energy_j == {"cpu": 0.0}


def test_reset_fails_the_next_read_and_all_that_spans_it() -> None:
    meter = FakeMeter(clock=ManualClock())
    before = meter.read()
    meter.reset()
    with pytest.raises(CounterFaultError, match="reset"):
        meter.read()
    after = meter.read()
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(before, after, meter.info.selected)
    assert energy_between(after, meter.read(), meter.info.selected) == 0.0


def test_looking_at_the_clock_can_take_time() -> None:
    clock = ManualClock(step_s=0.25)
    assert [clock(), clock()] == [0.25, 0.5]


@pytest.mark.parametrize("argument", ["", "25", "0"])
def test_source_takes_watts(argument: str) -> None:
    meter = FakeSource().open(argument)
    assert meter.info.origin == "assumed"
    assert meter.info.assumptions
    assert FakeSource().discover() == ()


@pytest.mark.parametrize(("device", "covers"), [("cpu", "cpu"), ("cuda:1", "gpu")])
def test_source_covers_the_device_asked_for(device: str, covers: str) -> None:
    assert FakeSource().open(device=device).info.covers == covers


@pytest.mark.parametrize("argument", ["x", "-1", "nan", "inf"])
def test_source_refuses_what_is_no_power(argument: str) -> None:
    with pytest.raises(InputError, match="fake:WATTS"):
        FakeSource().open(argument)
