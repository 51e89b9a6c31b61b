"""Costs straight from measurement."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_traces import LAYERS, TOTAL, TRUE_A_J, TRUE_C_J, linear_truth, simulate

from costmodels import CostFile, costs_from_trace, marginal_spread
from costmodels.sources import trace_hash
from profiler.errors import FileFormatError, InputError
from profiler.layers import LayerInfo
from profiler.trace import Trace


@pytest.fixture(scope="module")
def costs() -> CostFile:
    return costs_from_trace(simulate())


def test_every_layer_of_the_model_is_priced_in_order(costs: CostFile) -> None:
    assert costs.match(LAYERS) == costs.layers
    for layer in costs.layers:
        assert [op.pattern for op in layer.operations] == ["random", "clustered", "dense"]


def test_true_costs_come_back(costs: CostFile) -> None:
    found = costs.layers[4].find("update", "random")
    assert found is not None
    (piece,) = found.pieces
    assert piece.a_j is not None
    assert piece.a_j.value == pytest.approx(TRUE_A_J, rel=0.1)
    assert piece.c_j.value == pytest.approx(TRUE_C_J, rel=0.05)
    dense = costs.layers[4].find("update", "dense")
    assert dense is not None
    n = LAYERS[4].parameters
    assert float(dense.energy_j(n)) == pytest.approx(TRUE_A_J + 0.1 * TRUE_C_J * n, rel=0.05)


def test_messages_training_payers_and_units(costs: CostFile) -> None:
    found = {cost.operation: cost for cost in costs.message}
    assert {name: cost.unit for name, cost in found.items()} == {
        "encode": "entry",
        "send": "byte",
        "select": "entry",
    }
    assert float(found["send"].energy_j(10_000)) == pytest.approx(3e-5 + 1e-9 * 10_000, rel=0.05)
    assert [module.name for module in costs.modules] == ["conv1", "conv2", "*"]
    step = costs.modules[0].operations[0]
    assert (step.unit, step.pattern, step.payer) == ("example", "batch", "client")
    assert {op.payer for layer in costs.layers for op in layer.operations} == {"receivers"}
    assert {cost.payer for cost in costs.message} == {"client"}


def test_what_the_trace_says_of_itself_is_carried(costs: CostFile) -> None:
    assert costs.origin == "measured"
    assert "scope: loopback counts both ends" in costs.assumptions
    assert costs.layers[0].operations[0].implementation == "torch.Tensor.index_add_"
    assert len(costs.provenance["trace_sha256"]) == 64


def test_layers_of_equal_signature_share_their_measurement() -> None:
    twin = LayerInfo("conv9.weight", *LAYERS[0].signature)
    costs = costs_from_trace(simulate(layers=(*LAYERS[:2], twin), operations=("update",)))
    assert costs.layers[0].operations == costs.layers[2].operations
    assert costs.provenance["measured_as"] == {"conv9.weight": "conv1.weight"}


def test_an_undetected_slope_is_pooled_flagged_and_positive() -> None:
    silent = linear_truth({"conv1.bias": 0.0, "conv1.weight": -2e-9})
    costs = costs_from_trace(simulate(silent, operations=("update",), seed=5))
    for name in ("conv1.bias", "conv1.weight"):
        layer = next(layer for layer in costs.layers if layer.name == name)
        found = layer.find("update", "random")
        assert found is not None
        c = found.pieces[0].c_j
        assert c.below_detection
        assert c.upper_limit is not None
        assert 0 < c.value <= c.upper_limit
    assert marginal_spread(costs).undetected >= 2


def test_a_device_that_costs_nothing_is_priced_at_its_limits() -> None:
    nothing = linear_truth(a_j=0.0, c_j=0.0)
    costs = costs_from_trace(simulate(nothing, operations=("update",), tick_j=1e-3))
    for layer in costs.layers:
        for op in layer.operations:
            assert float(op.energy_j(1)) > 0


def test_messages_are_read_at_the_models_own_size() -> None:
    trace = simulate(operations=("update", "select"))
    rows = trace.blocks
    other = rows[rows.operation == "select"].assign(
        parameters=10 * TOTAL, shape=str(10 * TOTAL), cost_j_per_call=1.0
    )
    other["block"] += len(rows)
    both = Trace(trace.metadata, pd.concat([rows, other]))
    with_both, alone = costs_from_trace(both), costs_from_trace(trace)
    found, expected = with_both.message_cost("select", "cwmp"), alone.message_cost("select", "cwmp")
    assert found is not None
    assert expected is not None
    # the noise model sees the other size too, so that weights differ a little
    np.testing.assert_allclose(found.energy_j(1000), expected.energy_j(1000), rtol=0.02)
    assert found.blocks == expected.blocks


def test_a_layer_without_blocks_is_refused_by_name() -> None:
    trace = simulate(operations=("update",))
    rows = trace.blocks[trace.blocks.layer != "fc.weight"]
    with pytest.raises(InputError, match=r"'fc\.weight' has no 'update' blocks"):
        costs_from_trace(Trace(trace.metadata, rows))


def test_spread_counts_parameters() -> None:
    dear = linear_truth({"fc.weight": 1e-7})
    spread = marginal_spread(costs_from_trace(simulate(dear, operations=("update",))))
    assert spread.layers == len(LAYERS)
    assert spread.ratio > 10
    assert spread.p90_j == spread.highest_j  # fc.weight holds most of the parameters
    assert spread.lowest_j <= spread.p10_j <= spread.p90_j
    with pytest.raises(InputError, match="no layer has an update cost"):
        marginal_spread(costs_from_trace(simulate(operations=("update",))), "batch")


def test_a_cost_file_round_trips_bit_for_bit(costs: CostFile, tmp_path: Path) -> None:
    path, again = tmp_path / "costs.json", tmp_path / "again.json"
    costs.save(path)
    loaded = CostFile.load(path)
    assert loaded == costs
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    noise=st.floats(0.0, 2.0),
    tick_j=st.floats(0.0, 1e-2),
    c_j=st.floats(0.0, 1e-6),
)
def test_written_energies_are_positive_and_never_fall(
    seed: int, noise: float, tick_j: float, c_j: float
) -> None:
    trace = simulate(
        linear_truth(c_j=c_j),
        seed=seed,
        noise=noise,
        tick_j=tick_j,
        layers=LAYERS[:3],
        operations=("update", "send"),
        pilot=3,
        blocks=3,
    )
    costs = costs_from_trace(trace)
    operations = [op for layer in costs.layers for op in layer.operations]
    for op in (*operations, *costs.message):
        energy = op.energy_j(np.unique(np.geomspace(1, op.k_max, 30).round()))
        assert (energy > 0).all()
        assert (np.diff(energy) >= -1e-9 * energy[1:]).all()


def _message_trace(**changes: object) -> Trace:
    trace = simulate(operations=("encode", "send", "select"), seed=8, tick_j=1e-6, **changes)  # type: ignore[arg-type]
    meta = trace.metadata
    said = {"device": meta.device, "meter": meta.meter, "origin": meta.origin}
    return Trace(meta, trace.blocks.assign(**said))


CPU = {
    "device": "host CPU",
    "meter": "modelled",
    "origin": "modelled",
    "assumptions": ("6 W per core",),
    "implementations": {"send": "over the radio"},
}


def test_messages_can_come_from_a_session_of_their_own() -> None:
    trace, messages = simulate(operations=("update", "send", "train")), _message_trace(**CPU)
    costs, alone = costs_from_trace(trace, messages), costs_from_trace(trace)
    assert (costs.device, costs.meter) == (
        "simulated board; messages: host CPU",
        "fake; messages: modelled",
    )
    assert costs.origin == "modelled"
    assert (costs.layers, costs.modules) == (alone.layers, alone.modules)
    assert {op.origin for layer in costs.layers for op in layer.operations} == {"measured"}
    assert [(cost.operation, cost.pattern) for cost in costs.message] == [
        ("encode", "random"),
        ("select", "topk"),
        ("select", "cwmp"),
        ("send", "random"),
    ]
    assert {cost.origin for cost in costs.message} == {"modelled"}
    assert costs.message[-1].implementation == "over the radio"
    assert "messages: 6 W per core" in costs.assumptions
    assert costs.assumptions[0] == (
        "layers and training are measured by fake on simulated board; "
        "encode, send and select are modelled by modelled on host CPU"
    )
    assert costs.provenance["messages"]["trace_sha256"] == trace_hash(messages)
    assert costs.provenance["trace_sha256"] == trace_hash(trace)


def test_messages_of_a_weaker_trace_do_not_strengthen_it() -> None:
    weak = simulate(operations=("update",), origin="assumed")
    costs = costs_from_trace(weak, _message_trace())
    assert costs.origin == "assumed"
    assert costs.device == "simulated board"


def test_messages_of_another_model_or_none_are_refused() -> None:
    trace = simulate(operations=("update",))
    with pytest.raises(InputError, match=r"another model: layer 'fc\.bias'"):
        costs_from_trace(trace, simulate(layers=LAYERS[:-1], operations=("send",)))
    other = (*LAYERS[:-1], LayerInfo("fc.bias", "linear.bias", (11,), "float32"))
    with pytest.raises(InputError, match=r"another model: layer 'fc\.bias'"):
        costs_from_trace(trace, simulate(layers=other, operations=("send",)))
    with pytest.raises(InputError, match="no encode, send or select"):
        costs_from_trace(trace, simulate(operations=("update",), seed=1))


def test_flagged_blocks_are_counted_in_the_file() -> None:
    trace = simulate(operations=("update",))
    flags = ["frequency-shift" if number == 3 else "" for number in range(len(trace.blocks))]
    costs = costs_from_trace(Trace(trace.metadata, trace.blocks.assign(flags=flags)))
    assert costs.provenance["unsound_blocks"] == 1
    causes = "frequency-shift or suspend-gap or throttled"
    said = f"profiling: blocks flagged {causes} are left out, 1 of"
    assert any(sentence.startswith(said) for sentence in costs.assumptions)
    assert f"over {len(trace.blocks) - 1} blocks" in costs.basis


def _refused(costs: CostFile, change: Callable[[dict[str, Any]], None], tmp_path: Path) -> str:
    raw = json.loads(costs.model_dump_json())
    change(raw)
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(FileFormatError) as caught:
        CostFile.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_contradicts_itself_is_refused(costs: CostFile, tmp_path: Path) -> None:
    def recount(raw: dict[str, Any]) -> None:
        raw["layers"][0]["parameters"] += 1

    def repeat(raw: dict[str, Any]) -> None:
        raw["layers"][0]["operations"].append(raw["layers"][0]["operations"][0])

    def repeat_message(raw: dict[str, Any]) -> None:
        raw["message"].append(raw["message"][0])

    assert "'conv1.weight' is 16x3x3x3 float32, which is not 433" in _refused(
        costs, recount, tmp_path
    )
    assert "update, random appears twice" in _refused(costs, repeat, tmp_path)
    assert "encode, random appears twice" in _refused(costs, repeat_message, tmp_path)
