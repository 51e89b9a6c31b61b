"""A study's grid, its rows, what it compares, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stand_ins.cost_files import cost_file
from stand_ins.studies import SMALL, mlp_costs, runs_of, small_study

from cwmp.fl.models import build_model
from cwmp.report.curves import curves_of
from cwmp.results import RunResult, ledger_rows, round_rows
from cwmp.study import Step, StudyConfig, StudyResult, run_study
from cwmp.summarise import compare_methods, summarise_cells
from profiler.errors import BudgetError, CwmpError, InputError, LayerMismatchError
from profiler.layers import layers_of


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return small_study(budgets="0.01%,10%")


def test_the_grid_has_dense_once_and_every_other_method_at_every_budget(
    result: StudyResult,
) -> None:
    cells = [(run.method, run.budget, run.seed) for run in result.runs]
    expected = [("dense", "100%")]
    expected += [(m, b) for m in ("topk", "random", "cwmp") for b in ("0.01%", "10%")]
    assert cells == [(m, b, seed) for seed in (0, 1) for m, b in expected]


def test_a_budget_that_opens_no_layer_is_a_row_and_not_a_crash(result: StudyResult) -> None:
    runs = runs_of(result, "cwmp", "0.01%")
    assert [run.feasible for run in runs] == [False, False]
    assert "opens no layer" in runs[0].reason
    rows = list(round_rows(runs[0]))
    assert [row["feasible"] for row in rows] == [False]
    assert "accuracy" not in rows[0]
    cell = next(c for c in result.summary.table if (c.method, c.budget) == ("cwmp", "0.01%"))
    assert (cell.accuracy, cell.total, cell.feasible) == (None, None, False)


def test_the_same_seeds_give_bit_equal_results() -> None:
    first, second = small_study(seeds=1), small_study(seeds=1)
    for a, b in zip(first.runs, second.runs, strict=True):
        assert list(round_rows(a)) == list(round_rows(b))
        assert list(ledger_rows(a)) == list(ledger_rows(b))


UNIFORM = {"entry_j": lambda number: 1e-8, "fixed_j": None, "dense_share": 1.0, "byte_j": 1e-30}
"""Nothing but a price an entry: with bytes priced, a layer's header would be a fixed cost."""


@pytest.mark.parametrize(("method", "costs"), [("cwmp", UNIFORM), ("cwmp:1,0", {})])
def test_equal_costs_or_a_score_without_costs_give_top_k_bit_for_bit(
    method: str, costs: dict[str, object]
) -> None:
    result = small_study(mlp_costs(**costs), methods=f"topk,{method}", seeds=1)
    top, weighted = runs_of(result, "topk")[0], runs_of(result, method)[0]
    for a, b in zip(top.rounds, weighted.rounds, strict=True):
        assert (a.accuracy, a.loss, a.downlink_bytes) == (b.accuracy, b.loss, b.downlink_bytes)
        assert a.touched == b.touched
        assert [c.touched for c in a.clients] == [c.touched for c in b.clients]
    comparison = result.summary.comparisons[0].result
    assert (comparison.identical, comparison.difference.mean) == (True, 0.0)


def test_runs_of_a_seed_start_alike_and_seeds_differ(result: StudyResult) -> None:
    """The first round's local training comes before any selection has made a difference."""
    losses = {
        (run.method, run.seed): tuple(client.loss for client in run.rounds[0].clients)
        for run in result.runs
        if run.feasible
    }
    for seed in (0, 1):
        assert len({losses[method, seed] for method in ("dense", "topk", "random", "cwmp")}) == 1
    assert losses["dense", 0] != losses["dense", 1]


def test_no_selection_declares_more_than_the_budget(result: StudyResult) -> None:
    for run in result.runs:
        for record in run.rounds:
            for client in record.clients:
                assert client.selection is not None
                assert 0 < client.selection.energy_j <= run.budget_j * (1 + 1e-12)


def test_rows_add_up_to_the_ledger(result: StudyResult) -> None:
    run = runs_of(result, "cwmp")[0]
    rows = list(round_rows(run))
    cells = list(ledger_rows(run))
    assert run.ledger is not None
    total = run.ledger.total().energy
    assert total is not None
    assert sum(cell["energy_j"] for cell in cells) == pytest.approx(total.value)
    assert rows[-1]["cumulative_j"] == pytest.approx(total.value)
    assert rows[-1]["cumulative_high_j"] == pytest.approx(total.high)
    phases = ("train", "select", "encode", "uplink", "downlink", "update")
    for row in rows:
        assert sum(row[f"{phase}_j"] for phase in phases) == pytest.approx(row["total_j"])
    assert [row["round"] for row in rows] == [1, 2]
    assert rows[0]["train_origin"] == "modelled"
    assert rows[0]["total_origin"] == "assumed"


def test_the_certificate_is_captured_over_bound(result: StudyResult) -> None:
    cells = {(c.method, c.budget): c for c in result.summary.table}
    weighted = cells["cwmp", "10%"].certificate
    assert weighted is not None
    assert 0.5 < weighted <= 1
    assert cells["topk", "10%"].certificate is None
    assert cells["dense", "100%"].kept_fraction == 1


def test_a_cost_the_file_lacks_is_said_in_the_summary() -> None:
    result = small_study(mlp_costs(train=False, messages=("send",)), methods="dense,cwmp", seeds=1)
    cell = result.summary.table[1]
    assert cell.total is not None
    assert cell.total.lacks == ("train", "select", "encode")
    assert cell.phases["train"] is None
    row = next(round_rows(runs_of(result, "cwmp")[0]))
    assert (row["train_j"], row["lacks"]) == (None, "train,select,encode")


def test_batchnorm_models_run(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = cost_file(layers_of(build_model("resnet8", (1, 8, 8))))
    result = small_study(costs, model="resnet8", methods="cwmp", seeds=1, rounds=1, clients=2)
    client = result.runs[0].rounds[0].clients[0]
    assert client.payload_bytes > 4 * 672
    assert client.selection is not None
    assert client.selection.energy_j <= result.runs[0].budget_j


def test_progress_counts_every_round() -> None:
    steps: list[Step] = []
    config = StudyConfig.parse(**SMALL, budgets="10%", methods="dense,topk")
    run_study(config, steps.append, costs=mlp_costs())
    assert [(step.run, step.round) for step in steps] == [
        (run, number) for run in (1, 2, 3, 4) for number in (1, 2)
    ]
    assert {(step.runs, step.rounds) for step in steps} == {(4, 2)}


def _scored(method: str, budget: str, seed: int, accuracy: float, run: RunResult) -> RunResult:
    record = replace(run.rounds[-1], accuracy=accuracy)
    return replace(run, method=method, budget=budget, seed=seed, rounds=(record,))


def test_seeds_are_compared_after_their_budgets_are_averaged(result: StudyResult) -> None:
    run = runs_of(result, "topk")[0]
    ours = {("1%", 0): 0.5, ("1%", 1): 0.6, ("5%", 0): 0.7, ("5%", 1): 0.9}
    theirs = {("1%", 0): 0.4, ("1%", 1): 0.6, ("5%", 0): 0.7, ("5%", 1): 0.6}
    runs = [_scored("cwmp", b, s, a, run) for (b, s), a in ours.items()]
    runs += [_scored("topk", b, s, a, run) for (b, s), a in theirs.items()]
    found = compare_methods(runs, "cwmp", "topk", 0.0)
    assert [c.budget for c in found] == ["1%", "5%", None]
    assert found[0].result.difference.mean == pytest.approx(0.05)
    assert found[2].result.difference.n == 2
    assert found[2].result.difference.mean == pytest.approx(0.1)
    assert found[2].result.difference.sd == pytest.approx(0.1 / 2**0.5)


def test_the_front_is_of_all_rounds_of_the_mean_curves(result: StudyResult) -> None:
    cells = [cell for cell in summarise_cells(result.runs, 0.0) if cell.feasible]
    curves = curves_of(result.runs, cells, "total")
    for cell, curve in zip(cells, curves, strict=True):
        assert cell.exchange is not None
        equal_j = 0.01 * cell.exchange.value_j
        others = [
            (spent_j - curve.joules[-1], accuracy - curve.accuracy[-1])
            for other in curves
            if other is not curve
            for spent_j, accuracy in zip(other.joules, other.accuracy, strict=True)
        ]
        beaten = any(
            (more_j < -equal_j and gain >= 0) or (more_j <= equal_j and gain > 0)
            for more_j, gain in others
        )
        assert cell.on_front is not beaten
    assert {cell.on_front for cell in cells} == {True, False}


def test_totals_that_lack_different_phases_have_no_front() -> None:
    result = small_study(mlp_costs(messages=("encode", "send")), methods="dense,topk,cwmp", seeds=1)
    lacks = [cell.total.lacks for cell in result.summary.table if cell.total]
    assert lacks == [(), ("select",), ("select",)]
    assert not any(cell.on_front for cell in result.summary.table)
    assert any(cell.on_declared_front for cell in result.summary.table)
    said = " ".join(result.summary.conclusion)
    assert "No Pareto front of total joules" in said
    assert "Local training" not in said
    assert "With encoding and downlink charged too, selection not priced" in said


def test_budgets_that_open_nothing_name_the_one_that_would() -> None:
    result = small_study(budgets="0.01%,0.02%", methods="dense,topk,cwmp", seeds=1)
    said = result.summary.conclusion[0]
    share = re.search(r"opens a layer is (\S+%) of the dense cost", said)
    assert share is not None
    reason = result.summary.table[1].reason
    assert reason is not None
    assert reason.startswith("infeasible: ") and reason.endswith(f"{share[1]} of the dense cost")
    assert all(run.feasible for run in small_study(budgets=share[1], seeds=1).runs)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": "dense,fancy"}, InputError, "unknown method 'fancy'"),
        ({"methods": "cwmp,cwmp:2,1,cwmp"}, InputError, "given twice"),
        ({"methods": ""}, InputError, "methods"),
        ({"budgets": "5%,5%"}, InputError, "given twice"),
        ({"budgets": "0.033mJ,33uJ"}, InputError, "the budget 3.3e-05 J is given twice"),
        ({"budgets": ""}, InputError, "at least one budget"),
        ({"budgets": "0%"}, BudgetError, "must be a positive number"),
        ({"budgets": "101%"}, BudgetError, "above 100 %"),
        ({"budgets": "1kJ"}, BudgetError, "above the dense cost"),
        ({"budgets": "nan"}, BudgetError, "budget"),
        ({"model": "alexnet"}, InputError, "unknown model"),
        ({"model": "lenet"}, LayerMismatchError, "cwmp predict"),
        ({"data": "mnist"}, InputError, "unknown data"),
        ({"alpha": 0}, InputError, "alpha"),
        ({"alpha": float("nan")}, InputError, "alpha"),
        ({"clients": 0}, InputError, "clients"),
        ({"clients": 1438}, InputError, "clients cannot share"),
        ({"seeds": 0}, InputError, "seeds"),
        ({"rounds": 0}, InputError, "rounds"),
        ({"score": "2"}, InputError, "score"),
        ({"score": "0,1"}, InputError, "p"),
        ({"engine": "cloud"}, InputError, "engine"),
        ({"no_such_field": 1}, InputError, "no_such_field"),
    ],
)
def test_what_cannot_be_run_is_one_line(
    changes: dict[str, object], error: type[CwmpError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        small_study(**changes)
    assert "\n" not in str(caught.value)


def test_the_score_names_the_rule() -> None:
    config = StudyConfig.parse(**SMALL, methods="topk,cwmp:2,1,cwmp", score="1,1")
    assert config.rules == ("topk", "cwmp:2,1", "cwmp:1,1")
    assert config.costs == Path("-")
