"""CA-HFP: what is pruned is neither trained nor sent, and what is sent lands where it belongs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_ins.cost_files import cost_file
from stand_ins.setting import small_setting, small_trainer

from cwmp.fl.algorithms import build_method
from cwmp.fl.algorithms.base import ClientTask, ServerTask, Upload
from cwmp.fl.algorithms.cahfp import CurvaturePruning, declared_j
from cwmp.fl.algorithms.channels import Channels
from cwmp.fl.training import Trainer
from cwmp.payload import PayloadLayout
from profiler.errors import BudgetError, InputError, PayloadError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _made(name: str, model: str = "mlp", budget: float = 1.0) -> tuple[CurvaturePruning, Trainer]:
    trainer = small_trainer(model, batch_size=8)
    method = build_method(name, small_setting(trainer, budget))
    assert isinstance(method, CurvaturePruning)
    return method, trainer


def _task(trainer: Trainer, seed: int = 2, examples: int = 20) -> ClientTask:
    x = np.random.default_rng(seed).normal(size=(examples, 1, 8, 8)).astype(np.float32)
    draws = np.random.default_rng(0), np.random.default_rng(1)
    y = torch.arange(examples) % 10
    return ClientTask(small_trainer_state(trainer), torch.from_numpy(x), y, *draws, client=seed)


def small_trainer_state(trainer: Trainer):  # type: ignore[no-untyped-def]
    """The state before any training."""
    return small_trainer("resnet8" if trainer.buffer_entries else "mlp", batch_size=8).state()


@pytest.mark.parametrize("model", ["mlp", "resnet8"])
def test_without_pruning_it_is_dense_averaging_bit_for_bit(model: str) -> None:
    method, trainer = _made("cahfp:0", model)
    dense = build_method("dense", small_setting(trainer))
    tasks = [_task(trainer, seed) for seed in (2, 3)]
    state = tasks[0].state
    after = []
    for rule in (method, dense):
        uploads = [rule.client(trainer, _task(trainer, seed)) for seed in (2, 3)]
        task = ServerTask(state, 1, np.random.default_rng(0))
        after.append(rule.apply(state, rule.server(map(rule.read, uploads), task).payload))
    for name in state.parameters:
        np.testing.assert_array_equal(after[0].parameters[name], after[1].parameters[name])
    for name in state.buffers:
        np.testing.assert_array_equal(after[0].buffers[name], after[1].buffers[name])


@pytest.mark.parametrize("model", ["mlp", "resnet8"])
def test_only_kept_channels_are_trained_and_sent(model: str) -> None:
    """Against training a model whose pruned channels were set to zero, by hand."""
    method, trainer = _made("cahfp:0.5", model)
    task = _task(trainer)
    state = task.state
    upload = method.client(trainer, _task(trainer))
    reading = method.read(upload)
    layers = {layer.name: layer for layer in reading.content.layers}
    assert list(layers) == list(method.layout.names)
    kept, scored = method._chosen(trainer, _task(trainer))
    mask = method.channels.spread(kept)
    assert upload.batches[: len(scored)] == scored == (8,)
    for name, layer in layers.items():
        np.testing.assert_array_equal(layer.indices, np.flatnonzero(mask[name]))
    masked = {name: values * mask[name] for name, values in state.parameters.items()}
    local = trainer.train(replace(state, parameters=masked), task.x, task.y, task.order, mask=mask)
    for name, layer in layers.items():
        np.testing.assert_array_equal(layer.values, local.delta[name][mask[name]])
        assert not local.delta[name][~mask[name]].any()
    entries = sum(layer.indices.size for layer in layers.values())
    assert upload.selection is not None
    assert upload.selection.entries == entries < 0.62 * sum(method.layout.sizes)


def test_a_masked_channel_gives_the_network_without_it() -> None:
    """A pruned unit's output is 0 all through training, so the rest trains as if it were gone."""
    method, trainer = _made("cahfp:0.25")
    task = _task(trainer)
    kept, _ = method._chosen(trainer, _task(trainer))
    mask = method.channels.spread(kept)
    start = {name: values * mask[name] for name, values in task.state.parameters.items()}
    local = trainer.train(
        replace(task.state, parameters=start), task.x, task.y, task.order, mask=mask
    )
    first = np.maximum(
        task.x.reshape(20, -1).numpy() @ (start["fc1.weight"] + local.delta["fc1.weight"]).T
        + start["fc1.bias"]
        + local.delta["fc1.bias"],
        0,
    )
    assert not first[:, ~kept["fc1"]].any()
    assert first[:, kept["fc1"]].any()


def test_sub_models_of_different_devices_land_in_the_full_space() -> None:
    """By the one rule: weights n_j / sum n, what was not sent counts as zero."""
    small, trainer = _made("cahfp:0.5")
    large = build_method("cahfp:0.1", small_setting(trainer))
    state = _task(trainer).state
    uploads = [
        small.client(trainer, _task(trainer, 2, 20)),
        large.client(trainer, _task(trainer, 3, 12)),
    ]
    task = ServerTask(state, 1, np.random.default_rng(0))
    after = small.apply(state, small.server(map(small.read, uploads), task).payload)
    for name, before in state.parameters.items():
        expected = before.astype(np.float64).ravel()
        for upload in uploads:
            layer = next(x for x in small.read(upload).content.layers if x.name == name)
            expected[layer.indices] += upload.examples / 32 * layer.values
        np.testing.assert_allclose(after.parameters[name].ravel(), expected, rtol=1e-6, atol=1e-7)


def test_the_score_is_the_second_order_change_of_the_loss() -> None:
    layout = PayloadLayout({"a.weight": (2, 3), "a.bias": (2,), "out.weight": (2, 2)})
    channels = Channels(layout)
    generator = np.random.default_rng(0)
    w, g = (
        {n: generator.normal(size=s).astype(np.float32) for n, s in layout.layers.items()}
        for _ in range(2)
    )
    expected = [
        sum(0.5 * wi * wi * gi * gi - wi * gi for wi, gi in zip(ws, gs, strict=True))
        for ws, gs in (
            (
                [*w["a.weight"][row], w["a.bias"][row]],
                [*g["a.weight"][row], g["a.bias"][row]],
            )
            for row in range(2)
        )
    ]
    np.testing.assert_allclose(channels.scores(w, g)["a"], np.array(expected), rtol=1e-5)
    assert channels.modules == {"a": ("a.weight", "a.bias"), "out": ("out.weight",)}


def test_the_channels_of_the_smallest_magnitude_go() -> None:
    """Whatever the sign: a large predicted fall of the loss keeps a channel as a rise does."""
    channels = Channels(PayloadLayout({"a.weight": (6, 2), "out.weight": (2, 6)}))
    scores = {"a": np.array([0.1, -5.0, -0.2, 4.0, 0.3, -0.05]), "out": np.array([0.0, 0.0])}
    kept = channels.keep(scores, 0.5)
    assert kept["a"].tolist() == [False, True, False, True, True, False]
    assert kept["out"].all()


def test_a_client_prunes_by_the_gradient_of_its_own_examples() -> None:
    """The mask of a round, from a gradient by finite differences of the loss of its batch."""
    method, trainer = _made("cahfp:0.5")
    task = _task(trainer, examples=8)  # one batch holds them all
    kept, _ = method._chosen(trainer, task)
    gradient = trainer.gradient(task.state, task.x, task.y)
    step, name = 1e-2, "fc3.bias"

    def loss(shift: float) -> float:
        moved = {**task.state.parameters, name: task.state.parameters[name] + _unit(shift)}
        return trainer.evaluate(replace(task.state, parameters=moved), task.x, task.y).loss

    slope = (loss(step) - loss(-step)) / (2 * step)
    assert gradient[name][0] == pytest.approx(slope, rel=1e-2, abs=1e-4)
    rank = np.argsort(np.abs(method.channels.scores(task.state.parameters, gradient)["fc1"]))
    assert set(np.flatnonzero(~kept["fc1"])) == set(rank[: len(rank) // 2].tolist())


def _unit(shift: float) -> np.ndarray:
    """*shift* in the first of ten entries."""
    found = np.zeros(10, np.float32)
    found[0] = shift
    return found


def test_channels_of_the_last_module_stay_and_no_module_loses_all() -> None:
    method, _ = _made("cahfp:0.99")
    gone = method.channels.pruned(0.999)
    assert gone == {"fc1": 127, "fc2": 63, "fc3": 0}


@pytest.mark.parametrize("budget", [0.3, 0.6, 0.9, 1.0])
def test_the_budget_decides_the_ratio_and_is_kept(budget: float) -> None:
    method, trainer = _made("cahfp", budget=budget)
    setting = small_setting(trainer, budget)
    spent = declared_j(setting.costs, method.channels, method.ratio)
    assert spent <= setting.budget_j * (1 + 1e-9)
    if method.ratio > 0:
        more = declared_j(setting.costs, method.channels, method.ratio - 0.01)
        assert more > setting.budget_j
    upload = method.client(trainer, _task(trainer))
    assert upload.selection is not None
    assert upload.selection.energy_j == pytest.approx(spent)


@pytest.mark.parametrize("name", ["cahfp:0", "cahfp:0.3", "cahfp:0.8"])
@pytest.mark.parametrize("model", ["mlp", "resnet8"])
def test_the_ledger_charges_what_was_declared(name: str, model: str) -> None:
    """Uplink and update of the real payload, by the cost file."""
    method, trainer = _made(name, model)
    upload = method.client(trainer, _task(trainer))
    costs = cost_file(trainer.layers)
    entry_j = {x.name: x for x in costs.layers}
    send = costs.message_cost("send")
    assert send is not None
    charged = float(send.energy_j(len(upload.payload)))
    for touch in method.read(upload).touched:
        cost = entry_j[touch.layer].find("update", "dense" if touch.form == "dense" else "random")
        assert cost is not None
        charged += float(cost.energy_j(touch.k))
    assert upload.selection is not None
    assert charged == pytest.approx(upload.selection.energy_j, rel=1e-6)


def test_a_budget_below_the_smallest_sub_model_is_infeasible() -> None:
    with pytest.raises(BudgetError, match="infeasible"):
        _made("cahfp", budget=1e-3)


@pytest.mark.parametrize("name", ["cahfp:1", "cahfp:-0.5", "cahfp:0.1,2", "cahfp+ef"])
def test_arguments_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        _made(name)


def test_a_mask_of_nothing_is_refused() -> None:
    method, trainer = _made("cahfp:0.5")
    kept, _ = method._chosen(trainer, _task(trainer))
    change = {name: np.zeros(shape, np.float32) for name, shape in method.layout.layers.items()}
    empty = {**kept, "fc1": np.zeros(128, dtype=np.bool_)}
    payload = method.written(empty, change, {})
    with pytest.raises(PayloadError, match="mask"):
        method.read(Upload(payload, 1, (), 0.0))
