"""Drivers that answer by a code: NVML and perf events, at opening and between two reads."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from benches import manual_time
from drivers import by_hand, no_cuda
from ledger import Ledger, Trial, follow, open_spoilt
from stand_ins.nvml import FakeGpu, NvmlLibrary
from stand_ins.perf import FakeEvent, PerfKernel

from profiler.meters import nvml
from profiler.meters.fake import ManualClock
from profiler.meters.nvml import NvmlSource
from profiler.meters.perf import PerfSource
from profiler.meters.pyjoules import PyJoulesSource

__all__ = ["by_hand", "no_cuda"]
NVML_CODES = (1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 14, 15, 16, 17, 18, 24, 27, 999)
NVML_ENERGIES = {
    "starts again from 0": 0,
    "falls": 4_000_000,
    "jumps beyond any power": 5_000_000 + 10**9,
    "2**63": 2**63,
    "the largest of 64 bits": 2**64 - 1,
}
PERF_CODES = tuple(
    sorted(
        {errno.EPERM, errno.ENOENT, errno.EINTR, errno.EIO, errno.EBADF, errno.EAGAIN}
        | {errno.ENOMEM, errno.EACCES, errno.EFAULT, errno.EBUSY, errno.ENODEV, errno.EINVAL}
        | {errno.EMFILE, errno.ENOSPC, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ESRCH}
    )
)


class Gpu:
    """A GPU of known joules on time moved by hand, and a meter that counts or samples it."""

    def __init__(self, library: NvmlLibrary, clock: ManualClock, *, counts: bool) -> None:
        self.shared_library, self.clock, self.counts = library, clock, counts
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
        self.shared_library.show(gpu.but(**plain).with_(**extra))  # type: ignore[arg-type]

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
    outcome = run(trial, PerfSource(perf_kernel.shared_library).open, advance, inject, mend)
    assert outcome == "detected" and perf_kernel.open_counters == 0
    said = "0 of 8 bytes" if code < 0 else errno.errorcode[code]
    ledger.add("perf", f"driver: {said}", where, outcome)  # type: ignore[arg-type]
    assert code < 0 or where == "opening" or os.strerror(code) in str(trial.errors[0])
