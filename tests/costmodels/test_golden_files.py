"""Files of every version that was ever written still load and still mean the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from costmodels import CostFile, CostModel, costs_from_trace, fit_cost_model
from costmodels.schema import json_schemas, write_schemas
from costmodels.sources import trace_hash
from profiler.meters.base import Systematic
from profiler.trace import Trace

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"


def test_trace_v1_still_loads() -> None:
    trace = Trace.load(GOLDEN / "trace-v1.csv")
    assert trace.metadata.version == 1
    assert trace.metadata.device == "simulated board"
    assert set(trace.blocks.operation) == {"update", "encode", "send", "select", "train"}
    costs = CostFile.load(GOLDEN / "costs-v1.json")
    assert trace_hash(trace) == costs.provenance["trace_sha256"]


def test_the_hash_of_a_trace_counts_what_the_schema_gained_only_where_it_is_there() -> None:
    trace = Trace.load(GOLDEN / "trace-v1.csv")
    before = trace_hash(trace)
    warm = Trace(trace.metadata, trace.blocks.assign(temperature_c=50.0))
    gain = (Systematic(0.05, "gain of the sensor, assumed"),)
    stated = Trace(trace.metadata.model_copy(update={"systematic": gain}), trace.blocks)
    assert len({before, trace_hash(warm), trace_hash(stated)}) == 3


def test_costs_v1_still_load_and_charge_the_same() -> None:
    costs = CostFile.load(GOLDEN / "costs-v1.json")
    assert [layer.name for layer in costs.layers] == [
        "conv2.weight",
        "conv2.bias",
        "fc.weight",
        "fc.bias",
    ]
    found = costs.layers[0].find("update", "random")
    assert found is not None
    assert float(found.energy_j(1000)) == pytest.approx(2e-6 + 2e-8 * 1000, rel=0.1)
    assert any(
        op.pieces[0].c_j.below_detection for layer in costs.layers for op in layer.operations
    )


def test_cost_model_v1_still_loads_and_predicts_the_same() -> None:
    model = CostModel.load(GOLDEN / "costmodel-v1.json")
    assert [found.group for found in model.operations] == [
        "update",
        "update.dense",
        "encode",
        "send",
        "select.topk",
        "select.cwmp",
        "train",
    ]
    trace = Trace.load(GOLDEN / "trace-v1.csv")
    assert model.traces[0].sha256 == trace_hash(trace)


def test_the_golden_trace_still_gives_the_golden_costs() -> None:
    golden = CostFile.load(GOLDEN / "costs-v1.json")
    fresh = costs_from_trace(Trace.load(GOLDEN / "trace-v1.csv"))
    for old, new in zip(golden.layers, fresh.layers, strict=True):
        assert (old.name, old.shape) == (new.name, new.shape)
        for before, after in zip(old.operations, new.operations, strict=True):
            k = np.unique(np.geomspace(1, old.parameters, 20).round())
            np.testing.assert_allclose(after.energy_j(k), before.energy_j(k), rtol=1e-6)


def test_the_golden_trace_still_gives_the_golden_prices() -> None:
    golden = CostModel.load(GOLDEN / "costmodel-v1.json")
    fresh = fit_cost_model(Trace.load(GOLDEN / "trace-v1.csv"))
    for old, new in zip(golden.operations, fresh.operations, strict=True):
        np.testing.assert_allclose(new.prices, old.prices, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("name", sorted(json_schemas()))
def test_the_published_schemas_are_up_to_date(name: str) -> None:
    published = json.loads((ROOT / "docs" / "schemas" / name).read_text())
    fresh = json.loads(json.dumps(json_schemas()[name]))
    assert published == fresh, "run: python -m costmodels.schema"


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("costs.v1.schema.json", "costs-v1.json"),
        ("costmodel.v1.schema.json", "costmodel-v1.json"),
    ],
)
def test_golden_files_satisfy_the_published_schemas(schema: str, file: str) -> None:
    rules = json.loads((ROOT / "docs" / "schemas" / schema).read_text())
    Draft202012Validator.check_schema(rules)
    validator = Draft202012Validator(rules)
    content = json.loads((GOLDEN / file).read_text())
    assert list(validator.iter_errors(content)) == []
    del content["device"]
    assert [error.validator for error in validator.iter_errors(content)] == ["required"]


def test_writing_schemas_writes_each_of_them(tmp_path: Path) -> None:
    assert {path.name for path in write_schemas(tmp_path)} == set(json_schemas())
    assert all(json.loads(path.read_text())["$schema"] for path in tmp_path.iterdir())
