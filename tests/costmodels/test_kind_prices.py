"""Prices of one layer kind: kept where they clearly help, judged where nobody looked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_traces import TRUE_A_J, TRUE_C_J, Truth, linear_truth, simulate

from costmodels import CostModel, fit_cost_model
from costmodels.cells import cell_means
from costmodels.kindprices import _Contest, own_prices
from costmodels.regression import fit_regression
from costmodels.signed import checksum
from profiler.errors import FileFormatError
from profiler.layers import LayerInfo

CONV, LINEAR = "conv2d.weight", "linear.weight"
LAYERS = tuple(
    LayerInfo(f"{kind}.{number}", kind, shape, "float32")
    for kind, shapes in {
        CONV: [(8, 3, 3, 3), (16, 8, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)],
        LINEAR: [(10, 64), (64, 128), (100, 256), (128, 512), (200, 300), (32, 1000)],
    }.items()
    for number, shape in enumerate(shapes)
)
UNSEEN = (
    LayerInfo("conv.new", CONV, (48, 24, 3, 3), "float32"),
    LayerInfo("fc.new", LINEAR, (80, 200), "float32"),
    LayerInfo("embed.new", "embedding.weight", (300, 40), "float32"),
)


def device(conv_factor: float, scatter: float = 0.0) -> Truth:
    """Convolutions pay *conv_factor* times as much for an entry; layers scatter by themselves."""
    generator = np.random.default_rng(17)
    return linear_truth(
        {
            layer.name: TRUE_C_J
            * (conv_factor if layer.kind == CONV else 1.0)
            * float(np.exp(scatter * generator.normal()))
            for layer in LAYERS
        }
    )


def chosen(truth: Truth, seed: int) -> list[str]:
    trace = simulate(truth, layers=LAYERS, operations=("update",), seed=seed)
    cells = [cell for cell in cell_means(trace) if cell.pattern != "dense"]
    return [found.kind for found in own_prices(fit_regression("update", cells))]


@pytest.fixture(scope="module")
def model() -> CostModel:
    trace = simulate(device(3.0), layers=LAYERS, operations=("update",), densities=(0.05, 0.5))
    return fit_cost_model(trace)


def test_layers_that_pay_differently_are_predicted_better_by_their_own_prices(
    model: CostModel,
) -> None:
    assert [found.name for found in model.operations][:3] == [
        "update",
        f"update of {CONV}",
        f"update of {LINEAR}",
    ]
    pooled = model.model_copy(
        update={"operations": tuple(found for found in model.operations if found.kind == "*")}
    )
    k = np.array([50.0, 500.0, 5000.0])
    for number, factor in ((0, 3.0), (1, 1.0)):
        truth = TRUE_A_J + factor * TRUE_C_J * k
        error = {}
        for name, prices in (("own", model), ("pooled", pooled)):
            cost = prices.predict(UNSEEN, "new").layers[number].find("update", "random")
            assert cost is not None
            error[name] = float(np.mean(np.abs(cost.energy_j(k) / truth - 1)))
        assert error["own"] < 0.1
        assert error["own"] < 0.5 * error["pooled"]


def test_the_cost_file_says_whose_prices_were_used(model: CostModel) -> None:
    costs = model.predict(UNSEEN, "new")
    used = costs.provenance["own_prices"]
    assert f"update of {CONV}" in used
    assert not [name for name in used if "embedding" in name]
    assert costs.provenance["unseen_kinds"] == ["embedding.weight"]
    assert any("regression of the layer kind alone" in text for text in costs.assumptions)
    own, pooled = model.find("update", CONV), model.find("update", "embedding.weight")
    assert own is not None
    assert pooled is model.find("update")
    assert (own.kind, own.kinds, own.validation.groups) == (CONV, (CONV,), 5)
    alone = costs.model_copy(update={"layers": costs.layers[2:]})
    assert model.predict(UNSEEN[2:], "new").layers == alone.layers
    assert model.predict(UNSEEN[2:], "new").provenance["own_prices"] == []


def test_a_model_with_prices_by_kind_round_trips_and_one_without_the_pooled_is_refused(
    model: CostModel, tmp_path: Path
) -> None:
    path = tmp_path / "model.json"
    model.save(path)
    assert CostModel.load(path) == model
    raw = json.loads(model.model_dump_json())
    first, second, *rest = raw["operations"]
    for operations, message in (
        ([second, *rest], "no pooled prices for update"),
        ([first, second, second, *rest], "prices twice"),
    ):
        changed = {**raw, "operations": operations}
        path.write_text(json.dumps({**changed, "checksum": checksum(changed)}))
        with pytest.raises(FileFormatError, match=message):
            CostModel.load(path)


@pytest.mark.parametrize("scatter", [0.0, 0.15])
def test_kinds_that_pay_alike_stay_pooled(scatter: float) -> None:
    truth = device(1.0, scatter)
    kept = [chosen(truth, seed) for seed in range(12)]
    assert sum(map(bool, kept)) <= 2


def test_kinds_that_pay_three_times_as_much_are_told_apart() -> None:
    kept = [chosen(device(3.0, 0.1), seed) for seed in range(4)]
    assert kept == [[CONV, LINEAR]] * 4


def test_kinds_of_few_signatures_stay_pooled() -> None:
    few = [layer for layer in LAYERS if not layer.name.endswith((".4", ".5"))]
    trace = simulate(device(10.0), layers=few, operations=("update",))
    cells = [cell for cell in cell_means(trace) if cell.pattern != "dense"]
    assert own_prices(fit_regression("update", cells)) == []


def test_what_is_reported_of_a_signature_never_looked_at_it() -> None:
    trace = simulate(device(3.0, 0.2), layers=LAYERS, operations=("update",))
    cells = [cell for cell in cell_means(trace) if cell.pattern == "random"]
    mine = np.array([cell.kind == CONV for cell in cells])
    contest = _Contest.of(cells, mine)
    before = contest.nested()
    assert np.isfinite(before[mine]).all()
    assert np.isnan(before[~mine]).all()
    for name in dict.fromkeys(contest.labels[mine].tolist()):
        out = contest.labels == name
        other = replace(contest, y=np.where(out, 100 * contest.y, contest.y)).nested()
        np.testing.assert_array_equal(other[out], before[out])
        assert (other[mine & ~out] != before[mine & ~out]).any()
