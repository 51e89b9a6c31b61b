"""The reference kernels against plain Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.kernels.reference import energy_of, largest_prefix, layer_weights, score_order
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from profiler.errors import InputError

SIZES = (3, 5, 4)
LAYER_OF = np.repeat(np.arange(3), SIZES)
COSTS = SelectionCosts(
    (
        LayerPrice("a", (3,), (1,), (2e-6,), (1e-9,), byte_j=1e-8),
        LayerPrice("b", (5,), (1, 3), (1e-6, 2e-6), (5e-7, 2e-7), dense_j=1.5e-6, byte_j=1e-8),
        LayerPrice("c", (4,), (1,), (0.0,), (3e-7,), dense_j=9e-6, byte_j=1e-8),
    ),
    message_j=4e-7,
)


@given(
    st.lists(
        st.one_of(st.integers(0, 6).map(float), st.floats(0, 1e9, width=32)),
        min_size=12,
        max_size=12,
    ),
    st.lists(st.integers(1, 9) | st.sampled_from([1, 2, 4]), min_size=3, max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_order_is_by_exact_score_then_magnitude_then_number(magnitudes, roots) -> None:
    """Costs are squares, so that g^2 / c is compared exactly, as the fraction (|g| / root)."""
    marginal_j = np.array([float(root**2) for root in roots])
    weights = layer_weights(marginal_j, 2, 1)
    order = score_order(np.array(magnitudes), LAYER_OF, weights).tolist()

    def rank(entry: int) -> tuple[Fraction, float, int]:
        return (
            -Fraction(magnitudes[entry]) / roots[LAYER_OF[entry]],
            -magnitudes[entry],
            entry,
        )

    exact = sorted((entry for entry in range(12) if magnitudes[entry]), key=rank)
    assert sorted(order) == sorted(exact)
    for got, want in zip(order, exact, strict=True):
        # Rounding may exchange entries whose scores differ in the last bits, nothing else.
        assert float(rank(got)[0]) == pytest.approx(float(rank(want)[0]), rel=1e-15)
    if len(set(roots)) == 1 or set(roots) <= {1, 2, 4, 8}:  # nothing rounds
        assert order == exact


def test_equal_scores_go_to_the_larger_magnitude_then_to_the_lower_number() -> None:
    weights = layer_weights(np.array([1.0, 4.0, 16.0]), 2, 1)
    magnitudes = np.array([1.0, 0, 1, 2, 0, 0, 0, 2, 4, 0, 4, 0])
    assert score_order(magnitudes, LAYER_OF, weights).tolist() == [8, 10, 3, 7, 0, 2]


@given(st.permutations(range(12)), st.floats(0, 2))
@settings(max_examples=200, deadline=None)
def test_largest_prefix_is_what_a_scan_finds(permutation, fraction) -> None:
    order = np.array(permutation)
    budget_j = fraction * COSTS.dense_j
    longest = 0
    for length in range(1, 13):
        counts = np.bincount(LAYER_OF[order[:length]], minlength=3)
        if COSTS.energy_j(counts) <= budget_j:
            longest = length
    assert largest_prefix(order, LAYER_OF, COSTS, budget_j) == longest


def test_largest_prefix_counts_what_is_there_already() -> None:
    base = np.array([3, 0, 0])
    order = np.arange(3, 12)
    budget_j = COSTS.energy_j([3, 1, 0])
    assert largest_prefix(order, LAYER_OF, COSTS, budget_j, base) == 1


def test_looked_up_joules_are_the_computed_ones_bit_for_bit() -> None:
    for a in range(4):
        for b in range(6):
            for c in range(5):
                assert energy_of(np.array([a, b, c]), COSTS) == COSTS.energy_j([a, b, c])


def test_weights_of_equal_costs_are_exactly_one() -> None:
    for cost in (1e-12, 0.1, 3.0):
        assert (layer_weights(np.full(3, cost), 2, 1) == 1).all()


@pytest.mark.parametrize("pq", [(0, 1), (-1, 1), (2, -1), (np.nan, 1), (1, np.inf)])
def test_exponents_that_cannot_rank_are_refused(pq) -> None:
    with pytest.raises(InputError, match="p > 0"):
        layer_weights(np.array([1.0, 2.0]), *pq)


@pytest.mark.parametrize("cost", [0.0, -1.0, np.nan, np.inf])
def test_costs_that_cannot_rank_are_refused(cost) -> None:
    with pytest.raises(InputError, match="positive"):
        layer_weights(np.array([1.0, cost]), 2, 1)


def test_costs_too_far_apart_for_the_exponents_are_refused() -> None:
    with pytest.raises(InputError, match="lower q/p"):
        layer_weights(np.array([1e-9, 1.0]), 0.01, 1)
