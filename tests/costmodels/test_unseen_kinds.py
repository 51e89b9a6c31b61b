"""Layers of a kind that no data supports: a stated fallback with a wide interval, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from costmodels import CostFile, CostModel
from costmodels.composition.checks import suspicions
from costmodels.prediction import UNSEEN_FACTOR
from profiler.errors import InputError, LayerMismatchError
from profiler.layers import LayerInfo

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
KNOWN = LayerInfo("known", "linear.weight", (10, 512), "float32")
UNSEEN = LayerInfo("unseen", "lstm.weight_hh", (10, 512), "float32")


def _factors(costs: CostFile, name: str) -> list[float]:
    layer = next(layer for layer in costs.layers if layer.name == name)
    pieces = [piece for cost in layer.operations for piece in cost.pieces]
    found = [e for piece in pieces for e in (piece.a_j, piece.c_j) if e is not None]
    return [e.high / e.value for e in found if not e.below_detection]


def test_an_unseen_kind_is_priced_with_a_wide_interval_and_said() -> None:
    costs = CostModel.load(GOLDEN / "costmodel-v1.json").predict([KNOWN, UNSEEN], "both")
    for known, unseen in zip(_factors(costs, "known"), _factors(costs, "unseen"), strict=True):
        assert unseen == pytest.approx(UNSEEN_FACTOR * known)
    for one, two in zip(costs.layers[0].operations, costs.layers[1].operations, strict=True):
        assert two.energy_j(100) == pytest.approx(one.energy_j(100))
        assert float(two.energy_j(1)) > 0
    assert any("lstm.weight_hh" in said and "factor of 3" in said for said in costs.assumptions)
    assert any("lstm.weight_hh" in suspicion.what for suspicion in suspicions(costs))


def test_a_cost_file_asked_for_a_layer_it_lacks_is_one_error() -> None:
    costs = CostFile.load(GOLDEN / "costs-v1.json")
    with pytest.raises(
        LayerMismatchError, match=r"prices layer .conv2.weight., which the model lacks"
    ) as refused:
        costs.match([UNSEEN])
    assert "'cwmp predict'" in str(refused.value)


def test_an_unknown_element_type_is_one_error() -> None:
    model = CostModel.load(GOLDEN / "costmodel-v1.json")
    with pytest.raises(InputError, match="float12"):
        model.predict([LayerInfo("x", "linear.weight", (10, 512), "float12")], "x")
