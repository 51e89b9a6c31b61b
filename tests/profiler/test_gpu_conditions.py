"""The clock, heat and throttling of GPUs, through the real bindings on the stand-in library."""

from __future__ import annotations

import pytest
from stand_ins.nvml import FakeGpu, NvmlLibrary

from profiler.conditions import HostObserver
from profiler.errors import MeterNotFoundError
from profiler.gpu_conditions import GpuObserver, observer_of
from profiler.meters.fake import FakeMeter
from profiler.meters.nvml import NvmlSource

ONE = FakeGpu(uuid="GPU-1").with_(sm_mhz=1980, temp_c=61, violated_ns=500)
TWO = FakeGpu(uuid="GPU-2").with_(sm_mhz=345, temp_c=70, violated_ns=30)


def test_highest_clock_hottest_gpu_and_the_sum_of_throttling(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE, TWO)
    seen = GpuObserver([0, 1]).observe()
    assert (seen.frequency_hz, seen.temperature_c, seen.throttled) == (1.98e9, 70.0, 530)
    assert seen.suspended_s > -1e-3
    assert GpuObserver([1]).observe().frequency_hz == 3.45e8


@pytest.mark.parametrize("violated_ns", [0, -1])
def test_gpu_at_its_power_limit_is_not_throttled_either_way(
    nvml_library: NvmlLibrary, violated_ns: int
) -> None:
    nvml_library.show(ONE.with_(violated_ns=violated_ns, capped_ns=10, reasons=4))
    observer = GpuObserver([0])
    first = observer.observe().throttled
    nvml_library.show(ONE.with_(violated_ns=violated_ns, capped_ns=90_000, reasons=4))
    assert (first, observer.observe().throttled) == (0, 0)


@pytest.mark.parametrize(
    ("reasons", "counts"),
    [(0, False), (1, False), (4, False), (8, True), (0x20, True), (0x40 | 1, True), (0x80, True)],
)
def test_without_counted_time_looks_that_found_it_throttled_are_counted(
    nvml_library: NvmlLibrary, reasons: int, counts: bool
) -> None:
    nvml_library.show(ONE.with_(violated_ns=-1))
    observer = GpuObserver([0])
    assert observer.observe().throttled == 0
    nvml_library.show(ONE.with_(violated_ns=-1, reasons=reasons))
    assert [observer.observe().throttled for _ in range(2)] == ([1, 2] if counts else [0, 0])


def test_lost_gpu_shows_nothing_and_is_no_error_here(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE)
    observer = GpuObserver([0])
    nvml_library.show(ONE.with_(lost_s=0))
    seen = observer.observe()
    assert (seen.frequency_hz, seen.temperature_c, seen.throttled) == (None, None, None)


def test_gpu_that_is_not_there_is_an_error(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE)
    with pytest.raises(MeterNotFoundError, match="cannot be observed"):
        GpuObserver([3])


def test_who_looks_follows_the_meter(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(ONE, TWO)
    meter = NvmlSource().open(rails=["gpu-1"])
    assert observer_of(meter.info, "cuda:0").observe().temperature_c == 70.0
    meter.close()
    fake = FakeMeter({"package-0": 1.0})
    assert isinstance(observer_of(fake.info), HostObserver)
    blind = observer_of(fake.info, "cuda:0").observe()
    assert blind.temperature_c is None and blind.suspended_s > -1e-3
