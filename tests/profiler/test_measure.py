"""Joules of an action above rest, with the interval that its repetitions earn."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from stand_ins.simulated_device import SimulatedDevice

from profiler.errors import InputError, MeterReadError
from profiler.measure import (
    Repetition,
    as_document,
    energy_above_rest,
    repeat_measured,
    total_energy,
)
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.probe import ProbeResult, RailProbe
from profiler.window import WindowResult

PROBE = ProbeResult(
    0.001, 0.001, 1e-6, 1e-6, 5.0, 9, 1.0, (RailProbe("cpu", 9, 0.001, 0.001, 1e-6, 5.0),)
)


SLOW = ProbeResult(0.1, 0.1, None, 1e-6, 60.0, 9, 1.0, (RailProbe("cpu", 9, 0.1, 0.1, None, 60.0),))


def _repetition(energy_j: float, duration_s: float = 2.0, rest_w: float | None = 5.0) -> Repetition:
    run = WindowResult("run", "measured", duration_s, energy_j, {"cpu": energy_j}, 0.01)
    rest = None
    if rest_w is not None:
        rest = WindowResult("rest", "measured", 1.0, rest_w, {"cpu": rest_w}, 0.02)
    return Repetition(run, rest)


def test_rest_power_is_taken_before_each_run_and_subtracted() -> None:
    clock = ManualClock()
    power_w = {"now": 5.0}
    meter = FakeMeter(lambda _: power_w["now"], clock=clock, period_s=0.001)
    energies_j = iter([2.0, 3.0, 4.0])

    def rest(seconds: float) -> None:
        clock.advance(seconds)
        power_w["rest"] = power_w["now"]

    def action() -> None:
        meter.spend(next(energies_j))
        clock.advance(0.5)
        meter.read()
        power_w["now"] += 1.0  # the machine grows warmer

    finished = repeat_measured(action, meter, repeat=3, idle_s=0.2, sleep=rest)
    assert [each.rest_power_w for each in finished] == pytest.approx([5.0, 6.0, 7.0])
    assert [each.above_rest_j for each in finished] == pytest.approx([2.0, 3.0, 4.0])


@given(st.lists(st.floats(0.0, 100.0), min_size=2, max_size=9))
def test_interval_is_students_over_repetitions(energies_j: list[float]) -> None:
    estimate = total_energy([_repetition(energy_j) for energy_j in energies_j])
    low, high = np.mean(energies_j), np.mean(energies_j)
    error = stats.sem(energies_j)
    if error > 0:
        low, high = stats.t.interval(0.95, len(energies_j) - 1, np.mean(energies_j), error)
    assert estimate.basis == "student"
    assert estimate.n == len(energies_j)
    half = estimate.half_width or 0.0  # runs that are all the same bound nothing
    assert (estimate.half_width is None) == (half == 0.0)
    assert estimate.mean - half == pytest.approx(low, abs=1e-6)
    assert estimate.mean + half == pytest.approx(high, abs=1e-6)


def test_single_run_has_only_the_error_of_its_edges() -> None:
    total, above = total_energy([_repetition(30.0)]), energy_above_rest([_repetition(30.0)])
    assert total.basis == "edges" and total.standard_deviation is None
    assert total.half_width == pytest.approx(1.96 * 0.01, rel=1e-4)
    assert above is not None and above.mean == pytest.approx(20.0)
    # The rest's error grows with the time it is scaled to: 2 s from 1 s.
    assert above.half_width == pytest.approx(1.96 * math.hypot(0.01, 2 * 0.02), rel=1e-4)


def test_energy_below_rest_is_kept_negative() -> None:
    above = energy_above_rest([_repetition(9.0), _repetition(9.5)])
    assert above is not None and above.mean == pytest.approx(-0.75)


def test_without_rest_there_is_nothing_above_it() -> None:
    clock = ManualClock()
    meter = FakeMeter(10.0, clock=clock)
    finished = repeat_measured(lambda: clock.advance(0.1), meter, idle_s=0.0)
    assert energy_above_rest(finished) is None
    assert total_energy(finished).half_width is None
    document = json.loads(json.dumps(as_document(finished), allow_nan=False))
    assert document["energy_above_rest_j"] is None
    assert document["repetitions"][0]["rest"] is None
    assert document["energy_j"]["mean"] == pytest.approx(1.0)


def test_finished_runs_are_handed_over_before_a_later_one_fails() -> None:
    clock = ManualClock()
    meter = FakeMeter(10.0, clock=clock, faults={8: MeterReadError("gone")})
    kept: list[Repetition] = []
    with pytest.raises(MeterReadError):
        repeat_measured(
            lambda: clock.advance(0.1),
            meter,
            repeat=3,
            idle_s=0.1,
            probe=PROBE,
            sleep=clock.advance,
            done=kept.append,
        )
    assert len(kept) == 1
    assert kept[0].above_rest_error_j is not None


def test_student_covers_the_truth_on_a_slow_counter() -> None:
    draw = random.Random(1).random
    covered, above_covered, sessions = 0, 0, 200
    for _ in range(sessions):
        device = SimulatedDevice(60.0, 0.1)
        device.sleep(draw() * 0.1)
        finished = repeat_measured(
            lambda device=device: device.spend(0.5, 300.0),
            device,
            repeat=6,
            probe=SLOW,
            sleep=device.sleep,
            draw=draw,
        )
        total, above = total_energy(finished), energy_above_rest(finished)
        assert above is not None and above.half_width is not None and total.half_width is not None
        assert finished[0].run.duration_s == pytest.approx(0.5)
        covered += abs(total.mean - 300.0) <= total.half_width
        above_covered += abs(above.mean - 270.0) <= above.half_width
    assert covered >= 0.9 * sessions
    assert above_covered >= 0.9 * sessions


def test_error_above_rest_counts_the_rest_once_for_run_and_quiet() -> None:
    rest = WindowResult("rest", "measured", 2.0, 10.0, {"cpu": 10.0}, 0.4)
    edges_j, quiet_s = 0.3, 0.125
    run_error_j = math.hypot(edges_j, quiet_s / 2.0 * 0.4)
    run = WindowResult("run", "measured", 0.5, 9.0, {"cpu": 9.0}, run_error_j, quiet_s)
    assert Repetition(run, rest).above_rest_error_j == pytest.approx(
        math.hypot(edges_j, (0.5 + quiet_s) / 2.0 * 0.4)
    )


@pytest.mark.parametrize(("repeat", "idle_s"), [(0, 1.0), (1, -1.0), (1, math.nan), (1, math.inf)])
def test_impossible_plans_are_refused(repeat: int, idle_s: float) -> None:
    with pytest.raises(InputError):
        repeat_measured(lambda: None, FakeMeter(), repeat=repeat, idle_s=idle_s)
