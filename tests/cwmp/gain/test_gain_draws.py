from __future__ import annotations

import numpy as np
import pytest
from stand_ins.cost_files import cost_file, estimate

from costmodels.costfile import Estimate
from cwmp.gain.draws import marginal_draws, varied_costs
from profiler.layers import LayerInfo

LAYERS = [LayerInfo(f"l{i}", "nn.Linear", (50, 20), "float32") for i in range(6)]


def _noisy(truth: np.ndarray, s: float, seed: int) -> list[Estimate]:
    """Estimates of *truth* with a relative standard error of *s*."""
    values = truth * np.exp(s * np.random.default_rng(seed).standard_normal(truth.size))
    up = np.exp(1.96 * s)
    return [Estimate(value=v, low=v / up, high=v * up) for v in values]


def test_equal_costs_come_out_equal_as_often_as_their_test_says() -> None:
    """Over many noisy measurements of one c, tau is 0 in half of the draws on average."""
    equal = []
    for seed in range(60):
        drawn = marginal_draws(_noisy(np.ones(12), 0.2, seed), np.random.default_rng(seed), 50)
        equal.append((np.ptp(np.log(drawn), axis=1) == 0).mean())
    assert np.mean(equal) == pytest.approx(0.5, abs=0.12)


def test_a_spread_beyond_the_noise_is_kept_and_not_made_larger() -> None:
    truth = np.exp(np.linspace(-1, 1, 40))
    drawn = marginal_draws(_noisy(truth, 0.3, 3), np.random.default_rng(0), 400)
    spread = np.log(drawn).std(axis=1)
    low, high = np.percentile(spread, [2.5, 97.5])
    assert low < np.log(truth).std() < high
    assert np.median(spread) < np.log([e.value for e in _noisy(truth, 0.3, 3)]).std() * 1.02


def test_exact_costs_stay_what_they_are() -> None:
    exact = [Estimate(value=v, low=v, high=v) for v in (1.0, 2.0, 5.0)]
    drawn = marginal_draws(exact, np.random.default_rng(0), 20)
    assert drawn == pytest.approx(np.tile([1.0, 2.0, 5.0], (20, 1)), rel=1e-6)


def test_what_was_not_detected_says_nothing_of_a_spread() -> None:
    pooled = Estimate(value=9.0, low=0.0, high=90.0, below_detection=True, upper_limit=90.0)
    alone = marginal_draws([estimate(1.0), pooled], np.random.default_rng(0), 30)
    assert np.ptp(alone, axis=1).max() == 0  # one detected layer cannot differ from another
    none = marginal_draws([pooled, pooled], np.random.default_rng(0), 30)
    assert np.isfinite(none).all() and (none > 0).all()


def test_layers_of_one_measurement_count_once_and_move_together() -> None:
    slopes = _noisy(np.exp([0.0, 0.5, 1.0]), 0.2, 1)
    once = marginal_draws(slopes, np.random.default_rng(0), 40)
    thrice = marginal_draws(slopes * 3, np.random.default_rng(0), 40)
    assert (thrice == np.tile(once, 3)).all()


def test_a_drawn_file_is_the_file_with_other_numbers_within_their_intervals() -> None:
    costs = cost_file(LAYERS)
    drawn = list(varied_costs(costs, np.random.default_rng(0), 20))
    again = list(varied_costs(costs, np.random.default_rng(0), 20))
    assert drawn == again and len(drawn) == 20
    seen = set()
    for each in drawn:
        assert [layer.name for layer in each.layers] == [layer.name for layer in costs.layers]
        for layer, old in zip(each.layers, costs.layers, strict=True):
            fresh, first = layer.find("update", "random"), old.find("update", "random")
            assert fresh is not None and first is not None
            a, was = fresh.pieces[0].a_j, first.pieces[0].a_j
            assert a is not None and was is not None
            assert was.low <= a.value <= was.high
            assert fresh.pieces[0].c_j.value > 0
            seen.add(a.value)
    assert len(seen) > 100
