"""What wandered: correlation of neighbours and the slope on temperature, on made-up blocks."""

from __future__ import annotations

import numpy as np
import pytest

from profiler.wander import correlation_remark, standardised, thermal_slope

CELLS, BLOCKS = 6, 20


def _session(generator: np.random.Generator, noise: np.ndarray | None = None):
    """Costs of cells that differ a thousandfold, in random order, with equal relative scatter."""
    cell = generator.permutation(np.repeat(np.arange(CELLS), BLOCKS))
    scale = 1e-9 * 4.0**cell
    error = generator.standard_normal(cell.size) if noise is None else noise
    return scale * (10 + error), cell, scale


def _autoregressive(generator: np.random.Generator, rho: float) -> np.ndarray:
    values = generator.standard_normal(CELLS * BLOCKS)
    for place in range(1, values.size):
        values[place] = rho * values[place - 1] + np.sqrt(1 - rho**2) * values[place]
    return values


def test_independent_blocks_are_remarked_in_about_one_session_of_twenty():
    generator = np.random.default_rng(0)
    told = sum(correlation_remark(*_session(generator)[:2]) is not None for _ in range(600))
    assert 0.02 < told / 600 < 0.085


def test_blocks_that_follow_each_other_are_remarked():
    generator = np.random.default_rng(1)
    told = [
        correlation_remark(*_session(generator, _autoregressive(generator, 0.6))[:2])
        for _ in range(100)
    ]
    said = [text for text in told if text is not None]
    assert len(said) > 95 and all("repeat it" in text and "\n" not in text for text in said)


def test_a_few_blocks_say_nothing_of_correlation():
    assert correlation_remark(np.arange(20.0), np.zeros(20)) is None
    assert correlation_remark(np.ones(90), np.repeat(np.arange(30), 3)) is None


def test_standardised_blocks_have_unit_spread_whatever_their_cell():
    costs, cell, _ = _session(np.random.default_rng(2))
    values = standardised(costs, cell)
    assert values.size == costs.size and values.std() == pytest.approx(1, rel=0.05)
    assert standardised([1.0, 2.0, 5.0, 5.0, 5.0], [0, 0, 1, 1, 1]).size == 0


def _warming(generator: np.random.Generator, watts_per_k: float):
    costs, cell, scale = _session(generator)
    call_s = 1e-6 * 4.0**cell
    temperature_c = np.linspace(50, 70, cell.size) + generator.normal(0, 0.5, cell.size)
    return costs + watts_per_k * call_s * temperature_c, cell, call_s, temperature_c, scale


def test_a_slope_on_temperature_is_found_with_its_error():
    generator = np.random.default_rng(3)
    found = [thermal_slope(*_warming(generator, 2e-4)) for _ in range(200)]
    z = [(each.watts_per_k - 2e-4) / each.standard_error for each in found if each is not None]
    assert len(z) == 200
    assert abs(np.mean(z)) < 0.25 and 0.85 < np.std(z) < 1.15
    assert all(each is not None and 58 < each.mean_c < 62 for each in found)


def test_where_cost_does_not_follow_temperature_nothing_is_adjusted():
    generator = np.random.default_rng(4)
    told = sum(thermal_slope(*_warming(generator, 0.0)) is not None for _ in range(500))
    assert told / 500 < 0.03


def test_no_slope_without_temperatures_or_without_a_kelvin_of_change():
    costs, cell, call_s, temperature_c, scale = _warming(np.random.default_rng(5), 1e-3)
    missing = temperature_c.copy()
    missing[3] = np.nan
    assert thermal_slope(costs, cell, call_s, missing, scale) is None
    steady = 60 + (temperature_c - temperature_c.mean()) / 100
    assert thermal_slope(costs, cell, call_s, steady, scale) is None
    first = slice(0, 20)
    few = (values[first] for values in (costs, cell, call_s, temperature_c, scale))
    assert thermal_slope(*few) is None
