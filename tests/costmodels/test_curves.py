"""E(k) = a + c k: recovery, detection, knees, positivity."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from simulated_traces import LAYERS, TRUE_A_J, TRUE_C_J, linear_truth, simulate

from costmodels.cells import CellMean, cell_means
from costmodels.costfile import OperationCost, Piece
from costmodels.curves import Curve, Quantity, estimate, fit_curve, price
from costmodels.pieces import fit_knee, secants
from profiler.errors import InputError
from profiler.statistics import t_quantile
from profiler.trace import Trace


def cell(
    k: int, mean_j: float, error_j: float, *, degrees: float = 5.0, n: int = 10**6
) -> CellMean:
    return CellMean(
        operation="update",
        pattern="random",
        layer="w",
        kind="linear.weight",
        shape=(n,),
        dtype="float32",
        parameters=n,
        k=k,
        payload_bytes=None,
        macs=None,
        mean_j=mean_j,
        variance=error_j**2,
        degrees=degrees,
        weight_variance=error_j**2,
        weight_degrees=60.0,
        blocks=6,
    )


def as_cost(pieces: tuple[Piece, ...], k_max: int) -> OperationCost:
    return OperationCost(
        operation="update",
        pattern="random",
        unit="entry",
        payer="receivers",
        origin="measured",
        implementation="x",
        pieces=pieces,
        k_min=1,
        k_max=k_max,
    )


def curves(trace: Trace) -> list[Curve]:
    grouped = defaultdict(list)
    for found in cell_means(trace):
        if found.pattern != "dense":
            grouped[found.layer, found.pattern].append(found)
    return [fit_curve(cells) for cells in grouped.values()]


def test_known_a_and_c_lie_in_their_95_percent_intervals_about_95_times_in_100() -> None:
    inside = {"a": 0, "c": 0}
    runs = 0
    for seed in range(30):
        for curve in curves(simulate(seed=seed, operations=("update",))):
            runs += 1
            segment = curve.segments[0]
            for name, found, true in (
                ("a", segment.a, TRUE_A_J),
                ("c", segment.c, TRUE_C_J),
            ):
                assert found is not None
                half = t_quantile(0.975, found.degrees) * found.error
                inside[name] += abs(found.value - true) <= half
    # 360 curves: three standard deviations of a 95 % count are 12
    assert runs == 360
    assert 330 <= inside["a"] <= 354
    assert 330 <= inside["c"] <= 354


def test_a_cache_cliff_makes_a_knee_that_a_line_does_not_fit() -> None:
    def truth(k: int) -> float:
        return 1e-6 + (1e-9 * k if k < 1000 else 6e-9 * k)

    cells = [cell(k, truth(k), 0.01 * truth(k)) for k in (1, 100, 500, 1000, 10_000, 100_000)]
    curve = fit_curve(cells)
    assert curve.lack_of_fit_p is not None
    assert curve.lack_of_fit_p < 0.01
    assert [segment.from_k for segment in curve.segments] == [1, 1000]
    pieces = price(curve, None, None)
    assert pieces[0].c_j.low <= 1e-9 <= pieces[0].c_j.high
    assert pieces[1].c_j.low <= 6e-9 <= pieces[1].c_j.high


def test_a_line_that_fits_stays_one_line() -> None:
    cells = [cell(k, 1e-6 + 1e-9 * k, 1e-7) for k in (1, 10, 100, 1000, 10_000)]
    assert len(fit_curve(cells).segments) == 1


def test_three_k_are_too_few_for_a_knee() -> None:
    cells = [cell(1, 1e-6, 1e-9), cell(10, 9e-6, 1e-9), cell(1000, 10e-6, 1e-9)]
    curve = fit_curve(cells)
    assert curve.lack_of_fit_p is not None
    assert curve.lack_of_fit_p < 1e-6
    assert len(curve.segments) == 1


def test_below_detection_takes_the_pooled_value_inside_the_measured_interval() -> None:
    noisy = Quantity(value=1e-9, error=2e-9, degrees=10.0)
    limit = 1e-9 + t_quantile(0.95, 10) * 2e-9
    found = estimate(noisy, 3e-9)
    assert found.below_detection
    assert found.value == 3e-9
    assert found.upper_limit == pytest.approx(limit)
    assert found.low == 0.0
    assert estimate(noisy, 1.0).value == found.upper_limit
    assert estimate(noisy, None).value == found.upper_limit


def test_a_negative_estimate_goes_the_same_way() -> None:
    found = estimate(Quantity(value=-5e-9, error=1e-9, degrees=10.0), 2e-9)
    assert found.below_detection
    assert 0 < found.value <= t_quantile(0.95, 10) * 1e-9 * (1 + 1e-12)


def test_a_detected_estimate_ignores_what_is_pooled() -> None:
    found = estimate(Quantity(value=1e-9, error=1e-11, degrees=10.0), 9e-9)
    assert found.value == 1e-9
    assert not found.below_detection


def test_one_k_takes_the_pooled_slope_and_leaves_the_rest_to_a() -> None:
    curve = fit_curve([cell(1, 2.01e-6, 1e-8, n=1)])
    (piece,) = price(curve, 2e-6, 1e-8)
    assert piece.c_j.value == 1e-8
    assert piece.c_j.below_detection
    assert piece.a_j is not None
    assert piece.a_j.value == pytest.approx(2e-6)
    (alone,) = price(curve, None, None)
    assert alone.a_j is None
    assert alone.c_j.value == pytest.approx(2.01e-6)


def test_a_dense_add_is_its_own_energy_whatever_is_pooled() -> None:
    curve = fit_curve([cell(1000, 5e-6, 1e-8, n=1000)])
    (piece,) = price(curve, 1e-6, 1e-9, fixed_cost=False)
    assert as_cost((piece,), 1000).energy_j(1000) == pytest.approx(5e-6)


def test_cells_of_two_layers_do_not_make_one_curve() -> None:
    trace = simulate(operations=("update",))
    with pytest.raises(InputError, match="one layer"):
        fit_curve(cell_means(trace))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_priced_energy_is_positive_and_never_falls(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    counts = data.draw(st.lists(st.integers(1, 10**6), min_size=count, max_size=count, unique=True))
    means = data.draw(st.lists(st.floats(-1e-4, 1e-3), min_size=count, max_size=count))
    errors = data.draw(st.lists(st.floats(1e-9, 1e-4), min_size=count, max_size=count))
    pooled = st.none() | st.floats(1e-12, 1e-3)
    curve = fit_curve([cell(*row) for row in zip(counts, means, errors, strict=True)])
    pieces = price(curve, data.draw(pooled), data.draw(pooled))
    k_max = max(counts)
    grid = np.unique(np.concatenate([np.geomspace(1, k_max, 40).round(), counts]))
    energy = as_cost(pieces, k_max).energy_j(grid)
    assert (energy > 0).all()
    assert (np.diff(energy) >= -1e-9 * energy[1:]).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_no_minimiser_finds_a_better_pair_of_lines(seed: int) -> None:
    generator = np.random.default_rng(seed)
    k = np.sort(generator.choice(np.arange(1, 60), 6, replace=False)).astype(float)
    y = np.abs(generator.normal(size=6)).cumsum() + generator.normal(size=6)
    weight = generator.uniform(0.5, 2, 6)
    knee = fit_knee(k, y, weight)
    assert knee is not None
    for b in np.unique(k)[2:-1]:
        upper = k >= b

        def misfit(x: np.ndarray, upper: np.ndarray = upper) -> float:
            line = np.where(upper, x[2] + x[3] * k, x[0] + x[1] * k)
            return float(np.sum(weight * (y - line) ** 2))

        rises = {"type": "ineq", "fun": lambda x, b=b: x[2] + x[3] * b - x[0] - x[1] * b}
        found = minimize(
            misfit,
            np.array([0.1, 0.1, 0.1, 0.2]),
            bounds=[(0, None)] * 4,
            constraints=[rises],
            method="SLSQP",
        )
        assert knee.misfit <= found.fun * (1 + 1e-6) + 1e-6


@given(
    a=st.floats(0, 1e-5),
    c=st.floats(1e-12, 1e-8),
    lines=st.floats(0, 1e-7),
    k_max=st.integers(1, 10**7),
)
def test_secants_stay_within_tolerance_below_a_concave_curve(
    a: float, c: float, lines: float, k_max: int
) -> None:
    def energy(k: np.ndarray) -> np.ndarray:
        return a + c * k + lines * -1000 * np.expm1(-k / 1000)

    pieces = secants(energy, k_max, 0.05)
    starts = [start for start, _, _ in pieces]
    assert starts[0] == 1
    assert starts == sorted(set(starts))
    for k in np.unique(np.geomspace(1, max(k_max, 2), 50).round()):
        _, fixed, slope = pieces[np.searchsorted(starts, k, side="right") - 1]
        true = float(energy(np.array([k]))[0])
        assert fixed >= -1e-9 * true
        assert 0.93 * true <= fixed + slope * k <= 1.0001 * true


@given(
    steps=st.lists(st.floats(-1, 5), min_size=1, max_size=30),
    start=st.floats(0, 3),
    k_max=st.integers(2, 10**5),
)
def test_secants_of_any_curve_never_fall_and_never_start_below_zero(
    steps: list[float], start: float, k_max: int
) -> None:
    levels = np.maximum(np.append(start, start + np.cumsum(steps)), 0.0)

    def energy(k: np.ndarray) -> np.ndarray:
        return levels[(k * (levels.size - 1) / max(k_max, 2)).astype(int)]

    lines = secants(energy, k_max, 0.05)
    assert all(a >= 0 and c >= 0 for _, a, c in lines)
    for (_, a, c), (k, beyond_a, beyond_c) in pairwise(lines):
        assert beyond_a + beyond_c * k >= (a + c * k) * (1 - 1e-9)
        assert beyond_c <= c * (1 + 1e-9)
    grid = np.unique(np.geomspace(1, k_max, 97).round())
    starts = [k for k, _, _ in lines]
    at = np.searchsorted(starts, grid, side="right") - 1
    found = np.array([lines[i][1] + lines[i][2] * k for i, k in zip(at, grid, strict=True)])
    assert (found >= 0.9 * energy(grid) - 1e-12).all()


def test_a_staircase_is_followed_by_its_majorant() -> None:
    lines = secants(lambda k: np.ceil(k / 16), 64, 1e-9)
    starts, a, c = (np.array(column) for column in zip(*lines, strict=True))
    assert c[0] == pytest.approx(1 / 16)
    assert a[0] == pytest.approx(1 - 1 / 16)
    assert starts[-1] == 49  # where the last step begins, and beyond it E is flat
    assert (a[-1], c[-1]) == (pytest.approx(4.0), pytest.approx(0.0, abs=1e-12))


def test_different_slopes_are_told_apart() -> None:
    truth = linear_truth({LAYERS[4].name: 5e-8})
    slopes = {
        curve.cells[0].layer: curve.segments[0].c
        for curve in curves(simulate(truth, operations=("update",), seed=3))
        if curve.cells[0].pattern == "random"
    }
    dear, usual = slopes["fc.weight"], slopes["conv2.weight"]
    assert dear is not None
    assert usual is not None
    assert dear.value > 5 * usual.value


@pytest.mark.parametrize("share", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("counts", [(10, 30, 100, 300, 1000, 3000), (10, 50, 500, 2000)])
def test_a_cliff_that_steepens_without_a_jump_has_its_slope_in_the_interval(share, counts) -> None:
    """Beyond the knee the true a is negative, which no price can be: c comes out low."""
    generator = np.random.default_rng(0)

    def truth(k: int) -> float:
        return 1 + 0.01 * k + 0.02 * max(k - 100, 0)

    inside = []
    for _ in range(150):
        curve = fit_curve(
            [
                cell(
                    k,
                    truth(k) * (1 + share * generator.standard_normal()),
                    share * truth(k),
                    degrees=60,
                )
                for k in counts
            ]
        )
        pieces = price(curve, None, None)
        assert len(pieces) == 2
        inside.append(pieces[1].c_j.low <= 0.03 <= pieces[1].c_j.high)
    assert np.mean(inside) >= 0.9


@settings(max_examples=60, deadline=None)
@given(
    pooled_a=st.floats(1e-9, 1e-3), pooled_c=st.floats(1e-12, 1e-6), share=st.floats(1e-3, 0.999)
)
def test_of_one_k_the_intervals_hold_any_cost_of_the_cell(pooled_a, pooled_c, share) -> None:
    """Whatever other layers suggest, one k alone cannot tell how much of its energy is a."""
    whole_j = 7e-6
    (piece,) = price(fit_curve([cell(1000, whole_j, 1e-8)]), pooled_a, pooled_c)
    assert piece.a_j is not None
    assert piece.a_j.below_detection
    assert piece.a_j.low <= share * whole_j <= piece.a_j.high
    assert piece.c_j.low <= (1 - share) * whole_j / 1000 <= piece.c_j.high
