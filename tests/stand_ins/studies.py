"""Small studies on digits with made-up costs: seconds, not minutes."""

from __future__ import annotations

from costmodels.costfile import CostFile
from cwmp.fl.models import build_model
from cwmp.results import RunResult
from cwmp.study import StudyConfig, StudyResult, run_study
from profiler.layers import layers_of
from stand_ins.cost_files import cost_file

SMALL = {"costs": "-", "model": "mlp", "clients": 4, "alpha": 1.0, "rounds": 2, "seeds": 2}


def mlp_costs(**changes: object) -> CostFile:
    """Costs of an MLP on digits; *changes* as for `cost_file`."""
    return cost_file(layers_of(build_model("mlp", (1, 8, 8))), **changes)  # type: ignore[arg-type]


def small_study(costs: CostFile | None = None, **changes: object) -> StudyResult:
    """`SMALL` at a budget of 10 %, run; *changes* as for `StudyConfig`."""
    config = StudyConfig.parse(**{**SMALL, "budgets": "10%", **changes})
    return run_study(config, costs=costs or mlp_costs())


def runs_of(result: StudyResult, method: str, budget: str = "10%") -> list[RunResult]:
    """The runs of one method at one budget."""
    return [run for run in result.runs if (run.method, run.budget) == (method, budget)]
