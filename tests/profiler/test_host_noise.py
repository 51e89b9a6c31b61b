"""The A/A test: scatter of equal work, against the counter's own, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import InputError
from profiler.gauge import Window
from profiler.host_noise import (
    MOST_BLOCKS,
    blocks_needed,
    hashing,
    measure_noise,
    multiplying,
    noise_of,
)
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.probe import ProbeResult, probe
from profiler.statistics import t_quantile


def _slow_blocks(scatter: float, width: float) -> int:
    blocks = 2
    while t_quantile(0.975, blocks - 1) * sqrt(2 / blocks) * scatter > width:
        blocks += 1
    return blocks


@given(st.floats(0, 0.5), st.floats(0.02, 0.5))
def test_blocks_needed_is_the_first_count_that_suffices(scatter: float, width: float) -> None:
    found = blocks_needed(scatter, width)
    assert found == min(_slow_blocks(scatter, width), MOST_BLOCKS)


def test_blocks_needed_refuses_and_gives_up() -> None:
    assert blocks_needed(1e3) == MOST_BLOCKS
    for scatter, width in ((-0.1, 0.05), (0.1, 0.0), (float("nan"), 0.05)):
        with pytest.raises(InputError):
            blocks_needed(scatter, width)


def _windows(energies_j: np.ndarray) -> list[Window]:
    return [Window(float(n), 0.2, float(energy)) for n, energy in enumerate(energies_j)]


def test_scatter_is_that_of_one_window_and_its_interval_covers() -> None:
    generator = np.random.default_rng(0)
    covered, scatters = 0, []
    for _ in range(400):
        drift = np.repeat(generator.uniform(8.0, 12.0, 12), 2)
        noise = noise_of(_windows(drift + 0.3 * generator.normal(size=24)), edge_j=0.1)
        low, high = noise.scatter_interval
        covered += low <= 0.03 <= high
        scatters.append(noise.scatter**2)
    assert sqrt(np.mean(scatters)) == pytest.approx(0.03, rel=0.05)
    assert 0.92 <= covered / 400 <= 0.98
    assert noise.steps_scatter == pytest.approx(0.01, rel=0.1)
    assert noise.pairs == 12 and noise.time_scatter == 0
    low_blocks, high_blocks = noise.blocks_interval
    assert low_blocks <= noise.blocks <= high_blocks
    assert noise.blocks_by_steps == blocks_needed(noise.steps_scatter)


@pytest.mark.parametrize("energies_j", [[1.0, 1.0], [0.0] * 8])
def test_too_little_is_refused(energies_j: list[float]) -> None:
    with pytest.raises(InputError, match="nothing of noise"):
        noise_of(_windows(np.array(energies_j)), edge_j=0.0)


def _simulated(period_s: float, wander: float) -> tuple[FakeMeter, ProbeResult, ManualClock]:
    """A counter on a power that wanders by a share of itself from one window to the next."""
    clock = ManualClock(step_s=20e-6)

    def power_w(at_s: float) -> float:
        return 20.0 * (1 + wander * np.sin(17.0 * round(at_s / 0.25)))

    meter = FakeMeter(power_w, period_s=period_s, clock=clock)
    return meter, probe(meter, max_time_s=1.0, clock=clock, sleep=clock.advance), clock


@pytest.mark.parametrize(("wander", "noisy"), [(0.0, False), (0.1, True)])
def test_noise_beyond_the_counters_steps_is_seen(wander: float, noisy: bool) -> None:
    meter, probed, clock = _simulated(0.001, wander)

    def work(seconds: float) -> Callable[[], None]:
        return lambda: clock.advance(seconds)

    noise = measure_noise(meter, probed, work=work, sleep=clock.advance)
    assert noise.pairs >= 6
    assert noise.power_w == pytest.approx(20.0, rel=0.1)
    assert (noise.scatter > 3 * noise.steps_scatter) == noisy
    assert (noise.blocks > noise.blocks_by_steps) == noisy


@pytest.mark.parametrize(
    ("watched_s", "says"),
    [(1.0, "did not step twice in 1"), (12.0, r"steps every 2 s: 6 pairs would take")],
)
def test_counter_that_steps_too_slowly_is_refused(watched_s: float, says: str) -> None:
    clock = ManualClock(step_s=1e-3)
    meter = FakeMeter(20.0, period_s=2.0, clock=clock)
    probed = probe(meter, max_time_s=watched_s, clock=clock, sleep=clock.advance)
    with pytest.raises(InputError, match=says):
        measure_noise(meter, probed, sleep=clock.advance)


def test_work_takes_about_the_time_asked_for() -> None:
    meter = FakeMeter(10.0, period_s=0.0)
    noise = measure_noise(meter, probe(meter, max_time_s=0.05), seconds=1.0, work=hashing_briefly)
    assert noise.pairs == 6 and 0 < noise.window_s < 1.0
    assert noise.power_w == pytest.approx(10.0, rel=0.01)


def hashing_briefly(_: float) -> Callable[[], None]:
    return hashing(0.005)


def test_a_gpu_that_is_not_there_is_one_refusal() -> None:
    with pytest.raises(InputError, match="cannot compute on cuda:7"):
        multiplying("cuda:7")
