from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cwmp.comparison import MARGIN, Trajectory, compare_paired, mean_of, pareto_ends
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
        ([0.80, 0.70, 0.75], [0.79, 0.72, 0.74], "unknown"),
        ([0.800, 0.700, 0.750], [0.801, 0.699, 0.750], "tied"),
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
    assert compare_paired(ours, theirs, resolution=0.1).verdict == "unknown"
    assert compare_paired(ours, theirs, resolution=0.001).verdict == "better"


def test_runs_that_cannot_be_paired() -> None:
    with pytest.raises(InputError):
        compare_paired([1.0, 2.0], [1.0])
    with pytest.raises(InputError):
        mean_of([])


@given(st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=8))
def test_not_told_apart_is_not_tied(differences: list[float]) -> None:
    found = compare_paired(differences, [0.0] * len(differences))
    low, high = found.difference.low, found.difference.high
    if found.verdict == "tied" and any(differences):
        assert low is not None and high is not None
        assert -MARGIN < low <= 0 <= high < MARGIN
    if not any(differences):
        assert found.verdict == "tied"


rounds = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 6)), min_size=1, max_size=4)


def _trajectory(points: list[tuple[int, int]], slack: float) -> Trajectory:
    costs, gains = np.array(points, dtype=np.float64).T
    return Trajectory(np.cumsum(costs), gains, slack)


@given(st.lists(rounds, max_size=6), st.integers(0, 3))
def test_an_end_is_on_the_front_unless_a_round_of_another_beats_it(
    found: list[list[tuple[int, int]]], slack: int
) -> None:
    paths = [_trajectory(points, float(slack)) for points in found]
    expected = []
    for i, path in enumerate(paths):
        beaten = False
        for j, other in enumerate(paths):
            for cost, gain in zip(other.costs, other.gains, strict=True):
                same = abs(cost - path.costs[-1]) <= slack
                cheaper = cost < path.costs[-1] and not same
                if i != j and (cheaper or same) and gain >= path.gains[-1]:
                    beaten |= bool(cheaper or gain > path.gains[-1])
        if not beaten:
            expected.append(i)
    assert list(pareto_ends(paths)) == expected


def test_a_round_on_the_way_beats_an_end_that_no_end_beats() -> None:
    dense = Trajectory(np.array([1.0, 2.0, 3.0]), np.array([0.7, 0.8, 0.9]))
    sparse = Trajectory(np.array([0.8, 1.6, 2.4]), np.array([0.1, 0.2, 0.6]))
    assert pareto_ends([dense, sparse]) == (0,)


def test_an_unspent_rest_wins_nothing() -> None:
    top = Trajectory(np.array([1.0]), np.array([0.8]), 0.01)
    chance = Trajectory(np.array([0.995]), np.array([0.1]), 0.01)
    equal = Trajectory(np.array([0.999]), np.array([0.8]), 0.01)
    assert pareto_ends([top, chance, equal]) == (0, 2)
