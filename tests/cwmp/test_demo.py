"""``cwmp demo``: the whole path, what it leaves behind, and what an interruption keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from costmodels import CostFile, CostModel
from cwmp.cli import cli
from cwmp.commands import demo
from cwmp.fl.engines import local
from cwmp.summary import Summary
from profiler.console import run
from profiler.progress import ProgressBar
from profiler.trace import Trace

TINY = demo.Scale(profile_s=9.0, densities=(0.05, 0.5), rounds=1, seeds=1, budgets=1)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(demo, "QUICK", TINY)
    return tmp_path


def _demo(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        run(cli, ["demo", "--quick", "--meter", "modelled", *arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_the_demo_leaves_everything_and_says_what_was_found(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _demo() == 0
    printed = capsys.readouterr()
    said = " ".join(printed.out.split())
    for expected in ("every joule below is modelled", "1. Meters", "5. Federated", "dense cost"):
        assert expected in said
    assert max(len(line) for line in printed.out.splitlines()) <= 80
    out = workplace / "out"
    costs = CostFile.load(out / "costs.json")
    assert costs.origin == Trace.load(out / "trace.parquet").metadata.origin == "modelled"
    assert CostFile.load(out / "costs-mlp.json").model == "mlp"
    assert CostModel.load(out / "costmodel.json").find("update") is not None
    assert Summary.load(out / "summary.json").costs["created_utc"] == costs.created_utc
    assert (out / "accuracy_vs_joules.png").read_bytes().startswith(b"\x89PNG")

    assert _demo() == 2  # not over the results of another run
    assert "--force" in capsys.readouterr().err
    assert _demo("--force", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["origin"] == "modelled" and document["assumptions"]
    again = CostFile.load(out / "costs.json")
    assert document["costs"]["created_utc"] == again.created_utc
    assert again != costs


def test_an_interruption_while_profiling_keeps_the_trace(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[object] = []

    def interrupt(bar: ProgressBar, standing: object) -> None:
        seen.append(standing)
        if getattr(standing, "stage", "") == "pilot" and len(seen) > 120:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "__call__", interrupt)
    assert _demo() == 130
    assert "trace.parquet holds what was measured" in capsys.readouterr().err
    trace = Trace.load(workplace / "out/trace.parquet")
    assert len(trace.blocks) > 0 and "interrupted" in trace.metadata.remarks
    assert not (workplace / "out/summary.json").exists()


def test_an_interruption_while_training_keeps_the_finished_runs(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = iter(range(100))
    played = local.run_round

    def interrupt(*arguments: Any) -> Any:
        if next(rounds) == 2:
            raise KeyboardInterrupt
        return played(*arguments)

    monkeypatch.setattr(local, "run_round", interrupt)
    assert _demo() == 130
    summary = Summary.load(workplace / "out/summary.json")
    assert summary.interrupted
    assert sum(cell.accuracy is not None for cell in summary.table) == 2


def test_budgets_share_out_what_a_message_does_not_cost_anyway() -> None:
    import device_traces
    from costmodels import costs_from_trace
    from cwmp.budget import Budget
    from cwmp.selectors.costs import SelectionCosts

    for entry in device_traces.entries():
        costs = costs_from_trace(device_traces.load(entry.name))
        prices = SelectionCosts.from_cost_file(costs)
        budgets = demo.choose_budgets(costs, 3)
        assert len(budgets) == 3
        joules = [Budget.parse(text).joules(prices.dense_j) for text in budgets]
        assert joules == sorted(set(joules))
        for budget_j in joules:
            assert prices.cheapest_j <= budget_j <= prices.dense_j
