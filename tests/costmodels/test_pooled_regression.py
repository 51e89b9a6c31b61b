"""The pooled regression on noisy cells: neither biased nor surer than it is."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_traces import TRUE_A_J, TRUE_C_J, linear_truth, simulate

from costmodels.cells import CellMean, cell_means
from costmodels.regression import Regression, fit_regression, price_intervals
from costmodels.validation import leave_one_group_out
from profiler.trace import Trace

RUNS, BLOCKS = 16, 10


def _fitted(operation: str, cell_error: float, seed: int) -> Regression:
    trace = simulate(
        noise=cell_error * np.sqrt(BLOCKS),
        blocks=BLOCKS,
        tick_j=1e-6,
        seed=seed,
        operations=(operation,),
    )
    cells = [cell for cell in cell_means(trace) if cell.pattern != "dense"]
    return fit_regression("update" if operation == "update" else "send", cells)


@pytest.mark.parametrize("cell_error", [0.1, 0.3, 0.5])
@pytest.mark.parametrize(
    ("operation", "truth"), [("update", (TRUE_A_J, TRUE_C_J)), ("send", (3e-5, 1e-9))]
)
def test_prices_of_noisy_cells_are_covered_and_not_biased(
    operation: str, truth: tuple[float, float], cell_error: float
) -> None:
    fits = [_fitted(operation, cell_error, seed=700 + run) for run in range(RUNS)]
    ratio = np.array([fit.prices[0] for fit in fits]) / truth[0]
    assert abs(ratio.mean() - 1) <= 3 * ratio.std(ddof=1) / np.sqrt(RUNS)
    inside = np.zeros(2)
    for run, fit in enumerate(fits):
        low, high, _ = price_intervals(fit, run)
        inside += [low[j] <= truth[j] <= high[j] for j in range(2)]
    # fewer than 13 of 16 happen once in a thousand times at 95 %
    assert (inside >= 13).all()


def test_few_signatures_widen_the_interval_beyond_a_plain_bootstrap() -> None:
    fit = _fitted("update", 0.3, seed=3)
    low, high, method = price_intervals(fit, 0)
    assert (low <= fit.prices).all()
    assert (high >= fit.prices).all()
    assert "layer signatures resampled" in method
    redrawn_low, redrawn_high, alone = price_intervals(
        Regression("encode", fit.prices, fit.cells, fit.design), 0
    )
    assert "signatures" not in alone
    assert (low <= redrawn_low).all()
    assert (high >= redrawn_high).all()


def test_what_weights_a_cell_may_have_any_width() -> None:
    noise = np.arange(8.0).reshape(4, 2)
    seen = []

    def fit(X: np.ndarray, y: np.ndarray, noise: np.ndarray) -> np.ndarray:
        seen.append(noise)
        return np.array([y.mean()])

    leave_one_group_out(fit, np.ones((4, 1)), np.ones(4), noise, list("aabb"))
    np.testing.assert_array_equal(seen[0], noise[2:])
    np.testing.assert_array_equal(seen[1], noise[:2])


def test_a_cell_is_weighted_at_the_fitted_energy_and_by_the_noise_model() -> None:
    cells = cell_means(simulate(linear_truth(), noise=0.6, operations=("send",), seed=4))
    fit = fit_regression("send", cells)
    energy = fit.design @ fit.prices
    weight = 1 / (energy**2 + [cell.weight_variance for cell in cells])
    y = np.array([cell.mean_j for cell in cells])
    pull = fit.design.T @ (weight * (y - energy))  # zero where the weights follow the fit
    np.testing.assert_allclose(pull / (fit.design.T @ (weight * energy)), 0, atol=1e-3)


def test_a_cells_weight_does_not_know_what_it_came_out_at() -> None:
    """Weights from a cell's own mean or spread would favour those that came out low."""
    trace = simulate(noise=0.3, operations=("send",), seed=4)
    rows = trace.blocks
    first = rows.k == rows.k.iloc[0]
    cost = rows.cost_j_per_call.where(~first, rows.cost_j_per_call + 1e-5)  # the same spread
    shifted = cell_means(Trace(trace.metadata, rows.assign(cost_j_per_call=cost)))
    for before, after in zip(cell_means(trace), shifted, strict=True):
        assert after.weight_variance == pytest.approx(before.weight_variance)
    windows_j = [c.weight_variance * c.blocks * n**2 for c, n in _with_repetitions(trace)]
    assert windows_j == pytest.approx([windows_j[0]] * len(windows_j))


def _with_repetitions(trace: Trace) -> list[tuple[CellMean, int]]:
    by_k = trace.blocks.groupby("k").repetitions.first()
    return [(cell, int(by_k[cell.k])) for cell in cell_means(trace)]
