"""The update operation: which k, which indices, and that they are really applied."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from profiler.errors import InputError
from profiler.layers import LayerInfo, layers_of
from profiler.modules import TrainOperation
from profiler.operations import (
    RUN,
    UpdateOperation,
    check_densities,
    check_device,
    draw_indices,
    kept_counts,
    shared_layers,
)
from profiler.workloads import place_of_work

densities = st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=5)


@given(st.integers(1, 10**7), densities)
def test_kept_counts_are_legal_distinct_and_give_a_slope(parameters, shares):
    counts = kept_counts(parameters, shares)
    assert list(counts) == sorted(set(counts))
    assert counts[0] >= 1 and counts[-1] <= parameters
    assert len(counts) >= min(2, parameters)
    if max(shares) * parameters >= RUN:
        wanted = {max(1, round(share * parameters)) for share in shares}
        assert wanted <= set(counts) <= wanted | {1}


@pytest.mark.parametrize(
    ("parameters", "counts"),
    [(1, (1,)), (2, (1, 2)), (6, (1, 6)), (100, (1, 5, 64)), (10_000, (100, 500, 2000))],
)
def test_kept_counts_of_small_and_large_layers(parameters, counts):
    assert kept_counts(parameters, (0.01, 0.05, 0.2)) == counts


@given(st.data(), st.integers(1, 5000), st.sampled_from(["random", "clustered"]))
def test_indices_are_ascending_distinct_and_inside(data, parameters, pattern):
    k = data.draw(st.integers(1, parameters))
    indices = draw_indices(np.random.default_rng(k), parameters, k, pattern)
    assert indices.shape == (k,) and indices.dtype == np.int64
    assert (np.diff(indices) > 0).all()
    assert indices[0] >= 0 and indices[-1] < parameters


def test_clustered_indices_lie_in_runs_and_random_ones_do_not():
    generator = np.random.default_rng(0)
    clustered = draw_indices(generator, 100_000, 10 * RUN, "clustered")
    spread = draw_indices(generator, 100_000, 10 * RUN, "random")
    assert (np.diff(clustered) == 1).sum() >= 9 * RUN
    assert (np.diff(spread) == 1).sum() < RUN


@pytest.mark.parametrize("k", [0, 11])
def test_more_entries_than_there_are_cannot_be_drawn(k):
    with pytest.raises(InputError, match="cannot draw"):
        draw_indices(np.random.default_rng(0), 10, k, "random")


def test_layers_of_equal_signature_share_the_first_ones_cells():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    layers = layers_of(model)
    assert shared_layers(layers) == {
        "0.weight": "0.weight",
        "0.bias": "0.bias",
        "1.weight": "0.weight",
        "1.bias": "0.bias",
        "2.weight": "2.weight",
        "2.bias": "2.bias",
    }
    measured = {cell.layer for cell in UpdateOperation(layers, (0.1,)).cells()}
    assert measured == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_an_operation_says_where_it_works():
    layer = LayerInfo("w", "linear.weight", (100, 100), "float32")
    assert place_of_work(UpdateOperation([layer], (0.2,))) == "cpu"
    assert place_of_work(UpdateOperation([layer], (0.2,), "cuda:1")) == "gpu"
    train = TrainOperation(nn.Linear(2, 2), torch.ones(1, 2), (1,))
    assert place_of_work(train) == "cpu"
    assert place_of_work(object()) == "cpu"  # a plug-in that does not say


def test_cells_cover_both_patterns_and_dense():
    layer = LayerInfo("w", "linear.weight", (100, 100), "float32")
    points = [(cell.k, cell.pattern) for cell in UpdateOperation([layer], (0.2, 0.01)).cells()]
    assert points == [
        (100, "random"),
        (2000, "random"),
        (100, "clustered"),
        (2000, "clustered"),
        (10_000, "dense"),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("pattern", ["random", "clustered", "dense"])
def test_the_run_writes_k_entries_and_the_reference_none(pattern, dtype):
    layer = LayerInfo("w", "linear.weight", (40, 50), dtype)
    operation = UpdateOperation([layer], (0.05,))
    cell = next(cell for cell in operation.cells() if cell.pattern == pattern)
    workload = operation.prepare(cell, seed=1)
    before = workload._tensor.clone()
    workload.reference(3)
    assert torch.equal(workload._tensor, before)
    workload.run(1)
    index, values = workload._pool[0]
    expected = before.clone()
    if pattern == "dense":
        expected += values
    else:
        expected[index] += values
    assert torch.equal(workload._tensor, expected)
    assert workload._tensor.dtype == getattr(torch, dtype)
    workload.close()


def test_values_and_indices_are_fresh_by_set_and_seed_and_repeatable():
    layer = LayerInfo("w", "linear.weight", (1000,), "float32")
    operation = UpdateOperation([layer], (0.1,))
    cell = operation.cells()[1]  # k = 100
    first, again, other = (operation.prepare(cell, seed) for seed in (1, 1, 2))
    assert len(first._pool) > 1
    assert torch.equal(first._pool[1][0], again._pool[1][0])
    assert not torch.equal(first._pool[0][0], first._pool[1][0])
    assert not torch.equal(first._pool[0][0], other._pool[0][0])
    assert first._pool[0][1].unique().numel() > 90


@pytest.mark.parametrize("bad", [(), (0.0,), (1.1,), (-0.1,), (float("nan"),), (0.1, 0.1)])
def test_densities_that_cannot_be_used(bad):
    with pytest.raises(InputError, match="densit"):
        check_densities(bad)


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:64", ""])
def test_devices_that_cannot_be_used(device):
    with pytest.raises(InputError):
        check_device(device)
