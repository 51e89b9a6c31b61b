"""A study that is interrupted, or in which runs fail: what is kept, and what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stand_ins.studies import SMALL, mlp_costs, runs_of, small_study

from cwmp.fl.rounds import Federation
from cwmp.fl.training import Evaluation, Trainer
from cwmp.progress import Tick
from cwmp.report.curves import curves_of
from cwmp.results import RunResult
from cwmp.study import Cell, Step, StudyConfig, StudyResult, _Study, run_study
from cwmp.summarise import comparable_runs, compare_methods, summarise_cells
from cwmp.summary import Summary
from profiler.errors import BudgetError, UpdateError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return small_study(budgets="0.01%,10%")


def _interrupt_at(run: int, number: int) -> Iterator[None]:
    def progress(step: Step) -> None:
        if (step.run, step.round) == (run, number):
            raise KeyboardInterrupt

    return progress  # type: ignore[return-value]


def test_an_interruption_keeps_the_finished_runs() -> None:
    config = StudyConfig.parse(**SMALL, budgets="10%")
    result = run_study(config, _interrupt_at(3, 1), costs=mlp_costs())  # type: ignore[arg-type]
    assert [(run.method, run.seed) for run in result.runs] == [("dense", 0), ("topk", 0)]
    assert result.summary.interrupted
    assert any("2 of 8 runs" in warning for warning in result.summary.warnings)


def test_an_interruption_before_the_first_run_is_raised() -> None:
    config = StudyConfig.parse(**SMALL, budgets="10%")
    with pytest.raises(KeyboardInterrupt):
        run_study(config, _interrupt_at(1, 1), costs=mlp_costs())  # type: ignore[arg-type]


def _fail(run: RunResult, reason: str) -> RunResult:
    return replace(run, rounds=(), ledger=None, reason=reason)


def test_rows_share_their_seeds_and_a_failed_run_takes_its_row_out(result: StudyResult) -> None:
    top, weighted, dense = (runs_of(result, m)[0] for m in ("topk", "cwmp", "random"))
    runs = [replace(run, seed=seed) for seed in range(3) for run in (top, weighted, dense)]
    runs[1] = _fail(runs[1], "diverged: seed 0")
    assert [cell.feasible for cell in summarise_cells(comparable_runs(runs), 0.0)] == [
        True,
        False,
        True,
    ]
    assert compare_methods(comparable_runs(runs), "cwmp", "topk", 0.0) == ()
    interrupted = [run for run in runs[3:] if (run.method, run.seed) != ("random", 2)]
    table = summarise_cells(comparable_runs(interrupted), 0.0)
    assert {cell.seeds for cell in table} == {(1,)}
    assert [len(c.joules) for c in curves_of(interrupted, table, "total")] == [2, 2, 2]
    (compared,) = compare_methods(comparable_runs(interrupted), "cwmp", "topk", 0.0)
    assert compared.result.difference.n == 1


def test_an_interrupted_study_warns_of_the_seeds_it_has() -> None:
    config = StudyConfig.parse(**{**SMALL, "seeds": 6}, budgets="10%", methods="topk,cwmp")
    result = run_study(config, _interrupt_at(6, 1), costs=mlp_costs())  # type: ignore[arg-type]
    assert [run.seed for run in result.runs] == [0, 0, 1, 1, 2]
    assert {cell.seeds for cell in result.summary.table} == {(0, 1)}
    small, interrupted = result.summary.warnings
    assert small.startswith("2 seeds give wide intervals")
    assert interrupted.endswith("the table is over the 2 seeds that all its rows have finished")
    assert "5 of 12 runs" in interrupted


def _explode(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, int], bool]) -> None:
    """Make the runs for which *fails*(method, seed) holds end as diverging ones do."""
    whole = _Study._rounds

    def rounds(self: _Study, federation: Federation, cell: Cell, tick: Tick) -> object:
        if fails(cell.method, federation.seed):
            raise UpdateError("training diverged at client 0 in round 1: NaN; lower --lr")
        return whole(self, federation, cell, tick)

    monkeypatch.setattr(_Study, "_rounds", rounds)


def test_a_run_that_diverges_is_a_row_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _explode(monkeypatch, lambda method, seed: (method, seed) == ("topk", 1))
    result = small_study(methods="dense,topk,cwmp")
    assert [run.outcome for run in result.runs] == [
        *("finished", "finished", "finished"),
        *("finished", "diverged", "finished"),
    ]
    dense, top, weighted = result.summary.table
    assert (dense.seeds, weighted.seeds) == ((0, 1), (0, 1))
    assert (top.feasible, top.accuracy, top.seeds) == (False, None, (1,))
    assert top.reason is not None
    assert top.reason.startswith("diverged: seed 1, training diverged at client 0")
    assert result.summary.comparisons == ()
    result.save(tmp_path / "out")
    assert Summary.load(tmp_path / "out" / "summary.json").table == result.summary.table


def test_an_error_is_raised_only_where_every_run_fails_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UpdateError, match=r"diverged at client 0 in round 1.*lower --lr"):
        small_study(budgets="0.01%,10%", lr=1e30)
    _explode(monkeypatch, lambda method, seed: method != "dense")
    assert [run.outcome for run in small_study(methods="dense,cwmp", seeds=1).runs] == [
        "finished",
        "diverged",
    ]


def test_a_budget_that_an_update_cannot_use_is_a_row_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise BudgetError("infeasible: the budget of 1 J opens no layer with an entry")

    monkeypatch.setattr("cwmp.selectors.top_k.TopK.select", nothing)
    dense, top = small_study(methods="dense,topk", seeds=1).runs
    assert (dense.outcome, top.outcome) == ("finished", "infeasible")
    assert top.reason == "infeasible: seed 0, the budget of 1 J opens no layer with an entry"
    with pytest.raises(BudgetError, match="opens no layer"):
        small_study(methods="topk", seeds=2)


def test_a_model_without_a_finite_loss_has_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is selected from the last round's model, so no selector would notice."""
    whole = Trainer.evaluate

    def evaluate(self: Trainer, *what: Any) -> Evaluation:
        return whole(self, *what)._replace(loss=float("nan"))

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    with pytest.raises(UpdateError, match="test loss after round 1 is nan; lower --lr"):
        small_study(methods="dense", rounds=1, seeds=1)
