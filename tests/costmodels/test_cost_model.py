"""The cost model: pooled prices, prediction, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_traces import LAYERS, TRUE_A_J, TRUE_C_J, linear_truth, simulate

from costmodels import CostModel, fit_cost_model
from costmodels.features import feature_matrix
from costmodels.fitting import _refuse_mixed
from profiler.errors import FileFormatError, InputError, OutputExistsError
from profiler.layers import LayerInfo
from profiler.trace import Trace
from profiler.workloads import Cell


@pytest.fixture(scope="module")
def model() -> CostModel:
    return fit_cost_model(simulate(), seed=1)


UNSEEN = (
    LayerInfo("embed.weight", "embedding.weight", (500, 20), "float32"),
    LayerInfo("norm.bias", "layernorm.bias", (64,), "float16"),
    LayerInfo("huge.weight", "linear.weight", (4096, 4096), "float32"),
)


def test_prices_of_a_linear_device_come_back(model: CostModel) -> None:
    found = model.find("update")
    assert found is not None
    calls, *rest = found.coefficients
    assert calls.low <= TRUE_A_J <= calls.high
    k = np.array([1.0, 50.0, 2000.0])
    features = feature_matrix("update", "random", k, parameters=4608, dtype="float32")
    np.testing.assert_allclose(features @ found.prices, TRUE_A_J + TRUE_C_J * k, rtol=0.03)
    assert [price.unit for price in rest] == ["J/entry", "J/line", "J/line"]


def test_prices_do_not_depend_on_anything_but_data_and_seed() -> None:
    first = fit_cost_model(simulate(operations=("update",)), seed=3)
    second = fit_cost_model([simulate(operations=("update",))], seed=3)
    assert first.operations == second.operations


def test_one_size_measured_charges_the_size(model: CostModel) -> None:
    select = model.find("select.topk")
    assert select is not None
    prices = {price.feature: price.value for price in select.coefficients}
    assert prices["calls"] == 0
    assert prices["parameters"] > 0


def test_a_layer_left_out_of_the_traces_is_predicted(model: CostModel) -> None:
    costs = model.predict(LAYERS, "same")
    assert costs.origin == "modelled"
    found = costs.layers[4].find("update", "random")
    assert found is not None
    energy = found.energy_j([1, 100, 20_000])
    np.testing.assert_allclose(energy, TRUE_A_J + TRUE_C_J * np.array([1, 100, 20_000]), rtol=0.08)


def test_unseen_kinds_cost_something_and_are_named(model: CostModel) -> None:
    costs = model.predict(UNSEEN, "new")
    for layer in costs.layers:
        for op in layer.operations:
            assert float(op.energy_j(1)) > 0
    assert costs.provenance["unseen_kinds"] == ["embedding.weight", "layernorm.bias"]
    assert any("never measured" in sentence for sentence in costs.assumptions)
    assert "new itself was not measured" in costs.basis


def test_extrapolation_is_flagged_and_interpolation_is_not(model: CostModel) -> None:
    costs = model.predict(UNSEEN, "new")
    assert "huge.weight" in costs.provenance["extrapolated"]
    assert any("huge.weight" in sentence for sentence in costs.assumptions)
    assert model.predict(LAYERS, "same").provenance["extrapolated"] == {}


def test_messages_are_priced_for_the_new_size(model: CostModel) -> None:
    small, large = model.predict(LAYERS, "a"), model.predict(UNSEEN, "b")
    first, second = small.message_cost("select", "topk"), large.message_cost("select", "topk")
    assert first is not None
    assert second is not None
    assert float(second.energy_j(10)) > 100 * float(first.energy_j(10))
    assert large.message_cost("send") is not None


def test_training_is_priced_where_macs_are_known(model: CostModel) -> None:
    modules = [
        Cell("train", "conv1", "conv2d", (16, 3), "float32", 48, 2, "batch", macs=8.8e5),
        Cell("train", "norm", "layernorm", (64,), "float32", 128, 2, "batch"),
    ]
    costs = model.predict(LAYERS, "same", modules=modules)
    (step,) = costs.modules
    assert float(step.operations[0].energy_j(8)) == pytest.approx(1e-3 + 8 * 2e-4, rel=0.1)
    assert any("norm" in sentence for sentence in costs.assumptions)


def test_without_update_prices_nothing_is_predicted() -> None:
    model = fit_cost_model(simulate(operations=("send",)))
    with pytest.raises(InputError, match="no 'update' prices"):
        model.predict(LAYERS, "x")
    with pytest.raises(InputError, match="no layers"):
        fit_cost_model(simulate(operations=("update",))).predict([], "x")


def test_a_device_that_costs_nothing_is_not_fitted() -> None:
    silent = simulate(linear_truth(a_j=-1e-5, c_j=0.0), operations=("update",), tick_j=0.0)
    with pytest.raises(InputError, match="no cost was seen for 'update'"):
        fit_cost_model(silent)


def test_several_traces_are_fitted_together() -> None:
    traces = [simulate(seed=s, layers=LAYERS[s : s + 3], operations=("update",)) for s in (0, 3)]
    model = fit_cost_model(traces)
    assert len(model.traces) == 2
    found = model.find("update")
    assert found is not None
    assert found.validation.groups == 6
    with pytest.raises(InputError, match="given twice"):
        fit_cost_model([traces[0], traces[0]])
    with pytest.raises(InputError, match="at least one trace"):
        fit_cost_model([])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"device": "another board"}, "the device"),
        ({"meter": "rapl"}, "the meter"),
        ({"origin": "modelled"}, "the origin"),
        ({"host": {"governor": "powersave"}}, "the governor"),
        ({"software": {"torch": "3.0.0"}}, "major version of torch"),
        ({"implementations": {"update": "numpy.add.at"}}, "the code of update"),
    ],
)
def test_runs_that_differ_are_not_merged(change: dict[str, Any], named: str) -> None:
    other = simulate(seed=9, operations=("update",), **change)
    with pytest.raises(InputError, match=f"are not merged: .*{named}"):
        fit_cost_model([simulate(operations=("update",)), other])


def test_revisions_may_differ_and_are_named() -> None:
    torch = {"torch": "2.6.0"}
    traces = [
        simulate(seed=seed, operations=("send",), software={**torch, **revision})
        for seed, revision in enumerate([{"revision": "1f2e"}, {"revision": "9a8b-dirty"}, {}])
    ]
    model = fit_cost_model(traces)
    assert len(model.traces) == 3
    (sentence,) = [text for text in model.assumptions if "different revisions" in text]
    assert sentence.endswith(": 1f2e, 9a8b-dirty, not recorded")
    alone = fit_cost_model(traces[0])
    assert not any("revisions" in text for text in alone.assumptions)


def test_flagged_blocks_are_counted_among_the_assumptions() -> None:
    trace = simulate(operations=("send",))
    flags = ["suspend-gap" if number in (0, 4) else "" for number in range(len(trace.blocks))]
    model = fit_cost_model(Trace(trace.metadata, trace.blocks.assign(flags=flags)))
    causes = "frequency-shift or suspend-gap or throttled"
    said = f"profiling: blocks flagged {causes} are left out, 2 of"
    assert any(sentence.startswith(said) for sentence in model.assumptions)
    assert model.operations[0].blocks == len(trace.blocks) - 2


def test_minor_versions_may_differ() -> None:
    other = simulate(seed=9, operations=("update",), software={"torch": "2.9.1"})
    _refuse_mixed([simulate(operations=("update",)), other])
    model = fit_cost_model([simulate(operations=("update",)), other])
    assert len(model.traces) == 2


def test_a_model_round_trips_bit_for_bit(model: CostModel, tmp_path: Path) -> None:
    path, again = tmp_path / "model.json", tmp_path / "again.json"
    model.save(path)
    loaded = CostModel.load(path)
    assert loaded == model
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(OutputExistsError):
        model.save(path)


def _set(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        target: Any = raw
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("operations", 0, "coefficients", 0, "value", value=1.0), "was edited or damaged"),
        (_set("device", value="mine"), "was edited or damaged"),
        (_set("extra", value=1), "was edited or damaged"),
        (_set("checksum", value="0" * 64), "was edited or damaged"),
        (_set("version", value=2), "version 2; this release reads 1"),
        (_set("features_version", value=9), "features version 9"),
        (_set("schema_name", value="cwmp.costs"), "is not a cost model"),
    ],
)
def test_an_edited_or_foreign_file_is_refused(
    model: CostModel, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = tmp_path / "model.json"
    model.save(path)
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(FileFormatError, match=message):
        CostModel.load(path)


@pytest.mark.parametrize(
    "change",
    [
        _set("operations", 0, "coefficients", 0, "value", value=-1.0),
        _set("operations", 0, "coefficients", 0, "unit", value="J/cow"),
        _set("operations", 0, "k_low", value=10**9),
        _set("operations", 0, "validation", "half_width_log", value=0.0),
    ],
)
def test_impossible_content_is_refused_even_with_a_validchecksum(
    model: CostModel, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    from costmodels.signed import checksum

    path = tmp_path / "model.json"
    raw = json.loads(model.model_dump_json())
    change(raw)
    path.write_text(json.dumps({**raw, "checksum": checksum(raw)}))
    with pytest.raises(FileFormatError, match="is refused: operations"):
        CostModel.load(path)


def test_nan_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"schema_name": "cwmp.costmodel", "version": NaN}')
    with pytest.raises(FileFormatError, match="NaN is not a JSON number"):
        CostModel.load(path)
