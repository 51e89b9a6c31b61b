"""NVIDIA GPUs that count no joules, what the joules of each generation contain, and faults."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand_ins.nvml import FakeGpu, NvmlLibrary

from profiler.errors import CounterFaultError, MeterError, MeterNotFoundError, MeterReadError
from profiler.meters import nvml
from profiler.meters import nvml_library as own_bindings
from profiler.meters.base import EnergyMeter, Reading, energy_between
from profiler.meters.nvml import NvmlSource
from profiler.meters.sampled import SampledMeter

SOURCE = NvmlSource()
ONE = FakeGpu(uuid="GPU-1", name="Stand-in A", power_w=100.0, period_ms=5.0)
POWER = ONE.but(status=3).with_(instant=0)
HOPPER, AMPERE = {"arch": 9, "cc": 90}, {"arch": 7, "cc": 86}


@pytest.fixture(autouse=True)
def _no_cuda_here(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: False, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def _fresh(meter: EnergyMeter) -> Reading:
    """A reading right after a step, however busy this host is."""
    before = meter.read()
    while (now := meter.read()).energy_j == before.energy_j:
        time.sleep(0.0005)
    return now


def _read_for(meter: EnergyMeter, seconds: float) -> tuple[float, float, float]:
    """Start, end and joules of a window."""
    start = _fresh(meter)
    time.sleep(seconds)
    end = _fresh(meter)
    return start.time_s, end.time_s, energy_between(start, end, meter.info.selected)


@pytest.mark.parametrize(
    ("extra", "lag_s", "says"),
    [
        ({"instant": 0}, 0.1, "its instant power is sampled"),
        ({"usage": 0, **AMPERE}, 1.0, "its power, a mean of the last 1 s, is sampled"),
        ({"usage": 0, "arch": 7, "cc": 80}, 0.1, "its power is sampled"),
        ({"usage": 0, "arch": 3, "cc": 35}, 0.1, "its power is sampled"),
    ],
)
def test_without_a_counter_the_power_is_summed(
    nvml_library: NvmlLibrary,
    monkeypatch: pytest.MonkeyPatch,
    extra: dict[str, float],
    lag_s: float,
    says: str,
) -> None:
    nvml_library.show(ONE.but(status=3).with_(**extra))
    (report,) = SOURCE.discover()
    assert report.usable and report.unit == "mW, sampled"
    meter = SOURCE.open(device="cuda:0")
    assert isinstance(meter, SampledMeter) and meter.period_s == 0.1
    assert meter.info.lag_s == lag_s and meter.info.covers == "gpu"
    assert says in meter.info.scope[-1]
    meter.close()
    monkeypatch.setattr(nvml, "PERIOD_S", 0.005)
    meter = SOURCE.open(device="cuda:0")
    start_s, end_s, energy_j = _read_for(meter, 0.2)
    assert energy_j == pytest.approx(100 * (end_s - start_s), rel=0.2)
    meter.close()


def test_swinging_power_is_followed_and_its_sampling_error_carried(
    nvml_library: NvmlLibrary, compiled_nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "PERIOD_S", 0.004)
    nvml_library.show(POWER.but(period_ms=0).with_(swing_w=80, swing_s=0.4))
    meter = SOURCE.open(device="cuda:0")
    begun = ctypes.CDLL(str(compiled_nvml)).stand_in_begun_s
    begun.restype = ctypes.c_double
    start = _fresh(meter)
    time.sleep(0.3)
    end = _fresh(meter)
    turn = 2 * math.pi / 0.4

    def drawn_j(time_s: float) -> float:
        t = time_s - begun()
        return 100 * t + 80 * (1 - math.cos(turn * t)) / turn

    expected_j = drawn_j(end.time_s) - drawn_j(start.time_s)
    assert energy_between(start, end, ["gpu-0"]) == pytest.approx(expected_j, abs=6)
    assert end.variance_j2["gpu-0"] > start.variance_j2["gpu-0"]
    meter.close()


def test_one_gpu_without_a_counter_makes_all_of_them_sampled(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE, POWER.but(uuid="GPU-2"))
    meter = SOURCE.open()
    assert isinstance(meter, SampledMeter) and meter.info.selected == ("gpu-0", "gpu-1")
    meter.close()
    meter = SOURCE.open(device="cuda:0")
    assert not isinstance(meter, SampledMeter)
    meter.close()
    nvml_library.show(ONE.with_(instant=3, usage=3), POWER.but(uuid="GPU-2"))
    with pytest.raises(MeterNotFoundError, match="meter them apart"):
        SOURCE.open()


def test_reading_the_power_waits_for_the_gpu_and_its_samples_do_not(
    nvml_library: NvmlLibrary,
) -> None:
    nvml_library.show(POWER)
    waited: list[int] = []
    meter = SOURCE.open(device="cuda:0", synchronise=lambda: waited.append(1))
    time.sleep(0.25)
    assert waited == []
    meter.read()
    assert waited == [1]
    meter.close()
    with pytest.raises(MeterReadError, match="closed"):
        meter.read()
    assert waited == [1]


@pytest.mark.parametrize("gpu", [ONE, POWER], ids=["counter", "power"])
@pytest.mark.parametrize("moment", ["lost_s", "none_s"])
def test_gpu_that_goes_away_midway_is_a_read_error(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu, moment: str
) -> None:
    monkeypatch.setattr(nvml, "PERIOD_S", 0.005)
    nvml_library.show(gpu)
    meter = SOURCE.open(device="cuda:0")
    start = meter.read()
    nvml_library.show(gpu.with_(**{moment: 0}))
    time.sleep(0.05)
    with pytest.raises(MeterReadError, match=r"gpu-0 \(Stand-in A\) failed"):
        meter.read()
    nvml_library.show(gpu)
    if gpu is POWER:  # the joules in between are lost, and no window may span them
        time.sleep(0.05)
        with pytest.raises(CounterFaultError, match="lost"):
            energy_between(start, _settled(meter), ["gpu-0"])
    meter.close()


def _settled(meter: EnergyMeter) -> Reading:
    for _ in range(50):
        try:
            return meter.read()
        except MeterError:
            time.sleep(0.01)
    raise AssertionError("the meter did not recover")


@pytest.mark.parametrize("power_w", [6000.0, 4e6])
def test_more_power_than_any_gpu_draws_is_a_fault(
    nvml_library: NvmlLibrary, power_w: float
) -> None:
    nvml_library.show(POWER.but(power_w=power_w))
    with pytest.raises(CounterFaultError, match="says it draws"):
        SOURCE.open(device="cuda:0")


def test_counter_that_starts_again_is_a_fault(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE)
    meter = SOURCE.open(device="cuda:0")
    start = meter.read()
    nvml_library.show(ONE.with_(reset_s=0))
    with pytest.raises(CounterFaultError, match="went back"):
        meter.read()
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(start, meter.read(), ["gpu-0"])
    meter.close()


def test_counter_that_stands_still_is_a_fault(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "STALL_S", 0.05)
    nvml_library.show(ONE.but(power_w=0.0))
    meter = SOURCE.open(device="cuda:0")
    meter.read()
    time.sleep(0.1)
    with pytest.raises(CounterFaultError, match="stands still"):
        meter.read()
    meter.close()


def test_lag_shows_in_the_counter_and_jitter_does_not_move_it_back(
    nvml_library: NvmlLibrary,
) -> None:
    nvml_library.show(ONE.with_(jitter=0.9, lag_ms=50))
    meter = SOURCE.open(device="cuda:0")
    readings = []
    for _ in range(200):
        readings.append(meter.read().energy_j["gpu-0"])
        time.sleep(0.0005)
    assert readings == sorted(readings) and readings[-1] > readings[0]
    meter.close()


@pytest.mark.parametrize(
    ("extra", "part_time"),
    [(HOPPER, True), ({"arch": 7, "cc": 80}, True), (AMPERE, False), ({"arch": 8}, False)],
)
@pytest.mark.parametrize("gpu", [ONE, POWER], ids=["counter", "power"])
def test_sensors_that_sample_part_of_the_time_say_so(
    nvml_library: NvmlLibrary, gpu: FakeGpu, extra: dict[str, float], part_time: bool
) -> None:
    nvml_library.show(gpu.with_(**extra))
    meter = SOURCE.open(device="cuda:0")
    assert any("25 %" in sentence for sentence in meter.info.scope) == part_time
    assert meter.info.systematic_share == pytest.approx(0.10 if part_time else 0.05)
    assert all("2312.02741" in term.cause for term in meter.info.systematic)
    meter.close()


@pytest.mark.parametrize(
    ("name", "extra", "whole"),
    [
        ("NVIDIA GH200 480GB", HOPPER, True),
        ("NVIDIA GB200", {"arch": 10}, True),
        ("NVIDIA GB10", {"arch": 12}, True),
        ("Some module", {"module": 0, "module_w": 150}, True),
        ("NVIDIA H100 80GB HBM3", HOPPER, False),
        ("NVIDIA GB", {}, False),
    ],
)
def test_superchip_may_show_the_whole_module(
    nvml_library: NvmlLibrary, name: str, extra: dict[str, float], whole: bool
) -> None:
    nvml_library.show(ONE.but(name=name).with_(**extra))
    meter = SOURCE.open(device="cuda:0")
    assert any("whole module" in sentence for sentence in meter.info.scope) == whole
    assert any("without anything of the host" in s for s in meter.info.scope) != whole
    meter.close()


def test_slice_that_torch_or_the_container_names_is_refused(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml_library.show(ONE)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "MIG-1f2e")
    with pytest.raises(MeterNotFoundError, match="slice of a GPU"):
        SOURCE.open(device="cuda:0")
    monkeypatch.delenv("NVIDIA_VISIBLE_DEVICES")
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        get_device_properties=lambda n: SimpleNamespace(
            uuid="1", name="NVIDIA A100-SXM4-40GB MIG 1g.5gb"
        ),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with pytest.raises(MeterNotFoundError, match="use a whole GPU"):
        SOURCE.open(device="cuda:0")


CALLS = [
    ("nvmlDeviceGetUUID", ()),
    ("nvmlDeviceGetName", ()),
    ("nvmlDeviceGetMigMode", ()),
    ("nvmlDeviceGetTotalEnergyConsumption", ()),
    ("nvmlDeviceGetPowerUsage", ()),
    ("nvmlDeviceGetArchitecture", ()),
    ("nvmlDeviceGetCudaComputeCapability", ()),
    ("nvmlDeviceGetClockInfo", (1,)),
    ("nvmlDeviceGetTemperature", (0,)),
    ("nvmlDeviceGetCurrentClocksEventReasons", ()),
    ("nvmlDeviceGetPersistenceMode", ()),
]


@pytest.fixture
def bare_library(
    nvml_library: NvmlLibrary, compiled_nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> NvmlLibrary:
    """The stand-in as the project's own bindings load it, without ``pynvml``."""
    monkeypatch.setattr(own_bindings, "LIBRARY", str(compiled_nvml))
    monkeypatch.setattr(own_bindings, "_loaded", None)
    return nvml_library


@pytest.mark.parametrize("status", [0, 3, 4, 15])
def test_own_bindings_answer_as_the_official_ones(bare_library: NvmlLibrary, status: int) -> None:
    import pynvml

    bare_library.show(
        ONE.but(status=status, power_w=0.0, mig=1).with_(reasons=0x48, temp_c=66, violated_ns=77)
    )
    answers = []
    for bindings in (pynvml, own_bindings):
        bindings.nvmlInit()
        handle = bindings.nvmlDeviceGetHandleByIndex(0)
        found: list[object] = [bindings.nvmlDeviceGetCount(), bindings.nvmlSystemGetDriverVersion()]
        for name, arguments in CALLS:
            try:
                answer = getattr(bindings, name)(handle, *arguments)
                found.append(list(answer) if isinstance(answer, tuple | list) else answer)
            except bindings.NVMLError as error:
                found.append((error.value, str(error)))
        for scope in (0, 1):
            (value,) = bindings.nvmlDeviceGetFieldValues(handle, [(186, scope)])
            found.append((value.nvmlReturn, value.valueType, value.value.uiVal))
        violation = bindings.nvmlDeviceGetViolationStatus(handle, 1)
        found.append(violation.violationTime)
        with pytest.raises(bindings.NVMLError) as refused:
            bindings.nvmlDeviceGetHandleByIndex(9)
        found.append(refused.value.value)
        bindings.nvmlShutdown()
        answers.append(found)
    assert answers[0] == answers[1]
    classes = {3: own_bindings.NVMLError_NotSupported, 4: own_bindings.NVMLError_NoPermission}
    assert type(own_bindings.NVMLError(status)) is classes.get(status, own_bindings.NVMLError)


@pytest.mark.parametrize("gpu", [ONE, POWER], ids=["counter", "power"])
def test_meter_works_without_the_official_bindings(
    bare_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(nvml, "PERIOD_S", 0.005)
    bare_library.show(gpu)
    meter = SOURCE.open(device="cuda:0")
    start_s, end_s, energy_j = _read_for(meter, 0.1)
    assert energy_j == pytest.approx(100 * (end_s - start_s), rel=0.25)
    bare_library.show(gpu.with_(lost_s=0))
    time.sleep(0.02)
    with pytest.raises(MeterReadError, match="GPU is lost"):
        meter.read()
    meter.close()


def test_without_bindings_and_driver_the_driver_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(own_bindings, "LIBRARY", "libno-such-driver.so.1")
    monkeypatch.setattr(own_bindings, "_loaded", None)
    (report,) = SOURCE.discover()
    assert report.cause == "no NVIDIA driver (NVML Shared Library Not Found)"
