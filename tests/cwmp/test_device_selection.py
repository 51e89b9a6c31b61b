"""What is selected on a device is what the host's kernels select.

Tensors on the CPU stand in for a GPU's: the same code runs on them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from device_cases import (
    DISTRIBUTIONS,
    charged_costs,
    copies_to_host,
    kept_bytes,
    large,
    linear_costs,
    on_device,
    same_as_host,
    update_of,
)
from device_cases import one_thread as one_thread
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.kernels import cuda_bracket
from cwmp.selectors import CostWeighted, TopK
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import BudgetError, LayerMismatchError, UpdateError

SIZES = [1, 2, 17, 1000, 4095, 4096, 4097, 30_001]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=5),
    share=st.sampled_from([0.0, 1.0]) | st.floats(0.0005, 1.0),
    charged=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_a_device_selects_what_the_host_does(distribution, seed, sizes, share, charged) -> None:
    numbers = np.random.default_rng(seed)
    costs = charged_costs(sizes, numbers) if charged else linear_costs(sizes, numbers, 3.0)
    update = update_of(costs, numbers, distribution)
    budget_j = max(share * costs.dense_j, costs.cheapest_j)
    for rule in (TopK(costs), CostWeighted(costs, 3, 0.5), CostWeighted(costs)):
        same_as_host(rule, update, budget_j)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("distribution", ["normal", "three values", "negative zeros", "tied"])
def test_shorter_types_stay_what_they_are(kind: torch.dtype, distribution: str) -> None:
    numbers = np.random.default_rng(5)
    costs = linear_costs([33, 5000, 40_000], numbers)
    name = "a grid" if distribution == "tied" else distribution
    update = update_of(costs, numbers, name, kind)
    same_as_host(TopK(costs), update, 0.03 * costs.dense_j)
    same_as_host(CostWeighted(costs), update, 0.2 * costs.dense_j)
    update["layer0"] = update["layer0"].float()  # types may differ between layers
    same_as_host(CostWeighted(costs, 1, 1), update, 0.2 * costs.dense_j)


def _guess(low: float, high: float, weights: torch.Tensor) -> cuda_bracket.Guess:
    scores = torch.tensor([low, high], dtype=torch.float64)
    return cuda_bracket.Guess(scores, *cuda_bracket.thresholds(scores, weights))


@pytest.mark.parametrize("wrong", ["too high", "too low", "nothing", "everything", "rounded"])
@pytest.mark.parametrize("distribution", ["normal", "a grid", "equal but for the sign"])
def test_a_sample_that_misleads_costs_time_alone(wrong, distribution, monkeypatch) -> None:
    honest = cuda_bracket.Sampler.guess

    def misled(self, rows, charges, weights, budget_j):
        guess = honest(self, rows, charges, weights, budget_j)
        low, high = guess.scores.tolist()
        if wrong == "rounded":  # thresholds that another division has made
            return guess._replace(low=guess.low + 1, high=guess.high - 1)
        scores = {
            "too high": (2 * min(high, 1e30), 4 * min(high, 1e30)),
            "too low": (low / 8, low / 4),
            "nothing": (np.inf, np.inf),
            "everything": (0.0, np.inf),
        }[wrong]
        return _guess(*scores, weights)

    monkeypatch.setattr(cuda_bracket.Sampler, "guess", misled)
    numbers = np.random.default_rng(11)
    costs = linear_costs([17, 30_000, 70_000], numbers)
    update = update_of(costs, numbers, distribution)
    for share in (0.001, 0.05, 0.6):
        same_as_host(TopK(costs), update, share * costs.dense_j)


def test_ties_without_number_are_left_to_the_host() -> None:
    costs = SelectionCosts.linear({"a": (2_000_000,)}, {"a": 1.0})
    update = {"a": torch.full((2_000_000,), 0.5)}
    with copies_to_host() as copies:
        selection = on_device(TopK(costs)).select(update, 1000.0)
    assert selection.layers[0].indices.tolist() == list(range(1000))
    assert copies[1:] == [1]  # the layer


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 16_384, -1])
@pytest.mark.parametrize("fixed", [False, True])
def test_what_is_not_finite_is_refused_as_the_host_does(bad, place, fixed) -> None:
    numbers = np.random.default_rng(0)
    costs = (charged_costs if fixed else linear_costs)([3, 50_001], numbers)
    update = update_of(costs, numbers, "normal")
    update["layer1"][place] = bad
    for rule in (TopK(costs), CostWeighted(costs)):
        with pytest.raises(UpdateError, match="layer 'layer1' holds NaN or inf in 1 of 50001"):
            on_device(rule).select(update, 0.1 * costs.dense_j)


def test_an_update_that_is_not_the_costs_is_refused_as_the_host_does() -> None:
    costs = SelectionCosts.linear({"a": (4,), "b": (2, 2)}, {"a": 1.0, "b": 2.0})
    good = {"a": torch.ones(4), "b": torch.ones(2, 2)}
    rule = on_device(TopK(costs))
    assert rule.select(good, 8.0).entries == 6
    for wrong in ({"a": good["a"]}, {**good, "c": good["a"]}, {**good, "b": torch.ones(4)}):
        with pytest.raises(LayerMismatchError):
            rule.select(wrong, 8.0)
    with pytest.raises(UpdateError, match="holds int64"):
        rule.select({**good, "a": torch.ones(4, dtype=torch.int64)}, 8.0)
    with pytest.raises(BudgetError):
        rule.select(good, 1e9)


def test_other_updates_are_read_by_the_host() -> None:
    costs = SelectionCosts.linear({"a": (4,)}, {"a": 1.0})
    array = np.array([1.0, -4.0, 3.0, 0.0])
    rule = on_device(TopK(costs))
    with copies_to_host() as copies:
        for value in (array, array.astype(np.float32), torch.from_numpy(array)):
            assert rule.select({"a": value}, 2.0).layers[0].indices.tolist() == [1, 2]
    assert copies == []


def test_a_small_update_is_copied_whole_and_strides_are_followed() -> None:
    costs = SelectionCosts.linear({"a": (3, 2), "b": (2,)}, {"a": 1.0, "b": 1.0})
    update = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([9.0, 0.0])}
    rule = on_device(TopK(costs))
    whole = rule.select(update, 3.0)
    rule._small = 8
    with copies_to_host() as copies:
        assert kept_bytes(rule.select(update, 3.0)) == kept_bytes(whole)
    assert copies == [2]
    assert [layer.indices.tolist() for layer in whole.layers] == [[3, 5], [0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_selects_what_the_host_does() -> None:
    for fixed in (False, True):
        costs, update = large(fixed)
        there = {name: value.cuda() for name, value in update.items()}
        for rule in (TopK(costs), CostWeighted(costs)):
            for share in (0.001, 0.05, 0.5):
                expected = rule.select(update, share * costs.dense_j)
                torch.cuda.set_sync_debug_mode("error")
                try:
                    selection = rule.select(there, share * costs.dense_j)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
                assert kept_bytes(selection) == kept_bytes(expected)
