"""The model does what it says, and says what it does."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from profiler.errors import InputError
from profiler.meters.modelled import WATTS_PER_CORE, ModelledMeter, ModelledSource

SOURCE = ModelledSource()


def test_energy_is_cpu_time_times_watts() -> None:
    meter = ModelledMeter(5.0)
    low_s = time.process_time()
    first = meter.read()
    high_s = time.process_time()
    sum(range(500_000))
    later_low_s = time.process_time()
    second = meter.read()
    later_high_s = time.process_time()
    spent_j = second.energy_j["cpu"] - first.energy_j["cpu"]
    assert 5.0 * (later_low_s - high_s) <= spent_j + 1e-12
    assert spent_j <= 5.0 * (later_high_s - low_s) + 1e-12


def test_children_count_once_they_are_waited_for() -> None:
    meter = ModelledMeter(10.0)
    before = meter.read().energy_j["cpu"]
    program = "import time\nwhile time.process_time() < 0.05: pass"
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        child.wait()
    assert meter.read().energy_j["cpu"] - before >= 10.0 * 0.05


def test_sleep_costs_only_the_cpu_time_it_takes() -> None:
    meter = ModelledMeter(1000.0)
    low_s = time.process_time()
    before = meter.read()
    time.sleep(0.02)
    after = meter.read()
    cpu_s = time.process_time() - low_s
    assert after.time_s - before.time_s >= 0.02
    assert after.energy_j["cpu"] - before.energy_j["cpu"] <= 1000.0 * cpu_s


def test_says_that_it_models_and_what_it_assumes() -> None:
    info = SOURCE.open().info
    assert info.origin == "modelled"
    text = " ".join(info.assumptions)
    assert f"{WATTS_PER_CORE:g} W per busy core" in text and "assumed" in text
    assert "sleeping and waiting cost 0 J" in text


def test_watts_come_from_the_argument_then_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CWMP_WATTS_PER_CORE", "3.5")
    assert "3.5 W" in SOURCE.open().info.assumptions[0]
    assert "CWMP_WATTS_PER_CORE" in SOURCE.open().info.assumptions[0]
    assert "4.25 W" in SOURCE.open("4.25").info.assumptions[0]


@pytest.mark.parametrize("watts", ["0", "-1", "nan", "inf", "many"])
def test_impossible_watts_are_refused(monkeypatch: pytest.MonkeyPatch, watts: str) -> None:
    with pytest.raises(InputError, match="positive number of watts"):
        SOURCE.open(watts)
    monkeypatch.setenv("CWMP_WATTS_PER_CORE", watts)
    with pytest.raises(InputError, match="CWMP_WATTS_PER_CORE"):
        SOURCE.open()
    (report,) = SOURCE.discover()
    assert not report.usable and report.remedy == "unset CWMP_WATTS_PER_CORE"


def test_gpu_is_never_modelled() -> None:
    with pytest.raises(InputError, match="nvml"):
        SOURCE.open(device="cuda:0")
