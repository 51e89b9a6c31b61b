"""AMD GPUs through a module that answers as AMD's own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from stand_ins.amd import AmdModule, FakeAmdGpu

from profiler.errors import CounterFaultError, InputError, MeterNotFoundError, MeterReadError
from profiler.meters import amd_gpus, find_meter
from profiler.meters.amd import AmdSource
from profiler.meters.base import EnergyMeter, Reading, energy_between
from profiler.meters.sampled import SampledMeter

SOURCE = AmdSource()
ONE = FakeAmdGpu()
TWO = FakeAmdGpu(bdf="0000:c6:00.0", name="Stand-in Radeon", power_w=50, counted_w=50)


@pytest.fixture(autouse=True)
def _no_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: False, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(amd_gpus, "_CHECK_S", 0.05)
    for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def _torch(buses: list[int], waited: list[int]) -> SimpleNamespace:
    """As much of a ROCm build of torch as is asked."""
    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: len(buses),
        get_device_properties=lambda number: SimpleNamespace(
            pci_domain_id=0, pci_bus_id=buses[number], pci_device_id=0
        ),
        synchronize=waited.append,
    )
    return SimpleNamespace(cuda=cuda, version=SimpleNamespace(hip="6.4"))


def _fresh(meter: EnergyMeter) -> Reading:
    """A reading right after a step, however busy this host is."""
    before = meter.read()
    while (now := meter.read()).energy_j == before.energy_j:
        time.sleep(0.0005)
    return now


def _power_w(meter: EnergyMeter, seconds: float) -> float:
    start = _fresh(meter)
    time.sleep(seconds)
    end = _fresh(meter)
    return energy_between(start, end, meter.info.selected) / (end.time_s - start.time_s)


@pytest.mark.parametrize("key", ["energy_accumulator", "power"])
def test_counter_units_become_joules(amd_module: AmdModule, key: str) -> None:
    amd_module.show(ONE.but(energy_key=key))
    meter = SOURCE.open(device="cuda:0")
    assert not isinstance(meter, SampledMeter)
    assert meter.info.device == "Stand-in Instinct" and meter.info.covers == "gpu"
    assert _power_w(meter, 0.2) == pytest.approx(300, rel=0.1)
    amd_module.show(ONE.but(counted_w=0, counter=3 * 10**12))
    time.sleep(0.01)
    with pytest.raises(CounterFaultError, match=r"gpu-0 went from"):
        meter.read()
    meter.close()


def test_counter_wraps_at_64_bit(amd_module: AmdModule) -> None:
    amd_module.show(ONE.but(counter=2**64 - 20_000_000))
    meter = SOURCE.open(device="cuda:0")
    start = meter.read()
    amd_module.show(ONE.but(counter=2**64 - 20_000_000 + int(500 / 15.259e-6)))
    end = meter.read()
    spent_j = energy_between(start, end, ["gpu-0"])
    assert spent_j == pytest.approx(500 + 300 * (end.time_s - start.time_s), rel=0.05)
    meter.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"counted_w": 0.0}, "stands still"),
        ({"counted_w": 3000.0}, "where its sensor says 300 W"),
        ({"counted_w": 20.0}, "where its sensor says 300 W"),
        ({"counted_w": 90_000.0}, r"counter says [\d.]+e\+0[45] W(?! where)"),
        ({"energy": 2}, "no energy counter"),
        ({"resolution_uj": 1e-9, "counted_w": 0.0}, "stands still"),
        ({"energy_key": "unheard_of"}, "no energy counter"),
    ],
)
@pytest.mark.parametrize("key", ["current_socket_power", "average_socket_power", "socket_power"])
def test_counter_that_is_not_to_be_trusted_gives_way_to_the_power(
    amd_module: AmdModule, changes: dict[str, float], says: str, key: str
) -> None:
    amd_module.show(ONE.but(power_key=key, **changes))
    meter = SOURCE.open(device="cuda:0")
    assert isinstance(meter, SampledMeter)
    assert any(re.search(says, text) for text in meter.info.scope)
    assert "sampled and summed" in meter.info.scope[-1]
    assert _power_w(meter, 0.2) == pytest.approx(300, rel=0.25)
    meter.close()


def test_counter_that_cannot_be_checked_is_taken_and_said(amd_module: AmdModule) -> None:
    amd_module.show(ONE.but(power_w="N/A"))
    meter = SOURCE.open(device="cuda:0")
    assert "could not be checked" in meter.info.scope[-1]
    assert _power_w(meter, 0.1) == pytest.approx(300, rel=0.1)
    meter.close()


@pytest.mark.parametrize("power", ["N/A", 65535, 4294967295])
def test_gpu_that_shows_nothing_is_refused_with_the_cause(
    amd_module: AmdModule, power: object
) -> None:
    amd_module.show(ONE.but(power_w=power, energy=2))
    with pytest.raises(MeterNotFoundError, match=r"neither .* \(it has no energy counter\)"):
        SOURCE.open(device="cuda:0")
    (report,) = SOURCE.discover()
    assert not report.usable and report.device == "Stand-in Instinct"
    assert report.cause is not None and "neither" in report.cause
    assert report.remedy


@pytest.mark.parametrize("counted_w", [300.0, 0.0])
def test_gpu_lost_midway_is_a_read_error(amd_module: AmdModule, counted_w: float) -> None:
    amd_module.show(ONE.but(counted_w=counted_w))
    meter = SOURCE.open(device="cuda:0")
    amd_module.show(ONE.but(energy=45, power=45))
    time.sleep(0.1)
    with pytest.raises(MeterReadError, match=r"gpu-0 \(Stand-in Instinct\) failed: Error code: 45"):
        meter.read()
    meter.close()


def test_unit_that_changes_is_a_fault(amd_module: AmdModule) -> None:
    meter = SOURCE.open(device="cuda:0")
    amd_module.show(ONE.but(resolution_uj=1.0))
    with pytest.raises(CounterFaultError, match="now counts in 1e-06 J"):
        meter.read()
    meter.close()


def test_torch_maps_its_devices_by_their_place_on_the_bus(
    amd_module: AmdModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    amd_module.show(ONE, TWO)
    waited: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", _torch([0xC6, 0xC1], waited))
    meter = find_meter("auto", device="cuda:0")
    assert (meter.info.name, meter.info.selected) == ("amd", ("gpu-1",))
    assert meter.info.assumptions == ()
    meter.read()
    assert waited == [0]
    meter.close()
    with pytest.raises(MeterNotFoundError, match="torch sees 2"):
        SOURCE.open(device="cuda:2")


@pytest.mark.parametrize(
    ("visible", "device", "rail"), [(None, "cuda:1", "gpu-1"), ("1,0", "cuda:0", "gpu-1")]
)
def test_order_of_gpus_is_assumed_without_torch_and_said(
    amd_module: AmdModule,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    device: str,
    rail: str,
) -> None:
    amd_module.show(ONE, TWO)
    if visible is not None:
        monkeypatch.setenv("HIP_VISIBLE_DEVICES", visible)
    meter = SOURCE.open(device=device)
    assert meter.info.selected == (rail,)
    assert "AMD SMI lists" in meter.info.assumptions[0]
    meter.close()
    with pytest.raises(MeterNotFoundError, match="there is no cuda:7"):
        SOURCE.open(device="cuda:7")


def test_partitions_of_one_gpu_are_one_rail(amd_module: AmdModule) -> None:
    parts = [ONE.but(bdf=f"0000:c1:00.{number}", power_w=400, counted_w=400) for number in range(4)]
    amd_module.show(*parts, ONE.but(bdf="0000:d1:00.0", power_w=100, counted_w=100))
    meter = SOURCE.open(device="cpu")
    assert meter.info.selected == ("gpu-0", "gpu-4")
    assert {rail.name: rail.excluded_because for rail in meter.info.rails if not rail.counted} == {
        f"gpu-{number}": "a partition: shows the joules of gpu-0" for number in (1, 2, 3)
    }
    assert any("cut into 4 partitions" in sentence for sentence in meter.info.scope)
    assert _power_w(meter, 0.2) == pytest.approx(500, rel=0.1)
    meter.close()
    meter = SOURCE.open(device="cuda:2")
    assert meter.info.selected == ("gpu-0",)
    meter.close()
    assert [report.rails[0].counted for report in SOURCE.discover()] == [True, *[False] * 3, True]


def test_partition_that_shows_nothing_is_metered_by_the_one_that_does(
    amd_module: AmdModule,
) -> None:
    dark = ONE.but(bdf="0000:c1:00.1", energy=2, power=2)
    amd_module.show(dark.but(bdf="0000:c1:00.0"), ONE.but(bdf="0000:c1:00.1"))
    for device in ("cpu", "cuda:0", "cuda:1"):
        meter = SOURCE.open(device=device)
        assert meter.info.selected == ("gpu-1",)
        meter.close()


def _failing() -> None:
    raise RuntimeError("HIP error: an illegal memory access was encountered")


@pytest.mark.parametrize("counted_w", [300.0, 0.0])
def test_work_is_waited_for_and_its_failure_is_a_read_error(
    amd_module: AmdModule, counted_w: float
) -> None:
    amd_module.show(ONE.but(counted_w=counted_w))
    meter = SOURCE.open(device="cuda:0", synchronise=_failing)
    with pytest.raises(MeterReadError, match="illegal memory access"):
        meter.read()
    meter.close()


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda module, patch: module.script.unlink(), "no AMD driver"),
        (lambda module, patch: module.show(), "shows no GPU"),
        (lambda module, patch: patch.delenv("FAKE_AMDSMI"), "no library of ROCm"),
        (lambda module, patch: patch.setitem(sys.modules, "amdsmi", None), "not installed"),
    ],
)
def test_what_is_missing_is_said(
    amd_module: AmdModule,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[AmdModule, pytest.MonkeyPatch], None],
    says: str,
) -> None:
    break_it(amd_module, monkeypatch)
    (report,) = SOURCE.discover()
    assert not report.usable and report.path == "amdsmi"
    assert report.cause is not None and says in report.cause
    assert report.remedy
    with pytest.raises(MeterNotFoundError, match=says):
        SOURCE.open(device="cuda:0")


def test_driver_is_closed_as_often_as_it_is_opened(amd_module: AmdModule) -> None:
    for gpu in (ONE, ONE.but(counted_w=0.0)):
        amd_module.show(gpu)
        SOURCE.open(device="cuda:0").close()
    assert sys.modules["amdsmi"]._open["count"] == 0


@pytest.mark.parametrize(("argument", "device"), [("0", "cuda:0"), ("", "mps"), ("", "cuda:x")])
def test_other_devices_and_arguments_are_refused(
    amd_module: AmdModule, argument: str, device: str
) -> None:
    with pytest.raises(InputError):
        SOURCE.open(argument, device=device)


def test_listing_does_not_import_torch() -> None:
    program = "import sys, profiler.meters.amd as amd; amd.SOURCE.discover(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "torch" not in done.stdout.split()
