"""Every public estimator keeps scikit-learn's contract and that of prices."""

from __future__ import annotations

import doctest
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

import costmodels


def public_estimators() -> list[type[BaseEstimator]]:
    """Whatever the package offers that is an estimator; new ones come in by being offered."""
    offered = (getattr(costmodels, name) for name in costmodels.__all__)
    return [x for x in offered if isinstance(x, type) and issubclass(x, BaseEstimator)]


ESTIMATORS = public_estimators()
EXPECTED_FAILURES: dict[str, dict[str, str]] = {}
"""Estimator -> check of scikit-learn that it does not pass -> why."""

every_estimator = pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)


def measurements(seed: int = 0, rows: int = 60) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Features, joules with 2 % scatter, and groups of five rows."""
    generator = np.random.default_rng(seed)
    size = 10.0 ** generator.uniform(2, 6, rows)
    frame = pd.DataFrame(
        {
            "bytes": size,
            "macs": size * 10.0 ** generator.uniform(0, 2, rows),
            "calls": np.ones(rows),
        }
    )
    energy = frame.to_numpy() @ [4e-9, 2e-11, 3e-6]
    return frame, energy * (1 + 0.02 * generator.normal(size=rows)), np.arange(rows) // 5


def fitted(kind: type[BaseEstimator], X: Any, y: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what an estimator says of its data
        return kind().fit(X, y, **options)


@parametrize_with_checks(
    [kind() for kind in ESTIMATORS],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(type(estimator).__name__, {}),
)
def test_scikit_learns_own_suite(estimator: BaseEstimator, check: Callable[..., None]) -> None:
    check(estimator)


def test_there_are_estimators_and_none_hides_behind_tags() -> None:
    assert {"PiecewiseLine", "RelativeNNLS"} <= {kind.__name__ for kind in ESTIMATORS}
    for kind in ESTIMATORS:  # these would skip scikit-learn's suite without a word
        tags = kind().__sklearn_tags__()
        assert tags.input_tags.two_d_array
        assert not tags.no_validation
        assert not tags._skip_test


@every_estimator
def test_settings_come_back_and_a_clone_forgets_the_fit(kind: type[BaseEstimator]) -> None:
    X, y, _ = measurements()
    estimator = fitted(kind, X, y)
    settings = estimator.get_params(deep=False)
    copy = clone(estimator)
    assert repr(copy) == repr(kind(**settings))
    assert not [name for name in vars(copy) if name.endswith("_") and not name.startswith("_")]
    assert copy.set_params(**settings) is copy
    with pytest.raises(ValueError, match=r"[Ii]nvalid parameter"):
        copy.set_params(no_such_setting=1)


@every_estimator
def test_the_names_of_a_frame_are_kept_and_others_refused(kind: type[BaseEstimator]) -> None:
    X, y, _ = measurements()
    estimator = fitted(kind, X, y)
    assert estimator.feature_names_in_.tolist() == list(X.columns)
    assert estimator.n_features_in_ == 3
    for other in (X.rename(columns={"macs": "flops"}), X[["macs", "bytes", "calls"]]):
        with pytest.raises(ValueError, match="feature names"):
            estimator.predict(other)
    with pytest.raises(ValueError, match=r"features|feature names"):
        estimator.predict(X[["bytes", "macs"]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an array has no names
        np.testing.assert_array_equal(estimator.predict(X.to_numpy()), estimator.predict(X))


@every_estimator
@pytest.mark.parametrize("splitter", [LeaveOneGroupOut(), GroupKFold(4)], ids=["logo", "kfold"])
def test_grouped_cross_validation_of_a_pipeline(kind: type[BaseEstimator], splitter: Any) -> None:
    X, y, groups = measurements()
    pipeline = make_pipeline(FunctionTransformer(feature_names_out="one-to-one"), kind())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scores = cross_val_score(
            pipeline,
            X,
            y,
            groups=groups,
            cv=splitter,
            scoring="neg_mean_absolute_error",
            error_score="raise",
        )
        np.testing.assert_array_equal(pipeline.fit(X, y).predict(X), fitted(kind, X, y).predict(X))
    assert len(scores) == splitter.get_n_splits(X, y, groups)
    assert np.isfinite(scores).all()


@every_estimator
@pytest.mark.parametrize("seed", range(5))
def test_no_energy_below_zero(kind: type[BaseEstimator], seed: int) -> None:
    generator = np.random.default_rng(seed)
    X, y, _ = measurements(seed)
    anything = 10.0 ** generator.uniform(-9, 0, y.size)  # no relation to the features
    far = X.iloc[::-1].reset_index(drop=True) * 10.0 ** generator.uniform(-3, 3, X.shape)
    for target in (y, anything):
        found = fitted(kind, X, target).predict(far)
        assert found.shape == (y.size,)
        assert np.isfinite(found).all()
        assert (found >= 0).all()


@every_estimator
@pytest.mark.parametrize("factor", [1e3, 1e-6, 1 / 3.6e6], ids=["mJ", "MJ", "kWh"])
def test_the_unit_of_energy_scales_predictions(kind: type[BaseEstimator], factor: float) -> None:
    X, y, _ = measurements()
    joules = fitted(kind, X, y).predict(X)
    np.testing.assert_allclose(fitted(kind, X, y * factor).predict(X), joules * factor, rtol=1e-6)


@every_estimator
@pytest.mark.parametrize("column", ["bytes", "macs"])
def test_the_unit_of_a_feature_does_not_matter(kind: type[BaseEstimator], column: str) -> None:
    X, y, _ = measurements()
    larger = X.assign(**{column: X[column] / 1024})
    expected = fitted(kind, X, y).predict(X)
    np.testing.assert_allclose(fitted(kind, larger, y).predict(larger), expected, rtol=1e-6)


@every_estimator
def test_the_order_of_rows_does_not_matter(kind: type[BaseEstimator]) -> None:
    X, y, _ = measurements()
    order = np.random.default_rng(1).permutation(y.size)
    mixed = fitted(kind, X.iloc[order].reset_index(drop=True), y[order])
    np.testing.assert_allclose(mixed.predict(X), fitted(kind, X, y).predict(X), rtol=1e-6)


@every_estimator
def test_a_weight_of_three_is_a_row_three_times(kind: type[BaseEstimator]) -> None:
    if not has_fit_parameter(kind(), "sample_weight"):
        pytest.skip("takes no sample_weight")
    X, y, _ = measurements()
    count = np.random.default_rng(2).integers(0, 4, y.size)
    weighted = fitted(kind, X, y, sample_weight=count.astype(float))
    again = np.repeat(np.arange(y.size), count)
    repeated = fitted(
        kind, X.iloc[again].reset_index(drop=True), y[again], sample_weight=np.ones(again.size)
    )
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-6)


@every_estimator
def test_the_example_in_the_docstring_runs(kind: type[BaseEstimator]) -> None:
    module = importlib.import_module(kind.__module__)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(kind, kind.__name__, globs=vars(module).copy())
    assert example.examples, f"{kind.__name__} has no example"
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0
