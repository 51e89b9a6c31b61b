"""The load pattern, and the delay with which a stream shows it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import InputError, MeterNotFoundError
from profiler.meters.external.load import (
    CHIPS,
    Pattern,
    busy_cores,
    load_for,
    maximal_length_sequence,
    play,
)
from profiler.meters.external.meter import chip_length_s
from profiler.meters.external.offset import Delay, find_delay
from profiler.meters.fake import ManualClock


def _played(period_s: float, rotation: int = 0) -> Pattern:
    clock = ManualClock()
    clock.now_s = 50.0

    def load(until_s: float, _: object) -> None:
        clock.now_s = until_s

    chips = maximal_length_sequence(rotation)
    return play(chips, chip_length_s(period_s), load, clock=clock, sleep=clock.advance)


def _stream(
    pattern: Pattern, delay_s: float, period_s: float, noise_w: float, seed: int, load_w: float = 15
) -> tuple[np.ndarray, np.ndarray]:
    """Instant samples of a meter that shows the load late."""
    generator = np.random.default_rng(seed)
    begin_s = pattern.edges_s[0] - 2 + generator.uniform(0, period_s)
    times = np.arange(begin_s, pattern.edges_s[-1] + 4, period_s)
    inside = np.searchsorted(pattern.edges_s, times - delay_s) % 2
    return times, 40 + load_w * inside + generator.normal(0, noise_w, len(times))


def _find(times: np.ndarray, watts: np.ndarray, pattern: Pattern, period_s: float) -> Delay:
    return find_delay(
        times, watts, pattern, period_s=period_s, earliest_s=-2 * period_s, latest_s=2.0
    )


def test_the_sequence_is_unlike_every_shift_of_itself() -> None:
    signs = np.array(maximal_length_sequence()) * 2 - 1
    overlaps = [int(signs @ np.roll(signs, shift)) for shift in range(CHIPS)]
    assert overlaps == [CHIPS] + [-1] * (CHIPS - 1)
    assert maximal_length_sequence(3) == tuple(np.roll(maximal_length_sequence(), -3).tolist())


def test_playing_notes_when_the_load_ran() -> None:
    pattern = _played(0.1, rotation=7)
    chips = maximal_length_sequence(7)
    chip_s = pattern.chip_s
    busy_s = sum(end - begin for begin, end in zip(*[iter(pattern.edges_s)] * 2, strict=True))
    assert busy_s == pytest.approx(sum(chips) * chip_s)
    assert len(pattern.edges_s) == 2 * sum(
        now and not before for before, now in pairwise((False, *chips))
    )
    first = chips.index(True)
    assert pattern.edges_s[0] == pytest.approx(50.0 + first * chip_s)


@settings(max_examples=25)
@given(
    delay_s=st.floats(0.0, 1.9),
    rotation=st.integers(0, CHIPS - 1),
    period_s=st.sampled_from([0.01, 0.04, 0.1]),
    seed=st.integers(0, 10**6),
)
def test_the_delay_is_found_within_its_error(
    delay_s: float, rotation: int, period_s: float, seed: int
) -> None:
    pattern = _played(period_s, rotation)
    found = _find(*_stream(pattern, delay_s, period_s, 3.0, seed), pattern, period_s)
    assert abs(found.seconds - delay_s) < 5 * found.standard_error_s
    assert found.standard_error_s < 0.3 * period_s
    assert found.step_w == pytest.approx(15.0, abs=3.0)


@pytest.mark.parametrize("noise_w", [0.0, 5.0])
def test_a_stream_without_the_load_is_refused(noise_w: float) -> None:
    pattern = _played(0.1)
    times, watts = _stream(pattern, 0.5, 0.1, noise_w, seed=4, load_w=0.0)
    with pytest.raises(MeterNotFoundError, match="is it the right meter"):
        _find(times, watts, pattern, 0.1)


def test_a_load_that_lowers_the_watts_is_not_this_load() -> None:
    pattern = _played(0.1)
    times, watts = _stream(pattern, 0.5, 0.1, 0.1, seed=4, load_w=-15.0)
    with pytest.raises(MeterNotFoundError):
        _find(times, watts, pattern, 0.1)


def test_too_few_samples_are_refused() -> None:
    pattern = _played(0.1)
    with pytest.raises(MeterNotFoundError, match="3 samples"):
        _find(np.array([51.0, 52.0, 53.0]), np.array([1.0, 2.0, 3.0]), pattern, 0.1)


def test_cores_are_busy_until_then_and_no_longer() -> None:
    clock = ManualClock(step_s=0.01)
    busy_cores(0.5, clock)
    assert clock.now_s >= 0.5
    assert load_for("cpu") is busy_cores


def test_a_device_without_a_load_is_refused() -> None:
    with pytest.raises(InputError, match="offset=none"):
        load_for("tpu:0")
