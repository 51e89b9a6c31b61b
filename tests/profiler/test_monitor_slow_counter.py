"""A monitor on a counter too slow for the probe, and on rails that never move."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from profiler import EnergyMonitor
from profiler.errors import InputError
from profiler.meters.base import MeterInfo
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.probe import probe
from profiler.window import meter_window

STEP_S, POWER_W = 60.0, 6.0


class _Battery(FakeMeter):
    """A counter that says how slowly it steps."""

    @property
    def info(self) -> MeterInfo:
        return replace(super().info, longest_step_s=STEP_S)


def _monitor(clock: ManualClock, draw: random.Random, **options: Any) -> EnergyMonitor:
    meter = _Battery(POWER_W, clock=clock, period_s=STEP_S)
    clock.advance(100.0 + STEP_S * draw.random())
    probed = probe(meter, clock=clock, sleep=clock.advance)
    return EnergyMonitor(meter, probe=probed, sleep=clock.advance, draw=draw.random, **options)


@pytest.mark.parametrize("options", [{"quiet": True}, {"above_rest": True}])
def test_power_at_rest_that_nobody_saw_is_not_taken_out(options: dict[str, bool]) -> None:
    with (
        _monitor(ManualClock(1e-3), random.Random(0), **options) as monitor,
        pytest.raises(InputError, match=r"rest is not known.*monitor\.rest\(120\)"),
        monitor.window("w"),
    ):
        pytest.fail("the block ran")


def test_one_quiet_window_is_refused_too_and_a_short_rest_does_not_help() -> None:
    clock = ManualClock(1e-3)
    with _monitor(clock, random.Random(0)) as monitor:
        with pytest.raises(InputError, match="rest for 120 s"):
            monitor.rest(10.0)
        with pytest.raises(InputError, match="not known"), monitor.window("w", quiet=True):
            pytest.fail("the block ran")
        with monitor.window("w"):
            clock.advance(600.0)
        assert monitor.summary("w").n == 1


def test_after_a_long_rest_quiet_windows_hold_their_intervals() -> None:
    held = []
    for seed in range(100):
        clock, draw = ManualClock(1e-3), random.Random(seed)
        with _monitor(clock, draw, quiet=True, above_rest=True) as monitor:
            monitor.rest(1800.0)
            for _ in range(5):
                with monitor.window("w"):
                    clock.advance(600.0)
                clock.advance(STEP_S * draw.random())
            energy = monitor.summary("w").energy
        assert energy is not None and energy.mean_j is not None
        held.append(abs(energy.mean_j - 600.0 * POWER_W) <= (energy.half_width_j or 0.0))
    assert sum(held) >= 88


def test_without_quiet_the_unknown_rest_is_said_and_shifts_no_window() -> None:
    off_j, held = [], []
    for seed in range(100):
        clock, draw = ManualClock(1e-3), random.Random(seed)
        with _monitor(clock, draw) as monitor:
            with monitor.window("w") as window:
                clock.advance(600.0)
            found = monitor.summary("w")
            assert "power at rest is not known" in monitor.table()
        energy = window.result.energy
        assert energy is not None and energy.mean_j is not None
        assert energy.half_width_j is not None
        off_j.append(energy.mean_j - 600.0 * POWER_W)
        held.append(abs(off_j[-1]) <= energy.half_width_j)
        assert (found.systematic_j or 0.0) > 0.9 * POWER_W * STEP_S / 2
    assert sum(held) >= 88
    assert abs(sum(off_j)) / len(off_j) < 60.0  # of 3600 J


def test_steps_seen_only_because_the_probe_went_on_do_not_tell_the_rest() -> None:
    clock = ManualClock(1e-3)
    meter = FakeMeter(POWER_W, clock=clock, period_s=0.8)
    clock.advance(10.0)
    probed = probe(meter, max_time_s=2.0, clock=clock, sleep=clock.advance)
    probed = replace(probed, idle_s=0.4)
    with (
        pytest.raises(InputError, match="takes up to 0"),
        meter_window(meter, "w", probe=probed, sleep=clock.advance, clock=clock),
    ):
        pytest.fail("the block ran")


@pytest.mark.parametrize("occurrences", [1, 3])
def test_a_rail_that_draws_nothing_is_not_seen_and_has_no_limit(occurrences: int) -> None:
    clock = ManualClock(1e-4)
    meter = FakeMeter({"package-0": 20.0, "uncore-0": 0.0}, clock=clock)
    probed = probe(meter, clock=clock, sleep=clock.advance)
    with EnergyMonitor(meter, probe=probed, sleep=clock.advance) as monitor:
        for _ in range(occurrences):
            with monitor.window("step"):
                clock.advance(0.5)
            clock.advance(0.05)
        table, rails = monitor.table(), monitor.as_document()["windows"][0]["rails"]
    assert "not seen" in next(line for line in table.splitlines() if "uncore-0" in line)
    assert " 0 J" not in table
    assert rails["uncore-0"]["upper_limit_j"] is None
    assert rails["uncore-0"]["half_width_j"] is None


def test_a_sum_that_never_moved_is_not_seen() -> None:
    clock = ManualClock(1e-4)
    meter = FakeMeter(0.0, clock=clock)
    probed = probe(meter, clock=clock, sleep=clock.advance)
    with EnergyMonitor(meter, probe=probed, sleep=clock.advance, above_rest=True) as monitor:
        for _ in range(3):
            with monitor.window("step"):
                clock.advance(0.5)
        assert " 0 J" not in monitor.table()
        assert monitor.table().count("not seen") == 3  # each, all, above rest
