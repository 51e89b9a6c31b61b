"""A spread of costs is told from noise."""

from __future__ import annotations

import numpy as np
import pytest

from costmodels import Estimate, Piece, marginal_spread
from costmodels.costfile import CostFile, LayerCost, OperationCost


def _costs(slopes: list[Estimate]) -> CostFile:
    layers = [
        LayerCost(
            name=f"l{number}",
            kind="linear.weight",
            shape=(100,),
            dtype="float32",
            parameters=100,
            operations=(
                OperationCost(
                    operation="update",
                    pattern="random",
                    unit="entry",
                    payer="receivers",
                    origin="measured",
                    implementation="test",
                    pieces=(Piece(a_j=None, c_j=c),),
                    k_min=1,
                    k_max=100,
                ),
            ),
        )
        for number, c in enumerate(slopes)
    ]
    return CostFile(
        created_utc="2026-01-01T00:00:00Z",
        device="simulated",
        meter="fake",
        origin="measured",
        model="m",
        basis="test",
        layers=tuple(layers),
    )


def _estimate(value: float, error: float) -> Estimate:
    return Estimate(value=value, low=max(value - 1.96 * error, 0.0), high=value + 1.96 * error)


def test_equal_costs_are_called_equal_as_often_as_the_level_says() -> None:
    generator = np.random.default_rng(5)
    runs, layers = 1000, 12
    draws = generator.normal(10.0, 0.5, size=(runs, layers))
    p = [marginal_spread(_costs([_estimate(c, 0.5) for c in row])).p_equal for row in draws]
    rejected = np.mean([value < 0.05 for value in p])
    assert 0.03 < rejected < 0.07  # 0.05 within 3 standard errors of 1000 runs


def test_a_real_spread_is_found() -> None:
    p = marginal_spread(_costs([_estimate(c, 0.5) for c in (8.0, 10.0, 14.0)])).p_equal
    assert p is not None and p < 1e-6


@pytest.mark.parametrize("detected", [0, 1])
def test_too_few_detected_layers_say_nothing(detected: int) -> None:
    limit = Estimate(value=1.0, low=0.0, high=2.0, below_detection=True, upper_limit=2.0)
    slopes = [_estimate(10.0, 0.5)] * detected + [limit] * 3
    assert marginal_spread(_costs(slopes)).p_equal is None
