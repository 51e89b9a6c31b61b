"""AMD SMI: status codes, counters and powers that lie, at opening and between two reads."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from benches import manual_time
from drivers import by_hand, no_cuda
from ledger import Ledger, Trial, follow
from stand_ins.amd import AmdModule, FakeAmdGpu

from profiler.meters import amd, amd_gpus
from profiler.meters.amd import AmdSource
from profiler.meters.fake import ManualClock

__all__ = ["by_hand", "no_cuda"]
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
