"""Two means compared: against slow references and by simulation."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from profiler.contrasts import (
    Side,
    agreement_p,
    contrasts,
    degrees_of,
    difference_p,
    holm,
    ratio_interval,
)
from profiler.errors import InputError

probabilities = st.floats(0, 1)
sides = st.builds(
    Side,
    mean=st.floats(-5, 50),
    variance=st.floats(1e-4, 5),
    degrees=st.floats(1, 60),
    blocks=st.just(9),
)


@given(st.lists(probabilities, min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_as_the_step_down_procedure_does(p: list[float], alpha: float) -> None:
    rejected = set()
    for step, index in enumerate(sorted(range(len(p)), key=lambda n: p[n])):
        if p[index] * (len(p) - step) > alpha:
            break
        rejected.add(index)
    assert {n for n, value in enumerate(holm(p)) if value <= alpha} == rejected


def test_welch_is_scipys() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.normal(1.0, 1.0, 7), generator.normal(2.0, 3.0, 15)
    a, b = (
        Side(float(v.mean()), float(v.var(ddof=1) / v.size), v.size - 1, v.size) for v in (x, y)
    )
    expected = stats.ttest_ind(y, x, equal_var=False)
    assert difference_p(a, b) == pytest.approx(expected.pvalue)
    assert degrees_of(a, b) == pytest.approx(expected.df)
    (found,) = contrasts([(a, b)], margin=0.05)
    interval = expected.confidence_interval(0.95)
    assert found.difference_interval == pytest.approx((interval.low, interval.high))


@given(sides, sides)
def test_ratio_interval_leaves_out_one_where_the_difference_is_significant(
    a: Side, b: Side
) -> None:
    interval, p = ratio_interval(a, b, 0.05), difference_p(a, b)
    if interval is not None and abs(p - 0.05) > 1e-6:
        assert (interval[0] > 1 or interval[1] < 1) == (p < 0.05)
    if interval is None:
        assert a.mean <= sqrt(a.variance) * stats.t.ppf(0.975, degrees_of(a, b)) * (1 + 1e-9)


@given(sides, sides, st.floats(0.01, 0.5))
def test_agreement_needs_both_one_sided_tests(a: Side, b: Side, margin: float) -> None:
    def one_sided(ratio: float, sign: int) -> float:
        t = sign * (b.mean - ratio * a.mean) / sqrt(b.variance + ratio**2 * a.variance)
        return float(stats.t.sf(t, degrees_of(a, b, ratio)))

    expected = max(one_sided(1 - margin, 1), one_sided(1 + margin, -1))
    assert agreement_p(a, b, margin) == pytest.approx(expected)


def test_stein_sides_take_the_smaller_degrees() -> None:
    a, b = Side(1.0, 1.0, 5, 40, two_stage=True), Side(1.0, 1.0, 30, 31)
    assert degrees_of(a, b) == 5
    assert degrees_of(b, b) == pytest.approx(60)


def test_three_answers() -> None:
    a = Side(10.0, 0.01, 20, 21)
    far, near, vague = Side(12.0, 0.01, 20, 21), Side(10.05, 0.001, 20, 21), Side(11, 9.0, 20, 21)
    found = contrasts([(a, far), (a, near), (a, vague)], margin=0.05)
    assert [each.verdict for each in found] == ["differs", "agrees", "cannot tell"]
    assert found[2].detectable is not None and found[2].detectable > 0.5
    assert [each.differs and each.agrees for each in found] == [False] * 3
    real_but_small = contrasts([(Side(10, 1e-6, 20, 21), Side(10.1, 1e-6, 20, 21))], margin=0.05)
    assert real_but_small[0].differs and real_but_small[0].agrees
    assert real_but_small[0].verdict == "differs"


def test_cost_that_cannot_be_told_from_nothing_has_no_ratio() -> None:
    (found,) = contrasts([(Side(-0.1, 1.0, 9, 10), Side(5.0, 1.0, 9, 10))], margin=0.05)
    assert found.ratio is found.ratio_interval is found.detectable is None
    assert not found.agrees


@pytest.mark.parametrize(
    ("variance", "margin", "level"),
    [(0.0, 0.05, 0.05), (np.inf, 0.05, 0.05), (1.0, 0.0, 0.05), (1.0, 1.0, 0.05), (1, 0.1, 0)],
)
def test_bad_arguments(variance: float, margin: float, level: float) -> None:
    side = Side(1.0, variance, 5, 6)
    with pytest.raises(InputError):
        contrasts([(side, side)], margin=margin, level=level)


def test_nothing_to_compare_is_an_empty_family() -> None:
    assert contrasts([], margin=0.05) == []
    assert holm([]).size == 0
