"""Groups gathered into parts: whole, balanced, and the same on every run."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.estimators.folds import fold_numbers

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=25)


def labels_of(sizes: list[int], seed: int) -> np.ndarray:
    names = np.array([f"g{number}" for number in range(len(sizes))])
    return np.random.default_rng(seed).permutation(np.repeat(names, sizes))


@settings(max_examples=100, deadline=None)
@given(sizes=sizes, most=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_groups_stay_whole_and_parts_are_numbered_without_gaps(
    sizes: list[int], most: int, seed: int
) -> None:
    labels = labels_of(sizes, seed)
    part = fold_numbers(labels, most, seed)
    assert part.shape == labels.shape
    for name in np.unique(labels):
        assert np.unique(part[labels == name]).size == 1
    assert np.unique(part).tolist() == list(range(min(most, len(sizes))))


@settings(max_examples=100, deadline=None)
@given(sizes=sizes, most=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_parts_differ_by_no_more_than_the_largest_group(
    sizes: list[int], most: int, seed: int
) -> None:
    part = fold_numbers(labels_of(sizes, seed), most, seed)
    if len(sizes) > most:
        rows = np.bincount(part)
        assert rows.max() - rows.min() <= max(sizes)


def test_with_no_more_groups_than_parts_each_is_its_own() -> None:
    labels = np.array(["b", "a", "c", "a"])
    assert fold_numbers(labels, 3, 0).tolist() == [1, 0, 2, 0]


@settings(max_examples=50, deadline=None)
@given(sizes=sizes, most=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_the_order_of_rows_does_not_matter(sizes: list[int], most: int, seed: int) -> None:
    labels = labels_of(sizes, seed)
    order = np.random.default_rng(seed + 1).permutation(labels.size)
    np.testing.assert_array_equal(
        fold_numbers(labels[order], most, seed), fold_numbers(labels, most, seed)[order]
    )


def test_the_seed_moves_groups_of_equal_size() -> None:
    labels = np.arange(40)
    first, again, other = (fold_numbers(labels, 4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.bincount(other).tolist() == [10] * 4


def test_numbers_and_objects_are_labels_too() -> None:
    names = np.array(["b", "a", "b", "c"], dtype=object)
    assert fold_numbers(names, 2, 0).shape == (4,)
    assert fold_numbers([3.5, 1.0, 3.5], 5, 0).tolist() == [1, 0, 1]
