from __future__ import annotations

import numpy as np
import pytest

from cwmp.gain import predict_gain
from cwmp.gain.curves import ExpectedCurves
from cwmp.gain.expected import capture
from cwmp.gain.regime import device_point, fixed_map, spread_map
from cwmp.gain.tails import Gaussian, Laplace
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError

RATIOS, DENSITIES = [1.0, 1.2, 3.0, 10.0, 60.0], [1e-3, 0.05, 0.3, 1.0]


@pytest.mark.parametrize("tail", [Laplace(), Gaussian()])
def test_the_spread_map_is_what_curves_capture(tail: Laplace | Gaussian) -> None:
    """The budget is the share of the joules that is the density of a cost-blind Top-K."""
    shown = spread_map(RATIOS, DENSITIES, tail)
    for i, ratio in enumerate(RATIOS):
        costs = SelectionCosts.linear({"a": (10**9,), "b": (10**9,)}, {"a": 1.0, "b": ratio})
        for j, density in enumerate(DENSITIES):
            curves = ExpectedCurves.of(costs, tail)
            assert shown[i, j] == pytest.approx(
                capture(curves, density * costs.dense_j).gain, rel=1e-3
            )
    assert (shown[0] == 1).all()
    assert shown[:, -1] == pytest.approx(1)


def test_the_fixed_map_grows_with_fixed_costs_and_starts_at_nothing() -> None:
    shown = fixed_map([6, 450, 16, 2400, 120, 48_000], [1e-3, 1, 30, 1000], [0.01, 0.1, 0.5])
    assert shown[0] == pytest.approx(1, abs=1e-3)
    assert (np.diff(shown, axis=0) >= -1e-9).all() and shown[-1, 0] > 1.5
    assert (np.diff(shown, axis=1) <= 1e-9).all()


def test_a_device_of_two_halves_stands_where_the_map_is_read() -> None:
    costs = SelectionCosts.linear(
        {"a": (10**5,), "b": (10**5,)}, {"a": 1.0, "b": 3.0}, {"a": 100.0, "b": 300.0}
    )
    gain = predict_gain(costs, budget="5%")
    point = device_point(costs, gain, "5%")
    assert point.spread == pytest.approx(3)
    assert point.fixed_entries == pytest.approx(100)  # 200 on average, entries at 2 on average
    assert point.density == pytest.approx(0.05, rel=0.03)  # 2 % of the budget opens the layers
    assert point.marginal == pytest.approx(spread_map([3.0], [point.density])[0, 0], rel=1e-3)
    drawn = predict_gain(costs, method="simulate", generator=np.random.default_rng(0))
    with pytest.raises(InputError, match="simulated"):
        device_point(costs, drawn, "5%")
