"""Gaps in time: sampling that starves, a counter not read for longer than it wraps."""

from __future__ import annotations

import time

import pytest
from benches import BENCHES, Bench, bench
from ledger import Ledger, Trial
from stand_ins.boards import BoardTree

from profiler.errors import CounterFaultError
from profiler.meters.base import energy_between
from profiler.meters.ina3221 import Ina3221Meter
from profiler.meters.ina3221_rails import scan
from profiler.meters.sampled import SampledMeter

__all__ = ["bench"]
COUNTERS = ("rapl", "pyjoules", "hwmon energy", "battery energy", "battery charge")
SAMPLED = tuple(name for name in BENCHES if name not in COUNTERS and name != "battery voltage")


@pytest.mark.parametrize("gap_s", [0.6, 3.0, 86_400.0])
@pytest.mark.parametrize("bench", SAMPLED, indirect=True)
def test_sampling_that_starves(
    bench: Bench, ledger: Ledger, request: pytest.FixtureRequest, gap_s: float
) -> None:
    """The trapezoid over a long pause would be a guess."""
    name = request.node.callspec.params["bench"]
    if name.startswith("battery"):
        gap_s *= 100
    trial = Trial(bench.rail, bench.true_j, bench.step_j)
    meter = trial.open(bench.open)
    assert meter is not None
    bench.advance()
    assert trial.read(meter)
    before = trial.readings[-1][0]
    bench.let_pass(gap_s)
    assert not trial.read(meter) and not trial.read(meter), "0 J while nobody sampled"
    for _ in range(5):
        bench.advance()
        trial.read(meter)
    assert trial.check() == "detected"
    with pytest.raises(CounterFaultError):
        energy_between(before, trial.readings[-1][0], [bench.rail])
    ledger.add(name, f"time: no sample for {gap_s:g} s", "reading", "detected")
    meter.close()


@pytest.mark.parametrize("bench", SAMPLED, indirect=True)
def test_a_window_inside_a_silence_is_no_0_joules(
    bench: Bench, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    """Both reads of the window fall into one pause of the sampling thread."""
    name = request.node.callspec.params["bench"]
    meter = bench.open()
    assert isinstance(getattr(meter, "sampled", meter), SampledMeter)
    bench.let_pass(400.0)
    trial = Trial(bench.rail, bench.true_j, bench.step_j)
    for _ in range(4):
        bench.let_pass(1.0)
        assert not trial.read(meter)
    ledger.add(name, "time: a window inside a silence", "window", "detected")
    meter.close()


@pytest.mark.parametrize("gap_s", [263.0, 1e5, 1e9])
@pytest.mark.parametrize("bench", ["rapl", "pyjoules"], indirect=True)
def test_a_counter_not_read_for_longer_than_it_may_wrap(
    bench: Bench, ledger: Ledger, request: pytest.FixtureRequest, gap_s: float
) -> None:
    name = request.node.callspec.params["bench"]
    trial = Trial(bench.rail, bench.true_j, bench.step_j)
    meter = trial.open(bench.open)
    assert meter is not None
    bench.advance()
    assert trial.read(meter)
    bench.let_pass(gap_s)
    assert not trial.read(meter)
    for _ in range(3):
        bench.advance()
        assert trial.read(meter)
    assert trial.check() == "detected"
    ledger.add(name, f"time: not read for {gap_s:g} s", "reading", "detected")
    meter.close()


@pytest.mark.parametrize("bench", COUNTERS, indirect=True)
@pytest.mark.parametrize("step_s", [1e6, -1e6])
def test_the_wall_clock_is_not_looked_at(
    bench: Bench,
    ledger: Ledger,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    step_s: float,
) -> None:
    name = request.node.callspec.params["bench"]
    trial = Trial(bench.rail, bench.true_j, bench.step_j)
    meter = trial.open(bench.open)
    assert meter is not None
    bench.advance()
    trial.read(meter)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step_s)
    bench.advance()
    trial.read(meter)
    assert trial.check() == "harmless" and len(trial.readings) == 3
    ledger.add(name, f"time: the wall clock steps by {step_s:g} s", "reading", "harmless")
    meter.close()


def test_a_sampling_thread_that_hangs_in_its_driver(
    board_tree: BoardTree, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    """Real threads: a read of the sensor takes a second, and no joule is made up meanwhile."""
    board_tree.jetson({1: ("VDD_IN", 9.0)})
    meter = Ina3221Meter(scan(board_tree.root))
    sensor = meter._sensor
    usual = sensor.watts
    time.sleep(0.1)
    before = meter.read()
    hanging = [True]

    def hang() -> object:
        while hanging[0]:
            time.sleep(0.01)
        return usual()

    monkeypatch.setattr(type(sensor), "watts", lambda self: hang())
    time.sleep(0.75)
    trial = Trial("VDD_IN", lambda: 0.0, 1.0)
    assert not trial.read(meter) and "not sampled" in str(trial.errors[0])
    hanging[0] = False
    monkeypatch.undo()
    until_s = time.perf_counter() + 3
    while not trial.read(meter) and time.perf_counter() < until_s:
        time.sleep(0.02)
    after = trial.readings[-1][0]
    with pytest.raises(CounterFaultError):
        energy_between(before, after, ["VDD_IN"])
    start_s = time.perf_counter()
    time.sleep(0.3)
    joules = energy_between(after, meter.read(), ["VDD_IN"])
    assert joules == pytest.approx(9.0 * (time.perf_counter() - start_s), rel=0.4)
    ledger.add("ina3221", "time: the driver hangs", "reading", "detected")
    meter.close()
