from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from stand_ins.federations import save_costs
from stand_ins.run_files import made_up_study

from cwmp.cli import cli
from cwmp.report.page import load_folder, page_of
from cwmp.report.page.told import told_of
from cwmp.studies.summary import ControlVerdict, MeanOf, StudySummary, StudyTest
from cwmp.study import StudyConfig, run_study
from profiler.errors import InputFileError, OutputExistsError


def test_the_page_is_written_once(tmp_path: Path) -> None:
    made_up_study(tmp_path / "study", methods=("topk",), budgets=("20%",), seeds=1)
    done = CliRunner().invoke(cli, ["report", str(tmp_path / "study")])
    assert done.exit_code == 0, done.output
    page = tmp_path / "study/report.html"
    assert page.read_text().startswith("<!DOCTYPE html>")
    again = CliRunner().invoke(cli, ["report", str(tmp_path / "study")])
    assert isinstance(again.exception, OutputExistsError)
    forced = CliRunner().invoke(cli, ["report", str(tmp_path / "study"), "--force"])
    assert forced.exit_code == 0
    absent = CliRunner().invoke(cli, ["report", str(tmp_path / "absent")])
    assert isinstance(absent.exception, InputFileError)


def test_results_of_a_run_are_a_page_too(tmp_path: Path) -> None:
    costs = save_costs(tmp_path)
    config = StudyConfig.parse(
        costs=costs, data="digits", model="mlp", clients=3, rounds=2, methods="topk,cwmp",
        budgets="30%", seeds=2, alpha=5.0,
    )  # fmt: skip
    result = run_study(config)
    result.save(tmp_path / "out")
    view = load_folder(tmp_path / "out")
    assert [view.name_of(curve) for curve in view.curves] == ["CWMP 30%", "Top-K 30%"]
    for curve in view.curves:
        cell = next(c for c in result.summary.table if c.method == view.methods[curve.method].name)
        assert cell.total is not None
        assert cell.accuracy is not None
        end = curve.points[-1]
        assert end.spent is not None
        assert end.spent.value_j == pytest.approx(cell.total.value_j)
        assert end.accuracy.mean == pytest.approx(cell.accuracy.mean)
    accuracies = [run.final_accuracy for run in result.runs if run.method == "topk"]
    assert view.curves[1].points[-1].accuracy.mean == pytest.approx(np.mean(accuracies))
    assert "against Top-K" in page_of(view)


def test_a_summary_brings_tests_and_controls(tmp_path: Path) -> None:
    def compared(endpoint: str, p_holm: float | None) -> StudyTest:
        return StudyTest(
            device="board", alpha=0.1, method="cwmp", budget="20%", other="topk",
            other_budget="20%", endpoint=endpoint,
            difference=MeanOf(n=10, mean=0.0123, low=0.004, high=0.02), p=0.00195, p_holm=p_holm,
            family=p_holm is not None, verdict="better", identical=False, energy_ratio=0.75,
        )  # fmt: skip

    summary = StudySummary(
        created_utc="2026-01-01T00:00:00Z", spec={}, planned=10, done=8, family="main <cells>",
        family_tests=1, costs=(), reference_j={}, cells=(),
        tests=(compared("hypervolume", None), compared("final_accuracy", 0.0117)),
        controls=(
            ControlVerdict(control="uniform", holds=True, compared=4, sentence="Equal, all 4."),
        ),
        verdicts=("CWMP wins on board.",), warnings=("Few seeds.",),
    )  # fmt: skip
    folder = tmp_path / "study"
    made_up_study(folder, methods=("topk",), budgets=("20%",), seeds=1)
    summary.save(folder / "summary.json")
    page = page_of(load_folder(folder))
    for shown in ("+1.23 points [+0.4, +2]", "0.00195", "0.0117", "not in the family", "0.75",
                  "CWMP wins on board.", "Few seeds.", "Equal, all 4.", "main &lt;cells&gt;",
                  "CWMP 20% against Top-K 20%"):  # fmt: skip
        assert shown in page, shown
    told = told_of(summary)
    assert [test.family for test in told.tests] == ["", "main <cells>"]
