"""The passes that selection on a device is made of, each against the host's arithmetic."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from device_cases import (
    TINY,
    charged_costs,
    copy_of,
    kept_bytes,
    linear_costs,
    on_device,
    update_of,
)
from device_cases import one_thread as one_thread

from cwmp.kernels import cuda, cuda_bracket
from cwmp.selectors import CostWeighted, TopK


@pytest.mark.parametrize("size", [0, 1, 5, 40])
def test_the_running_count_finds_what_nonzero_does(size: int) -> None:
    mask = torch.from_numpy(np.random.default_rng(size).random(50) < 0.3)
    expected = torch.nonzero(mask).view(-1)[:size].tolist()
    expected += [50] * (size - len(expected))
    assert cuda._searched(mask, size, 50).tolist() == expected
    assert cuda.first_true(mask, size, 50).tolist() == expected


def test_what_is_copied_comes_back_with_its_type() -> None:
    parts = [
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.arange(3),
        torch.empty(0),
        torch.tensor([[7]], dtype=torch.int32),
        torch.tensor([0.1], dtype=torch.float64),
    ]
    here = cuda.to_host(parts)
    for part, copy in zip(parts, here, strict=True):
        assert copy.dtype == part.dtype
        assert torch.equal(copy, part.reshape(-1))


@pytest.mark.parametrize("pieces", [1, 2])
def test_energies_on_a_device_are_those_of_the_costs(pieces: int) -> None:
    numbers = np.random.default_rng(2)
    sizes = [1, 40, 3000, 70_000]
    costs = charged_costs(sizes, numbers) if pieces == 2 else linear_costs(sizes, numbers, 2.0)
    charges = cuda_bracket.Charges(TopK(costs)._search.table, costs.message_j, torch.device("cpu"))
    counts = np.concatenate(
        (np.zeros((1, 4)), (numbers.random((40, 4)) ** 3 * (np.array(sizes) + 1)).astype(int))
    ).astype(int)
    energies = charges.energy(torch.from_numpy(counts).double())
    expected = [costs.energy_j(row) for row in counts]
    assert energies.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_sample_proposes_an_interval_that_holds_the_end() -> None:
    """Not needed for a right selection, but for a quick one."""
    numbers = np.random.default_rng(4)
    costs = linear_costs([200_000, 50_000], numbers)
    rule = on_device(TopK(costs))
    for distribution in ("normal", "heavy tailed", "clustered"):
        update = update_of(costs, numbers, distribution)
        reading = rule._on_device(update)
        search = reading.search
        for share in (0.001, 0.01, 0.3):
            budget_j = share * costs.dense_j
            weights = torch.ones(2, dtype=torch.float64)
            guess = search.sampler.guess(reading.rows, search.charges, weights, budget_j)
            low, high = guess.scores.tolist()
            kept = rule.select(update, budget_j)
            least = min(abs(layer.values).min() for layer in kept.layers)
            reach = sum(int((x.abs() >= low).sum()) for x in update.values())
            assert low <= least <= high
            assert reach <= 2 * kept.entries + 8000


BACKENDS = ["torch"]
if find_spec("triton") and (torch.cuda.is_available() or "triton" not in sys.modules):
    BACKENDS.append("triton")
    if not torch.cuda.is_available():  # Triton asks for it once, when it is imported
        os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(params=BACKENDS)
def where(request, monkeypatch) -> str:
    """A device, with the passes over rows made by each means there is on it."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    kernels = None
    if request.param == "triton":
        kernels = import_module("cwmp.kernels.cuda_rows")
    monkeypatch.setattr(cuda, "row_kernels", lambda _: kernels)
    return kind


@pytest.mark.parametrize("capacity", [1, 7, 500, 20_000])
def test_candidates_come_in_order_with_their_sums(where: str, capacity: int) -> None:
    sizes = [5000, 3, 4096, 9000]
    layout = cuda.Layout(sizes, torch.device(where))
    numbers = np.random.default_rng(1)
    layers = [numbers.standard_normal(size).astype(np.float32) for size in sizes]
    layers[0][:7] = 0.0, -0.0, TINY, -1e-40, 3e38, -3e38, 2.0
    rows = layout.lay_out([torch.from_numpy(layer).to(where) for layer in layers])
    low = np.array([1, 1, 0x3F800000, 0x7FFFFFFF], dtype=np.int32)
    found, sums = cuda.collect(rows, layout, torch.from_numpy(low).to(where), capacity)
    expected = [
        (layer, place)
        for layer, values in enumerate(layers)
        for place in np.flatnonzero((values.view(np.int32) & 0x7FFFFFFF) >= low[layer])
    ]
    assert found.number.tolist() == [len(expected)]
    index, value = (part.cpu()[: len(expected)].tolist() for part in cuda.pairs(found, layout))
    assert index == [place for _, place in expected[:capacity]]
    assert value == [float(layers[layer][place]) for layer, place in expected[:capacity]]
    if capacity >= len(expected):
        counts = np.bincount([layer for layer, _ in expected], minlength=4)
        assert found.ends.tolist() == np.cumsum(counts).tolist()
    padded = rows.cpu().numpy()
    squares = np.square(padded, dtype=np.float64).sum(1)
    assert sums.squares.tolist() == pytest.approx(squares.tolist(), rel=1e-13)
    assert sums.largest.tolist() == (padded.view(np.int32) & 0x7FFFFFFF).max(1).tolist()


def test_every_means_of_reading_rows_selects_the_same(where: str) -> None:
    numbers = np.random.default_rng(6)
    costs = linear_costs([20_000, 70, 9000], numbers)
    for distribution in ("normal", "three values"):
        update = update_of(costs, numbers, distribution)
        there = {name: value.to(where) for name, value in update.items()}
        for rule in (TopK(costs), CostWeighted(costs)):
            expected = rule.select(update, 0.05 * costs.dense_j)
            selection = on_device(copy_of(rule)).select(there, 0.05 * costs.dense_j)
            assert kept_bytes(selection) == kept_bytes(expected)
