"""Blocks to cells: means over all blocks, errors from the pilot, what is left out."""

from __future__ import annotations

import pytest
from simulated_traces import simulate

from costmodels.cells import cell_means, parse_shape, unsound_blocks
from profiler.errors import FileFormatError, InputError
from profiler.trace import Trace


def test_the_error_is_the_pilots_and_the_mean_is_over_all_blocks() -> None:
    trace = simulate(operations=("update",), pilot=4, blocks=9)
    rows = trace.blocks
    found = cell_means(trace)
    first = found[0]
    mine = rows[(rows.layer == first.layer) & (rows.k == first.k) & (rows.pattern == "random")]
    assert first.blocks == 9
    assert first.mean_j == pytest.approx(mine.cost_j_per_call.mean())
    # windows of one length scatter alike: so many joules a window, from all cells' pilots
    pilot = rows[rows.stage == "pilot"].assign(
        window_j=rows.cost_j_per_call * rows.repetitions,
    )
    window_j2 = pilot.groupby(["layer", "pattern", "k"]).window_j.var(ddof=1).mean()
    assert first.degrees == 3 * len(found)
    assert first.variance == pytest.approx(window_j2 / mine.repetitions.iloc[0] ** 2 / 9)
    # the main blocks were asked for because of that spread, and say nothing about it
    main = rows.stage == "main"
    wild = rows.cost_j_per_call.where(~main, rows.cost_j_per_call * 3)
    again = cell_means(Trace(trace.metadata, rows.assign(cost_j_per_call=wild)))[0]
    assert again.variance == pytest.approx(first.variance)
    assert again.mean_j > 1.5 * first.mean_j


def test_a_cell_alone_has_the_error_of_its_own_pilot() -> None:
    trace = simulate(operations=("update",), pilot=4, blocks=9)
    mine = trace.blocks[trace.blocks.groupby(["layer", "pattern", "k"]).ngroup() == 0]
    (found,) = cell_means(Trace(trace.metadata, mine))
    pilot = mine[mine.stage == "pilot"].cost_j_per_call
    assert found.degrees == 3
    assert found.variance == pytest.approx(pilot.var(ddof=1) / 9)


def test_without_pilot_rows_all_blocks_say_how_uncertain_the_mean_is() -> None:
    trace = simulate(operations=("update",))
    found = cell_means(Trace(trace.metadata, trace.blocks.assign(stage="main")))
    assert found[0].degrees == 9 * len(found)
    mine = trace.blocks[trace.blocks.groupby(["layer", "pattern", "k"]).ngroup() == 0]
    (alone,) = cell_means(Trace(trace.metadata, mine.assign(stage="main")))
    assert alone.degrees == 9


def test_single_blocks_without_instrument_error_are_refused() -> None:
    trace = simulate(operations=("update",), pilot=1, blocks=1)
    blocks = trace.blocks.assign(standard_error_j_per_call=0.0)
    with pytest.raises(InputError, match="single block"):
        cell_means(Trace(trace.metadata, blocks))
    assert all(c.variance > 0 for c in cell_means(trace))


def test_a_cell_of_one_block_is_no_surer_than_the_others_on_average() -> None:
    """Where cells scatter very unlike each other, they say little of one that has no spread."""
    trace = simulate(operations=("update",), pilot=4, blocks=4)
    rows = trace.blocks
    number = rows.groupby(["layer", "pattern", "k"]).ngroup()
    centre = rows.groupby(number).cost_j_per_call.transform("mean")
    unlike = centre + (rows.cost_j_per_call - centre) * 10.0 ** (number % 5 - 2)
    kept = (number > 0) | ~number.duplicated()
    found = cell_means(Trace(trace.metadata, rows.assign(cost_j_per_call=unlike)[kept]))
    single = next(cell for cell in found if cell.blocks == 1)
    others = [cell for cell in found if cell.blocks > 1]
    assert max(cell.degrees for cell in others) < 3 + 3  # they hardly lend each other any
    assert single.degrees < 3
    assert single.variance >= single.weight_variance


def test_blocks_that_agree_to_the_tick_are_not_taken_as_exact() -> None:
    trace = simulate(operations=("update",), noise=0.0, tick_j=0.0)
    assert all(c.variance > 0 for c in cell_means(trace))


def test_an_empty_trace_is_refused() -> None:
    trace = simulate(operations=("update",))
    with pytest.raises(InputError, match="holds no blocks"):
        cell_means(Trace(trace.metadata, trace.blocks.iloc[:0]))


def test_flagged_blocks_enter_no_estimate() -> None:
    trace = simulate(operations=("update",))
    blocks = trace.blocks.copy()
    spoiled = blocks.index[::7]
    blocks.loc[spoiled, "cost_j_per_call"] = 1.0
    blocks.loc[spoiled[::3], "flags"] = "time-capped,suspend-gap"
    blocks.loc[spoiled[1::3], "flags"] = "frequency-shift"
    blocks.loc[spoiled[2::3], "flags"] = "throttled"
    flagged = Trace(trace.metadata, blocks)
    without = Trace(trace.metadata, blocks.drop(spoiled))
    assert unsound_blocks(flagged) == len(spoiled)
    found = {(c.layer, c.pattern, c.k): c for c in cell_means(flagged)}
    assert found == {(c.layer, c.pattern, c.k): c for c in cell_means(without)}
    with pytest.raises(InputError, match="flagged as unsound"):
        cell_means(Trace(trace.metadata, blocks.assign(flags="suspend-gap")))


def test_a_flag_that_says_less_keeps_the_block() -> None:
    trace = simulate(operations=("send",))
    assert unsound_blocks(Trace(trace.metadata, trace.blocks.assign(flags="time-capped"))) == 0


def test_shapes_are_read_back_or_refused() -> None:
    assert parse_shape("8x3x3") == (8, 3, 3)
    assert parse_shape("") == ()
    for bad in ("8x", "axb", "0x3"):
        with pytest.raises(FileFormatError, match="shape"):
            parse_shape(bad)
