"""FedMD and KTA: who teaches whom, and that distilling brings models together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins.setting import small_setting, small_trainer

from cwmp.fl.algorithms import build_method
from cwmp.fl.algorithms.base import ClientTask, ServerTask, Upload
from cwmp.fl.algorithms.distill import Distillation
from cwmp.fl.algorithms.envelope import Kind, pack
from profiler.errors import InputError, PayloadError

CLASSES, PUBLIC = 10, 40


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _method(name: str) -> Distillation:
    images = torch.from_numpy(
        np.random.default_rng(5).normal(size=(PUBLIC, 1, 8, 8)).astype(np.float32)
    )
    public = images, torch.arange(PUBLIC) % CLASSES
    method = build_method(name, small_setting(small_trainer(), public=public))
    assert isinstance(method, Distillation)
    return method


def _softmax(values: np.ndarray) -> np.ndarray:
    raised: np.ndarray = np.exp(values - values.max(axis=-1, keepdims=True))
    raised /= raised.sum(axis=-1, keepdims=True)
    return raised


def _good(seed: int, strength: float = 4.0) -> np.ndarray:
    """Logits that are right about most of the public set."""
    labels = np.arange(PUBLIC) % CLASSES
    return np.random.default_rng(seed).normal(size=(PUBLIC, CLASSES)) + (
        strength * np.eye(CLASSES)[labels]
    )


def test_the_teacher_of_fedmd_is_the_plain_mean() -> None:
    logits = np.stack([_good(seed) for seed in range(3)])
    expected = _softmax((logits[0] + logits[1] + logits[2]) / 3 / 3.0)
    for teacher in _method("fedmd").teachers(logits):
        np.testing.assert_allclose(teacher, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["kta", "kta:3", "kta:2,1", "fedmd"])
def test_identical_clients_have_identical_teachers_which_are_their_mean(name: str) -> None:
    method = _method(name)
    logits = np.stack([_good(1)] * 4)
    for teacher in method.teachers(logits):
        np.testing.assert_allclose(teacher, _softmax(_good(1) / method.temperature), rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    clients=st.integers(1, 6),
    neighbours=st.integers(0, 7),
    spread=st.sampled_from([0.0, 0.1, 5.0, 1e4]),
    seed=st.integers(0, 1000),
)
def test_weights_are_those_of_a_mean(
    clients: int, neighbours: int, spread: float, seed: int
) -> None:
    method = _method(f"kta:{neighbours}")
    logits = spread * np.random.default_rng(seed).normal(size=(clients, PUBLIC, CLASSES))
    weights = method.weights(logits)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    for teacher in method.teachers(logits):
        assert (teacher >= 0).all()
        np.testing.assert_allclose(teacher.sum(axis=1), 1)


@pytest.mark.parametrize("neighbours", [0, 3])
def test_weights_are_similarity_times_trust(neighbours: int) -> None:
    """The formulas of s, a, N and W written out, one pair after the other; half know something."""
    method = _method(f"kta:{neighbours}")
    logits = np.stack([_good(seed, strength) for seed, strength in enumerate((4, 2, 1, 0.5, 0.0))])
    logits[4] -= 2 * np.eye(CLASSES)[np.arange(PUBLIC) % CLASSES]  # worse than guessing
    said = _softmax(logits / method.temperature) - 1 / CLASSES
    right = [np.mean(z.argmax(axis=1) == np.arange(PUBLIC) % CLASSES) for z in logits]
    trust = [max(0.0, share - 1 / CLASSES) for share in right]
    assert trust[4] == 0 < min(trust[:4]) < max(trust[:4])
    found = method.weights(logits)
    for j in range(5):
        edges = np.zeros(5)
        for k in range(5):
            cosine = np.sum(said[j] * said[k]) / np.linalg.norm(said[j]) / np.linalg.norm(said[k])
            edges[k] = max(0.0, cosine) * trust[k]
        if neighbours:
            others = sorted((k for k in range(5) if k != j), key=lambda k: -edges[k])
            edges[others[neighbours - 1 :]] = 0
        expected = edges / edges.sum() if edges.any() else np.full(5, 0.2)  # nobody: the mean
        np.testing.assert_allclose(found[j], expected, atol=1e-12)
    teachers = method.teachers(logits)
    soft = _softmax(logits / method.temperature)
    np.testing.assert_allclose(teachers[0], sum(w * p for w, p in zip(found[0], soft, strict=True)))


def test_a_client_that_guesses_has_little_say() -> None:
    method = _method("kta")
    guess = np.random.default_rng(9).normal(size=(PUBLIC, CLASSES))
    weights = method.weights(np.stack([_good(0), _good(1), _good(2), guess]))
    assert weights[:3, 3].max() < 0.05
    assert weights[:3, :3].min() > 0.2


def test_the_nearest_teach_and_a_client_is_among_its_own_teachers() -> None:
    """Two groups that disagree: with two neighbours nobody hears the other group."""
    method = _method("kta:2")
    untrusting = replace(method, labels=None)
    first, second = _good(0, 2.0), np.roll(_good(1, 2.0), 1, axis=0)
    group = [first, first + 0.01, second, second + 0.01]
    weights = untrusting.weights(np.stack(group))
    assert (np.count_nonzero(weights, axis=1) <= 2).all()
    assert (np.diag(weights) > 0).all()
    assert weights[:2, 2:].max() == 0
    assert weights[2:, :2].max() == 0


def _task(method: Distillation, trainer, message: bytes = b"", memory=None) -> ClientTask:  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(2)
    x = torch.from_numpy(generator.normal(size=(12, 1, 8, 8)).astype(np.float32))
    draws = np.random.default_rng(0), np.random.default_rng(1)
    return ClientTask(
        trainer.state(), x, torch.arange(12) % CLASSES, *draws, message=message, memory=memory or {}
    )


@pytest.mark.parametrize("name", ["fedmd", "kta"])
def test_a_round_makes_the_student_more_like_its_teacher(name: str) -> None:
    """Only the digest: the teacher is another model, and the client's own examples are few."""
    method, trainer = _method(name), small_trainer(batch_size=8)
    other = small_trainer(seed=1)
    teacher = _softmax(other.scores(other.state(), method.public).numpy() / method.temperature)
    message = pack(Kind.TEACHER, method.layout, teacher.astype("<f2").tobytes())
    model = trainer.state()

    def distance(state) -> float:  # type: ignore[no-untyped-def]
        said = _softmax(trainer.scores(state, method.public).numpy() / method.temperature)
        return float((teacher * np.log(teacher / said)).sum(axis=1).mean())

    digested, batches = method._digest(trainer, model, _task(method, trainer, message))
    assert sum(batches) == PUBLIC
    assert distance(digested) < 0.8 * distance(model)


def test_steps_of_both_stages_and_public_passes_are_counted() -> None:
    method, trainer = _method("kta"), small_trainer(batch_size=8)
    first = method.client(trainer, _task(method, trainer))
    assert first.batches == (8, 4)
    assert first.forwards == (PUBLIC,)
    download = method.server(
        [method.read(first)], ServerTask(trainer.state(), 1, np.random.default_rng(0))
    )
    task = _task(method, trainer, download.personal[0], first.memory)
    assert method.client(trainer, task).batches == (8,) * 5 + (8, 4)
    assert len(first.payload) == 20 + 2 * PUBLIC * CLASSES


def test_the_model_of_a_client_is_what_it_trained() -> None:
    method, trainer = _method("fedmd"), small_trainer(batch_size=8)
    state = trainer.state()
    assert method.model_of(state, {}) is state
    upload = method.client(trainer, _task(method, trainer))
    mine = method.model_of(state, upload.memory)
    said = trainer.scores(mine, method.public).numpy()
    np.testing.assert_allclose(method.read(upload).content, said, rtol=1e-3, atol=1e-3)
    assert any((mine.parameters[n] != state.parameters[n]).any() for n in state.parameters)


def test_a_teacher_that_is_no_distribution_is_refused() -> None:
    method, trainer = _method("kta"), small_trainer()
    halves = np.full((PUBLIC, CLASSES), 0.5, dtype="<f2")
    message = pack(Kind.TEACHER, method.layout, halves.tobytes())
    with pytest.raises(PayloadError, match="distributions"):
        method.client(trainer, _task(method, trainer, message))


def test_logits_are_not_taken_for_a_teacher_nor_of_another_public_set() -> None:
    method = _method("fedmd")
    some = np.zeros((PUBLIC, CLASSES), dtype="<f2").tobytes()
    for wrong in (
        pack(Kind.TEACHER, method.layout, some),
        pack(Kind.LOGITS, method.layout, some + some),
        pack(Kind.LOGITS, method.layout, some[:-2]),
    ):
        with pytest.raises(PayloadError):
            method.read(Upload(wrong, 1, (), 0.0))


@pytest.mark.parametrize("name", ["fedmd", "kta"])
def test_without_a_public_set_the_error_says_what_to_set(name: str) -> None:
    with pytest.raises(InputError, match="set public"):
        build_method(name, small_setting(small_trainer()))


@pytest.mark.parametrize("name", ["kta:-1", "kta:1.5", "kta:3,0", "fedmd:0", "fedmd:1,2", "kta+ef"])
def test_arguments_that_make_no_sense_are_refused(name: str) -> None:
    public = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(InputError):
        build_method(name, small_setting(small_trainer(), public=public))
