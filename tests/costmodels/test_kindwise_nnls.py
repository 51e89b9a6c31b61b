"""KindwiseNNLS: scipy's solver on the relative rows of each kind, and what no kind may do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score

from costmodels import KindwiseNNLS

seeds = st.integers(0, 2**31)


def rows_of(
    seed: int, counts: tuple[int, ...], columns: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, the number of the kind and targets with 30 % scatter."""
    generator = np.random.default_rng(seed)
    kind = np.repeat(np.arange(len(counts)), counts).astype(float)
    X = 10 ** generator.uniform(0, 3, (kind.size, columns))
    price = 10 ** generator.uniform(-3, 0, (len(counts), columns))
    y = (X * price[kind.astype(int)]).sum(axis=1) * np.exp(0.3 * generator.normal(size=kind.size))
    order = generator.permutation(kind.size)
    return X[order], kind[order], y[order]


def loss(b: np.ndarray, X: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    return float(np.sum(w * (1 - X @ b / y) ** 2))


def best(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """The least loss, by scipy on rows x / y against ones, columns scaled."""
    rows = X / y[:, None] * np.sqrt(w)[:, None]
    norm = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
    return float(nnls(rows / norm, np.sqrt(w))[1] ** 2)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, counts=st.lists(st.integers(12, 40), min_size=1, max_size=4))
def test_each_kind_has_the_least_relative_error_that_scipy_finds(
    seed: int, counts: list[int]
) -> None:
    X, kind, y = rows_of(seed, tuple(counts))
    w = np.random.default_rng(seed).uniform(0.1, 2, y.size)
    model = KindwiseNNLS(kind_column=3).fit(np.column_stack([X, kind]), y, sample_weight=w)
    assert model.kinds_.tolist() == list(range(len(counts)))
    for code, prices in zip(model.kinds_, model.kind_coef_, strict=True):
        mine = kind == code
        assert (prices >= 0).all()
        assert prices[3] == 0
        found = loss(prices[:3], X[mine], y[mine], w[mine])
        assert found <= best(X[mine], y[mine], w[mine]) * (1 + 1e-9) + 1e-12


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_the_pooled_fit_counts_kinds_alike_however_many_rows(seed: int) -> None:
    X, kind, y = rows_of(seed, (200, 15, 40))
    w = np.random.default_rng(seed).uniform(0.1, 2, y.size)
    model = KindwiseNNLS(kind_column=3).fit(np.column_stack([X, kind]), y, sample_weight=w)
    share = w.copy()
    for code in range(3):
        share[kind == code] /= w[kind == code].sum()
    assert loss(model.coef_[:3], X, y, share) <= best(X, y, share) * (1 + 1e-9) + 1e-12


def test_a_kind_with_all_its_rows_twice_changes_no_price() -> None:
    X, kind, y = rows_of(1, (30, 20))
    Z = np.column_stack([X, kind])
    again = np.concatenate([np.arange(y.size), np.flatnonzero(kind == 1)])
    once, twice = (
        KindwiseNNLS(kind_column=3).fit(Z[rows], y[rows]) for rows in (np.arange(y.size), again)
    )
    np.testing.assert_allclose(twice.coef_, once.coef_, rtol=1e-6)
    np.testing.assert_allclose(twice.kind_coef_, once.kind_coef_, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_weights_are_repeats(seed: int) -> None:
    X, kind, y = rows_of(seed, (20, 25))
    times = np.random.default_rng(seed).integers(1, 4, y.size)
    Z, rows = np.column_stack([X, kind]), np.repeat(np.arange(y.size), times)
    weighted = KindwiseNNLS(kind_column=3).fit(Z, y, sample_weight=times)
    repeated = KindwiseNNLS(kind_column=3).fit(Z[rows], y[rows])
    np.testing.assert_allclose(weighted.predict(Z), repeated.predict(Z), rtol=1e-7)
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6, atol=1e-9)


def test_rows_of_weight_zero_are_as_absent_and_are_not_counted() -> None:
    X, kind, y = rows_of(2, (40, 20))
    Z = np.column_stack([X, kind])
    weight = np.ones(y.size)
    weight[np.flatnonzero(kind == 1)[:10]] = 0
    kept = weight > 0
    model = KindwiseNNLS(kind_column=3).fit(Z, y, sample_weight=weight)
    alone = KindwiseNNLS(kind_column=3).fit(Z[kept], y[kept])
    assert model.kinds_.tolist() == alone.kinds_.tolist() == [0.0]
    np.testing.assert_allclose(model.coef_, alone.coef_, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    joules=st.integers(-12, 12),
    scale=st.lists(st.integers(-12, 12), min_size=3, max_size=3),
)
def test_units_change_prices_and_no_prediction(seed: int, joules: int, scale: list[int]) -> None:
    X, kind, y = rows_of(seed, (20, 30))
    factor = 10.0 ** np.array(scale)
    plain = KindwiseNNLS(kind_column=3).fit(np.column_stack([X, kind]), y)
    other = KindwiseNNLS(kind_column=3).fit(np.column_stack([X * factor, kind]), y * 10.0**joules)
    np.testing.assert_allclose(
        other.predict(np.column_stack([X * factor, kind])),
        plain.predict(np.column_stack([X, kind])) * 10.0**joules,
        rtol=1e-7,
    )
    np.testing.assert_allclose(
        other.kind_coef_[:, :3] * factor / 10.0**joules,
        plain.kind_coef_[:, :3],
        rtol=1e-5,
        atol=1e-12,
    )


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_a_kind_never_seen_is_priced_by_the_pooled_fit_and_never_zero(seed: int) -> None:
    X, kind, y = rows_of(seed, (20, 30))
    model = KindwiseNNLS(kind_column=3).fit(np.column_stack([X, kind]), y)
    Z = np.column_stack([X, np.full(y.size, 99.0)])
    np.testing.assert_allclose(model.predict(Z), X @ model.coef_[:3], rtol=1e-12)
    assert (model.predict(Z) > 0).all()


@pytest.mark.parametrize(("rows", "own"), [(11, False), (12, True)])
def test_a_kind_of_few_rows_is_priced_by_the_pooled_fit(rows: int, own: bool) -> None:
    X, kind, y = rows_of(3, (40, rows))
    Z = np.column_stack([X, kind])
    model = KindwiseNNLS(kind_column=3).fit(Z, y)
    assert (1.0 in model.kinds_) is own
    if not own:
        mine = kind == 1
        np.testing.assert_allclose(model.predict(Z[mine]), X[mine] @ model.coef_[:3], rtol=1e-12)


def test_three_rows_are_asked_for_each_column_that_varies() -> None:
    X, kind, y = rows_of(4, (60, 17), columns=6)
    assert KindwiseNNLS(kind_column=6).fit(np.column_stack([X, kind]), y).kinds_.tolist() == [0]
    X[kind == 1, 5] = 0  # five columns are left to it
    y = X.sum(axis=1)
    assert KindwiseNNLS(kind_column=6).fit(np.column_stack([X, kind]), y).kinds_.tolist() == [0, 1]


def test_a_kind_whose_own_prices_would_all_be_zero_has_none() -> None:
    X, kind, y = rows_of(5, (40, 30))
    X[kind == 1] = 0
    model = KindwiseNNLS(kind_column=3).fit(np.column_stack([X, kind]), y)
    assert model.kinds_.tolist() == [0.0]
    assert (model.predict(np.column_stack([X + 1, kind])) > 0).all()


def test_of_proportional_columns_the_last_carries_the_price() -> None:
    X, kind, y = rows_of(6, (30, 30), columns=2)
    doubled = np.column_stack([X[:, 0], X[:, 1], 2 * X[:, 1], kind])
    model = KindwiseNNLS(kind_column=3).fit(doubled, y)
    plain = KindwiseNNLS(kind_column=2).fit(np.column_stack([X, kind]), y)
    assert (model.kind_coef_[:, 1] == 0).all()
    np.testing.assert_allclose(model.kind_coef_[:, 2] * 2, plain.kind_coef_[:, 1], rtol=1e-9)


def test_the_kind_may_stand_anywhere_and_be_named() -> None:
    X, kind, y = rows_of(7, (30, 30))
    last = KindwiseNNLS(kind_column=3).fit(np.column_stack([X, kind]), y)
    middle = KindwiseNNLS(kind_column=1).fit(np.insert(X, 1, kind, axis=1), y)
    frame = pd.DataFrame(np.insert(X, 1, kind, axis=1), columns=["macs", "kind", "bytes", "calls"])
    named = KindwiseNNLS(kind_column="kind").fit(frame, y)
    np.testing.assert_allclose(middle.kind_coef_[:, [0, 2, 3, 1]], last.kind_coef_, rtol=1e-9)
    np.testing.assert_array_equal(named.predict(frame), middle.predict(frame.to_numpy()))
    assert named.feature_names_in_.tolist() == list(frame.columns)


def test_without_a_kind_all_rows_are_of_one() -> None:
    X, _, y = rows_of(8, (30,))
    model = KindwiseNNLS().fit(X, y)
    assert model.kinds_.size == 0
    assert loss(model.coef_, X, y, np.ones(y.size)) <= best(X, y, np.ones(y.size)) * (1 + 1e-9)


def test_known_prices_over_many_orders_come_back() -> None:
    generator = np.random.default_rng(9)
    X = np.column_stack([10 ** generator.uniform(0, 12, 80), np.ones(80)])
    kind = np.arange(80) % 2.0
    y = np.where(kind == 0, X @ [1e-12, 1e-6], X @ [7e-12, 3e-5])
    model = KindwiseNNLS(kind_column=2, relative_floor=0.0).fit(np.column_stack([X, kind]), y)
    np.testing.assert_allclose(model.kind_coef_[:, :2], [[1e-12, 1e-6], [7e-12, 3e-5]], rtol=1e-8)


@pytest.mark.parametrize(
    ("column", "words"),
    [(4, "kind_column 4 is not one of 4"), (-1, "kind_column -1"), ("kind", "'kind' is none of")],
)
def test_a_kind_column_that_is_not_there_is_named(column: int | str, words: str) -> None:
    X, kind, y = rows_of(0, (20,))
    with pytest.raises(ValueError, match=words):
        KindwiseNNLS(kind_column=column).fit(np.column_stack([X, kind]), y)


def test_scikit_learns_tools_take_it() -> None:
    X, kind, y = rows_of(10, (60, 60))
    Z = np.column_stack([X, kind])
    model = clone(KindwiseNNLS(kind_column=3, min_rows=5).set_params(min_rows=7))
    assert model.get_params() == {"kind_column": 3, "min_rows": 7, "relative_floor": 1e-6}
    scores = cross_val_score(model, Z, y, groups=np.arange(120) % 6, cv=GroupKFold(3))
    assert np.isfinite(scores).all()


def test_rows_in_another_order_give_the_same_prices() -> None:
    X, kind, y = rows_of(11, (40, 20))
    Z, order = np.column_stack([X, kind]), np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(
        KindwiseNNLS(kind_column=3).fit(Z[order], y[order]).kind_coef_,
        KindwiseNNLS(kind_column=3).fit(Z, y).kind_coef_,
        rtol=1e-9,
    )
