"""Corrections: their columns written out, their box, and what may not fall."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.estimators.correction import Correction, LogColumns, fit_correction


def slow_columns(row: np.ndarray, floors: np.ndarray, priced: tuple[int, ...]) -> list[float]:
    logs = [log(x) if x > 0 else f for x, f in zip(row, floors, strict=True)]
    ratios = []
    for i, j in combinations(priced, 2):
        use = logs if row[i] > 0 and row[j] > 0 else floors
        ratios.append(use[i] - use[j])
    return logs + ratios


def features(seed: int, rows: int = 50) -> np.ndarray:
    generator = np.random.default_rng(seed)
    X = 10 ** generator.uniform(-12, 12, (rows, 4))
    X[generator.random(X.shape) < 0.2] = 0.0
    return X


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    priced=st.sets(st.integers(0, 3)).map(lambda s: tuple(sorted(s))),
)
def test_columns_are_logarithms_and_ratios(seed: int, priced: tuple[int, ...]) -> None:
    X = features(seed)
    columns = LogColumns.of(X, priced)
    for j in range(4):
        smallest = min((x for x in X[:, j] if x > 0), default=inf)
        assert columns.floors[j] == (log(smallest) - 1 if smallest < inf else -1.0) or np.isclose(
            columns.floors[j], log(smallest) - 1
        )
    expected = [slow_columns(row, columns.floors, priced) for row in X]
    np.testing.assert_allclose(columns.transform(X), expected, rtol=0, atol=0.51e-9)
    width = len(expected[0])
    names = columns.names(("a", "b", "c", "d"))
    assert len(names) == len(set(names)) == len(columns.rising) == width
    assert columns.rising == [int(j in priced) for j in range(4)] + [0] * (width - 4)


def correction_of(
    X: np.ndarray,
    residual: np.ndarray,
    weight: np.ndarray | None = None,
    penalty: float | None = 10.0,
) -> Correction:
    """With the priced columns that vary, as `HybridRegressor` makes it."""
    priced = tuple(j for j in range(X.shape[1]) if np.ptp(X[:, j]) > 0)
    return fit_correction(
        X,
        residual,
        LogColumns.of(X, priced),
        max_iter=40,
        max_depth=4,
        learning_rate=0.1,
        min_samples_leaf=10,
        l2_regularization=1.0,
        penalty=penalty,
        weight=weight,
    )


@cache
def fitted(
    seed: int = 0, rows: int = 300, penalty: float | None = 10.0
) -> tuple[np.ndarray, Correction]:
    generator = np.random.default_rng(seed)
    X = 10 ** generator.uniform(0, 4, (rows, 2))
    residual = np.sin(np.log(X[:, 0])) - 0.2 * np.log(X[:, 1]) + 0.1 * generator.normal(size=rows)
    return X, correction_of(X, residual, penalty=penalty)


def test_outside_the_box_of_the_features_there_is_no_factor() -> None:
    X, correction = fitted()
    asked = np.concatenate([X, 10 ** np.random.default_rng(1).uniform(-2, 6, (500, 2))])
    inside = ((X.min(0) <= asked) & (asked <= X.max(0))).all(axis=1)
    factor, found = correction.log_factor(asked)
    np.testing.assert_array_equal(found, inside)
    assert inside[: len(X)].all()
    assert 0 < inside[len(X) :].sum() < 500
    assert (factor[~inside] == 0).all()
    Z = correction.columns.transform(asked[inside])
    assert correction.smooth is not None
    both = correction.smooth.predict(Z[:, :2]) + correction.trees.predict(Z)
    np.testing.assert_allclose(factor[inside], np.clip(both, -correction.most, correction.most))


def test_the_factor_is_never_larger_than_the_largest_residual() -> None:
    X = 10 ** np.random.default_rng(3).uniform(0, 4, (80, 2))
    residual = 0.01 * np.log(X[:, 0])
    correction = correction_of(X, residual)
    corners = np.array([[a, b] for a in (X[:, 0].min(), X[:, 0].max()) for b in X[:, 1]])
    assert np.abs(correction.log_factor(corners)[0]).max() <= np.abs(residual).max()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2), times=st.floats(1, 100))
def test_at_equal_ratios_the_trees_never_fall_with_size(seed: int, times: float) -> None:
    X, correction = fitted(seed, penalty=None)
    assert correction.smooth is None
    Z = correction.columns.transform(X)
    larger = Z + np.log(times) * np.array(correction.columns.rising)
    assert (correction.trees.predict(larger) >= correction.trees.predict(Z) - 1e-12).all()


def test_the_last_bit_of_a_ratio_decides_nothing() -> None:
    X, correction = fitted(penalty=None)
    for times in (1.37, 2.0, 3.0):
        before, after = (
            correction.trees.predict(correction.columns.transform(rows)) for rows in (X, X * times)
        )
        assert (after >= before - 1e-12).all()


def test_no_rows_have_no_factor() -> None:
    factor, inside = fitted()[1].log_factor(np.empty((0, 2)))
    assert factor.shape == inside.shape == (0,)


def test_a_column_that_was_zero_throughout_is_outside_once_it_is_not() -> None:
    generator = np.random.default_rng(2)
    X = np.column_stack([10 ** generator.uniform(0, 4, 100), np.zeros(100)])
    correction = correction_of(X, generator.normal(size=100))
    asked = X[:3].copy()
    asked[1:, 1] = [1e-3, 5.0]
    assert correction.log_factor(asked)[1].tolist() == [True, False, False]


def test_rows_of_weight_zero_do_not_move_the_factor() -> None:
    X, _ = fitted()
    weight = (np.arange(len(X)) % 4 > 0).astype(float)
    spoilt = np.where(weight > 0, np.log(X[:, 0]), 1e3)
    assert np.abs(correction_of(X, spoilt, weight).log_factor(X)[0]).max() < 20


def test_thresholds_survive_the_file() -> None:
    pytest.importorskip("onnx")
    from costmodels.estimators.trees import to_onnx, trees_from_onnx

    X, correction = fitted()
    names = correction.columns.names(("macs", "bytes"))
    Z = correction.columns.transform(X)
    again = trees_from_onnx(to_onnx(correction.trees, names), names)
    np.testing.assert_array_equal(again.predict(Z), correction.trees.predict(Z))
