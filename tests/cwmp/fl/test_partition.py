from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.fl.partition import dirichlet_partition
from profiler.errors import InputError


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=30, max_size=200),
    clients=st.integers(1, 6),
    alpha=st.floats(0.5, 100),
    seed=st.integers(0, 2**31),
)
def test_every_example_goes_to_exactly_one_client(
    labels: list[int], clients: int, alpha: float, seed: int
) -> None:
    parts = dirichlet_partition(np.array(labels), clients, alpha, seed)
    assert len(parts) == clients
    assert all(part.size > 0 for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    again = dirichlet_partition(np.array(labels), clients, alpha, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def _label_entropy(parts: tuple[np.ndarray, ...], labels: np.ndarray) -> float:
    total = 0.0
    for part in parts:
        share = np.bincount(labels[part]) / part.size
        total -= part.size * float(np.sum(share[share > 0] * np.log(share[share > 0])))
    return total / labels.size


def test_a_small_alpha_gives_clients_fewer_labels() -> None:
    labels = np.arange(2000) % 10
    few, some, many = (
        np.mean([_label_entropy(dirichlet_partition(labels, 10, a, s), labels) for s in range(5)])
        for a in (0.1, 1.0, 1000.0)
    )
    assert few < some < many
    assert many == pytest.approx(math.log(10), abs=0.01)


def test_shares_follow_the_dirichlet() -> None:
    """Var of a client's share of a label is (1/J)(1 - 1/J) / (J alpha + 1)."""
    labels, clients, alpha = np.zeros(5000, dtype=np.int64), 4, 2.0
    shares = [
        [part.size / labels.size for part in dirichlet_partition(labels, clients, alpha, seed)]
        for seed in range(1000)
    ]
    expected = 0.25 * 0.75 / (clients * alpha + 1)
    assert np.var(shares) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_alpha_must_be_positive(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        dirichlet_partition(np.zeros(10, dtype=np.int64), 2, alpha, 0)


@pytest.mark.parametrize("clients", [0, -3, 11])
def test_clients_must_be_able_to_share(clients: int) -> None:
    with pytest.raises(InputError, match="clients"):
        dirichlet_partition(np.zeros(10, dtype=np.int64), clients, 1.0, 0)


@pytest.mark.parametrize("alpha", [1e-300, 1e-4])
def test_a_partition_that_leaves_a_client_empty_is_one_clear_error(alpha: float) -> None:
    with pytest.raises(InputError, match="raise alpha or use fewer clients"):
        dirichlet_partition(np.arange(50) % 2, 40, alpha, 0)
