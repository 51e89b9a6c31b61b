"""Costs at one temperature: what cost files and comparisons say of sessions that warmed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "costmodels"))

from simulated_traces import LAYERS, simulate

from costmodels.cells import cell_means, thermal_slopes
from profiler.cell_sides import cells_of
from profiler.statistics import t_quantile
from profiler.thermal import adjust_blocks
from profiler.trace import Trace

WATTS_PER_K, MIDDLE_C = 0.01, 65.0


def _warmed(seed: int, watts_per_k: float = WATTS_PER_K) -> Trace:
    """Pilots of two blocks, measured first and cool; half of the layers get ten blocks more."""
    trace = simulate(
        operations=("update",), layers=LAYERS[::2], pilot=2, blocks=12, seed=seed, noise=0.01
    )
    blocks = trace.blocks[
        (trace.blocks["stage"] == "pilot") | (trace.blocks["layer"] != LAYERS[0].name)
    ]
    generator = np.random.default_rng(seed)
    order = np.lexsort((generator.random(len(blocks)), blocks["stage"] != "pilot"))
    temperature_c = np.empty(len(blocks))
    temperature_c[order] = 75 - 25 * np.exp(-3 * np.arange(len(blocks)) / len(blocks))
    call_s = blocks["duration_s"] / blocks["repetitions"]
    warmer_j = watts_per_k * call_s * (temperature_c - MIDDLE_C)
    return Trace(
        trace.metadata,
        blocks.assign(
            temperature_c=temperature_c,
            cost_j_per_call=blocks["cost_j_per_call"] + warmer_j,
            block=np.arange(len(blocks)),
        ).reset_index(drop=True),
    )


def test_cost_files_and_comparisons_say_the_same_of_a_cell() -> None:
    trace = _warmed(0)
    assert thermal_slopes(trace)["update"].watts_per_k == pytest.approx(WATTS_PER_K, rel=0.2)
    compared = cells_of(trace)
    for cell in cell_means(trace):
        side = compared[cell.operation, cell.layer, cell.pattern, cell.k].side
        assert side is not None
        assert side.mean == pytest.approx(cell.mean_j, rel=1e-12, abs=0)
        assert side.variance == pytest.approx(cell.variance, rel=1e-9, abs=0)


def test_the_slopes_error_is_in_the_variance_of_a_cells_mean() -> None:
    trace = _warmed(1)
    adjusted = adjust_blocks(trace.blocks)
    assert adjusted.slope is not None
    plain = trace.blocks.assign(cost_j_per_call=adjusted.costs, temperature_c=np.nan)
    without = cell_means(Trace(trace.metadata, plain))
    for cell, steady in zip(cell_means(trace), without, strict=True):
        rows = trace.blocks[
            (trace.blocks["layer"] == cell.layer)
            & (trace.blocks["k"] == cell.k)
            & (trace.blocks["pattern"] == cell.pattern)
        ]
        call_s = float((rows["duration_s"] / rows["repetitions"]).iloc[0])
        kelvin = float(rows["temperature_c"].mean()) - adjusted.slope.mean_c
        error_j = adjusted.slope.standard_error * call_s * kelvin
        assert cell.variance == pytest.approx(steady.variance + error_j**2, rel=1e-9, abs=0)
        assert cell.variance > steady.variance


def test_intervals_of_cells_measured_while_it_was_cool_hold() -> None:
    inside: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(60):
        trace = _warmed(seed)
        slope = thermal_slopes(trace)["update"]
        for cell in cell_means(trace):
            if cell.pattern == "dense":
                continue
            rows = trace.blocks[
                (trace.blocks["layer"] == cell.layer) & (trace.blocks["k"] == cell.k)
            ]
            call_s = float((rows["duration_s"] / rows["repetitions"]).iloc[0])
            truth_j = 2e-6 + 5e-9 * cell.k + WATTS_PER_K * call_s * (slope.mean_c - MIDDLE_C)
            half = t_quantile(0.975, cell.degrees) * cell.variance**0.5
            inside[cell.layer == LAYERS[0].name].append(abs(cell.mean_j - truth_j) <= half)
    assert np.mean(inside[True]) > 0.92
    assert np.mean(inside[False]) > 0.92


def test_cells_of_two_blocks_do_not_pull_the_slope_to_zero() -> None:
    """Weights from a cell's own deviation would: it is small where two blocks are alike."""
    found = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        cell = generator.permutation(np.repeat(np.arange(30), 2))
        temperature_c = np.linspace(50, 70, cell.size)
        costs = 1.0 + 0.1 * temperature_c + 0.5 * generator.standard_normal(cell.size)
        blocks = pd.DataFrame(
            {
                "pattern": "random",
                "layer": "w",
                "k": cell,
                "parameters": 100,
                "cost_j_per_call": costs,
                "duration_s": 1.0,
                "repetitions": 1,
                "temperature_c": temperature_c,
            }
        )
        slope = adjust_blocks(blocks).slope
        assert slope is not None
        found.append(slope.watts_per_k)
    error = np.std(found, ddof=1) / len(found) ** 0.5
    assert np.mean(found) == pytest.approx(0.1, abs=4 * error)


def test_where_costs_do_not_follow_the_temperature_they_stay_as_they_are() -> None:
    trace = simulate(operations=("update",), seed=3)
    adjusted = adjust_blocks(trace.blocks)
    assert adjusted.slope is None
    assert not adjusted.error_j.any()
    assert np.array_equal(adjusted.costs, trace.blocks["cost_j_per_call"])
