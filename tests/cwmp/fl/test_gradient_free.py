"""The gradient-free baseline: what the clients' sums give is what one machine would find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stand_ins.federations import small_data, small_job
from stand_ins.setting import small_setting, small_trainer

from cwmp.fl.algorithms import build_method
from cwmp.fl.algorithms.base import ClientTask, ServerTask, Upload
from cwmp.fl.algorithms.envelope import Kind, pack
from cwmp.fl.algorithms.kernel import KernelHead
from cwmp.fl.engines.local import LocalEngine
from cwmp.fl.training import ModelState, Trainer
from profiler.errors import InputError, PayloadError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _made(name: str, model: str = "mlp") -> tuple[KernelHead, Trainer, ModelState]:
    trainer = small_trainer(model)
    method = build_method(name, small_setting(trainer))
    assert isinstance(method, KernelHead)
    return method, trainer, trainer.state()


def _examples(count: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    data = small_data(count)
    return torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)


def _task(state: ModelState, x: torch.Tensor, y: torch.Tensor, client: int = 0) -> ClientTask:
    draws = np.random.default_rng(0), np.random.default_rng(1)
    return ClientTask(state, x, y, *draws, client=client)


def _solved(
    method: KernelHead, trainer: Trainer, state: ModelState, parts: list[torch.Tensor]
) -> ModelState:
    x, y = _examples()
    uploads = [
        method.client(trainer, _task(state, x[part], y[part], client))
        for client, part in enumerate(parts)
    ]
    task = ServerTask(state, 1, np.random.default_rng(0))
    return method.apply(state, method.server(map(method.read, uploads), task).payload)


@pytest.mark.parametrize("name", ["kernel", "kernel:mean"])
@pytest.mark.parametrize("model", ["mlp", "lenet", "resnet8", "transformer"])
def test_the_partition_does_not_matter(name: str, model: str) -> None:
    method, trainer, state = _made(name, model)
    _, y = _examples()
    whole = _solved(method, trainer, state, [torch.arange(90)])
    by_label = _solved(method, trainer, state, [torch.where(y % 3 == i)[0] for i in range(3)])
    x, _ = _examples()
    one, other = (trainer.scores(s, x).numpy() for s in (whole, by_label))
    np.testing.assert_allclose(one, other, atol=2e-2 * np.abs(one).max())
    changed = {n for n in state.parameters if (whole.parameters[n] != state.parameters[n]).any()}
    assert changed == {method.head.weight, method.head.bias}


def test_the_last_layer_is_the_ridge_solution_on_the_frozen_features() -> None:
    """Against least squares with the ridge as extra rows."""
    method, trainer, state = _made("kernel:0.01")
    x, y = _examples()
    features, _ = method.head.features(trainer, state, x)
    phi = np.hstack([features.numpy(), np.ones((90, 1))]).astype(np.float64)
    penalty = 0.01 * np.square(phi).sum() / phi.shape[1]
    rows = np.vstack([phi, np.sqrt(penalty) * np.eye(phi.shape[1])])
    targets = np.vstack([np.eye(10)[y.numpy()], np.zeros((phi.shape[1], 10))])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
    after = _solved(method, trainer, state, [torch.arange(30), torch.arange(30, 90)])
    np.testing.assert_allclose(after.parameters["fc3.weight"], expected[:-1].T, atol=2e-4)
    np.testing.assert_allclose(after.parameters["fc3.bias"], expected[-1], atol=2e-4)


def test_the_mean_rule_decides_for_the_nearest_class_mean() -> None:
    method, trainer, state = _made("kernel:mean")
    x, y = _examples()
    after = _solved(method, trainer, state, [torch.arange(90)])
    phi = method.head.features(trainer, state, x)[0].numpy().astype(np.float64)
    means = np.stack([phi[y.numpy() == label].mean(axis=0) for label in range(10)])
    nearest = np.square(phi[:, None] - means).sum(axis=2).argmin(axis=1)
    assert (trainer.scores(after, x).argmax(dim=1).numpy() == nearest).mean() > 0.98


def test_features_are_what_the_last_layer_sees() -> None:
    method, trainer, state = _made("kernel")
    x, _ = _examples()
    features, scores = method.head.features(trainer, state, x)
    again = features.numpy() @ state.parameters["fc3.weight"].T + state.parameters["fc3.bias"]
    np.testing.assert_allclose(again, scores.numpy(), rtol=1e-4, atol=1e-5)


def test_a_client_sends_its_sums_once_and_takes_no_step(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    job = small_job(tmp_path_factory.mktemp("kernel"), method="kernel", budget="100%", rounds=3)
    prepared = job.prepare(small_data(240))
    records = list(LocalEngine().run(prepared.federation, prepared.team))
    assert all(done.batches == () for record in records for done in record.clients)
    assert all(sum(done.forwards) > 0 for done in records[0].clients)
    assert all(done.forwards == () for done in records[1].clients)
    assert all(done.payload_bytes == 20 for done in records[2].clients)
    assert records[0].accuracy == records[2].accuracy > 0.5


def test_who_comes_later_is_added_to_who_came_before() -> None:
    method, trainer, state = _made("kernel")
    x, y = _examples()
    parts = [torch.arange(40), torch.arange(40, 90)]
    first, second = (
        method.read(method.client(trainer, _task(state, x[part], y[part]))) for part in parts
    )
    draws = np.random.default_rng(0)
    early = method.server([first], ServerTask(state, 1, draws))
    late = method.server([second], ServerTask(state, 2, draws, early.memory))
    together = method.server([first, second], ServerTask(state, 1, draws))
    assert late.payload == together.payload


def test_sums_over_other_examples_than_claimed_are_refused() -> None:
    method, trainer, state = _made("kernel")
    x, y = _examples()
    upload = method.client(trainer, _task(state, x, y))
    with pytest.raises(PayloadError, match="claims"):
        method.read(Upload(upload.payload, 91, (), 0.0))
    body = bytearray(upload.payload[20:])
    body[:4] = np.array([80], dtype="<u4").tobytes()
    with pytest.raises(PayloadError, match="claims"):
        method.read(Upload(pack(Kind.STATISTICS, method.layout, bytes(body)), 90, (), 0.0))


def test_a_download_that_touches_other_layers_is_refused() -> None:
    method, trainer, state = _made("kernel")
    dense = build_method("dense", small_setting(trainer))
    x, y = _examples()
    upload = dense.client(trainer, _task(state, x, y))
    with pytest.raises(PayloadError, match="last layer"):
        method.apply(state, upload.payload)


def test_a_model_without_a_linear_end_is_one_error() -> None:
    trainer = small_trainer()
    with pytest.raises(InputError, match="ends in a linear layer of 7 outputs"):
        build_method("kernel", small_setting(trainer, classes=7))


@pytest.mark.parametrize("name", ["kernel:0", "kernel:mean,1", "kernel:mean+ef", "kernel:rbf"])
def test_arguments_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        build_method(name, small_setting(small_trainer()))
