from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cwmp.comparison import compare_paired, mean_of, pareto_front
from profiler.errors import InputError

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


@given(numbers)
def test_the_interval_is_student_s(values: list[float]) -> None:
    found = mean_of(values)
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.low is not None
    assert found.high is not None
    if found.sd > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert found.low == pytest.approx(low, rel=1e-6, abs=1e-6)
        assert found.high == pytest.approx(high, rel=1e-6, abs=1e-6)


def test_a_single_run_has_no_spread_and_no_verdict() -> None:
    assert mean_of([0.5]).sd is None
    assert mean_of([0.5]).low is None
    assert compare_paired([0.9], [0.1]).verdict == "unknown"
    assert compare_paired([0.9, 0.9], [0.1, 0.1]).verdict == "unknown"


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([0.80, 0.82, 0.84], [0.70, 0.71, 0.75], "better"),
        ([0.70, 0.71, 0.75], [0.80, 0.82, 0.84], "worse"),
        ([0.80, 0.70, 0.75], [0.79, 0.72, 0.74], "tied"),
        ([0.80, 0.70, 0.75], [0.80, 0.70, 0.75], "tied"),
    ],
)
def test_the_verdict_follows_the_interval(
    ours: list[float], theirs: list[float], verdict: str
) -> None:
    compared = compare_paired(ours, theirs)
    assert compared.verdict == verdict
    assert compared.identical == (ours == theirs)


def test_runs_that_agree_to_the_step_of_the_scale_are_not_exact() -> None:
    """One test image of ten more in each of three runs is no certainty."""
    ours, theirs = [0.6, 0.7, 0.8], [0.5, 0.6, 0.7]
    assert compare_paired(ours, theirs, resolution=0.1).verdict == "tied"
    assert compare_paired(ours, theirs, resolution=0.001).verdict == "better"


def test_runs_that_cannot_be_paired() -> None:
    with pytest.raises(InputError):
        compare_paired([1.0, 2.0], [1.0])
    with pytest.raises(InputError):
        mean_of([])
    with pytest.raises(InputError):
        pareto_front([1.0], [])


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@given(points)
def test_the_front_is_what_no_point_beats(found: list[tuple[int, int]]) -> None:
    costs, gains = [float(c) for c, _ in found], [float(g) for _, g in found]
    expected = {
        i
        for i in range(len(found))
        if not any(
            costs[j] <= costs[i]
            and gains[j] >= gains[i]
            and (costs[j], gains[j]) != (costs[i], gains[i])
            for j in range(len(found))
        )
    }
    front = pareto_front(costs, gains)
    assert set(front) == expected
    assert [costs[i] for i in front] == sorted(costs[i] for i in front)
