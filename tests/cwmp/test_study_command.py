"""``cwmp study`` from a file to its summary, and on again after runs are lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from stand_ins.federations import save_costs

from cwmp.cli import cli
from cwmp.studies.controls import control_verdicts
from cwmp.studies.grid import Plan, plan_study
from cwmp.studies.runs import RunFile
from cwmp.studies.spec import StudySpec
from cwmp.studies.summary import StudySummary
from cwmp.studies.sweep import collect
from profiler.errors import InputError

TEXT = """\
version: 1
name: "small | <b>study</b>"
question: what is tested
data: digits
model: mlp
clients: 3
alphas: [5.0]
rounds: 2
seeds: 1
training: {batch_size: 64, lr: 0.02}
methods: [dense, topk, cwmp]
budgets: [0.001%, 40%]
devices:
  - name: strong
    constructed: {from: costs.json, spread: 100}
controls: {other_device: strong, budgets: [40%]}
endpoints: {targets: [0.1, 0.5, 0.99]}
family: {name: main}
"""


class Study:
    """The study, run once for all tests of this file."""

    def __init__(self, folder: Path) -> None:
        save_costs(folder)
        self.file, self.out = folder / "study.yaml", folder / "out"
        self.file.write_text(TEXT)
        self.first = self.call()

    def call(self, *more: str) -> Result:
        return CliRunner().invoke(cli, ["study", str(self.file), "-o", str(self.out), *more])

    @property
    def plan(self) -> Plan:
        return plan_study(StudySpec.load(self.file), self.out, self.file.parent)

    @property
    def runs(self) -> tuple[RunFile, ...]:
        return collect(self.out, self.plan.tasks)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(tmp_path_factory.mktemp("study"))


def test_a_study_runs_to_its_summary(study: Study) -> None:
    assert study.first.exit_code == 0, study.first.output
    assert "CWMP equals Top-K bit for bit in all 1 pairs" in study.first.output
    assert "a null result" in study.first.output
    summary = StudySummary.load(study.out / "summary.json")
    assert summary.done == summary.planned == len(study.plan.tasks)
    held = {control.control: control.holds for control in summary.controls}
    assert held == {"uniform": True, "shuffled": None, "other_device": None, "bound": True}
    cells = {(c.method, c.budget): c for c in summary.cells if not c.control}
    assert cells["cwmp", "0.001%"].runs == {"infeasible": 1}
    assert cells["cwmp", "0.001%"].final_accuracy is None
    whole = cells["cwmp", "40%"]
    assert whole.total is not None
    assert whole.exchange is not None
    parts = {name: energy.value_j for name, energy in whole.phases.items() if energy}
    assert sum(parts.values()) == pytest.approx(whole.total.value_j)
    assert whole.exchange.value_j == pytest.approx(whole.total.value_j - parts["train"])
    assert [t.reached for t in whole.targets][-1] == 0
    assert whole.targets[-1].median_j is None
    assert any("0.001% is infeasible" in sentence for sentence in summary.verdicts)
    assert any("too few" in warning for warning in summary.warnings)
    assert any("assumed" in warning for warning in summary.warnings)


def test_what_names_contain_does_not_act_in_markdown(study: Study) -> None:
    text = (study.out / "summary.md").read_text()
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "small \\| " in text
    assert (study.out / "regime.png").read_bytes().startswith(b"\x89PNG")


def test_a_lost_run_is_done_again_and_gives_the_same(study: Study) -> None:
    before = {run.job.key: run for run in study.runs}
    lost = next(run for run in before.values() if run.labels["method"] == "cwmp")
    (study.out / "runs" / f"{lost.job.key}.json").unlink()
    short = study.call("--summary-only")
    assert short.exit_code == 0
    assert "1 of" in short.output
    again = study.call()
    assert f"{len(before)} runs planned, 1 to do" in again.output
    found = {run.job.key: run for run in study.runs}
    assert found[lost.job.key].rounds == lost.rounds
    assert found.keys() == before.keys()


def test_a_uniform_control_that_differs_is_a_failure(study: Study) -> None:
    runs = [
        run.model_copy(
            update={"rounds": (*run.rounds[:-1], run.rounds[-1].model_copy(update={"loss": 9.0}))}
        )
        if run.labels["control"] == "uniform" and run.labels["method"] == "topk"
        else run
        for run in study.runs
    ]
    verdict = next(control_verdicts(study.plan, runs))
    assert verdict.holds is False
    assert "a fault of this program" in verdict.sentence


def test_captured_beyond_the_bound_is_a_failure(study: Study) -> None:
    def beyond(run: RunFile) -> RunFile:
        row = run.rounds[0].model_copy(update={"captured": 2.0, "bound": 1.0})
        return run.model_copy(update={"rounds": (row, *run.rounds[1:])})

    runs = [beyond(run) if run.rounds else run for run in study.runs]
    assert [c.holds for c in control_verdicts(study.plan, runs)][-1] is False


def test_wrong_costs_are_held_against_what_a_budget_caps(study: Study) -> None:
    """Selecting by them overspends the budget by true costs: choosing entries must not hide it."""

    def dearer(run: RunFile, phases: tuple[str, ...], factor: float) -> RunFile:
        rows = []
        for row in run.rounds:
            priced = dict(row.phases)
            for phase in phases:
                found = priced[phase]
                assert found is not None
                scaled = {n: factor * getattr(found, n) for n in ("value_j", "low_j", "high_j")}
                priced[phase] = found.model_copy(update=scaled)
            rows.append(row.model_copy(update={"phases": priced}))
        return run.model_copy(update={"rounds": tuple(rows)})

    def ratio(phases: tuple[str, ...], factor: float) -> float | None:
        runs = [
            dearer(run, phases, factor) if run.labels["control"] == "shuffled" else run
            for run in study.runs
        ]
        found = [c for c in control_verdicts(study.plan, runs) if c.control == "shuffled"]
        return found[0].energy_ratio

    plain = ratio((), 1.0)
    assert plain is not None
    assert ratio(("select", "encode", "train"), 1000.0) == plain
    assert ratio(("uplink", "update"), 4.0) == pytest.approx(plain / 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--only", "moon=1"], "KEY=VALUE"), (["--only", "seed=7"], "leaves no run")],
)
def test_what_is_asked_for_and_absent_is_an_error(
    study: Study, arguments: list[str], said: str
) -> None:
    result = study.call(*arguments)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
