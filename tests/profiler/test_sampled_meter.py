"""Sampled powers: honest intervals for power slower and faster than its samples, and forks."""

from __future__ import annotations

import math
import os
import random
from bisect import bisect
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest

from profiler.errors import MeterReadError
from profiler.meters.base import MeterInfo, Rail
from profiler.meters.fake import ManualClock
from profiler.meters.sampled import SampledMeter

INFO = MeterInfo("hwmon", "board", "measured", (Rail("a", "board"),), ("a",))
LENGTH_S, WINDOWS = 5.0, 300


class Pieces:
    """Power that is constant between *edges_s*, on one rail."""

    def __init__(self, clock: ManualClock, edges_s: list[float], levels_w: list[float]) -> None:
        self.clock, self.edges_s, self.levels_w = clock, edges_s, levels_w

    def watts(self) -> Mapping[str, float]:
        return {"a": self.levels_w[bisect(self.edges_s, self.clock()) - 1]}

    def close(self) -> None: ...

    def energy_j(self, end_s: float) -> float:
        parts = zip(pairwise([*self.edges_s, math.inf]), self.levels_w, strict=True)
        return sum(w * max(min(b, end_s) - a, 0.0) for (a, b), w in parts)


def _bursts(draw: random.Random, period_s: float) -> tuple[list[float], list[float]]:
    edges_s = [0.0]
    while edges_s[-1] < LENGTH_S + 1:
        edges_s.append(edges_s[-1] + draw.uniform(0.005, 0.04))
    return edges_s, [2.0 + 8.0 * (number % 2) for number in range(len(edges_s))]


def _square(draw: random.Random, period_s: float) -> tuple[list[float], list[float]]:
    phase_s = draw.random() * period_s
    count = int((LENGTH_S + 1) / (period_s / 2))
    edges_s = [0.0, *(phase_s + number * period_s / 2 for number in range(count))]
    return edges_s, [10.0 * (number % 2) for number in range(len(edges_s))]


def _jumps(draw: random.Random, period_s: float) -> tuple[list[float], list[float]]:
    edges_s = [0.0]
    while edges_s[-1] < LENGTH_S + 1:
        edges_s.append(edges_s[-1] + draw.expovariate(1 / (8 * period_s)))
    return edges_s, [draw.uniform(0, 10) for _ in edges_s]


@pytest.mark.parametrize(
    ("shape", "period_s"), [(_bursts, 0.2), (_bursts, 0.1), (_square, 0.05), (_jumps, 0.05)]
)
def test_intervals_hold_the_truth_however_fast_the_power_moves(
    shape: Callable[..., tuple[list[float], list[float]]], period_s: float
) -> None:
    draw, held, errors = random.Random(4), 0, []
    for _ in range(WINDOWS):
        clock = ManualClock()
        power = Pieces(clock, *shape(draw, period_s))
        meter = SampledMeter(INFO, power, period_s, clock=clock, background=False)
        for number in range(round(LENGTH_S / period_s)):
            clock.advance((number + draw.random()) * period_s - clock())
            meter.sample()
        reading = meter.read()
        error_j = reading.energy_j["a"] - power.energy_j(clock())
        stated_j = math.sqrt(reading.variance_j2["a"])
        held += abs(error_j) < 1.96 * stated_j
        errors.append(error_j / stated_j)
        meter.close()
    assert held / WINDOWS >= 0.91  # three standard errors below 0.95
    assert abs(sum(errors) / WINDOWS) < 4 / math.sqrt(WINDOWS)


def test_samples_of_the_thread_fall_at_random_within_their_periods() -> None:
    numbers = iter([0.9, 0.1, 0.9, 0.1] * 50)
    clock = Waited()
    meter = SampledMeter(
        INFO, clock, 0.5, clock=clock, background=False, draw=lambda: next(numbers)
    )
    clock.samples_s.clear()
    meter._stop = clock  # type: ignore[assignment]
    meter._run()
    assert clock.samples_s[:4] == pytest.approx([0.45, 0.55, 1.45, 1.55])


class Waited:
    """A clock that the sampler's waiting moves on, and the sensor that notes when it is read."""

    def __init__(self) -> None:
        self.now_s, self.samples_s = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return len(self.samples_s) >= 10

    def watts(self) -> Mapping[str, float]:
        self.samples_s.append(self.now_s)
        return {"a": 1.0}

    def close(self) -> None: ...


def test_a_forked_child_is_told_to_open_its_own() -> None:
    clock = ManualClock()
    power = Pieces(clock, [0.0], [5.0])
    meter = SampledMeter(INFO, power, 0.01, clock=clock, background=True)
    assert "opened in another process: open a meter after the fork" in _in_child(meter.read)
    meter.read()
    meter.close()


def _in_child(read: Callable[[], object]) -> str:
    """The message of the error that *read* raises in a fork, or nothing."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            read()
        except MeterReadError as error:
            os.write(theirs, str(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with os.fdopen(ours) as told:
        return told.read()
