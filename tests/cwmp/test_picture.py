from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.cost_files import cost_file

from cwmp.fl.models import build_model
from cwmp.report.curves import curves_of, describe_origin
from cwmp.report.picture import _caption, _panel, _title, draw, spread_labels
from cwmp.study import StudyConfig, StudyResult, run_study
from profiler.errors import MissingExtraError
from profiler.layers import layers_of


def _study(*, train: bool = True, seeds: int = 2) -> StudyResult:
    torch.set_num_threads(1)
    config = StudyConfig.parse(
        costs="-",
        model="mlp",
        clients=3,
        alpha=1.0,
        rounds=2,
        seeds=seeds,
        budgets="0.01%,10%",
        methods="dense,topk,cwmp,cwmp:1,1",
    )
    costs = cost_file(layers_of(build_model("mlp", (1, 8, 8))), train=train)
    weighted = costs.message_cost("select", "cwmp")
    assert weighted is not None
    top = weighted.model_copy(update={"pattern": "topk"})
    costs = costs.model_copy(update={"message": (*costs.message, top)})
    return run_study(config, costs=costs)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return _study()


@given(st.lists(st.floats(0, 1), max_size=40))
def test_labels_keep_their_order_their_distance_and_the_axes(wanted: list[float]) -> None:
    heights = spread_labels(wanted, 0.05)
    step = min(0.05, 1 / max(len(wanted) - 1, 1))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in heights)
    ranked = sorted(heights)
    assert all(b - a >= step - 1e-9 for a, b in pairwise(ranked))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert [heights[i] for i in order] == ranked


def test_labels_that_do_not_overlap_stay_where_they_are() -> None:
    assert spread_labels([0.9, 0.1, 0.5], 0.05) == pytest.approx([0.9, 0.1, 0.5])


def test_a_curve_is_the_mean_over_seeds_of_cumulative_joules(result: StudyResult) -> None:
    table = result.summary.table
    curves = {(c.method, c.budget): c for c in curves_of(result.runs, table, "total")}
    assert set(curves) == {("dense", "100%"), ("topk", "10%"), ("cwmp", "10%"), ("cwmp:1,1", "10%")}
    cell = next(c for c in table if (c.method, c.budget) == ("cwmp", "10%"))
    curve = curves["cwmp", "10%"]
    assert cell.total is not None
    assert cell.accuracy is not None
    assert curve.joules[-1] == pytest.approx(cell.total.value_j)
    assert curve.accuracy[-1] == pytest.approx(cell.accuracy.mean)
    assert curve.spread[-1] == pytest.approx(cell.accuracy.sd)
    assert np.all(np.diff(curve.joules) > 0)


def test_declared_joules_are_what_the_budgets_cap(result: StudyResult) -> None:
    table = [cell for cell in result.summary.table if cell.feasible]
    for cell, curve in zip(table, curves_of(result.runs, table, "declared"), strict=True):
        assert cell.declared_j is not None
        assert curve.joules[-1] == pytest.approx(cell.declared_j)
        rounds, clients = len(curve.joules), result.config.clients
        (budget_j,) = {run.budget_j for run in result.runs if run.budget == cell.budget}
        assert curve.joules[-1] <= rounds * clients * budget_j * (1 + 1e-9)


def test_the_origin_of_the_joules_is_said(result: StudyResult) -> None:
    said = describe_origin(result.summary.table, "total")
    assert said == "modelled; select partly assumed; downlink assumed"
    without = _study(train=False, seeds=1).summary.table
    assert "; train not priced; " in describe_origin(without, "total")
    assert "train" not in describe_origin(without, "declared")


@pytest.mark.parametrize("train", [True, False])
def test_the_picture_is_a_png_of_two_panels(train: bool) -> None:
    picture = draw(_study(train=train, seeds=1))
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width = int.from_bytes(picture[16:20], "big")
    assert width == pytest.approx(150 * (5.6 * 2 + 1.2), abs=2)


def test_a_study_in_which_nothing_could_run_is_still_drawn(result: StudyResult) -> None:
    table = tuple(cell for cell in result.summary.table if not cell.feasible)
    runs = tuple(run for run in result.runs if not run.feasible)
    summary = result.summary.model_copy(update={"table": table})
    assert draw(replace(result, summary=summary, runs=runs)).startswith(b"\x89PNG")


def test_equal_results_give_equal_pictures(result: StudyResult) -> None:
    assert draw(result) == draw(result)


@pytest.mark.parametrize("comparable", [True, False])
def test_the_dashed_front_is_the_best_of_every_round(result: StudyResult, comparable: bool) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    curves = curves_of(result.runs, result.summary.table, "total")
    _panel(axes, curves, "total", "", comparable=comparable)
    dashed = [line for line in axes.lines if line.is_dashed()]
    assert len(dashed) == comparable
    for line in dashed:
        for joules, best in zip(*line.get_data(), strict=True):
            reached = [100 * c.accuracy[c.joules <= joules * 1.01] for c in curves]
            assert best == pytest.approx(max(map(np.max, filter(len, reached))))


def test_the_caption_says_what_was_left_out(result: StudyResult) -> None:
    table = list(result.summary.table)
    last = next(i for i, cell in enumerate(table) if cell.method == "cwmp" and cell.feasible)
    table[last] = table[last].model_copy(
        update={"feasible": False, "total": None, "reason": "diverged: seed 1", "seeds": (1,)}
    )
    table = [c.model_copy(update={"seeds": (0,)}) if c.feasible else c for c in table]
    shown = replace(result, summary=result.summary.model_copy(update={"table": tuple(table)}))
    assert _title(shown).endswith("2 rounds, 1 seed")
    assert "Infeasible at 0.01%: Top-K, CWMP, CWMP (1,1). Diverged at 10%: CWMP." in _caption(shown)


def test_without_matplotlib_the_remedy_is_named(
    result: StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cwmp\[report\]'"):
        draw(result)
