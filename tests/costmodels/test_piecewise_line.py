"""PiecewiseLine: recovery, coverage, cliffs, and agreement with what traces are fitted by."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy.stats import chi2, f
from test_curves import cell

from costmodels.curves import fit_curve
from costmodels.estimators.line import PiecewiseLine
from costmodels.pieces import fit_knee
from costmodels.stretches import Points, fit_stretches

A_J, C_J = 2e-6, 1e-9
K = np.array([1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0])


def inside(interval: np.ndarray, truth: float) -> bool:
    return bool(interval[0, 0] <= truth <= interval[0, 1])


def test_known_a_and_c_lie_in_their_intervals_and_a_true_line_is_seldom_refused() -> None:
    generator = np.random.default_rng(0)
    truth = A_J + C_J * K
    error = 0.02 * truth
    runs, hits, refused = 600, np.zeros(2), 0
    for _ in range(runs):
        y = truth + error * generator.standard_normal(K.size)
        line = PiecewiseLine().fit(K[:, None], y, sample_weight=error**-2)
        hits += [inside(line.a_interval_, A_J), inside(line.c_interval_, C_J)]
        refused += line.breaks_.size
    sampling = 3 * np.sqrt(0.95 * 0.05 / runs)
    assert (np.abs(hits / runs - 0.95) < sampling).all()
    assert refused / runs < 0.01 + 3 * np.sqrt(0.01 * 0.99 / runs)


def test_errors_that_are_not_given_are_taken_from_rows_of_one_k() -> None:
    generator = np.random.default_rng(1)
    k = np.repeat(K[:5], 4)
    runs, hits, low_p = 400, np.zeros(2), 0
    for _ in range(runs):
        y = A_J + C_J * k + 1e-8 * generator.standard_normal(k.size)
        line = PiecewiseLine().fit(k[:, None], y)
        hits += [inside(line.a_interval_, A_J), inside(line.c_interval_, C_J)]
        low_p += line.lack_of_fit_p_ < 0.2
    assert (np.abs(hits / runs - 0.95) < 3 * np.sqrt(0.95 * 0.05 / runs)).all()
    assert abs(low_p / runs - 0.2) < 3 * np.sqrt(0.2 * 0.8 / runs)


def test_the_p_value_is_the_textbook_one() -> None:
    generator = np.random.default_rng(2)
    k = np.repeat(K[:5], 3)
    y = 3.0 + 0.1 * k + generator.standard_normal(k.size)
    mean = y.reshape(5, 3).mean(axis=1)
    pure = ((y.reshape(5, 3) - mean[:, None]) ** 2).sum()
    residual = mean - np.polyval(np.polyfit(K[:5], mean, 1), K[:5])
    ratio = (3 * (residual**2).sum() / 3) / (pure / 10)
    assert PiecewiseLine().fit(k[:, None], y).lack_of_fit_p_ == pytest.approx(f.sf(ratio, 3, 10))
    known = PiecewiseLine().fit(K[:5, None], mean, sample_weight=np.full(5, 3.0))
    assert known.lack_of_fit_p_ == pytest.approx(chi2.sf(3 * (residual**2).sum(), 3))
    few = PiecewiseLine(error_degrees=7).fit(K[:5, None], mean, sample_weight=np.full(5, 3.0))
    assert few.lack_of_fit_p_ == pytest.approx(f.sf((residual**2).sum(), 3, 7))


def test_infinitely_many_degrees_are_a_chi_square_test_not_nan() -> None:
    one = np.ones(5)
    mean = np.array([1.0, 2.0, 3.0, 4.0, 9.0])
    points = Points(np.arange(1.0, 6.0), mean, one, one, one, inf)
    residual = mean - np.polyval(np.polyfit(points.k, mean, 1), points.k)
    _, p = fit_stretches(points)
    assert p == pytest.approx(chi2.sf((residual**2).sum(), 3))


def test_a_cache_cliff_gives_two_lines_and_one_where_only_one_is_wanted() -> None:
    generator = np.random.default_rng(3)
    truth = np.where(K < 200, A_J + C_J * K, A_J + 5 * C_J * K)
    error = 0.005 * truth
    y = truth + error * generator.standard_normal(K.size)
    line = PiecewiseLine().fit(K[:, None], y, sample_weight=error**-2)
    assert line.breaks_.tolist() == [256.0]
    assert line.lack_of_fit_p_ < 1e-6
    np.testing.assert_allclose(line.predict(K[:, None]), truth, rtol=0.02)
    assert line.c_interval_[1, 0] <= 5 * C_J <= line.c_interval_[1, 1]
    assert line.k_range_ == (1.0, 4096.0)
    one = PiecewiseLine(max_pieces=1).fit(K[:, None], y, sample_weight=error**-2)
    assert one.breaks_.size == 0
    assert one.lack_of_fit_p_ == pytest.approx(line.lack_of_fit_p_)
    never = PiecewiseLine(alpha=0.0).fit(K[:, None], y, sample_weight=error**-2)
    np.testing.assert_array_equal(never.predict(K[:, None]), one.predict(K[:, None]))


@pytest.mark.parametrize("jump", [1.0, 4.0])
def test_it_says_what_the_curve_of_a_layer_says(jump: float) -> None:
    truth = A_J + C_J * K * np.where(K < 200, 1.0, jump)
    noisy = truth * (1 + 0.003 * np.sin(K))
    cells = [cell(int(k), e, 0.01 * e) for k, e in zip(K, noisy, strict=True)]
    curve = fit_curve(cells)
    line = PiecewiseLine(error_degrees=60).fit(
        K[:, None], [c.mean_j for c in cells], sample_weight=[1 / c.variance for c in cells]
    )
    assert line.lack_of_fit_p_ == pytest.approx(curve.lack_of_fit_p)
    np.testing.assert_allclose(line.a_, [s.a.value for s in curve.segments if s.a])
    np.testing.assert_allclose(line.c_, [s.c.value for s in curve.segments if s.c])
    assert [1, *line.breaks_] == [s.from_k for s in curve.segments]


def test_negative_estimates_are_not_prices_and_widen_their_interval() -> None:
    k = np.array([[1.0], [2.0], [3.0]])
    falling = PiecewiseLine().fit(k, [3.0, 2.0, 1.0], sample_weight=np.full(3, 1e-2))
    assert falling.a_[0] == pytest.approx(2.0)
    assert falling.c_[0] == 0.0
    through = PiecewiseLine().fit(k, [-1.0, 1.0, 3.0], sample_weight=np.full(3, 1e-2))
    assert through.a_[0] == 0.0
    assert through.c_[0] == pytest.approx(10 / 14)
    assert through.c_interval_[0, 1] >= 2.0  # the unconstrained slope
    nothing = PiecewiseLine().fit(k, [-1.0, -2.0, -3.0])
    assert nothing.predict(k).tolist() == [0.0] * 3


def test_one_k_cannot_tell_a_from_c() -> None:
    line = PiecewiseLine().fit([[4.0], [4.0]], [2.0, 2.0], sample_weight=[100.0, 100.0])
    assert line.predict([[4.0]]).tolist() == [2.0]
    assert line.a_interval_[0, 0] == 0.0
    assert line.a_interval_[0, 1] > 2.0
    assert line.c_interval_[0, 0] == 0.0
    assert line.c_interval_[0, 1] > 0.5
    assert np.isnan(line.lack_of_fit_p_)
    assert PiecewiseLine().fit([[0.0]], [2.0]).predict([[0.0]]).tolist() == [2.0]


def test_without_errors_or_repetition_nothing_is_claimed() -> None:
    two = PiecewiseLine().fit([[1.0], [2.0]], [1.0, 2.0])
    assert two.c_interval_[0].tolist() == [0.0, inf]
    bent = PiecewiseLine().fit(K[:, None], K**2)
    assert np.isnan(bent.lack_of_fit_p_)
    assert bent.breaks_.size == 0


def test_rows_of_one_k_are_their_weighted_mean() -> None:
    generator = np.random.default_rng(4)
    k, weight = np.repeat(K, 3), generator.uniform(1, 9, 21)
    y = 1.0 + 0.01 * k + generator.normal(size=21)
    whole = PiecewiseLine().fit(k[:, None], y, sample_weight=weight)
    parts, w = y.reshape(7, 3), weight.reshape(7, 3)
    mean = (parts * w).sum(axis=1) / w.sum(axis=1)
    means = PiecewiseLine().fit(K[:, None], mean, sample_weight=w.sum(axis=1))
    for name in ("a_", "c_", "a_interval_", "c_interval_", "lack_of_fit_p_"):
        np.testing.assert_allclose(getattr(whole, name), getattr(means, name), rtol=1e-9)


def test_k_is_taken_from_a_named_column() -> None:
    import pandas as pd

    frame = pd.DataFrame({"layer_bytes": np.ones(7), "k": K})
    line = PiecewiseLine(column="k").fit(frame, 1.0 + 2.0 * K)
    np.testing.assert_allclose(line.c_, [2.0])
    np.testing.assert_allclose(PiecewiseLine(column=-1).fit(frame, 1.0 + 2.0 * K).c_, [2.0])
    for column in ("entries", 2, -3):
        with pytest.raises(ValueError, match="X has no column"):
            PiecewiseLine(column=column).fit(frame, K)


@pytest.mark.parametrize(
    "options", [{"max_pieces": 3}, {"alpha": 2.0}, {"alpha": float("nan")}, {"error_degrees": 0}]
)
def test_settings_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"max_pieces|alpha"):
        PiecewiseLine(**options).fit(K[:, None], K)


def test_bad_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="Negative values"):
        PiecewiseLine().fit([[-1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"weight is zero|weights"):
        PiecewiseLine().fit([[1.0], [2.0]], [1.0, 2.0], sample_weight=[0.0, 0.0])
    with pytest.raises(ValueError, match="NaN"):
        PiecewiseLine().fit([[1.0], [2.0]], [1.0, np.nan])


def test_a_knee_among_many_k_is_looked_for_at_some_of_them() -> None:
    k = np.arange(1.0, 1001.0)
    y = np.where(k < 400, 3 * k, 800 + k)
    knee = fit_knee(k, y, np.ones_like(k))
    assert knee is not None
    assert abs(knee.from_k - 400) <= 4
