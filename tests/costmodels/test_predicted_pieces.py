"""Predicted energies as pieces: near the prices, positive, never falling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_traces import LAYERS, simulate

from costmodels import CostModel, fit_cost_model
from costmodels.features import feature_matrix
from costmodels.prediction import _pieces
from profiler.layers import LayerInfo


def test_concave_costs_become_pieces_that_follow_the_prices() -> None:
    def truth(operation: str, pattern: str, layer: LayerInfo, k: int) -> float:
        rows = feature_matrix(
            operation, pattern, [k], parameters=layer.parameters, dtype=layer.dtype
        )
        return float(rows[0] @ [1e-6, 1e-9, 0.0, 3e-8]) if pattern != "dense" else 1e-5

    model = fit_cost_model(simulate(truth, noise=0.001, tick_j=1e-7, operations=("update",)))
    found = model.predict(LAYERS, "x").layers[4].find("update", "random")
    assert found is not None
    assert len(found.pieces) > 1
    k = np.geomspace(1, 20_480, 25).round()
    true = [truth("update", "random", LAYERS[4], int(value)) for value in k]
    np.testing.assert_allclose(found.energy_j(k), true, rtol=0.08)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 10**6),
    call=st.sampled_from([0.0, 1e-9, 1e-6]),
    entry=st.sampled_from([0.0, 1e-12, 1e-9]),
    line=st.sampled_from([0.0, 1e-10, 1e-7]),
)
@pytest.mark.parametrize("pattern", ["random", "clustered"])
def test_any_prices_become_pieces_within_ten_percent(
    pattern: str, n: int, call: float, entry: float, line: float
) -> None:
    prices = [call, entry, 0.0, line]
    if not any(prices):
        return

    def energy(k: np.ndarray) -> np.ndarray:
        return feature_matrix("update", pattern, k, parameters=n, dtype="float32") @ prices

    update = _shared_model().find("update")
    assert update is not None
    pieces = _pieces(update, energy, n)
    assert all(piece.c_j.value > 0 for piece in pieces)
    k = np.unique(np.geomspace(1, n, 97).round())
    found = _shared_model().predict([LayerInfo("w", "x", (n,), "float32")], "x").layers[0]
    cost = found.operations[0].model_copy(update={"pieces": pieces})
    ratio = cost.energy_j(k) / energy(k)
    assert 0.9 <= ratio.min() <= ratio.max() <= 1 + 1e-9
    assert (np.diff(cost.energy_j(k)) > 0).all()


def test_a_price_that_is_zero_per_entry_is_flagged_with_its_limit() -> None:
    update = _shared_model().find("update")
    assert update is not None
    (piece,) = _pieces(update, lambda k: np.full(k.shape, 1e-6), 1000)
    assert piece.c_j.below_detection
    assert piece.c_j.upper_limit is not None
    assert 0 < piece.c_j.value <= piece.c_j.upper_limit
    assert piece.a_j is not None
    assert piece.a_j.value + 1000 * piece.c_j.value == pytest.approx(1e-6)


def test_clustered_patterns_of_a_device_that_pays_by_the_line_are_predicted() -> None:
    def truth(operation: str, pattern: str, layer: LayerInfo, k: int) -> float:
        if pattern == "dense":
            return 1e-8 + 1e-12 * k
        prices = [1e-8, 1e-11, 0.0, 1e-9]
        rows = feature_matrix("update", pattern, [k], parameters=layer.parameters, dtype="float32")
        return float(rows[0] @ prices)

    trace = simulate(truth, seed=3, tick_j=1e-7, operations=("update",))
    costs = fit_cost_model(trace).predict(
        [LayerInfo("w", "linear.weight", (5000,), "float32")], "x"
    )
    found = costs.layers[0].find("update", "clustered")
    assert found is not None
    k = np.unique(np.geomspace(1, 5000, 40).round())
    true = [
        truth("update", "clustered", LayerInfo("w", "x", (5000,), "float32"), int(i)) for i in k
    ]
    np.testing.assert_allclose(found.energy_j(k), true, rtol=0.08)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 10**8),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    kind=st.sampled_from(["conv2d.weight", "something.else"]),
)
def test_predicted_energies_are_positive_and_never_fall(n: int, dtype: str, kind: str) -> None:
    costs = _shared_model().predict([LayerInfo("w", kind, (n,), dtype)], "x")
    for op in (*costs.layers[0].operations, *costs.message):
        energy = op.energy_j(np.unique(np.geomspace(1, n, 60).round()))
        assert (energy > 0).all()
        assert (np.diff(energy) >= -1e-9 * energy[1:]).all()


_MODELS: list[CostModel] = []


def _shared_model() -> CostModel:
    if not _MODELS:
        _MODELS.append(fit_cost_model(simulate(operations=("update", "encode", "send", "select"))))
    return _MODELS[0]
