"""EvoFed: the population is the same for everybody, and its combination is the true update."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_ins.setting import small_setting, small_trainer

from cwmp.fl.algorithms import build_method
from cwmp.fl.algorithms.base import ClientTask, Reading, ServerTask, Upload
from cwmp.fl.algorithms.evofed import EvoFed, Population
from cwmp.fl.training import ModelState
from cwmp.payload import PayloadLayout
from profiler.errors import BudgetError, InputError, PayloadError

LAYOUT = PayloadLayout({"a": (10, 12), "b": (30,)})


def _population(members: int = 64, seed: int = 3, sigma: float = 0.01) -> Population:
    return Population(LAYOUT, seed, members, sigma)


def _change(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(scale=1e-2, size=shape).astype(np.float32)
        for name, shape in LAYOUT.layers.items()
    }


def _flat(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([parts[name].ravel() for name in LAYOUT.layers]).astype(np.float64)


def _method(members: int = 64, rate: float = 1.0, kept: int | None = None) -> EvoFed:
    population = _population(members)
    return EvoFed(population, rate, members if kept is None else kept)


def test_both_sides_draw_the_same_population_bit_for_bit() -> None:
    here, there = _population(), _population()
    for round_number in (1, 7):
        for number in range(5):
            mine, theirs = (p.member(round_number, number) for p in (here, there))
            assert mine.tobytes() == theirs.tobytes()
    weights = np.random.default_rng(0).normal(size=64).astype(np.float32)
    one, other = here.combine(4, weights), there.combine(4, weights)
    assert all(one[name].tobytes() == other[name].tobytes() for name in LAYOUT.layers)


def test_members_rounds_and_seeds_differ() -> None:
    first = _population().member(1, 0)
    for other in (
        _population().member(1, 1),
        _population().member(2, 0),
        _population(seed=4).member(1, 0),
    ):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.4


def test_the_noise_is_normal_of_the_given_width() -> None:
    drawn = np.concatenate([_population().member(1, i) for i in range(200)])
    assert drawn.std() == pytest.approx(0.01, rel=0.02)
    assert abs(drawn.mean()) < 1e-4


def test_fitness_is_the_centred_distance_but_for_the_norm_of_the_noise() -> None:
    """Against -||theta + eps - theta'||^2 + ||eps||^2, centred, written out."""
    population, change = _population(), _change()
    flat = _flat(change)
    noise = np.stack([population.member(2, i) for i in range(64)]).astype(np.float64)
    slow = -np.square(noise - flat).sum(axis=1) + np.square(noise).sum(axis=1)
    np.testing.assert_allclose(population.fitness(2, change), slow - slow.mean(), atol=1e-8)


def test_the_direction_agrees_with_the_update_and_more_so_with_a_larger_population() -> None:
    flat = _flat(_change())
    cosines = []
    for members in (32, 256, 2048):
        population = _population(members)
        moved = _flat(dict(population.combine(1, population.fitness(1, _change()))))
        cosines.append(moved @ flat / np.linalg.norm(moved) / np.linalg.norm(flat))
    assert 0 < cosines[0] < cosines[1] < cosines[2]
    for members, cosine in zip((32, 256, 2048), cosines, strict=True):
        assert cosine == pytest.approx(np.sqrt(members / (members + flat.size)), abs=0.12)


def test_the_unbiased_step_is_the_update_on_average_over_rounds() -> None:
    """E over populations of eta / (P s) sum f eps = d, but for the centring's 1 / P."""
    change, members, rounds = _change(), 16, 400
    population = _population(members)
    scale = 1 / (2 * members * population.sigma**2)
    total = sum(
        scale * _flat(dict(population.combine(t, population.fitness(t, change))))
        for t in range(1, rounds + 1)
    )
    flat = _flat(change) * (1 - 1 / members)
    error = np.linalg.norm(total / rounds - flat) / np.linalg.norm(flat)
    expected = np.sqrt(flat.size / members / rounds)
    assert error < 1.5 * expected < 1


def _reading(method: EvoFed, fitness: np.ndarray, examples: int, client: int = 0) -> Reading:
    payload = method._written(1, fitness.astype(np.float32), {})
    return method.read(Upload(payload, examples, (), 0.0, client=client))


def test_the_server_averages_fitness_and_everyone_lands_on_the_same_model() -> None:
    method, trainer_state = _method(), _state()
    first, second = np.random.default_rng(1).normal(size=(2, 64))
    readings = [_reading(method, first, 10), _reading(method, second, 30, 1)]
    task = ServerTask(trainer_state, 1, np.random.default_rng(0))
    payload = method.server(readings, task).payload
    mean = (10 * first.astype(np.float32) + 30 * second.astype(np.float32)) / 40
    noise = np.stack([method.population.member(1, i) for i in range(64)])
    step = mean @ noise / (2 * 64 * method.population.sigma**2)
    for side in (method, _method()):
        after = side.apply(trainer_state, payload)
        before = _flat(dict(trainer_state.parameters))
        np.testing.assert_allclose(_flat(dict(after.parameters)) - before, step, rtol=1e-3)
    assert len(payload) == 20 + 12 + 4 * 64


def _state() -> ModelState:
    zero = {name: np.zeros(shape, np.float32) for name, shape in LAYOUT.layers.items()}
    return ModelState(zero, {})


def test_the_budget_decides_how_many_values_go_up_and_they_are_the_largest() -> None:
    torch.set_num_threads(1)
    trainer = small_trainer()
    state, full = trainer.state(), small_setting(trainer)
    x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 10

    def sent(share: float) -> tuple[EvoFed, Upload]:
        setting = replace(full, budget_j=share * full.costs.dense_j)
        method = build_method("evofed:64", setting)
        assert isinstance(method, EvoFed)
        draws = (np.random.default_rng(0), np.random.default_rng(1))
        return method, method.client(trainer, ClientTask(state, x, y, *draws))

    whole, everything = sent(1.0)
    message, share = full.costs.message_j / full.costs.dense_j, 1.2e-3
    few, some = sent(message + share)
    assert whole.kept == 64 > few.kept > 0
    byte_j = full.costs.layers[0].byte_j
    assert byte_j * (len(some.payload) - 24) <= share * full.costs.dense_j * (1 + 1e-9)
    fitness = whole.read(everything).content[1]
    kept = few.read(some).content[1]
    threshold = np.sort(np.abs(fitness))[-few.kept]
    np.testing.assert_array_equal(kept, np.where(np.abs(fitness) >= threshold, fitness, 0))
    with pytest.raises(BudgetError, match="infeasible"):
        sent(message / 2)


@pytest.mark.parametrize("members", [63, 65])
def test_a_payload_of_another_population_is_refused(members: int) -> None:
    other = _method(members)
    payload = other._written(1, np.ones(members, np.float32), {})
    with pytest.raises(PayloadError, match="population"):
        _method().read(Upload(payload, 1, (), 0.0))


@pytest.mark.parametrize("name", ["evofed:1", "evofed:2.5", "evofed:64,0", "evofed:64,1,0"])
def test_arguments_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="evofed needs"):
        build_method(name, small_setting(small_trainer()))


def test_feedback_is_refused() -> None:
    with pytest.raises(InputError, match="no feedback"):
        build_method("evofed+ef", small_setting(small_trainer()))
