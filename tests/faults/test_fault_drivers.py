"""Drivers that answer by a code: NVML, AMD SMI, perf events, at opening and between two reads."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from benches import manual_time
from ledger import Ledger, Trial, follow, open_spoilt
from stand_ins.amd import AmdModule, FakeAmdGpu
from stand_ins.nvml import FakeGpu, NvmlLibrary
from stand_ins.perf import FakeEvent, PerfKernel

from profiler.meters import amd, amd_gpus, nvml
from profiler.meters.amd import AmdSource
from profiler.meters.fake import ManualClock
from profiler.meters.nvml import NvmlSource
from profiler.meters.perf import PerfSource
from profiler.meters.pyjoules import PyJoulesSource

NVML_CODES = (1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 14, 15, 16, 17, 18, 24, 27, 999)
NVML_ENERGIES = {
    "starts again from 0": 0,
    "falls": 4_000_000,
    "jumps beyond any power": 5_000_000 + 10**9,
    "2**63": 2**63,
    "the largest of 64 bits": 2**64 - 1,
}
AMD_CODES = (1, 2, 3, 4, 6, 10, 15, 30, 34, 39, 45)
AMD_CHANGES: dict[str, dict[str, object]] = {
    "the counter starts again": {"counter": 0},
    "the counter jumps": {"counter": 10**12},
    "the counter is not a number": {"energy_key": "elsewhere"},
    "the counter is N/A": {"counter": "N/A"},
    "the counter is nan": {"counter": float("nan")},
    "the counter is infinite": {"counter": float("inf")},
    "the counter is a fraction": {"counter": 0.5},
    "the counter is a list": {"counter": [1]},
    "its unit changes": {"resolution_uj": 30.0},
    "its unit is 0": {"resolution_uj": 0.0},
    "its unit is nan": {"resolution_uj": float("nan")},
    "its unit is infinite": {"resolution_uj": float("inf")},
    "its unit is negative": {"resolution_uj": -15.259},
}
AMD_POWERS: dict[str, object] = {
    "N/A": "N/A",
    "letters": "many",
    "negative": -3.0,
    "nan": float("nan"),
    "infinite": float("inf"),
    "the largest of 16 bits": 0xFFFF,
    "the largest of 32 bits": 0xFFFFFFFF,
    "more than any GPU": 6000.0,
    "a list": "[300]",
    "a truth": True,
}
PERF_CODES = tuple(
    sorted(
        {errno.EPERM, errno.ENOENT, errno.EINTR, errno.EIO, errno.EBADF, errno.EAGAIN}
        | {errno.ENOMEM, errno.EACCES, errno.EFAULT, errno.EBUSY, errno.ENODEV, errno.EINVAL}
        | {errno.EMFILE, errno.ENOSPC, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ESRCH}
    )
)


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: False, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))


class Gpu:
    """A GPU of known joules on time moved by hand, and a meter that counts or samples it."""

    def __init__(self, library: NvmlLibrary, clock: ManualClock, *, counts: bool) -> None:
        self.library, self.clock, self.counts = library, clock, counts
        self.meter: object = None
        self.spent_j, self.changes = 0.0, {}
        self.show()

    def open(self, source: object = None) -> object:
        self.meter = (source or NvmlSource()).open()  # type: ignore[attr-defined]
        return self.meter

    def show(self, **changes: object) -> None:
        self.changes = changes
        gpu = FakeGpu(energy_mj=5_000_000 + round(self.spent_j * 1e3), power_w=0.0)
        if not self.counts:
            gpu = FakeGpu(status=3, power_w=20.0).with_(instant=0)
        extra = {key: changes[key] for key in ("instant",) if key in changes}
        plain = {key: value for key, value in changes.items() if key not in extra}
        self.library.show(gpu.but(**plain).with_(**extra))  # type: ignore[arg-type]

    def advance(self) -> None:
        self.clock.advance(0.05)
        self.spent_j += 1.0
        self.show(**self.changes)
        if not self.counts:
            self.meter.sample()  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", NVML_CODES)
@pytest.mark.parametrize("name", ["nvml", "pyjoules gpu"])
def test_nvml_energy_between_two_reads(
    nvml_library: NvmlLibrary,
    monkeypatch: pytest.MonkeyPatch,
    ledger: Ledger,
    name: str,
    code: int,
) -> None:
    source = NvmlSource()
    if name != "nvml":
        pytest.importorskip("pyJoules")
        source = PyJoulesSource()  # type: ignore[assignment]
    gpu = Gpu(nvml_library, manual_time(monkeypatch), counts=True)
    rails = {} if name == "nvml" else {"rails": ["gpu-0"]}
    outcome = follow(
        Trial("gpu-0", lambda: gpu.spent_j, 1e-6, ("gpu-0",)),
        lambda: source.open(**rails),  # type: ignore[arg-type]
        gpu.advance,
        lambda: gpu.show(status=code),
        gpu.show,
    )
    assert outcome == "detected"
    ledger.add(name, f"driver: energy answers {code}", "reading", outcome)


@pytest.mark.parametrize("code", NVML_CODES)
def test_nvml_at_opening(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, code: int
) -> None:
    gpu = Gpu(nvml_library, manual_time(monkeypatch), counts=True)
    outcome = open_spoilt(
        Trial("gpu-0", lambda: gpu.spent_j, 1e-6),
        NvmlSource().open,
        gpu.advance,
        lambda: gpu.show(status=code),
        gpu.show,
    )
    assert outcome == "detected"
    ledger.add("nvml", f"driver: energy answers {code}", "opening", outcome)


@pytest.mark.parametrize("fault", NVML_ENERGIES)
def test_nvml_counters_that_lie(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, fault: str
) -> None:
    gpu = Gpu(nvml_library, manual_time(monkeypatch), counts=True)
    trial = Trial("gpu-0", lambda: gpu.spent_j, 1e-6)
    meter = trial.open(NvmlSource().open)
    assert meter is not None
    gpu.advance()
    assert trial.read(meter)
    nvml_library.show(FakeGpu(energy_mj=NVML_ENERGIES[fault]))
    gpu.clock.advance(0.05)
    assert not trial.read(meter)
    gpu.show()
    for _ in range(4):
        gpu.advance()
        trial.read(meter)
    assert trial.check() == "detected"
    ledger.add("nvml", f"counter: {fault}", "reading", "detected")
    meter.close()


def test_an_nvml_counter_that_stops(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    clock = manual_time(monkeypatch)
    meter = NvmlSource().open()
    trial = Trial("gpu-0", lambda: 0.0, 1e-6)
    answered = []
    for _ in range(4):
        clock.advance(2.0)
        answered.append(trial.read(meter))
    assert answered[-1] is False
    ledger.add("nvml", "counter: stops for long", "reading", "detected")
    meter.close()


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Sampling meters of this module take their samples when told."""

    def background(module: object, clock: ManualClock) -> None:
        real = module.WaitingSampledMeter  # type: ignore[attr-defined]

        def build(*args: object, **options: object) -> object:
            return real(*args, **{**options, "clock": clock, "background": False})

        monkeypatch.setattr(module, "WaitingSampledMeter", build)

    return background  # type: ignore[return-value]


@pytest.mark.parametrize("code", NVML_CODES)
def test_nvml_power_between_two_samples(
    nvml_library: NvmlLibrary,
    monkeypatch: pytest.MonkeyPatch,
    ledger: Ledger,
    by_hand: Callable[..., None],
    code: int,
) -> None:
    gpu = Gpu(nvml_library, manual_time(monkeypatch), counts=False)
    by_hand(nvml, gpu.clock)
    outcome = follow(
        Trial("gpu-0", lambda: gpu.spent_j, 1e-6, ("gpu-0", "nvml")),
        gpu.open,  # type: ignore[arg-type]
        gpu.advance,
        lambda: gpu.show(instant=code),
        gpu.show,
    )
    assert outcome == "detected"
    ledger.add("nvml power", f"driver: power answers {code}", "reading", outcome)


class AmdBench:
    """An AMD GPU on time moved by hand."""

    def __init__(self, module: AmdModule, clock: ManualClock, *, counts: bool) -> None:
        self.module, self.clock, self.counts = module, clock, counts
        self.meter: object = None
        self.spent_j, self.changes = 0.0, {}
        self.show()

    def open(self) -> object:
        # The counter is compared with the power as it is opened, for a time in which both move.
        if self.counts:
            self.module.show(FakeAmdGpu(power_w=20.0, counted_w=20.0))
        self.meter = AmdSource().open()
        self.spent_j = self._drawn_j() if self.counts else 0.0
        return self.meter

    def show(self, **changes: object) -> None:
        self.changes = changes
        counted_w = 20.0 if self.counts else 0.0
        self.module.show(FakeAmdGpu(power_w=20.0, counted_w=counted_w).but(**changes))

    def true_j(self) -> float:
        return self._drawn_j() if self.counts else self.spent_j

    def _drawn_j(self) -> float:
        return 20.0 * self.clock.now_s

    def advance(self) -> None:
        self.clock.advance(0.05)
        self.spent_j += 1.0
        if not self.counts:
            self.meter.sample()  # type: ignore[attr-defined]


@pytest.fixture
def amd_clock(monkeypatch: pytest.MonkeyPatch, by_hand: Callable[..., None]) -> ManualClock:
    clock = manual_time(monkeypatch)
    monkeypatch.setattr(time, "sleep", clock.advance)
    monkeypatch.setattr(amd_gpus, "_CHECK_S", 0.02)
    by_hand(amd, clock)
    return clock


def _amd(bench: AmdBench, inject: Callable[[], None]) -> str:
    return follow(
        Trial("gpu-0", bench.true_j, 1e-3, ("gpu-0", "amd")),
        bench.open,  # type: ignore[arg-type]
        bench.advance,
        inject,
        bench.show,
    )


@pytest.mark.parametrize("code", AMD_CODES)
def test_amd_energy_answers_a_code(
    amd_module: AmdModule, amd_clock: ManualClock, ledger: Ledger, code: int
) -> None:
    bench = AmdBench(amd_module, amd_clock, counts=True)
    outcome = _amd(bench, lambda: bench.show(energy=code))
    assert outcome == "detected"
    ledger.add("amd", f"driver: energy answers {code}", "reading", "detected")


@pytest.mark.parametrize("fault", AMD_CHANGES)
def test_amd_counters_that_lie(
    amd_module: AmdModule, amd_clock: ManualClock, ledger: Ledger, fault: str
) -> None:
    bench = AmdBench(amd_module, amd_clock, counts=True)
    bench.open()
    trial = Trial("gpu-0", bench.true_j, 1e-3, ("gpu-0", "amd"))
    meter = bench.meter
    bench.advance()
    assert trial.read(meter)  # type: ignore[arg-type]
    bench.show(**AMD_CHANGES[fault])
    bench.advance()
    assert not trial.read(meter)  # type: ignore[arg-type]
    bench.show()
    for _ in range(4):
        bench.advance()
        trial.read(meter)  # type: ignore[arg-type]
    assert trial.check() == "detected"
    ledger.add("amd", f"counter: {fault}", "reading", "detected")
    meter.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", AMD_CODES)
def test_amd_power_answers_a_code(
    amd_module: AmdModule, amd_clock: ManualClock, ledger: Ledger, code: int
) -> None:
    bench = AmdBench(amd_module, amd_clock, counts=False)
    outcome = _amd(bench, lambda: bench.show(power=code))
    assert outcome == "detected"
    ledger.add("amd power", f"driver: power answers {code}", "reading", "detected")


@pytest.mark.parametrize("fault", AMD_POWERS)
def test_amd_powers_that_no_gpu_draws(
    amd_module: AmdModule, amd_clock: ManualClock, ledger: Ledger, fault: str
) -> None:
    bench = AmdBench(amd_module, amd_clock, counts=False)
    outcome = _amd(bench, lambda: bench.show(power_w=AMD_POWERS[fault]))
    assert outcome == "detected"
    ledger.add("amd power", f"power: {fault}", "reading", "detected")


@pytest.mark.parametrize("what", ["energy", "power"])
@pytest.mark.parametrize("code", AMD_CODES)
def test_amd_at_opening(
    amd_module: AmdModule, amd_clock: ManualClock, ledger: Ledger, code: int, what: str
) -> None:
    """A counter that cannot be read at opening gives way to the power; without both: refused."""
    bench = AmdBench(amd_module, amd_clock, counts=False)
    both = {"energy": code, "power": code} if what == "power" else {"energy": code}
    trial = Trial("gpu-0", bench.true_j, 1e-3)
    bench.show(**both)
    meter = trial.open(AmdSource().open)
    bench.meter = meter
    if meter is not None:
        for _ in range(4):
            bench.advance()
            assert trial.read(meter)
        meter.close()
    assert (meter is None) == (what == "power")
    ledger.add("amd", f"driver: {what} answers {code}", "opening", trial.check())


@pytest.mark.parametrize("code", [*PERF_CODES, -1], ids=lambda code: errno.errorcode.get(code))
@pytest.mark.parametrize("where", ["opening", "reading"])
def test_perf_answers_a_code(
    perf_kernel: PerfKernel, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, where: str, code: int
) -> None:
    if where == "opening" and code < 0:
        code = errno.ENOTTY
    clock = manual_time(monkeypatch)
    perf_kernel.offer("pkg", "ram")
    spent_j = [0.0]
    fault: dict[str, int] = {}

    def show() -> None:
        perf_kernel.show(FakeEvent("ram"), FakeEvent("pkg", energy_j=spent_j[0], **fault))

    def inject() -> None:
        fault["open_error" if where == "opening" else "read_error"] = code
        show()

    def mend() -> None:
        fault.clear()
        show()

    def advance() -> None:
        clock.advance(0.05)
        spent_j[0] += 2.0
        show()

    show()
    trial = Trial("package-0", lambda: spent_j[0], 1e-6, ("energy-pkg",))
    run = open_spoilt if where == "opening" else follow
    outcome = run(trial, PerfSource(perf_kernel.library).open, advance, inject, mend)
    assert outcome == "detected" and perf_kernel.open_counters == 0
    said = "0 of 8 bytes" if code < 0 else errno.errorcode[code]
    ledger.add("perf", f"driver: {said}", where, outcome)  # type: ignore[arg-type]
    assert code < 0 or where == "opening" or os.strerror(code) in str(trial.errors[0])
