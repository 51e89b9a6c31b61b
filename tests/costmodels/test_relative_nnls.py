"""RelativeNNLS: scikit-learn's conformance suite, and a slow obvious reference."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from costmodels import RelativeNNLS
from costmodels.estimators.leastsquares import nonnegative_least_squares


def test_passes_scikit_learns_conformance_suite() -> None:
    # no check is expected to fail; the array API check is skipped unless it is switched on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(RelativeNNLS(), on_fail=None)
    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}


def loss(b: np.ndarray, X: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    return float(np.sum(w * ((y - X @ b) / np.abs(y)) ** 2))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(4, 25), columns=st.integers(1, 4))
def test_no_bounded_minimiser_finds_less_relative_error(seed: int, rows: int, columns: int) -> None:
    generator = np.random.default_rng(seed)
    X = generator.uniform(0, 1, (rows, columns)) * 10.0 ** generator.uniform(-9, 9, columns)
    y = 10.0 ** generator.uniform(-9, 0, rows)
    w = generator.uniform(0.1, 2, rows)
    found = RelativeNNLS(relative_floor=0.0).fit(X, y, sample_weight=w).coef_
    assert (found >= 0).all()
    scale = np.median(y) / X.max(axis=0)
    reference = minimize(
        lambda b: loss(b * scale, X, y, w), np.ones(columns), bounds=[(0, None)] * columns
    )
    assert loss(found, X, y, w) <= reference.fun * (1 + 1e-6) + 1e-9


def test_prices_over_many_orders_of_magnitude_come_back() -> None:
    generator = np.random.default_rng(0)
    X = np.column_stack([np.ones(60), 10.0 ** generator.uniform(0, 7, 60)])
    prices = np.array([2e-6, 3e-12])
    np.testing.assert_allclose(RelativeNNLS().fit(X, X @ prices).coef_, prices, rtol=1e-9)


def test_a_small_cost_counts_as_much_as_a_large_one() -> None:
    X = np.ones((2, 1))
    low, high = 1e-6, 1.0
    found = RelativeNNLS(relative_floor=0.0).fit(X, [low, high]).coef_[0]
    assert found == pytest.approx((1 / low + 1 / high) / (1 / low**2 + 1 / high**2))


def test_weights_repeat_rows_and_column_scale_does_not_matter() -> None:
    generator = np.random.default_rng(1)
    X, y = generator.uniform(size=(12, 3)), generator.uniform(1, 2, 12)
    counts = generator.integers(1, 4, 12)
    weighted = RelativeNNLS().fit(X, y, sample_weight=counts).coef_
    repeated = RelativeNNLS().fit(np.repeat(X, counts, axis=0), np.repeat(y, counts)).coef_
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9, atol=1e-12)
    scale = np.array([1e-12, 1.0, 1e15])
    np.testing.assert_allclose(
        RelativeNNLS().fit(X * scale, y, sample_weight=counts).coef_ * scale,
        weighted,
        rtol=1e-7,
        atol=1e-12,
    )


def test_works_in_pipelines_with_clone_and_grouped_cross_validation() -> None:
    generator = np.random.default_rng(2)
    X = generator.uniform(1, 2, (30, 2))
    y = X @ [1.0, 2.0]
    pipeline = make_pipeline(FunctionTransformer(), RelativeNNLS())
    groups = np.repeat(np.arange(6), 5)
    scores = cross_val_score(clone(pipeline), X, y, groups=groups, cv=LeaveOneGroupOut())
    assert scores.min() > 0.999


def test_feature_names_are_kept() -> None:
    import pandas as pd

    frame = pd.DataFrame({"calls": [1.0, 1.0], "entries": [1.0, 5.0]})
    fitted = RelativeNNLS().fit(frame, [3.0, 7.0])
    assert fitted.feature_names_in_.tolist() == ["calls", "entries"]
    np.testing.assert_allclose(fitted.coef_, [2.0, 1.0])


@pytest.mark.parametrize("error", [0.1, 0.3, 0.5])
def test_refits_take_the_bias_of_noisy_targets_away(error: float) -> None:
    generator = np.random.default_rng(0)
    X = np.column_stack([np.ones(40), np.tile([1.0, 10.0, 100.0, 1000.0], 10)])
    b = np.array([1e-6, 1e-9])
    found: dict[int, list[np.ndarray]] = {0: [], 4: []}
    for _ in range(100):
        y = X @ b * (1 + error * generator.standard_normal(40))
        for refits, fits in found.items():
            fits.append(RelativeNNLS(refits=refits).fit(X, y).coef_ / b)
    mean, spread = np.mean(found[4], axis=0), np.std(found[4], axis=0)
    assert (np.abs(mean - 1) <= 3 * spread / 10).all()
    assert np.mean(found[0], axis=0)[0] <= 1 - 1.5 * error**2  # what the refits are for


def test_a_known_variance_stands_beside_the_misfit() -> None:
    y, variance, weight = np.array([1.0, 3.0]), np.array([4.0, 0.0]), np.array([2.0, 1.0])
    fit = RelativeNNLS().fit(np.ones((2, 1)), y, sample_weight=weight, variance=variance)
    share = weight / (y**2 + variance)
    assert fit.coef_[0] == pytest.approx(share @ y / share.sum())
    with pytest.raises(ValueError, match="inconsistent"):
        RelativeNNLS().fit(np.ones((2, 1)), y, variance=[1.0])
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        RelativeNNLS().fit(np.ones((2, 1)), y, variance=[1.0, -1.0])


def test_a_design_of_nothing_is_fitted_by_nothing() -> None:
    b = nonnegative_least_squares(np.zeros((3, 2)), np.ones(3), np.ones(3))
    assert b.tolist() == [0.0, 0.0]
    b = nonnegative_least_squares(np.array([[0.0, 2.0]]), np.ones(1), np.ones(1))
    assert b.tolist() == [0.0, 0.5]
