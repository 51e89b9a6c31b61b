from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cwmp.fl.aggregate import apply_update
from cwmp.fl.models import build_model
from cwmp.fl.training import LocalPlan, ModelState, Trainer
from profiler.errors import InputError

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _examples(n: int = 23) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *SHAPE, generator=generator)
    return x, torch.randint(0, 10, (n,), generator=generator)


def _by_torch_sgd(model: nn.Module, plan: LocalPlan) -> dict[str, np.ndarray]:
    """The slow, obvious way: torch's own optimiser over the same batches."""
    model = copy.deepcopy(model).train()
    x, y = _examples()
    generator = np.random.default_rng(7)
    generator.integers(2**63)
    optimiser = torch.optim.SGD(model.parameters(), lr=plan.lr, momentum=plan.momentum)
    for _ in range(plan.epochs):
        order = torch.from_numpy(generator.permutation(len(y)))
        for part in order.split(plan.batch_size):
            optimiser.zero_grad()
            functional.cross_entropy(model(x[part]), y[part]).backward()
            optimiser.step()
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["lenet", "mlp", "resnet8", "transformer"])
def test_local_training_is_sgd(name: str, momentum: float) -> None:
    plan = LocalPlan(epochs=2, batch_size=8, lr=0.05, momentum=momentum)
    model = build_model(name, SHAPE)
    expected = _by_torch_sgd(model, plan)
    trainer = Trainer(model, plan)
    state = trainer.state()
    result = trainer.train(state, *_examples(), np.random.default_rng(7))
    assert result.batches == (8, 8, 7, 8, 8, 7)
    for layer, delta in result.delta.items():
        np.testing.assert_allclose(
            state.parameters[layer] + delta, expected[layer], rtol=1e-4, atol=1e-5
        )
    for buffer, values in result.buffers.items():
        np.testing.assert_allclose(values, expected[buffer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lenet", "resnet8"])
def test_training_and_evaluating_leave_the_received_state_alone(name: str) -> None:
    trainer = Trainer(build_model(name, SHAPE), LocalPlan())
    state = trainer.state()
    kept = copy.deepcopy(state)
    first = trainer.train(state, *_examples(), np.random.default_rng(0))
    trainer.evaluate(state, *_examples())
    again = trainer.train(state, *_examples(), np.random.default_rng(0))
    for name_ in state.parameters:
        np.testing.assert_array_equal(state.parameters[name_], kept.parameters[name_])
        np.testing.assert_array_equal(first.delta[name_], again.delta[name_])
    for name_ in state.buffers:
        np.testing.assert_array_equal(state.buffers[name_], kept.buffers[name_])


def test_dropout_is_drawn_from_the_generator_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    trainer = Trainer(model, LocalPlan())
    state = trainer.state()
    first, again, other = (
        trainer.train(state, *_examples(), np.random.default_rng(seed)).delta["2.weight"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_training_leaves_no_trace_with_devices_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seeding every device queues a stack trace a call until a GPU is first used: a leak."""
    queued: list[object] = []
    monkeypatch.setattr("torch.cuda.random._lazy_call", lambda *call, **_: queued.append(call))
    torch.manual_seed(0)
    before = len(queued)
    trainer = Trainer(build_model("mlp", SHAPE), LocalPlan())
    state = trainer.state()
    built = len(queued)
    for _ in range(3):
        trainer.train(state, *_examples(), np.random.default_rng(0))
    assert before > 0
    assert len(queued) == built


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    trainer = Trainer(build_model("resnet8", SHAPE), LocalPlan(batch_size=8))
    result = trainer.train(trainer.state(), *_examples(17), np.random.default_rng(0))
    assert result.batches == (8, 9)


def test_batchnorm_statistics_are_buffers_and_the_step_counter_is_not() -> None:
    trainer = Trainer(build_model("resnet8", SHAPE), LocalPlan())
    buffers = trainer.state().buffers
    assert trainer.buffer_entries == sum(buffer.size for buffer in buffers.values()) > 0
    assert all(name.endswith(("running_mean", "running_var")) for name in buffers)


class _CountingMean(nn.Module):
    """BatchNorm whose statistics weigh by a count of batches, an integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64, momentum=None)
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(x.flatten(1)))


def test_what_one_training_counts_is_not_there_in_the_next() -> None:
    """Clients and methods share one model: each starts from its state, integers included."""
    trainer = Trainer(_CountingMean(), LocalPlan(batch_size=8))
    state = trainer.state()
    assert trainer.buffer_entries == 128
    assert state.counters.keys() == {"norm.num_batches_tracked"}
    first, again = (trainer.train(state, *_examples(), np.random.default_rng(0)) for _ in range(2))
    assert first.buffers.keys() == {"norm.running_mean", "norm.running_var"}
    for name, values in first.buffers.items():
        np.testing.assert_array_equal(values, again.buffers[name])
    kept = apply_update(state, (), first.buffers)
    assert kept.counters == state.counters


def test_evaluation_counts_right_answers() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    trainer = Trainer(model, LocalPlan())
    bias = np.zeros(10, dtype=np.float32)
    bias[3] = 1.0
    state = ModelState({"1.weight": np.zeros((10, 64), np.float32), "1.bias": bias}, {})
    x, y = _examples()
    accuracy, loss = trainer.evaluate(state, x, y)[:2]
    assert accuracy == pytest.approx(float((y == 3).float().mean()))
    scores = torch.from_numpy(bias).expand(len(y), 10)
    assert loss == pytest.approx(float(functional.cross_entropy(scores, y)), rel=1e-5)


def test_a_model_that_does_not_fit_the_images_is_one_line() -> None:
    trainer = Trainer(nn.Linear(3, 10), LocalPlan())
    with pytest.raises(InputError, match="Linear cannot be trained") as caught:
        trainer.train(trainer.state(), *_examples(), np.random.default_rng(0))
    assert "\n" not in str(caught.value)


class _Answers(nn.Linear):
    def __init__(self, answer: Callable[[torch.Tensor], object]) -> None:
        super().__init__(64, 10)
        self.answer = answer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(super().forward(x.flatten(1)))  # type: ignore[return-value]


def _raises(scores: torch.Tensor) -> object:
    raise KeyError("mask")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda scores: (scores, 1), "returns a tuple"),
        (lambda scores: None, "returns a NoneType"),
        (lambda scores: scores[:, :, None], r"returns a Tensor of shape \(23, 10, 1\)"),
        (lambda scores: scores[:, :2], "out of bounds"),
        (lambda scores: scores.detach(), "does not require grad"),
        (_raises, "'mask'"),
    ],
)
def test_a_model_that_answers_something_else_is_named(answer, says: str) -> None:
    trainer = Trainer(_Answers(answer), LocalPlan())
    with pytest.raises(InputError, match=f"_Answers cannot be trained .*{says}") as caught:
        trainer.train(trainer.state(), *_examples(), np.random.default_rng(0))
    assert "\n" not in str(caught.value)
    if "grad" not in says:
        with pytest.raises(InputError, match=f"_Answers cannot be evaluated .*{says}"):
            trainer.evaluate(trainer.state(), *_examples())


def test_half_precision_is_refused() -> None:
    with pytest.raises(InputError, match="float16"):
        Trainer(nn.Linear(3, 10).half(), LocalPlan())


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"momentum": 1.0}],
)
def test_a_plan_that_cannot_train(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        LocalPlan(**wrong)  # type: ignore[arg-type]
