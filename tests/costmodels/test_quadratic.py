"""The smooth part of a correction, against scikit-learn's ridge on the same terms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures

from costmodels.estimators.hybrid import HybridRegressor
from costmodels.estimators.quadratic import fit_quadratic, terms_of


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_equal_to_ridge_on_standardised_terms(columns: int, penalty: float) -> None:
    generator = np.random.default_rng(columns)
    Z = generator.normal(5, 3, (200, columns)) @ generator.normal(size=(columns, columns))
    r = np.sin(Z[:, 0]) + generator.normal(size=200)
    weight = generator.uniform(0.5, 2, 200)
    found = fit_quadratic(Z, r, weight, penalty)
    centre = np.average(Z, axis=0, weights=weight)
    spread = np.sqrt(np.average((Z - centre) ** 2, axis=0, weights=weight))
    make = PolynomialFeatures(2, include_bias=False)
    terms = make.fit_transform((Z - centre) / spread)
    ridge = Ridge(alpha=penalty * weight.mean()).fit(terms, r, sample_weight=weight)
    assert found.coef.size == terms.shape[1] == terms_of(columns)
    np.testing.assert_allclose(found.predict(Z), ridge.predict(terms), rtol=1e-7, atol=1e-9)


def test_a_column_that_does_not_vary_takes_no_part() -> None:
    generator = np.random.default_rng(0)
    Z = np.column_stack([generator.normal(size=50), np.full(50, 3.0)])
    found = fit_quadratic(Z, Z[:, 0] ** 2, np.ones(50), 1.0)
    moved = Z + np.array([0.0, 7.0])
    np.testing.assert_allclose(found.predict(moved), found.predict(Z))


def test_prediction_in_blocks_is_the_same() -> None:
    generator = np.random.default_rng(1)
    Z = generator.normal(size=(70_000, 2))
    found = fit_quadratic(Z[:500], Z[:500, 0] * Z[:500, 1], np.ones(500), 1.0)
    parts = [found.predict(part) for part in np.array_split(Z, 7)]
    np.testing.assert_allclose(found.predict(Z), np.concatenate(parts), rtol=1e-12)
    assert found.predict(Z[:0]).shape == (0,)


def _table(rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(7)
    X = 10 ** generator.uniform(0, 3, (rows, 2))
    return X, generator.normal(1, 0.01, rows), np.arange(rows) % 10


def test_what_bends_smoothly_takes_the_quadratic_and_what_steps_the_trees() -> None:
    X, noise, groups = _table()
    bent = HybridRegressor().fit(X, X[:, 0] ** 0.6 * X[:, 1] ** 0.3 * noise, groups=groups)
    assert bent.forms_ == {None: "smooth"} and bent.gains_[None].helps
    steps = np.where(X[:, 0] / X[:, 1] > 3, 5.0, 1.0)
    stepped = HybridRegressor().fit(X, X[:, 0] * steps * noise, groups=groups)
    assert stepped.forms_ == {None: "trees"} and stepped.corrections_[None].smooth is None


def test_rows_that_prices_say_nothing_of_take_no_part() -> None:
    X, noise, groups = _table()
    y = X[:, 0] ** 0.6 * noise
    X = np.column_stack([X[:, 0], np.ones(len(X))])
    alone = HybridRegressor(correct={None: "trees"}).fit(X, y, groups=groups)
    empty = np.zeros((30, 2))
    rows, energies = np.concatenate([X, empty]), np.concatenate([y, np.full(30, 1e-3)])
    beside = HybridRegressor(correct={None: "trees"}).fit(
        rows, energies, groups=np.concatenate([groups, np.arange(30) % 10])
    )
    assert beside.corrections_[None].most == pytest.approx(alone.corrections_[None].most, rel=0.01)
    np.testing.assert_allclose(beside.predict(X), alone.predict(X), rtol=1e-6)
