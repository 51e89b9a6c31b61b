"""Period, quantum, latency and idle power are those of the counter that was scripted."""

from __future__ import annotations

import json
import math
import random
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.jittered import JitteredDevice
from stand_ins.sysfs import SysfsTree

from profiler.errors import InputError, MeterReadError
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.modelled import ModelledMeter
from profiler.meters.rapl import RaplSource
from profiler.probe import ENOUGH_UPDATES, FEWEST_UPDATES, probe, update_statistics


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 10**6))
def test_statistics_agree_with_a_slow_reading_of_their_definition(
    steps: list[int], quantum_uj: int
) -> None:
    times_s = [0.001 * number for number in range(len(steps))]
    totals = [sum(steps[: number + 1]) * quantum_uj for number in range(len(steps))]
    found = update_statistics(times_s, [total * 1e-6 for total in totals])
    changed = [n for n in range(1, len(steps)) if totals[n] != totals[n - 1]]
    periods_s = sorted(times_s[b] - times_s[a] for a, b in pairwise(changed))
    assert found.updates == len(changed)
    if not periods_s:
        assert found.period_s is found.period_p99_s is found.quantum_j is None
        return
    middle = [periods_s[(len(periods_s) - 1) // 2], periods_s[len(periods_s) // 2]]
    assert found.period_s == pytest.approx(sum(middle) / 2)
    assert found.period_p99_s in periods_s
    below = sum(period <= found.period_p99_s for period in periods_s)
    assert below >= 0.99 * len(periods_s)
    steps_uj = [totals[n] - totals[n - 1] for n in changed]
    common_uj = math.gcd(*steps_uj)
    if common_uj ** len(steps_uj) > 10**6:
        assert found.quantum_j == pytest.approx(common_uj * 1e-6, abs=1e-6)
    if found.quantum_j is not None:
        off_uj = [math.remainder(step, found.quantum_j * 1e6) for step in steps_uj]
        assert max(abs(off) for off in off_uj) < 1.01


@given(
    st.integers(3, 16),
    st.integers(0, 10**9),
    st.lists(st.integers(1, 3000), min_size=30, max_size=100),
)
def test_unit_that_whole_microjoules_cut_off_is_found(
    power: int, start: int, counts: list[int]
) -> None:
    """Powercap shows floor(n 2^-14 J / 1 uJ) for a counter in units of 2^-14 J = 61.035 uJ."""
    units = list(accumulate([start, 1, *counts]))
    energies_j = [(count * 10**6 >> power) * 1e-6 for count in units]
    found = update_statistics(range(len(units)), energies_j)
    assert found.quantum_j == pytest.approx(2.0**-power, rel=1e-9)


def test_two_steps_are_no_evidence_of_a_fine_quantum() -> None:
    assert update_statistics(range(3), [0.0, 61e-6, 183e-6]).quantum_j is None


def test_steps_of_any_number_of_microjoules_have_no_quantum() -> None:
    draw = random.Random(2)
    totals_uj = list(accumulate(draw.randint(1, 1000) for _ in range(300)))
    assert update_statistics(range(300), [uj * 1e-6 for uj in totals_uj]).quantum_j is None


@pytest.mark.parametrize("energies_j", [[], [1.0], [1.0, 1.0, 1.0]])
def test_no_update_is_none_and_not_zero(energies_j: list[float]) -> None:
    found = update_statistics(range(len(energies_j)), energies_j)
    assert (found.updates, found.period_s, found.quantum_j) == (0, None, None)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError):
        update_statistics([0.0, 1.0], [0.0])


def test_continuous_energy_has_no_quantum() -> None:
    draw = random.Random(1)
    energy_j, energies_j = 0.0, []
    for _ in range(50):
        energy_j += draw.random()
        energies_j.append(energy_j)
    assert update_statistics(range(50), energies_j).quantum_j is None


def test_scripted_counter_is_described_as_scripted() -> None:
    clock = ManualClock(step_s=20e-6)
    meter = FakeMeter({"package-0": 25.0, "dram-0": 4.0}, quantum_j=61e-6, clock=clock)
    found = probe(meter, max_time_s=1.0, clock=clock, sleep=clock.advance)
    assert found.period_s == pytest.approx(1e-3, rel=0.05)
    assert found.period_p99_s == pytest.approx(1e-3, rel=0.1)
    assert found.quantum_j == pytest.approx(61e-6)
    assert found.idle_power_w == pytest.approx(29.0, rel=0.01)
    assert found.rail("dram-0").idle_power_w == pytest.approx(4.0, rel=0.01)
    assert found.read_latency_s == pytest.approx(40e-6)
    assert found.reads >= ENOUGH_UPDATES
    assert found.duration_s <= 1.0
    with pytest.raises(InputError, match="psys"):
        found.rail("psys")


def test_slow_counter_is_watched_until_it_has_stepped_often_enough() -> None:
    clock = ManualClock(step_s=1e-3)
    meter = FakeMeter(100.0, period_s=0.1, clock=clock)
    found = probe(meter, max_time_s=1.0, clock=clock, sleep=clock.advance)
    assert found.rail("cpu").updates == FEWEST_UPDATES
    assert found.period_s == pytest.approx(0.1, rel=0.05)
    assert 3.0 <= found.duration_s <= 4.0
    assert found.idle_s == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    ("period_s", "most_time_s", "duration_s"),
    [
        (0.1, 1.0, 1.0),  # no longer than was allowed
        (0.4, None, 5.0),  # bounded without being told
        (60.0, None, 1.0),  # a counter that has shown no step is not waited for
        (0.014, None, 1.0),  # 32 steps are seen in 0.45 s
    ],
)
def test_time_that_a_slow_counter_is_watched_has_an_end(
    period_s: float, most_time_s: float | None, duration_s: float
) -> None:
    clock = ManualClock(step_s=1e-3)
    clock.advance(1.0)
    found = probe(
        FakeMeter(100.0, period_s=period_s, clock=clock),
        most_time_s=most_time_s,
        clock=clock,
        sleep=clock.advance,
    )
    assert found.duration_s == pytest.approx(duration_s, abs=0.01)


def test_a_rail_that_draws_nothing_does_not_hold_up_the_others() -> None:
    clock = ManualClock(step_s=1e-4)
    meter = FakeMeter({"package-0": 10.0, "uncore-0": 0.0}, clock=clock)
    assert probe(meter, clock=clock, sleep=clock.advance).duration_s == pytest.approx(1.0, abs=0.01)


def test_period_of_a_jittered_counter_is_known_to_a_tenth() -> None:
    generator = np.random.default_rng(1)
    periods_s = [JitteredDevice(60.0, 0.1, generator).probed().period_s for _ in range(200)]
    assert np.quantile(np.array(periods_s, float), [0.05, 0.95]) == pytest.approx(0.1, rel=0.16)


def test_a_longest_time_below_the_usual_one_is_refused() -> None:
    with pytest.raises(InputError, match="at most"):
        probe(FakeMeter(), max_time_s=1.0, most_time_s=0.5)


def test_counter_without_an_update_says_so() -> None:
    clock = ManualClock(step_s=1e-3)
    meter = FakeMeter({"package-0": 10.0, "dram-0": 0.0}, clock=clock)
    found = probe(meter, max_time_s=0.5, clock=clock, sleep=clock.advance)
    assert found.rail("dram-0").period_s is None
    assert found.rail("dram-0").updates == 0
    assert found.period_s is not None
    silent = probe(FakeMeter(0.0, clock=clock), max_time_s=0.5, clock=clock, sleep=clock.advance)
    assert silent.period_s is None and silent.quantum_j is None
    assert silent.idle_power_w == 0.0


def test_slowest_rail_stands_for_the_sum(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", 50.0, start_uj=1)
    bare_sysfs_tree.add("intel-rapl:0:0", "dram", 5.0, start_uj=2)
    meter = RaplSource().open()
    with bare_sysfs_tree.ticking():
        found = probe(meter, max_time_s=0.3)
    meter.close()
    assert found.period_s == max(rail.period_s or 0.0 for rail in found.rails)
    assert found.quantum_j is None, "the tree shows any number of microjoules"
    assert all(rail.updates > 2 for rail in found.rails)


def test_model_updates_at_every_read() -> None:
    found = probe(ModelledMeter(6.0), max_time_s=0.2)
    assert found.period_s is not None
    assert found.rails[0].updates <= found.reads


def test_result_is_json() -> None:
    clock = ManualClock(step_s=1e-3)
    found = probe(FakeMeter(0.0, clock=clock), clock=clock, sleep=clock.advance)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["period_s"] is None


def test_failing_read_is_passed_on() -> None:
    meter = FakeMeter(faults={5: MeterReadError("gone")}, clock=ManualClock(1e-3))
    with pytest.raises(MeterReadError, match="gone"):
        probe(meter, clock=ManualClock(1e-3), sleep=lambda _: None)


@pytest.mark.parametrize("time_s", [0.0, -1.0, float("nan"), float("inf")])
def test_time_must_be_positive(time_s: float) -> None:
    with pytest.raises(InputError):
        probe(FakeMeter(), max_time_s=time_s)
