"""Counters that stop, start again, jump and lie: no difference that they spoil is ever given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from benches import BENCHES, Bench, bench, manual_time
from ledger import Ledger, Trial, follow
from stand_ins.perf import FakeEvent, PerfKernel

from profiler.errors import CounterFaultError
from profiler.meters.base import energy_between
from profiler.meters.fake import FakeMeter
from profiler.meters.perf import PerfSource

__all__ = ["bench"]
COUNTERS = ("rapl", "pyjoules", "hwmon energy", "battery energy", "battery charge")
POWERS = tuple(
    name for name in BENCHES if name not in COUNTERS and not name.startswith("battery v")
)


@dataclass(frozen=True)
class CounterFault:
    """What a counter shows: a function of the true number and of how often it was shown."""

    name: str
    shown: Callable[[int, int], int]

    def distortion(self) -> Callable[[bytes], bytes]:
        """The same over texts, counting from now."""
        times = [0]

        def distort(true: bytes) -> bytes:
            times[0] += 1
            return b"%d\n" % self.shown(int(true), times[0])

        return distort


COUNTER_FAULTS = (
    CounterFault("starts again from 0", lambda true, n: n * 1000),
    CounterFault("shows 0", lambda true, n: 0),
    CounterFault("shows 1", lambda true, n: 1),
    CounterFault("falls to half", lambda true, n: true // 2),
    CounterFault("loses its last digit", lambda true, n: true // 10),
    CounterFault("loses its first digit", lambda true, n: int(str(true)[1:] or "0")),
    CounterFault("jumps forward by a year of energy", lambda true, n: true + 3 * 10**10),
    CounterFault("jumps once and returns", lambda true, n: true + (9 * 10**10 if n == 2 else 0)),
    CounterFault("falls once and returns", lambda true, n: true // 3 if n == 2 else true),
    CounterFault("alternates with 0", lambda true, n: true * (n % 2)),
    CounterFault("alternates with half", lambda true, n: true // (1 + n % 2)),
    CounterFault("alternates between two far values", lambda true, n: 10 ** (4 + 6 * (n % 2))),
    CounterFault("runs a million times too fast", lambda true, n: true + n * 10**11),
    CounterFault("is its own complement", lambda true, n: 10**11 - true),
    CounterFault("swaps to a neighbour's", lambda true, n: 200_000_000_000 + true // 7),
    CounterFault("wraps at 32 bits", lambda true, n: (true + 4_250_000_000) % 2**32),
)
_ids = {"ids": lambda value: value.name if isinstance(value, CounterFault) else str(value)}


@pytest.mark.parametrize("fault", COUNTER_FAULTS, **_ids)
@pytest.mark.parametrize("bench", COUNTERS, indirect=True)
def test_a_counter_that_lies(
    bench: Bench, fault: CounterFault, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    """While a counter lies, no reading is judged against the truth: none may span the lie."""
    name = request.node.callspec.params["bench"]
    trial = Trial(bench.rail, bench.true_j, bench.step_j)
    lying = [False]

    def inject() -> None:
        lying[0] = True
        bench.spoil(fault.distortion())

    def mend() -> None:
        lying[0] = False
        bench.mend()

    read = trial.read

    def read_truth(meter: object) -> bool:
        answered = read(meter)  # type: ignore[arg-type]
        if answered and lying[0]:
            trial.readings.pop()  # a plausible count: what it is worth shows when the lie ends
        return answered

    trial.read = read_truth  # type: ignore[method-assign,assignment]
    outcome = follow(trial, bench.open, bench.advance, inject, mend)
    assert outcome == "detected"
    ledger.add(name, f"counter: {fault.name}", "reading", outcome)


@pytest.mark.parametrize("bench", COUNTERS, indirect=True)
def test_a_counter_that_stops_for_long(
    bench: Bench, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["bench"]
    bench.length_s = 400.0 if name.startswith("battery") else 0.8
    trial = Trial(bench.rail, bench.true_j, bench.step_j)
    meter = trial.open(bench.open)
    assert meter is not None
    bench.advance()
    assert trial.read(meter)
    before = trial.readings[-1][0]
    stopped_at = bench.true_text()
    bench.spoil(lambda _: stopped_at)
    answered = []
    for _ in range(6):
        bench.advance()
        answered.append(trial.read(meter))
    assert not any(answered[3:]), "0 J for a rail that draws"
    bench.mend()
    for _ in range(4):
        bench.advance()
        trial.read(meter)
    with pytest.raises(CounterFaultError):
        energy_between(before, trial.readings[-1][0], [bench.rail])
    ledger.add(name, "counter: stops for long", "reading", "detected")
    meter.close()


@pytest.mark.parametrize("bench", COUNTERS, indirect=True)
def test_a_counter_that_stops_for_a_moment_and_goes_on(
    bench: Bench, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    """Late, not wrong: the next step holds what was not shown."""
    meter = bench.open()
    start, start_j = meter.read(), bench.true_j()
    stopped_at = bench.true_text()
    bench.spoil(lambda _: stopped_at)
    bench.advance()
    assert meter.read().energy_j[bench.rail] == start.energy_j[bench.rail]
    bench.mend()
    bench.advance()
    end = meter.read()
    shown_j = energy_between(start, end, [bench.rail])
    assert shown_j == pytest.approx(bench.true_j() - start_j, abs=bench.step_j)
    name = request.node.callspec.params["bench"]
    ledger.add(name, "counter: stops for a moment", "reading", "harmless")
    meter.close()


@dataclass(frozen=True)
class PowerFault:
    """A number that no rail carries."""

    name: str
    number: int


POWER_FAULTS = (
    PowerFault("far below 0", -(10**12)),
    PowerFault("above any rail", 10**12),
    PowerFault("the largest of 64 bits", 2**63 - 1),
    PowerFault("the smallest of 64 bits", -(2**63)),
    PowerFault("the largest of 64 bits without sign", 2**64 - 1),
)


@pytest.mark.parametrize("fault", POWER_FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("bench", POWERS, indirect=True)
def test_a_power_that_no_rail_carries(
    bench: Bench, fault: PowerFault, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["bench"]
    outcome = follow(
        Trial(bench.rail, bench.true_j, bench.step_j),
        bench.open,
        bench.advance,
        lambda: bench.spoil(lambda _: b"%d\n" % fault.number),
        bench.mend,
    )
    assert outcome == "detected"
    ledger.add(name, f"power: {fault.name}", "reading", outcome)


@pytest.mark.parametrize(
    ("fault", "change_j"),
    [
        ("starts again", -1e9),
        ("falls", -5.0),
        ("jumps beyond any power", 5e4),
        ("jumps by 2**31 J", 2.0**31),
    ],
)
def test_a_perf_counter_that_lies(
    perf_kernel: PerfKernel,
    monkeypatch: pytest.MonkeyPatch,
    ledger: Ledger,
    fault: str,
    change_j: float,
) -> None:
    clock = manual_time(monkeypatch)
    perf_kernel.offer("pkg")
    perf_kernel.show(FakeEvent("pkg"))
    spent_j = [0.0]

    def advance() -> None:
        clock.advance(0.05)
        spent_j[0] += 2.0
        perf_kernel.spend(2.0)

    outcome = follow(
        Trial("package-0", lambda: spent_j[0], 1e-6),
        PerfSource(perf_kernel.shared_library).open,
        advance,
        lambda: perf_kernel.spend(max(change_j, -900.0)),
        lambda: None,
    )
    assert outcome == "detected"
    ledger.add("perf", f"counter: {fault}", "reading", outcome)


def test_a_fake_counter_that_is_reset(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = manual_time(monkeypatch)
    meter = FakeMeter(20.0, clock=clock)
    trial = Trial("cpu", lambda: 20.0 * (clock.now_s - 1000.0), 0.021)
    outcome = follow(trial, lambda: meter, lambda: clock.advance(0.05), meter.reset, lambda: None)
    assert outcome == "detected"
    ledger.add("fake", "counter: starts again", "reading", outcome)
