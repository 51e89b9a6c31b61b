"""Deep gradient compression and the hard threshold, from their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from stand_ins.given_updates import (
    SHAPES,
    arrived,
    follow,
    linear,
    method_of,
    priced,
    updates,
)

from cwmp.fl.algorithms.hard import HardThreshold
from profiler.errors import InputError


@pytest.mark.parametrize("costs", [linear(), priced()], ids=["linear", "priced"])
def test_dgc_without_momentum_is_top_k_with_error_feedback(costs) -> None:
    """Bit for bit, memory included."""
    given = updates(6)
    dgc = follow(method_of("dgc:0", costs), given)
    plain = follow(method_of("topk+ef", costs), given)
    assert [u.payload for u in dgc.uploads] == [u.payload for u in plain.uploads]
    for one, other in zip(dgc.memories, plain.memories, strict=True):
        for layer in SHAPES:
            np.testing.assert_array_equal(one[f"waiting.{layer}"], other[layer])


def test_dgc_follows_its_recursion() -> None:
    """Against the formula, in float64: m <- mu m + g, v <- v + m, both zero where sent."""
    mu = 0.7
    given = updates(8)
    method = method_of(f"dgc:{mu}", priced())
    done = follow(method, given)
    m = {layer: np.zeros(shape) for layer, shape in SHAPES.items()}
    v = {layer: np.zeros(shape) for layer, shape in SHAPES.items()}
    for update, upload, memory in zip(given, done.uploads, done.memories, strict=True):
        sent = arrived(method, upload)
        for layer in SHAPES:
            m[layer] = mu * m[layer] + update[layer]
            v[layer] = v[layer] + m[layer]
            places = sent[layer] != 0
            np.testing.assert_allclose(sent[layer][places], v[layer][places], rtol=1e-5)
            m[layer][places] = 0
            v[layer][places] = 0
            np.testing.assert_allclose(memory[f"momentum.{layer}"], m[layer], atol=1e-7)
            np.testing.assert_allclose(memory[f"waiting.{layer}"], v[layer], atol=1e-7)
        held = np.concatenate([np.abs(x[x != 0]).ravel() for x in sent.values()])
        left = np.concatenate([np.abs(x).ravel() for x in v.values()])
        if all(layer.form == "sparse" for layer in method.read(upload).content.layers):
            assert held.min() >= left.max() * (1 - 1e-6)  # the largest went


def test_a_lone_entry_comes_back_amplified_by_momentum() -> None:
    """Nothing sent for t rounds: v is the sum of (1 - mu^s) / (1 - mu) g over s = 1..t."""
    given = [{n: np.full(s, 0.001 if n == "b" else 1.0, np.float32) for n, s in SHAPES.items()}]
    memory = follow(method_of("dgc:0.5", linear(), share=0.3), given * 3).memories[-1]
    waits = memory["waiting.b"]
    assert np.allclose(waits, 0.001 * (1 + 1.5 + 1.75))


def test_the_warm_up_falls_from_dense_to_the_budget_geometrically() -> None:
    costs = priced()
    method = method_of("dgc:0.9,3", costs, share=0.1)
    spent = [upload.selection.energy_j for upload in follow(method, updates(6)).uploads]
    allowed = [costs.dense_j * 0.1 ** (min(t, 4) / 4) for t in range(1, 7)]
    assert all(joules <= most * (1 + 1e-12) for joules, most in zip(spent, allowed, strict=True))
    assert spent[0] > spent[1] > spent[2] > 0.1 * costs.dense_j >= spent[3]


@pytest.mark.parametrize("text", ["dgc:1", "dgc:-0.1", "dgc:x", "dgc:0.9,x", "dgc:0.9,1,2"])
def test_dgc_takes_a_momentum_below_one(text: str) -> None:
    with pytest.raises(InputError, match=r"write dgc"):
        method_of(text, priced())


def test_the_total_error_is_the_sum_of_squares_of_what_waits() -> None:
    done = follow(method_of("hard", priced()), updates(7))
    expected = 0.0
    for number, memory in enumerate(done.memories, start=1):
        expected += sum(
            float(np.sum(np.square(memory[f"waiting.{layer}"], dtype=np.float64)))
            for layer in SHAPES
        )
        account = HardThreshold.account(memory)
        assert account.total_error == pytest.approx(expected, rel=1e-12)
        assert account.rounds == number


def test_the_threshold_is_set_once_from_the_first_update() -> None:
    """h = |g_1| / (2 sqrt k_1), k_1 what Top-K sends at the budget, and then it stays."""
    given = updates(5)
    done = follow(method_of("hard", linear()), given)
    entries = follow(method_of("topk", linear()), given[:1]).uploads[0].selection.entries
    norm = np.sqrt(sum(float(np.sum(np.square(x, dtype=np.float64))) for x in given[0].values()))
    for memory in done.memories:
        assert HardThreshold.account(memory).threshold == pytest.approx(norm / (2 * entries**0.5))


@pytest.mark.parametrize("h", [0.005, 0.02, 0.03])
def test_exactly_what_passes_the_threshold_is_sent(h: float) -> None:
    """Where the account pays for it, and layers go out sparse."""
    given = updates(4)
    method = method_of(f"hard:{h}", linear(), share=1.0)
    waits = {layer: np.zeros(shape) for layer, shape in SHAPES.items()}
    for update, upload in zip(given, follow(method, given).uploads, strict=True):
        sent = arrived(method, upload)
        for layer in SHAPES:
            u = (waits[layer] + update[layer]).astype(np.float32)
            np.testing.assert_array_equal(sent[layer], np.where(np.abs(u) >= h, u, 0))
            waits[layer] = u - sent[layer]


@pytest.mark.parametrize("name", ["hard", "hard:0.0001", "hard:0.02"])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_account_is_never_overdrawn(name: str, share: float) -> None:
    costs = priced()
    quiet_then_loud = [*updates(3, scale=1e-4), *updates(5, seed=1, scale=0.1)]
    method = method_of(name, costs, share)
    done = follow(method, quiet_then_loud)
    spent = np.cumsum([upload.selection.energy_j for upload in done.uploads])
    budget_j = share * costs.dense_j
    assert (spent <= budget_j * np.arange(1, 9) * (1 + 1e-9)).all()
    assert HardThreshold.account(done.memories[-1]).spent_j == pytest.approx(spent[-1])


def test_what_quiet_rounds_left_over_is_spent_when_it_gets_loud() -> None:
    costs = linear()
    method = method_of("hard:0.02", costs, share=0.1)
    given = [*updates(3, scale=1e-4), *updates(1, seed=1, scale=0.1)]
    spent = [upload.selection.energy_j for upload in follow(method, given).uploads]
    assert spent[:3] == [0.0, 0.0, 0.0]
    assert spent[3] > 3 * 0.1 * costs.dense_j


@pytest.mark.parametrize("text", ["hard:0", "hard:-1", "hard:nan", "hard:inf", "hard:1,2"])
def test_a_threshold_is_a_positive_number(text: str) -> None:
    with pytest.raises(InputError, match="write hard"):
        method_of(text, priced())
