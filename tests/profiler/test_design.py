"""Block counts: Stein's guarantee by simulation, widths, caps and orders."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import design, evidence
from profiler.errors import InputError
from profiler.statistics import t_quantile
from profiler.workloads import Cell

K = np.array([10.0, 100.0, 1000.0])
A_J, C_J = 2e-6, 5e-9
RAW = A_J + C_J * K


def _cell(number: int, costs, pilot, *, call_s: float = 1e-5, edge_variance: float = 0.0):
    """Blocks of 20 ms of cell *number*, which draws 1 W where a call lasts as many s as J."""
    return evidence.CellBlocks(
        k=int(K[number]),
        costs=np.asarray(costs, dtype=float),
        pilot=np.asarray(pilot, dtype=bool),
        repetitions=0.02 / call_s,
        call_s=call_s,
        edge_variance=edge_variance,
    )


def _simulated_fit(generator: np.random.Generator, scatter: float) -> tuple[design.Widths, object]:
    """One whole session over three cells with normal scatter: sizing, pilot, main.

    All windows last 20 ms and scatter by the same joules: a call's length goes with its energy.
    """
    truth = A_J + C_J * K

    def blocks(cell: int, count: int) -> np.ndarray:
        return generator.normal(truth[cell], scatter * truth[cell], count)

    def statistics(costs: list[np.ndarray]) -> list[evidence.CellStatistics]:
        cells = [
            _cell(n, c, np.arange(c.size) < design.PILOT_BLOCKS, call_s=truth[n])
            for n, c in enumerate(costs)
        ]
        model = evidence.scatter_of(cells)
        return [evidence.cell_statistics(cell, model) for cell in cells]

    sizing = [blocks(cell, 1)[0] for cell in range(3)]
    widths = design.target_widths(K, sizing, RAW, 0.05)
    pilots = [blocks(cell, design.PILOT_BLOCKS) for cell in range(3)]
    count = design.group_blocks(statistics(pilots), widths)
    whole = [np.append(pilot, blocks(n, count - pilot.size)) for n, pilot in enumerate(pilots)]
    return widths, evidence.fit_cells(statistics(whole))


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
            evidence.CellStatistics(int(k), r, variance * r**2, 5, variance * r**2, 6)
            for k, r in zip(K, RAW, strict=True)
        ]
        return design.group_blocks(cells, design.target_widths(K, RAW, RAW, precision))

    assert count(1e-9, 0.05) == design.PILOT_BLOCKS
    assert design.PILOT_BLOCKS < count(0.01, 0.05) < count(0.04, 0.05) < count(0.04, 0.02)
    assert count(0.04, 0.05) == pytest.approx(4 * count(0.01, 0.05), rel=0.05)


def test_a_group_with_one_k_uses_steins_rule_on_the_mean():
    cell = evidence.CellStatistics(72, 1e-6, (1e-7) ** 2, 5, (1e-7) ** 2, 6)
    widths = design.target_widths([72], [1e-6], [1e-6], 0.05)
    assert widths == design.Widths(pytest.approx(5e-8), None)
    assert design.group_blocks([cell], widths) == 27  # (2.5706 * 0.1 / 0.05)^2 = 26.4


def test_the_line_is_weighted_by_the_noise_model_and_not_by_what_a_cell_shows():
    """A cell that came out quiet by chance must not pull the line to itself."""

    def slope(quiet: float) -> float:
        cells = [
            evidence.CellStatistics(10, 1.0, 1.0, 20, 1.0, 6),
            evidence.CellStatistics(20, 2.5, quiet, 20, 1.0, 6),
            evidence.CellStatistics(30, 3.0, 1.0, 20, 1.0, 6),
        ]
        return evidence.fit_cells(cells).c

    assert slope(1e-6) == slope(1.0) == pytest.approx(0.1)
    assert evidence.fit_cells([evidence.CellStatistics(10, 1.0, 1.0, 20, 1.0, 6)] * 3) is None


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


def test_the_variance_is_the_pilots_and_never_far_below_the_counters_edges():
    costs, pilot = [1.0, 3.0, 100.0, -100.0], [True, True, False, False]
    assert (_cell(0, costs, pilot).variance, _cell(0, costs, pilot).degrees) == (2.0, 1)
    assert _cell(0, costs, pilot, edge_variance=19.0).variance == 2.0
    assert _cell(0, costs, pilot, edge_variance=90.0).variance == 9.0
    single = _cell(0, costs, [True, False, False, False], edge_variance=90.0)
    assert (single.variance, single.degrees) == (9.0, 0)


def test_a_cell_is_known_by_its_own_pilot_where_it_is_alone():
    cell = _cell(0, [1.0, 3.0, 100.0, -100.0], [True, True, False, False])
    found = evidence.cell_statistics(cell, evidence.scatter_of([cell]))
    assert (found.k, found.mean, found.degrees, found.blocks) == (10, 1.0, 1, 4)
    assert found.variance == pytest.approx(2.0)
    assert found.model == pytest.approx(2.0)


def test_cells_that_scatter_alike_lend_each_other_their_degrees():
    cells = [_cell(n, [1.0, 3.0], [True, True]) for n in range(3)]
    model = evidence.scatter_of(cells)
    found = [evidence.cell_statistics(cell, model) for cell in cells]
    assert [cell.degrees for cell in found] == [3, 3, 3]
    assert [cell.variance for cell in found] == pytest.approx([2.0] * 3)


def test_without_two_pilot_blocks_anywhere_nothing_is_known():
    single, empty = _cell(0, [1.0], [True]), _cell(1, [], [])
    assert evidence.scatter_of([single, empty]) is None
    pair = _cell(2, [1.0, 3.0], [True, True])
    model = evidence.scatter_of([single, empty, pair])
    assert evidence.cell_statistics(empty, model) is None
    lent = evidence.cell_statistics(single, model)
    assert (lent.mean, lent.blocks, lent.degrees) == (1.0, 1, 1)
    assert lent.variance == pytest.approx(2.0)


def test_a_spread_of_exactly_zero_still_has_a_variance():
    cell = _cell(0, [1e-6] * 6, [True] * 6)
    found = evidence.cell_statistics(cell, evidence.scatter_of([cell]))
    assert 0 < found.variance <= (1e-6 * 1e-6) ** 2 * 1.01
    assert found.model > 0


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


def _cells(operation: str, count: int) -> list[Cell]:
    return [Cell(operation, f"l{n}", "x", (9,), "float32", 9, 1, "random") for n in range(count)]


@pytest.mark.parametrize(
    ("cells", "blocks"), [(1, 6), (6, 6), (7, 6), (8, 5), (10, 4), (15, 3), (30, 3), (300, 3)]
)
def test_few_cells_have_a_longer_pilot(cells, blocks):
    counts = design.pilot_counts(_cells("update", cells))
    assert counts.tolist() == [blocks] * cells
    degrees = cells * (blocks - 1)
    assert degrees >= design.PILOT_DEGREES or blocks == design.PILOT_BLOCKS
    assert blocks == design.SHORT_PILOT_BLOCKS or cells * (blocks - 2) < design.PILOT_DEGREES


def test_an_operations_pilot_does_not_depend_on_the_others():
    cells = [*_cells("update", 20), *_cells("encode", 2), *_cells("update", 20)]
    assert design.pilot_counts(cells).tolist() == [3] * 20 + [6] * 2 + [3] * 20
    assert design.pilot_counts([]).shape == (0,)


def test_the_pilot_comes_in_rounds_of_random_order():
    pilot = design.pilot_order([4] * 30, seed=1)
    assert pilot == design.pilot_order([4] * 30, seed=1) != design.pilot_order([4] * 30, seed=2)
    rounds = [pilot[start : start + 30] for start in range(0, 120, 30)]
    assert all(sorted(each) == list(range(30)) for each in rounds)
    assert rounds[0] != rounds[1]


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 2**31))
def test_a_cell_with_a_shorter_pilot_leaves_the_rounds_earlier(counts, seed):
    order = design.pilot_order(counts, seed)
    start = 0
    for done in range(max(counts, default=0)):
        members = [cell for cell, count in enumerate(counts) if count > done]
        assert sorted(order[start : start + len(members)]) == members
        start += len(members)
    assert start == len(order)


def test_main_blocks_come_in_random_order_repeatably():
    have, counts = [6, 6, 6], [9, 6, 56]
    main = design.main_order(have, counts, seed=1, first=120)
    assert Counter(main) == {0: 3, 2: 50}
    assert main == design.main_order(have, counts, seed=1, first=120)
    assert main != design.main_order(have, counts, seed=2, first=120)
    even = design.main_order([0, 0], [40, 40], seed=1, first=120)
    assert even != design.main_order([0, 0], [40, 40], seed=1, first=140)
    assert even != sorted(even)


def test_the_widest_interval_is_served_first():
    order = design.main_order([6, 6, 40], [8, 100, 30], seed=0, first=14)
    assert set(order[:69]) == {1}  # until it has three quarters of its 100, as the others have
    assert Counter(order[69:]) == {0: 2, 1: 25}


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 80)), min_size=1, max_size=12),
    st.integers(0, 2**31),
)
def test_whenever_a_session_stops_its_intervals_are_of_about_equal_standing(cells, seed):
    have, counts = (np.array(column) for column in zip(*cells, strict=True))
    order = design.main_order(have, counts, seed, first=7)
    assert Counter(order) == Counter({n: int(c - h) for n, (h, c) in enumerate(cells) if h < c})
    reached = have.copy()
    for cell in order:
        share = reached / counts
        assert share[cell] < share.min() + 0.25 + 1e-9  # no one is a pass ahead of another
        reached[cell] += 1


WINDOW = {"precision": 0.05, "shortest_s": 1e-6, "longest_s": 1e6}


def test_windows_are_as_long_as_makes_the_shortest_pilot_precise_enough():
    window_s = design.window_s(edge_j=2e-3, power_w=10.0, **WINDOW)
    # the relative standard error of n0 differences of two windows from the counter's steps alone
    share = np.sqrt(2 / design.SHORT_PILOT_BLOCKS) * 2e-3 / (10.0 * window_s)
    assert 1.5 * 1.96 * share == pytest.approx(0.05)
    wider = design.window_s(edge_j=2e-3, power_w=10.0, **WINDOW | {"precision": 0.1})
    assert wider == pytest.approx(window_s / 2)
    assert design.window_s(edge_j=4e-3, power_w=20.0, **WINDOW) == pytest.approx(window_s)


@given(
    edge_j=st.just(0.0) | st.floats(1e-12, 1e3),
    power_w=st.floats(-1e3, 1e3),
    precision=st.floats(1e-4, 0.99),
)
def test_windows_stay_within_their_bounds(edge_j, power_w, precision):
    found = design.window_s(
        edge_j=edge_j, power_w=power_w, precision=precision, shortest_s=0.01, longest_s=2.0
    )
    assert 0.01 <= found <= 2.0


def test_without_steps_the_shortest_window_will_do():
    bounds = {"precision": 0.05, "shortest_s": 0.01, "longest_s": 2.0}
    for power_w in (-3.0, 0.0, 5.0):
        assert design.window_s(edge_j=0.0, power_w=power_w, **bounds) == 0.01
    # an operation that drowned in the steps when sized needs all the length there is
    for power_w in (-3.0, 0.0, 1e-9):
        assert design.window_s(edge_j=1e-3, power_w=power_w, **bounds) == 2.0


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


def _group(generator: np.random.Generator, sd: float, blocks: int) -> list[evidence.CellBlocks]:
    pilot = [True] * 3 + [False] * (blocks - 3)
    return [_cell(n, generator.normal(5.0, sd, blocks).tolist(), pilot) for n in range(3)]


def test_a_group_that_scatters_more_than_its_operation_stands_alone():
    generator = np.random.default_rng(8)
    covered, runs = {1.0: 0, 2.0: 0, 4.0: 0}, 300
    for sd in covered:
        for _ in range(runs):
            others = [cell for _ in range(9) for cell in _group(generator, 1.0, 3)]
            own = _group(generator, sd, 8)
            model = evidence.scatter_of([*others, *own])
            known = [evidence.cell_statistics(cell, model) for cell in own]
            (first, *_), mean = evidence.standing_alone(known, own), own[0].costs.mean()
            half = t_quantile(0.975, first.degrees) * np.sqrt(first.variance / first.blocks)
            covered[sd] += abs(mean - 5.0) <= half
    assert 0.92 < covered[1.0] / runs < 0.985
    assert covered[2.0] / runs > 0.88 and covered[4.0] / runs > 0.9


def test_a_group_like_the_others_keeps_what_they_lend():
    cells = [_cell(n % 3, [1.0, 3.0, 2.0], [True] * 3) for n in range(12)]
    model = evidence.scatter_of(cells)
    known = [evidence.cell_statistics(cell, model) for cell in cells[:3]]
    assert evidence.standing_alone(known, cells[:3]) == known
    assert evidence.standing_alone(known[:1], [_cell(0, [1.0], [True])]) == known[:1]
