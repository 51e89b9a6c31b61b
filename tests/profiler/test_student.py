"""Quantiles of Student's t without SciPy, against SciPy's."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from profiler.student import exact_t_quantile, t_quantile


@given(
    st.floats(1e-9, 1 - 1e-9),
    st.floats(-0.5, 13.0).map(lambda exponent: 10.0**exponent),
)
def test_quantiles_are_those_of_scipy(probability: float, degrees: float) -> None:
    expected = float(stdtrit(degrees, probability))
    assert exact_t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize(
    ("probability", "degrees", "table"),
    [(0.975, 1, 12.706204736), (0.95, 5, 2.015048373), (0.975, 30, 2.042272456)],
)
def test_quantiles_are_those_of_the_tables(
    probability: float, degrees: float, table: float
) -> None:
    assert exact_t_quantile(probability, degrees) == pytest.approx(table, rel=1e-9)
    assert t_quantile(probability, degrees) == pytest.approx(table, rel=1e-9)


def test_ends_of_the_scale() -> None:
    assert exact_t_quantile(0.5, 3) == 0
    assert exact_t_quantile(1.0, 3) == math.inf
    assert exact_t_quantile(0.0, 3) == -math.inf
    for probability, degrees in [(-0.1, 3), (1.1, 3), (0.9, 0), (0.9, -1), (math.nan, 3)]:
        assert math.isnan(exact_t_quantile(probability, degrees))
    assert math.isnan(exact_t_quantile(0.9, math.nan))


def test_without_scipy_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with_scipy = t_quantile(0.95, 7.5)
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    assert t_quantile(0.95, 7.5) == pytest.approx(with_scipy, rel=1e-10)
