"""Block counts: Stein's guarantee by simulation, widths, caps and orders."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import design
from profiler.errors import InputError
from profiler.workloads import Cell

K = np.array([10.0, 100.0, 1000.0])
A_J, C_J = 2e-6, 5e-9
RAW = A_J + C_J * K


def _simulated_fit(generator: np.random.Generator, scatter: float) -> tuple[design.Widths, object]:
    """One whole session over three cells with normal scatter: sizing, pilot, main."""
    truth = A_J + C_J * K

    def blocks(cell: int, count: int) -> np.ndarray:
        return generator.normal(truth[cell], scatter * truth[cell], count)

    sizing = [blocks(cell, 1)[0] for cell in range(3)]
    widths = design.target_widths(K, sizing, RAW, 0.05)
    pilots = [blocks(cell, design.PILOT_BLOCKS) for cell in range(3)]
    statistics = [
        design.cell_statistics(int(k), pilot, [raw] * pilot.size, [True] * pilot.size, 0.0)
        for k, pilot, raw in zip(K, pilots, RAW, strict=True)
    ]
    count = design.group_blocks(statistics, widths)
    whole = []
    for cell, pilot in enumerate(pilots):
        costs = np.concatenate([pilot, blocks(cell, count - pilot.size)])
        first = np.arange(costs.size) < pilot.size
        whole.append(
            design.cell_statistics(int(K[cell]), costs, [RAW[cell]] * costs.size, first, 0.0)
        )
    return widths, design.fit_cells(whole)


def test_a_line_after_steins_rule_covers_the_truth_and_keeps_its_width():
    generator = np.random.default_rng(5)
    runs, covered_a, covered_c, kept_a = 600, 0, 0, 0
    for _ in range(runs):
        widths, line = _simulated_fit(generator, 0.2)
        covered_a += line.interval_a()[0] <= A_J <= line.interval_a()[1]
        covered_c += line.interval_c()[0] <= C_J <= line.interval_c()[1]
        kept_a += abs(line.a - A_J) <= widths.a
    margin = 3 * np.sqrt(0.95 * 0.05 / runs)
    assert covered_a / runs > 0.95 - margin
    assert covered_c / runs > 0.95 - margin
    assert covered_a / runs < 0.95 + margin + 0.02  # Satterthwaite errs a little to the safe side
    assert kept_a / runs > 0.95 - margin


def test_noisier_cells_and_finer_precision_ask_for_more_blocks():
    def count(variance: float, precision: float) -> int:
        cells = [
            design.CellStatistics(int(k), r, r, variance * r**2, 5, 6)
            for k, r in zip(K, RAW, strict=True)
        ]
        return design.group_blocks(cells, design.target_widths(K, RAW, RAW, precision))

    assert count(1e-9, 0.05) == design.PILOT_BLOCKS
    assert design.PILOT_BLOCKS < count(0.01, 0.05) < count(0.04, 0.05) < count(0.04, 0.02)
    assert count(0.04, 0.05) == pytest.approx(4 * count(0.01, 0.05), rel=0.05)


def test_a_group_with_one_k_uses_steins_rule_on_the_mean():
    cell = design.CellStatistics(72, 1e-6, 1e-6, (1e-7) ** 2, 5, 6)
    widths = design.target_widths([72], [1e-6], [1e-6], 0.05)
    assert widths == design.Widths(pytest.approx(5e-8), None)
    assert design.group_blocks([cell], widths) == 27  # (2.5706 * 0.1 / 0.05)^2 = 26.4


def test_widths_have_a_floor_where_the_cost_drowns_in_its_call():
    noise = [1e-12, -1e-12, 1e-12]
    widths = design.target_widths(K, noise, [1e-6] * 3, 0.05)
    assert widths.a == pytest.approx(0.05 * design.FLOOR * 1e-6)
    assert widths.c == pytest.approx(0.05 * design.FLOOR * 1e-6 / 1000)


def test_widths_follow_the_sizing_line_where_it_is_large():
    widths = design.target_widths(K, RAW, RAW, 0.1)
    assert widths.a == pytest.approx(0.1 * A_J)
    assert widths.c == pytest.approx(0.1 * C_J)


@pytest.mark.parametrize("precision", [0.0, -0.1, float("nan")])
def test_a_precision_that_is_not_positive_is_refused(precision):
    with pytest.raises(InputError, match="precision"):
        design.target_widths(K, RAW, RAW, precision)


def test_the_variance_is_the_pilots_and_never_below_the_counters_edges():
    costs = [1.0, 3.0, 100.0, -100.0]
    found = design.cell_statistics(7, costs, [10.0] * 4, [True, True, False, False], 0.5)
    assert (found.mean, found.variance, found.degrees, found.blocks) == (1.0, 2.0, 1, 4)
    assert (
        design.cell_statistics(7, costs, [10.0] * 4, [True, True, False, False], 9.0).variance
        == 9.0
    )
    assert design.cell_statistics(7, costs, [10.0] * 4, [True, False, False, False], 0.0) is None


def test_a_spread_of_exactly_zero_still_has_a_variance():
    found = design.cell_statistics(7, [1e-6] * 6, [1e-6] * 6, [True] * 6, 0.0)
    assert 0 < found.variance <= (1e-6 * 1e-6) ** 2 * 1.01


counts = st.lists(st.tuples(st.integers(2, 300), st.integers(0, 8)), min_size=1, max_size=12)


@given(counts, st.floats(-1, 50), st.floats(0.005, 0.5))
def test_a_time_cap_keeps_what_is_there_fits_and_wastes_little(cells, left_s, block_s):
    wanted = np.array([w for w, _ in cells])
    have = np.minimum(np.array([h for _, h in cells]), wanted)
    lengths = np.full(wanted.size, block_s)
    given_counts = design.cap_to_time(wanted, have, lengths, left_s)
    spent_s = float(np.sum((given_counts - have) * lengths))
    assert (given_counts >= have).all() and (given_counts <= wanted).all()
    assert spent_s <= max(left_s, 0.0) + 1e-9
    if (given_counts < wanted).any() and left_s > 0:
        # raising the share any further adds at most one block a cell and would not fit
        assert spent_s + wanted.size * block_s >= left_s - 1e-6


def test_a_time_cap_takes_the_same_share_of_every_wish():
    capped = design.cap_to_time([100, 200, 400], [0, 0, 0], [0.01] * 3, 3.5)
    assert capped.tolist() == [50, 100, 200]


def test_orders_are_random_complete_and_repeatable():
    pilot = design.pilot_order(30, 4, seed=1)
    assert pilot == design.pilot_order(30, 4, seed=1) != design.pilot_order(30, 4, seed=2)
    rounds = [pilot[start : start + 30] for start in range(0, 120, 30)]
    assert all(sorted(each) == list(range(30)) for each in rounds)
    assert rounds[0] != rounds[1]
    main = design.main_order([3, 0, 50], seed=1, first=120)
    assert Counter(main) == {0: 3, 2: 50}
    assert main == design.main_order([3, 0, 50], seed=1, first=120) != sorted(main)
    assert main != design.main_order([3, 0, 50], seed=1, first=140)


def test_block_seeds_differ_by_block_and_session():
    seeds = {design.block_seed(seed, block) for seed in range(20) for block in range(200)}
    assert len(seeds) == 4000


def test_groups_are_operation_layer_and_pattern():
    def cell(layer: str, k: int, pattern: str) -> Cell:
        return Cell("update", layer, "linear.weight", (10,), "float32", 10, k, pattern)

    cells = [
        cell("a", 1, "random"),
        cell("b", 1, "random"),
        cell("a", 5, "random"),
        cell("a", 5, "clustered"),
    ]
    assert list(design.groups_of(cells).values()) == [[0, 2], [1], [3]]
