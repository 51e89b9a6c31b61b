"""NVML through the real bindings, on a library that answers as the driver's."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from stand_ins.nvml import FakeGpu, NvmlLibrary

from profiler.errors import (
    CounterFaultError,
    InputError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.meters.nvml import NvmlSource, synchronise_torch

SOURCE = NvmlSource()
ONE = FakeGpu(uuid="GPU-11111111-aaaa", name="Stand-in A")
TWO = FakeGpu(uuid="GPU-22222222-bbbb", name="Stand-in B", energy_mj=77_000)


def _torch(uuids: list[str], available: bool = True) -> SimpleNamespace:
    """As much of torch as is asked, with a list of the GPUs it waited for."""
    waited: list[int] = []
    cuda = SimpleNamespace(
        is_available=lambda: available,
        is_initialized=lambda: available,
        device_count=lambda: len(uuids),
        get_device_properties=lambda number: SimpleNamespace(uuid=uuids[number]),
        synchronize=waited.append,
    )
    return SimpleNamespace(cuda=cuda, waited=waited)


@pytest.fixture(autouse=True)
def _no_cuda_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", _torch([], available=False))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def test_millijoules_become_joules_since_opening(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE)
    meter = SOURCE.open(device="cuda:0")
    nvml_library.show(ONE.but(energy_mj=ONE.energy_mj + 1250))
    assert meter.read().energy_j == pytest.approx({"gpu-0": 1.25})
    assert meter.info.device == "Stand-in A"
    assert meter.info.origin == "measured"
    meter.close()


def test_other_gpus_can_be_read_but_are_not_counted(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE, TWO)
    meter = SOURCE.open(device="cuda:1")
    assert meter.info.selected == ("gpu-1",)
    assert [(rail.name, rail.counted) for rail in meter.info.rails] == [
        ("gpu-0", False),
        ("gpu-1", True),
    ]
    meter.close()
    meter = SOURCE.open(device="cuda:1", rails=["gpu-0", "gpu-1"])
    assert meter.info.device == "Stand-in A + Stand-in B"
    assert set(meter.read().energy_j) == {"gpu-0", "gpu-1"}
    meter.close()


def test_without_a_gpu_named_all_are_counted(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE, TWO)
    meter = SOURCE.open()
    assert meter.info.selected == ("gpu-0", "gpu-1")
    meter.close()


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_gpu_joules_say_that_they_cover_no_processor(
    nvml_library: NvmlLibrary, device: str
) -> None:
    nvml_library.show(ONE)
    meter = SOURCE.open(device=device)
    assert meter.info.covers == "gpu"
    meter.close()


@pytest.mark.parametrize(
    ("visible", "device", "rail"),
    [
        ("1,0", "cuda:0", "gpu-1"),
        ("1,0", "cuda:1", "gpu-0"),
        ("GPU-2222", "cuda", "gpu-1"),
        ("1", "cuda:0", "gpu-1"),
    ],
)
def test_visible_devices_number_the_gpus(
    nvml_library: NvmlLibrary,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    device: str,
    rail: str,
) -> None:
    nvml_library.show(ONE, TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = SOURCE.open(device=device)
    assert meter.info.selected == (rail,)
    meter.close()


@pytest.mark.parametrize(
    ("visible", "device"),
    [(None, "cuda:2"), ("", "cuda:0"), ("1", "cuda:1"), ("7", "cuda:0"), ("GPU-9", "cuda:0")],
)
def test_gpu_that_is_not_there_is_an_error(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str
) -> None:
    nvml_library.show(ONE, TWO)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(MeterNotFoundError, match=r"no cuda|UUID"):
        SOURCE.open(device=device)


def test_assumed_order_of_gpus_is_said(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml_library.show(ONE, TWO)
    meter = SOURCE.open(device="cuda:0")
    assert "PCI order" in meter.info.assumptions[0]
    meter.close()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    meter = SOURCE.open(device="cuda:0")
    assert meter.info.assumptions == ()
    meter.close()


def test_torch_maps_its_devices_by_uuid(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml_library.show(ONE, TWO)
    monkeypatch.setitem(sys.modules, "torch", _torch(["22222222-bbbb", "11111111-aaaa"]))
    meter = SOURCE.open(device="cuda:0")
    assert meter.info.selected == ("gpu-1",)
    assert meter.info.assumptions == ()
    meter.close()
    with pytest.raises(MeterNotFoundError, match="torch sees 2"):
        SOURCE.open(device="cuda:2")


def test_each_read_waits_for_the_gpus_first(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = _torch(["11111111-aaaa"])
    monkeypatch.setitem(sys.modules, "torch", torch)
    meter = SOURCE.open(device="cuda:0")
    before = len(torch.waited)
    meter.read()
    assert torch.waited[before:] == [0]
    meter.close()


@pytest.mark.parametrize(
    ("rails", "waited"), [(["gpu-0"], [1]), (["gpu-1"], [0]), (["gpu-0", "gpu-1"], [0, 1])]
)
def test_only_gpus_that_are_read_are_waited_for(
    nvml_library: NvmlLibrary,
    monkeypatch: pytest.MonkeyPatch,
    rails: list[str],
    waited: list[int],
) -> None:
    nvml_library.show(ONE, TWO, ONE.but(uuid="GPU-33333333-cccc"))
    torch = _torch(["22222222-bbbb", "11111111-aaaa", "33333333-cccc"])
    monkeypatch.setitem(sys.modules, "torch", torch)
    meter = SOURCE.open(rails=rails)
    meter.read()
    assert torch.waited == waited
    meter.close()


def test_own_way_to_wait_is_used_and_its_work_is_in_the_reading(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE)
    done = ONE.but(energy_mj=ONE.energy_mj + 500)
    meter = SOURCE.open(device="cuda:0", synchronise=lambda: nvml_library.show(done))
    assert meter.read().energy_j["gpu-0"] == pytest.approx(0.5)
    meter.close()


def test_failing_kernel_is_a_read_error(nvml_library: NvmlLibrary) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    meter = SOURCE.open(device="cuda:0", synchronise=fail)
    with pytest.raises(MeterReadError, match="illegal memory access"):
        meter.read()
    meter.close()


def test_without_torch_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    assert synchronise_torch([]) is None
    assert "torch" not in sys.modules


def test_reset_counter_is_a_fault(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE)
    meter = SOURCE.open(device="cuda:0")
    nvml_library.show(ONE.but(energy_mj=3))
    with pytest.raises(CounterFaultError, match="gpu-0 went back"):
        meter.read()
    meter.close()


def test_gpu_lost_midway_is_a_read_error(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE)
    meter = SOURCE.open(device="cuda:0")
    nvml_library.show(ONE.but(status=15))
    with pytest.raises(MeterReadError, match=r"gpu-0 \(Stand-in A\)"):
        meter.read()
    meter.close()


@pytest.mark.parametrize(
    ("gpu", "error", "says"),
    [
        (ONE.but(status=3), MeterNotFoundError, "no energy counter"),
        (ONE.but(status=4), MeterPermissionError, "refuses this user"),
        (ONE.but(status=15), MeterNotFoundError, "the driver says"),
        (ONE.but(mig=1), MeterNotFoundError, "MIG is on"),
    ],
)
def test_gpu_without_energy_is_refused_with_the_cause(
    nvml_library: NvmlLibrary, gpu: FakeGpu, error: type[Exception], says: str
) -> None:
    nvml_library.show(gpu)
    with pytest.raises(error, match=says):
        SOURCE.open(device="cuda:0")
    (report,) = SOURCE.discover()
    assert not report.usable
    assert report.device == "Stand-in A"
    assert report.cause is not None and says in report.cause
    assert report.remedy


def test_unusable_gpu_does_not_hide_the_other(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE.but(mig=1), TWO)
    assert [report.usable for report in SOURCE.discover()] == [False, True]
    meter = SOURCE.open()
    assert meter.info.selected == ("gpu-1",)
    meter.close()


def test_mig_slice_is_refused(nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    with pytest.raises(MeterNotFoundError, match="slice of a GPU has no energy"):
        SOURCE.open(device="cuda:0")


def test_driver_without_gpus(nvml_library: NvmlLibrary) -> None:
    nvml_library.show()
    (report,) = SOURCE.discover()
    assert not report.usable and report.cause == "the NVIDIA driver shows no GPU"


def test_no_driver(nvml_library: NvmlLibrary) -> None:
    nvml_library.script.unlink()
    (report,) = SOURCE.discover()
    assert not report.usable
    assert report.path == "libnvidia-ml.so.1"
    assert report.cause == "no NVIDIA driver (Driver Not Loaded)"
    assert report.remedy is not None and "install the driver" in report.remedy
    with pytest.raises(MeterNotFoundError, match="no NVIDIA driver"):
        SOURCE.open(device="cuda:0")


@pytest.mark.parametrize("device", ["mps", "cuda:x", "cuda:-1", ""])
def test_other_devices_are_refused(nvml_library: NvmlLibrary, device: str) -> None:
    with pytest.raises(InputError, match="cuda:N"):
        SOURCE.open(device=device)


def test_argument_is_refused(nvml_library: NvmlLibrary) -> None:
    with pytest.raises(InputError, match="no argument"):
        SOURCE.open("0")


def test_library_is_found_as_the_drivers_is(nvml_library: NvmlLibrary) -> None:
    """In a fresh process, by the loader; with power that steps every 20 ms."""
    nvml_library.show(ONE.but(power_w=300.0, period_ms=20.0))
    program = (
        "import json, profiler\n"
        "meter = profiler.find_meter(device='cuda:0')\n"
        "found = profiler.probe(meter, max_time_s=0.6)\n"
        "print(json.dumps([meter.info.name, meter.read().energy_j, found.as_dict()]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=nvml_library.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    name, energy_j, found = json.loads(result.stdout)
    assert name == "nvml"
    assert energy_j["gpu-0"] > 0
    # Each step is 6 J; a late read sees a multiple, never a part.
    assert energy_j["gpu-0"] / 6.0 == pytest.approx(round(energy_j["gpu-0"] / 6.0))
    assert found["quantum_j"] / 6.0 == pytest.approx(round(found["quantum_j"] / 6.0))
    assert found["rails"][0]["updates"] >= 2
