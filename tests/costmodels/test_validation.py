"""Leave-one-group-out figures and calibrated intervals, against what is known."""

from __future__ import annotations

import numpy as np
import pytest

from costmodels.validation import half_width, leave_one_group_out, log_residuals, validate


def fit_mean(X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.array([np.average(y, weights=weight)])


def test_a_group_is_never_predicted_by_itself() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    groups = ["a", "a", "b", "b", "c"]
    predicted = leave_one_group_out(fit_mean, np.ones((5, 1)), y, np.ones(5), groups)
    np.testing.assert_allclose(predicted, [4.0, 4.0, 8 / 3, 8 / 3, 2.5])


def test_one_group_cannot_be_left_out() -> None:
    predicted = leave_one_group_out(fit_mean, np.ones((2, 1)), np.ones(2), np.ones(2), ["a", "a"])
    assert np.isnan(predicted).all()


@pytest.mark.parametrize(("level", "needed"), [(0.90, 9), (0.95, 19)])
def test_the_number_of_groups_decides_what_is_calibrated(level: float, needed: int) -> None:
    residuals = [np.array([0.1 * (1 + g)]) for g in range(needed)]
    width, calibrated = half_width(residuals, level)
    assert calibrated
    assert width == pytest.approx(0.1 * needed)  # the widest: no group may be missed
    assert not half_width(residuals[:-1], level)[1]


def test_a_group_of_many_cells_counts_once() -> None:
    lone = [np.array([1.0])] * 18
    crowd = [*lone, np.full(1000, 5.0)]
    assert half_width(crowd, 0.90)[0] == 1.0


def test_new_groups_are_covered_as_often_as_promised() -> None:
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        scale = np.exp(generator.normal(0, 0.5, 30))
        residuals = [np.abs(generator.normal(0, s, 4)) for s in scale[:-1]]
        width, calibrated = half_width(residuals, 0.90)
        assert calibrated
        covered.append(np.mean(np.abs(generator.normal(0, scale[-1], 4)) <= width))
    # mean of 400 draws: three standard errors below 90 %
    error = np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= 0.90 - 3 * error
    assert np.mean(covered) <= 0.97


def test_few_groups_are_called_uncalibrated_and_none_a_factor_of_ten() -> None:
    width, calibrated = half_width([np.array([0.1]), np.array([0.2])], 0.95)
    assert not calibrated
    assert width > 0.2
    assert half_width([], 0.95) == (pytest.approx(np.log(10)), False)
    assert half_width([np.array([50.0]), np.array([50.0])], 0.95)[0] == pytest.approx(np.log(100))


def _report(groups: int, error: float = 0.1):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(1)
    names = [f"g{g}" for g in range(groups) for _ in range(5)]
    y = 10.0 ** generator.uniform(-6, -2, len(names))
    predicted = y * np.exp(generator.normal(0, error, len(names)))
    return validate(y, predicted, np.ones(len(names), bool), names, seed=0), y, predicted


def test_the_figures_are_the_textbook_ones() -> None:
    report, y, predicted = _report(25)
    ape = np.abs(predicted / y - 1)
    assert report.mape.value == pytest.approx(ape.mean())
    assert report.median_ape.value == pytest.approx(np.median(ape))
    residual = np.log(y) - np.log(predicted)
    r2 = 1 - np.sum(residual**2) / np.sum((np.log(y) - np.log(y).mean()) ** 2)
    assert report.r2_log.value == pytest.approx(r2)
    assert report.calibrated
    for metric in (report.mape, report.median_ape, report.r2_log, report.spearman):
        assert metric.low is not None
        assert metric.high is not None
        assert metric.value is not None
        assert metric.low <= metric.value <= metric.high
    assert report.coverage_90.value == pytest.approx(0.9, abs=0.08)


def test_spearman_matches_scipy() -> None:
    from scipy.stats import spearmanr

    report, y, predicted = _report(10, error=2.0)
    assert report.spearman.value == pytest.approx(spearmanr(y, predicted).statistic)


def test_too_few_groups_have_no_coverage_to_report() -> None:
    report, _, _ = _report(6)
    assert report.coverage_90.value is None
    assert not report.calibrated
    assert report.verdict.startswith("uncalibrated: 6 left-out groups")


def test_undetected_cells_are_counted_and_left_out() -> None:
    y = np.array([1.0, 2.0, -1.0, 4.0])
    detected = np.array([True, True, True, False])
    report = validate(y, np.array([1.0, 2.2, 5.0, 5.0]), detected, list("abcd"), seed=0)
    assert (report.cells, report.undetected, report.groups) == (2, 2, 2)
    assert report.mape.value == pytest.approx(0.05)


def test_a_prediction_of_nothing_is_a_thousandfold_error_and_not_infinite() -> None:
    np.testing.assert_allclose(log_residuals(np.array([2.0]), np.array([0.0])), [np.log(1000)])
