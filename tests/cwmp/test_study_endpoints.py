from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.studies.endpoints import Waited, hypervolume, joules_to, median_j, sooner
from profiler.errors import InputError

REFERENCE_J, GUESS = 100.0, 0.1
TRAJECTORY = st.lists(
    st.tuples(st.floats(0.01, 30.0), st.floats(0, 1)), min_size=1, max_size=12
).map(lambda rows: (np.cumsum([j for j, _ in rows]), np.array([a for _, a in rows])))
WAITED = st.builds(Waited, st.integers(1, 6).map(float), st.booleans())


def _dominated(spent: np.ndarray, accuracy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether a point (log10 J, accuracy) is dominated by any round of the trajectory."""
    return ((np.log10(spent) <= x[:, None]) & (accuracy >= y[:, None])).any(axis=1)


@settings(max_examples=30, deadline=None)
@given(TRAJECTORY)
def test_hypervolume_is_the_area_that_is_dominated(path: tuple[np.ndarray, np.ndarray]) -> None:
    """Against 40 000 points drawn in the box."""
    spent, accuracy = path
    left, right = min(np.log10(spent[0]), 2.0) - 1.0, np.log10(REFERENCE_J)
    numbers = np.random.default_rng(0)
    x = numbers.uniform(left, right, 40_000)
    y = numbers.uniform(GUESS, 1, 40_000)
    area = (right - left) * (1 - GUESS)
    share = float(_dominated(spent, accuracy, x, y).mean())
    found = hypervolume(spent, accuracy, REFERENCE_J, GUESS)
    assert found == pytest.approx(area * share, abs=5 * area * 0.5 / 200)


@given(TRAJECTORY, st.floats(0.1, 10))
def test_hypervolume_grows_with_accuracy_and_shrinks_with_joules(
    path: tuple[np.ndarray, np.ndarray], factor: float
) -> None:
    spent, accuracy = path
    here = hypervolume(spent, accuracy, REFERENCE_J, GUESS)
    assert hypervolume(spent, np.minimum(accuracy + 0.05, 1), REFERENCE_J, GUESS) >= here
    assert hypervolume(spent * 2, accuracy, REFERENCE_J, GUESS) <= here + 1e-12
    # only ratios of joules count
    scaled = hypervolume(spent * factor, accuracy, REFERENCE_J * factor, GUESS)
    assert scaled == pytest.approx(here, abs=1e-9)


def test_what_has_no_hypervolume_is_refused() -> None:
    assert hypervolume([1000.0], [0.9], REFERENCE_J, GUESS) == 0
    assert hypervolume([1.0], [0.05], REFERENCE_J, GUESS) == 0
    with pytest.raises(InputError, match="positive joules"):
        hypervolume([0.0], [0.9], REFERENCE_J, GUESS)
    with pytest.raises(InputError, match="shape"):
        hypervolume([1.0, 2.0], [0.9], REFERENCE_J, GUESS)


def test_joules_to_a_target_are_those_of_the_first_round_that_meets_it() -> None:
    spent, accuracy = [1.0, 2.0, 3.0], [0.2, 0.5, 0.4]
    assert joules_to(spent, accuracy, 0.5) == Waited(2.0, True)
    assert joules_to(spent, accuracy, 0.6) == Waited(3.0, False)


def _slow_median(waited: list[Waited]) -> float | None:
    """The product-limit estimate, written out over times."""
    survival = 1.0
    for time in sorted({w.energy_j for w in waited}):
        at_risk = [w for w in waited if w.energy_j >= time]
        met = [w for w in at_risk if w.energy_j == time and w.reached]
        survival *= (len(at_risk) - len(met)) / len(at_risk)
        if survival <= 0.5 + 1e-12:
            return time
    return None


@given(st.lists(WAITED, min_size=1, max_size=10))
def test_the_median_is_kaplan_meiers(waited: list[Waited]) -> None:
    assert median_j(waited) == _slow_median(waited)


def test_without_censoring_it_is_the_median_and_with_much_of_it_unknown() -> None:
    assert median_j([Waited(float(j), True) for j in (5, 1, 3)]) == 3.0
    assert median_j([Waited(1.0, True), Waited(9.0, False), Waited(9.0, False)]) is None
    # censored early: they leave the risk set, and do not count as never
    assert median_j([Waited(1.0, False), Waited(1.0, False), Waited(2.0, True)]) == 2.0


@given(WAITED, WAITED)
def test_a_pair_is_ordered_only_where_it_is_known(one: Waited, other: Waited) -> None:
    """Whatever the censored joules really were, the order stays."""
    verdict = sooner(one, other)
    possible = set()
    for a in [one.energy_j] if one.reached else [one.energy_j + step for step in (0.5, 100, 200)]:
        for b in [other.energy_j] if other.reached else [other.energy_j + s for s in (0.5, 150)]:
            possible.add(int(np.sign(b - a)))
    assert verdict == (possible.pop() if len(possible) == 1 else None)
    reverse = sooner(other, one)
    assert reverse == (None if verdict is None else -verdict)
