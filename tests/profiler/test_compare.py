"""Traces compared: what is matched, what is found, and how often it is found wrongly."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from profiler.cell_sides import cells_of, operation_estimates, sample_of
from profiler.compare import Comparison, compare_traces
from profiler.contrasts import Side, contrasts
from profiler.errors import InputError
from profiler.evidence import CellBlocks
from profiler.layers import LayerInfo
from profiler.statistics import stein_blocks
from profiler.trace import Trace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "costmodels"))

from simulated_traces import LAYERS, linear_truth, simulate

SMALL = {"layers": LAYERS[2:3], "operations": ("update",), "densities": (0.05, 1.0)}
RUNS = 300


def _small(seed: int, slope: float = 5e-9, blocks: int = 6, **metadata: object) -> Trace:
    truth = linear_truth(c_j=slope)
    return simulate(truth, seed=seed, blocks=blocks, **SMALL, **metadata)  # type: ignore[arg-type]


def test_traces_that_do_not_differ_are_rarely_said_to() -> None:
    wrong = {"cells": 0, "fits": 0}
    for run in range(RUNS):
        found = compare_traces(_small(2 * run), _small(2 * run + 1))
        for family in wrong:
            rows = getattr(found, family)
            wrong[family] += any(row.contrast.differs for row in rows)
    most = int(binom.ppf(0.999, RUNS, 0.05))
    assert all(count <= most for count in wrong.values())


def test_difference_of_a_fifth_is_found() -> None:
    hits = total = agreed = 0
    for run in range(30):
        found = compare_traces(_small(2 * run), _small(2 * run + 1, slope=6e-9))
        slopes = [row.contrast for row in found.fits if row.quantity == "c"]
        hits += sum(contrast.differs for contrast in slopes)
        agreed += sum(contrast.agrees for contrast in slopes)
        total += len(slopes)
        assert found.layers_that_differ == ("conv2.weight",)
    assert hits / total > 0.95
    assert agreed == 0


@pytest.mark.parametrize("half_width", [1.5, 0.8, 0.5])
def test_block_counts_chosen_by_the_pilot_keep_the_level(half_width: float) -> None:
    """B by Stein's rule from each cell's own pilot, the case in which all blocks' s misleads."""
    generator = np.random.default_rng(11)
    cells, runs, wrong = 10, 600, 0

    def side() -> Side:
        pilot = generator.normal(size=6)
        blocks = stein_blocks(float(pilot.std(ddof=1)), 6, half_width)
        costs = np.concatenate([10 + pilot, 10 + generator.normal(size=blocks - 6)])
        sample, staged = sample_of(np.arange(blocks) < 6)
        own = costs[sample]
        return Side(
            float(costs.mean()), float(own.var(ddof=1)) / blocks, own.size - 1, blocks, staged
        )

    for _ in range(runs):
        found = contrasts([(side(), side()) for _ in range(cells)], margin=0.05)
        wrong += any(each.differs for each in found)
    assert wrong <= binom.ppf(0.999, runs, 0.05)


def test_intervals_hold_together() -> None:
    """The true ratio 1.1 lies in every interval of a table in 95 % of the tables."""
    missed = 0
    for run in range(40):
        rows = compare_traces(_small(2 * run), _scaled(_small(2 * run + 1), 1.1)).cells
        intervals = [row.contrast.ratio_interval for row in rows]
        assert all(interval is not None for interval in intervals)
        missed += any(not low <= 1.1 <= high for low, high in filter(None, intervals))
    assert missed <= binom.ppf(0.999, 40, 0.05)


def test_variance_is_the_pilots() -> None:
    both, alone, none = np.arange(20) < 6, np.ones(6, dtype=bool), np.zeros(3, dtype=bool)
    for pilot, expected, staged in (
        (both, both, True),
        (alone, alone, False),
        (none, ~none, False),
    ):
        sample, decided = sample_of(pilot)
        assert sample.tolist() == expected.tolist()
        assert decided is staged


def test_cells_without_scatter_of_their_own_are_no_estimate() -> None:
    lonely = CellBlocks(3, np.array([1e-6]), np.array([True]), 100, 1e-6, 1e-18)
    assert operation_estimates([lonely], ["group"]) == [None]


def test_flagged_blocks_do_not_count() -> None:
    trace = _small(1)
    blocks = trace.blocks.copy()
    spoilt = blocks["k"] == blocks["k"].max()
    blocks.loc[spoilt & (blocks["block"] % 2 == 0), "cost_j_per_call"] *= 50
    blocks.loc[spoilt & (blocks["block"] % 2 == 0), "flags"] = "suspend-gap"
    found = compare_traces(trace, Trace(trace.metadata, blocks), margin=0.2)
    assert found.layers_that_differ == ()
    counts = [
        cell.side.blocks for cell in cells_of(Trace(trace.metadata, blocks)).values() if cell.side
    ]
    assert min(counts) == 3 and max(counts) == 6


def test_what_cannot_be_compared_is_listed() -> None:
    a, b = _small(1), _small(2)
    smallest = b.blocks["k"].min()
    only_large = b.blocks[b.blocks["k"] != smallest]
    found = compare_traces(a, Trace(b.metadata, only_large))
    assert set(found.unmatched.values()) == {"only in A"}
    assert all(f"k={smallest}" in name for name in found.unmatched)
    swapped = compare_traces(Trace(b.metadata, only_large), a)
    assert set(swapped.unmatched.values()) == {"only in B"}
    assert found.fits == ()  # one k left in B


def test_layer_of_another_shape_is_not_compared() -> None:
    a = simulate(layers=LAYERS[2:6], operations=("update",), seed=1)
    other = (replace(LAYERS[2], shape=(16, 32, 3, 3)), *LAYERS[3:6])
    b = simulate(layers=other, operations=("update",), seed=2)
    found = compare_traces(a, b)
    assert all("32x16x3x3" in why and "16x32x3x3" in why for why in found.unmatched.values())
    assert found.unmatched and "conv2.weight" not in {row.layer for row in found.cells}


def test_traces_of_different_models_share_nothing() -> None:
    other = simulate(layers=[LayerInfo("odd", "linear.weight", (7, 7), "float32")], **_updates())
    with pytest.raises(InputError, match="profile the same model"):
        compare_traces(_small(1), other)


def test_metadata_that_differ_are_named() -> None:
    a = _small(1)
    b = _small(
        2,
        device="another board",
        host={"governor": "powersave"},
        software={"torch": "2.7.0"},
        origin="modelled",
    )
    named = {each.name: (each.a, each.b) for each in compare_traces(a, b).metadata}
    assert named["device"] == ("simulated board", "another board")
    assert named["host: governor"] == ("performance", "powersave")
    assert named["software: torch"] == ("2.6.0", "2.7.0")
    assert named["software: numpy"] == ("2.1.0", None)
    assert named["origin"] == ("measured", "modelled")
    assert compare_traces(a, a).metadata == ()


def test_gain_errors_cancel_on_one_board_and_widen_between_two() -> None:
    a, b = _small(1), _small(2)
    alike = compare_traces(a, b)
    assert alike.same_gain and all(row.ratio_with_gain is None for row in alike.cells)
    unknown = compare_traces(a, _small(2, device="another board"))
    assert not unknown.same_gain and unknown.systematic == (None, None)
    given = compare_traces(a, b, systematic=(0.02, 0.05))
    assert not given.same_gain
    for row in given.cells:
        assert row.ratio_with_gain is not None and row.contrast.ratio_interval is not None
        low, high = row.contrast.ratio_interval
        assert row.ratio_with_gain == pytest.approx((low * 0.95 / 1.02, high * 1.05 / 0.98))


@pytest.mark.parametrize("systematic", [(-0.1, 0.0), (0.0, 1.0), (float("nan"), 0.0)])
def test_impossible_gain_is_refused(systematic: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="gain error"):
        compare_traces(_small(1), _small(2), systematic=systematic)


def test_document_is_plain() -> None:
    found: Comparison = compare_traces(_small(1), _small(2))
    document = found.as_dict()
    assert [row["verdict"] for row in document["cells"]] == [
        row.contrast.verdict for row in found.cells
    ]
    assert document["cells"][0]["contrast"]["a"]["blocks"] == 6


def _updates() -> dict[str, object]:
    return {"operations": ("update",), "seed": 3}


def _scaled(trace: Trace, factor: float) -> Trace:
    """The same device drawing *factor* times as much."""
    blocks = trace.blocks.copy()
    for name in ("cost_j_per_call", "energy_j", "reference_energy_j", "standard_error_j_per_call"):
        blocks[name] *= factor
    return Trace(trace.metadata, blocks)
