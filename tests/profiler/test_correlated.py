"""Runs that resemble each other: they are found out, and the interval allows for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from profiler.correlated import (
    fixed_b_half_width,
    interval_of_mean,
    trend_remarks,
    von_neumann_critical,
    von_neumann_ratio,
)
from profiler.errors import InputError


def _ar1(rho: float, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    values = np.empty(n)
    values[0] = generator.standard_normal() / np.sqrt(1 - rho**2)
    for number in range(1, n):
        values[number] = rho * values[number - 1] + generator.standard_normal()
    return values + 100.0


@given(st.lists(st.floats(-100.0, 100.0), min_size=10, max_size=30))
def test_fixed_b_sums_the_autocovariances_under_bartletts_kernel(values: list[float]) -> None:
    x = np.asarray(values)
    centred, n = x - x.mean(), x.size
    covariances = [float(centred[k:] @ centred[: n - k]) / n for k in range(n)]
    omega = covariances[0] + 2 * sum((1 - k / n) * covariances[k] for k in range(1, n))
    expected = 4.8130 * np.sqrt(max(omega, 0.0) / n)
    assert fixed_b_half_width(x) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("n", [12, 30, 60])
def test_fixed_b_covers_independent_values(n: int) -> None:
    generator = np.random.default_rng(0)
    samples = generator.standard_normal((4000, n))
    covered = [abs(each.mean()) <= fixed_b_half_width(each) for each in samples]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("n", [6, 12, 60])
def test_one_independent_sample_in_twenty_is_called_correlated(n: int) -> None:
    samples = np.random.default_rng(1).standard_normal((4000, n))
    called = [von_neumann_ratio(each) < von_neumann_critical(n) for each in samples]
    assert np.mean(called) == pytest.approx(0.05, abs=0.011)


@pytest.mark.parametrize(("n", "least"), [(30, 0.86), (60, 0.91)])
def test_correlated_runs_are_covered_where_students_interval_is_not(n: int, least: float) -> None:
    generator = np.random.default_rng(2)
    covered, students = 0, 0
    for _ in range(1500):
        values = _ar1(0.5, n, generator)
        found = interval_of_mean(values)
        student = stats.t.ppf(0.975, n - 1) * stats.sem(values)
        covered += abs(found.mean - 100.0) <= found.half_width
        students += abs(found.mean - 100.0) <= student
    assert students < 0.80 * 1500
    assert covered >= least * 1500


def test_few_correlated_runs_get_a_remark_and_students_interval() -> None:
    found = interval_of_mean([1.0, 1.1, 1.2, 2.0, 2.1, 2.2, 1.2, 1.1])
    assert found.basis == "student"
    assert any("may be too narrow" in remark for remark in found.remarks)
    longer = interval_of_mean([1.0, 1.1, 1.2, 2.0, 2.1, 2.2, 2.1, 1.2, 1.1, 1.0, 1.1, 1.2])
    assert longer.basis == "fixed-b"
    assert any("allows for it" in remark for remark in longer.remarks)


def test_drift_is_said_with_its_size() -> None:
    warming = [100.0 * 1.02**number for number in range(8)]
    (remark,) = trend_remarks(np.asarray(warming))
    assert "2 % more than the one before" in remark and "warming up" in remark
    (remark,) = trend_remarks(np.asarray(warming[::-1]))
    assert "less than the one before" in remark
    assert trend_remarks(np.asarray([3.0, 1.0, 2.0, 2.5, 1.5])) == ()


def test_drift_is_rarely_seen_where_there_is_none() -> None:
    samples = np.random.default_rng(3).normal(100.0, 5.0, (2000, 10))
    assert np.mean([bool(trend_remarks(each)) for each in samples]) < 0.02


def test_equal_values_have_no_width_and_one_value_has_no_interval() -> None:
    assert interval_of_mean([2.0] * 12).half_width == 0.0
    with pytest.raises(InputError, match="two values"):
        interval_of_mean([1.0])
