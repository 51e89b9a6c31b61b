"""A cost model moved to another device by 20 blocks of it, and the command that does it."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from simulated_families import Device, calibration_of, layers_of, trace_of

from costmodels import CostModel, fit_cost_model
from costmodels.features import feature_matrix
from costmodels.transfer.core import DeviceFamilyWarning
from costmodels.transfer.model import Transfer, fit_transfer, transfer_costs
from cwmp.cli import cli
from profiler.errors import InputError
from profiler.trace import Trace

FIRST = Device(layer_sd=0.05, noise=0.05)


@lru_cache
def first_model(seed: int = 0) -> CostModel:
    truth = replace(FIRST, own=seed)
    operations = ("update", "encode", "send") if seed == 0 else ("update",)
    return fit_cost_model(trace_of(truth, layers_of(14, seed), seed=seed, operations=operations))


def short_trace(truth: Device, seed: int = 0, **metadata: object) -> Trace:
    layers = layers_of(10, 1000 + seed)
    whole = trace_of(truth, layers, seed=seed + 7, blocks=2, device="board B", **metadata)
    return calibration_of(whole, seed=seed)


def relative(seed: int) -> Device:
    """A device of the family: its a and c are up to e^1.5 times A's, or a part of it."""
    generator = np.random.default_rng(seed)
    a, c = np.exp(generator.uniform(-1.5, 1.5, 2))
    return replace(FIRST, own=seed, a_scale=float(a), c_scale=float(c))


def errors(model: CostModel, truth: Device, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors on layers that nobody measured, and whether the 95 % interval held."""
    found = model.find("update")
    assert found is not None
    log_error = []
    for layer in layers_of(12, 5000 + seed):
        for density in (0.01, 0.1, 1.0):
            k = max(1, round(density * layer.parameters))
            row = feature_matrix(
                "update", "random", k, parameters=layer.parameters, dtype="float32"
            )
            predicted = float((row @ np.array(found.prices))[0])
            log_error.append(np.log(predicted / truth.energy_j("update", "random", layer, k)))
    logs = np.array(log_error)
    return np.abs(np.expm1(logs)), np.abs(logs) <= found.validation.half_width_log


def moved(seed: int, truth: Device) -> Transfer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeviceFamilyWarning)
        return fit_transfer(first_model(seed), short_trace(truth, seed))


def test_twenty_blocks_price_a_relative_within_ten_percent() -> None:
    figures, alarms = [], 0
    for seed in range(1, 7):
        found = moved(seed, relative(seed))
        assert found.blocks == 20
        figures.append(errors(found.model, relative(seed), seed))
        alarms += found.same_family is False
    assert np.mean([error for error, _ in figures]) < 0.10
    assert np.median([error for error, _ in figures]) < 0.10
    assert np.mean([held for _, held in figures]) > 0.88
    assert alarms <= 2


def test_a_cache_cliff_elsewhere_is_another_family() -> None:
    suspected = [
        moved(seed, replace(relative(seed), cliff_bytes=2**16, cliff=6.0)).same_family is False
        for seed in range(1, 5)
    ]
    assert sum(suspected) >= 3
    with pytest.warns(DeviceFamilyWarning, match="not of one family"):
        transfer_costs(first_model(), short_trace(replace(FIRST, layer_sd=1.0, own=9)))


def test_the_file_says_where_its_prices_come_from(tmp_path: Path) -> None:
    found = moved(0, relative(3))
    model = found.model
    model.save(tmp_path / "b.json")
    assert CostModel.load(tmp_path / "b.json") == model
    assert (model.device, model.origin) == ("board B", "measured")
    assert model.traces[:-1] == first_model().traces
    assert model.data_hash != first_model().data_hash
    said = " | ".join(model.assumptions)
    assert "prices of simulated board (measured by fake), scaled for board B by 20 blocks" in said
    assert "nothing speaks against one family" in said
    assert "no calibration blocks, scaled like the other operations, wide:" in said
    costs = model.predict(layers_of(3, 99), "new")
    assert all(piece.c_j.value > 0 for cost in costs.layers[0].operations for piece in cost.pieces)
    assert costs.device == "board B"


def test_an_operation_without_blocks_takes_the_common_scale_and_is_wide() -> None:
    found = moved(0, replace(FIRST, a_scale=3.0, c_scale=3.0))
    by_group = {scale.group: scale for scale in found.scales}
    assert by_group["send"].cells == 0
    assert by_group["send"].low < 1.0 < 3.0 < by_group["send"].high
    assert by_group["send"].value == pytest.approx(3.0, rel=0.35)
    send, before = found.model.find("send"), first_model().find("send")
    assert send is not None and before is not None
    assert send.validation.half_width_log > max(before.validation.half_width_log, np.log(4.0))
    assert send.validation.mape.value is None
    assert "no calibration" in send.validation.verdict


def test_intervals_are_wider_than_the_first_devices() -> None:
    for operation in moved(0, relative(2)).model.operations:
        before = first_model().find(operation.group)
        assert before is not None
        assert operation.validation.half_width_log >= before.validation.half_width_log
        assert not operation.validation.calibrated


def test_the_first_device_itself_is_scaled_by_about_one() -> None:
    layers = layers_of(10, 1000)
    found = fit_transfer(
        first_model(), calibration_of(trace_of(FIRST, layers, seed=5, blocks=2), seed=0)
    )
    update = [scale for scale in found.scales if scale.group == "update"]
    assert all(scale.low <= 1.1 and scale.high >= 0.9 for scale in update)
    assert any("the same device" in sentence for sentence in found.model.assumptions)


def test_another_scope_or_code_is_said() -> None:
    other = short_trace(
        relative(0), scope=("the radio alone",), implementations={"update": "a loop in C"}
    )
    said = " | ".join(transfer_costs(first_model(), other).assumptions)
    assert "do not include the same" in said
    assert "update is torch.Tensor.index_add_ on simulated board and a loop in C here" in said


def test_cells_of_a_single_block_are_said_to_hide_their_noise() -> None:
    whole = trace_of(FIRST, layers_of(10, 1000), seed=7, blocks=2, device="board B")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeviceFamilyWarning)
        model = transfer_costs(first_model(), calibration_of(whole, seed=0, each=1))
    assert any("20 of 20 cells have a single block" in text for text in model.assumptions)


def test_what_cannot_calibrate_is_refused() -> None:
    whole = short_trace(relative(0))
    keys = ["layer", "pattern", "k"]
    two = whole.blocks[keys].drop_duplicates().head(2)
    with pytest.raises(InputError, match="too few"):
        transfer_costs(first_model(), replace(whole, blocks=whole.blocks.merge(two, on=keys)))
    below = whole.blocks.assign(
        cost_j_per_call=-whole.blocks["cost_j_per_call"],
        energy_j=whole.blocks["reference_energy_j"] * 0.5,
    )
    with pytest.raises(InputError, match="at or below zero"):
        transfer_costs(first_model(), replace(whole, blocks=below))
    trains = trace_of(FIRST, layers_of(3, 5), seed=1, operations=("send",), blocks=2)
    with pytest.raises(InputError, match=r"holds send where the model has prices for update"):
        transfer_costs(first_model(1), trains)


def test_the_command_writes_the_model_and_prints_the_verdict(tmp_path: Path) -> None:
    a, b, out = tmp_path / "a.json", tmp_path / "b.parquet", tmp_path / "out.json"
    first_model().save(a)
    short_trace(relative(3)).save(b)
    arguments = ["transfer", str(a), str(b), "-o", str(out)]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "ONE FAMILY" in done.stdout
    assert "far_lines" in done.stdout
    assert CostModel.load(out).device == "board B"
    said = CliRunner().invoke(cli, [*arguments, "--force", "--json"], catch_exceptions=False)
    answer = json.loads(said.stdout)
    assert answer["same_family"] is True
    assert answer["blocks"] == 20
    assert {"group", "feature", "value", "low", "high", "cells"} == set(answer["scales"][0])


def test_the_command_warns_of_another_family(tmp_path: Path) -> None:
    a, b, out = tmp_path / "a.json", tmp_path / "b.parquet", tmp_path / "out.json"
    first_model().save(a)
    short_trace(replace(FIRST, layer_sd=1.0, own=9)).save(b)
    done = CliRunner().invoke(cli, ["transfer", str(a), str(b), "-o", str(out)])
    assert done.exit_code == 0
    assert "WARNING, OTHER FAMILY" in done.stdout
    assert any("not of one family" in sentence for sentence in CostModel.load(out).assumptions)
