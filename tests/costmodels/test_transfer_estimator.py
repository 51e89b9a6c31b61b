"""DeviceTransfer: scikit-learn's conformance suite, and that what A taught is never lost."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import SkipTestWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from costmodels.estimators.relative import RelativeNNLS
from costmodels.transfer.core import DeviceFamilyWarning
from costmodels.transfer.estimator import DeviceTransfer, OwnScatter, own_scatter
from profiler.errors import InputError

PRICES = np.array([2e-6, 5e-9, 1e-11])


def table(seed: int, rows: int, prices: np.ndarray, spread: float = 0.1) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(seed)
    k = 10.0 ** generator.uniform(0, 6, rows)
    X = np.column_stack([np.ones(rows), k, k * 10.0 ** generator.uniform(0, 3, rows)])
    return X, X @ prices * np.exp(spread * generator.normal(size=rows))


@pytest.fixture(scope="module")
def first() -> tuple[RelativeNNLS, OwnScatter]:
    X, y = table(0, 200, PRICES)
    base = RelativeNNLS(refits=4).fit(X, y)
    return base, own_scatter(base, X, y, np.arange(200) % 20)


def test_passes_scikit_learns_conformance_suite() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(DeviceTransfer(), on_fail=None)
    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}


def test_a_clone_keeps_what_the_first_device_taught(
    first: tuple[RelativeNNLS, OwnScatter],
) -> None:
    base, scatter = first
    X, y = table(1, 20, 3 * PRICES)
    moved = DeviceTransfer(base, scatter).fit(X, y)
    again = clone(moved)
    assert not hasattr(again, "scale_")
    assert again.base is base
    np.testing.assert_array_equal(again.fit(X, y).predict(X), moved.predict(X))
    scores = cross_val_score(DeviceTransfer(base), X, y, cv=KFold(4), scoring="r2")
    assert np.isfinite(scores).all()


def test_the_first_devices_scatter_is_found(first: tuple[RelativeNNLS, OwnScatter]) -> None:
    assert first[1].spread_log == pytest.approx(0.1, rel=0.2)
    assert first[1].shared < 0.3
    assert 60 < first[1].degrees <= 199


def test_a_scatter_that_layers_share_has_few_degrees() -> None:
    generator = np.random.default_rng(0)
    X, _ = table(2, 200, PRICES)
    groups = np.repeat(np.arange(20), 10)
    y = X @ PRICES * np.exp(0.3 * generator.normal(size=20)[groups])
    found = own_scatter(RelativeNNLS(), X, y, groups)
    assert found.shared > 0.8
    assert 15 < found.degrees < 40


@pytest.mark.filterwarnings("ignore::costmodels.transfer.core.DeviceFamilyWarning")
def test_twenty_rows_do_what_two_hundred_do(first: tuple[RelativeNNLS, OwnScatter]) -> None:
    base, scatter = first
    error = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        prices = PRICES * np.exp(generator.uniform(-1, 1, 3))
        moved = DeviceTransfer(base, scatter).fit(*table(100 + seed, 20, prices))
        X, _ = table(200 + seed, 300, prices)
        error.append(np.mean(np.abs(moved.predict(X) / (X @ prices) - 1)))
    assert np.mean(error) < 0.10


def test_another_form_is_warned_about(first: tuple[RelativeNNLS, OwnScatter]) -> None:
    base, scatter = first
    X, y = table(3, 20, PRICES)
    y = np.where(X[:, 1] > 1e3, 8 * y, y)
    with pytest.warns(DeviceFamilyWarning, match="not of one family"):
        moved = DeviceTransfer(base, scatter).fit(X, y)
    assert moved.same_family_ is False
    assert "not of one family" in moved.assumptions_[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blind = DeviceTransfer(base).fit(X, y)
    assert blind.same_family_ is None
    assert "not tested" in blind.assumptions_[0]


def test_a_base_without_prices_is_scaled_as_a_whole() -> None:
    X, y = table(4, 300, PRICES)
    forest = RandomForestRegressor(20, random_state=0).fit(X, y)
    for base in (forest, FrozenEstimator(forest)):
        moved = DeviceTransfer(base).fit(X[:20], 2.5 * y[:20])
        assert moved.scales_.shape == (1,)
        np.testing.assert_allclose(moved.predict(X), moved.scale_ * forest.predict(X), rtol=1e-9)
        assert moved.scale_ == pytest.approx(2.5, rel=0.15)


def test_intervals_are_ordered_and_nested(first: tuple[RelativeNNLS, OwnScatter]) -> None:
    moved = DeviceTransfer(*first).fit(*table(5, 20, PRICES))
    X, _ = table(6, 50, PRICES)
    (low90, high90), (low95, high95) = (moved.predict_interval(X, level) for level in (0.9, 0.95))
    predicted = moved.predict(X)
    assert (low95 < low90).all() and (high90 < high95).all()
    assert ((low90 < predicted) & (predicted < high90)).all()
    assert moved.interval_factor_ > 1.1


def test_what_does_not_fit_together_is_refused(first: tuple[RelativeNNLS, OwnScatter]) -> None:
    X, y = table(7, 20, PRICES)
    with pytest.raises(InputError, match="not fitted"):
        DeviceTransfer(RelativeNNLS()).fit(X, y)
    with pytest.raises(InputError, match="2 features where the model of the first device has 3"):
        DeviceTransfer(first[0]).fit(X[:, :2], y)
    named = RelativeNNLS().fit(pd.DataFrame(X, columns=["calls", "entries", "macs"]), y)
    with pytest.raises(InputError, match="'bytes'"):
        DeviceTransfer(named).fit(pd.DataFrame(X, columns=["calls", "bytes", "macs"]), y)
    with pytest.raises(InputError, match="too few"):
        DeviceTransfer(first[0]).fit(X[:2], y[:2])
    with pytest.raises(ValueError, match="NaN"):
        DeviceTransfer(first[0]).fit(X, np.where(y == y.max(), np.nan, y))
    with pytest.raises(InputError, match=r"at or below zero|came out at"):
        DeviceTransfer(first[0]).fit(X, np.where(y == y.max(), 0.0, y))
    with pytest.raises(InputError, match="two groups"):
        own_scatter(first[0], X, y, np.zeros(20))
    with pytest.raises(InputError, match="positive"):
        own_scatter(first[0], X, -y, np.arange(20))
