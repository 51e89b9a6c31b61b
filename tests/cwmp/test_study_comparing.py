"""Who may be said to win: what a verdict needs, which tests a family has, and how it is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from stand_ins.federations import save_costs

from cwmp.fl.job import Job
from cwmp.studies.comparing import verdict_of
from cwmp.studies.grid import Plan, plan_study
from cwmp.studies.inference import bootstrap_mean, wilcoxon_p
from cwmp.studies.runs import EnergyCell, RoundRow, RunFile
from cwmp.studies.spec import StudySpec
from cwmp.studies.summarising import summarise
from cwmp.studies.summary import MeanOf, StudySummary
from cwmp.studies.tables import markdown
from profiler.errors import FileFormatError

TEXT = """\
version: 1
name: small
question: what is tested
data: digits
model: mlp
clients: 4
alphas: [5.0]
rounds: 2
seeds: 10
methods: [dense, topk, random, cwmp]
budgets: [20%]
devices: [{name: board, costs: costs.json}]
endpoints: {targets: [0.3, 0.5, 0.9]}
family: {name: main}
"""
SEEDS = 10


def _plan(folder: Path, text: str = TEXT) -> Plan:
    save_costs(folder)
    path = folder / "study.yaml"
    path.write_text(text)
    return plan_study(StudySpec.load(path), folder / "out", folder)


def _run(
    job: Job, labels: Mapping[str, object], accuracy: float, joules: float, declared: float
) -> RunFile:
    cell = EnergyCell(value_j=joules, low_j=joules, high_j=joules, origin="measured")
    rows = tuple(
        RoundRow(
            round=number,
            accuracy=accuracy,
            loss=1.0,
            worst_decile=accuracy,
            train_loss=1.0,
            uplink_bytes=1,
            downlink_bytes=1,
            entries_kept=1,
            declared_j=declared * 4,
            phases={"train": cell, "uplink": cell},
            total=cell,
        )
        for number in (1, 2)
    )
    return RunFile(labels=dict(labels), job=job, status="finished", budget_j=1.0, rounds=rows)


def _summary(
    plan: Plan,
    accuracy: Mapping[str, np.ndarray],
    *,
    seeds: int = SEEDS,
    joules: Mapping[str, float] | None = None,
    declared: Mapping[str, float] | None = None,
) -> StudySummary:
    """Of made-up runs: each method's accuracy by seed, its joules a round and what it declares."""
    runs = [
        _run(
            task.job,
            task.labels,
            float(accuracy[task.labels["method"]][task.labels["seed"]]),
            (joules or {}).get(task.labels["method"], 1.0),
            (declared or {}).get(task.labels["method"], 1.0),
        )
        for task in plan.tasks
        if task.labels["seed"] < seeds
    ]
    return summarise(plan, runs)


def _flat(**levels: float) -> dict[str, np.ndarray]:
    base = {"dense": 0.9, "topk": 0.6, "random": 0.5, "cwmp": 0.65, **levels}
    spread = 0.01 * np.random.default_rng(0).standard_normal(SEEDS)
    return {name: level + spread for name, level in base.items()}


@pytest.mark.parametrize(
    ("ends", "p", "expected"),
    [
        ((0.01, 0.03), 0.04, "better"),
        ((-0.03, -0.01), 0.04, "worse"),
        ((0.001, 0.03), 0.2, "unknown"),
        ((-0.005, 0.005), 0.2, "tied"),
        ((-0.03, 0.03), 0.2, "unknown"),
        ((-0.02, 0.03), 0.04, "unknown"),  # ranks lean, the mean does not follow
    ],
)
def test_a_win_needs_the_test_and_the_interval(
    ends: tuple[float, float], p: float, expected: str
) -> None:
    difference = MeanOf(n=10, mean=sum(ends) / 2, low=ends[0], high=ends[1])
    assert verdict_of(difference, p, "final_accuracy", False) == expected
    few = difference.model_copy(update={"n": 5})  # no outcome of five pairs passes
    assert verdict_of(few, p, "final_accuracy", False) == "unknown"
    assert verdict_of(difference, p, "final_accuracy", True) == "tied"
    if expected == "tied":
        assert verdict_of(difference, p, "hypervolume", False) == "unknown"


def test_many_small_losses_and_one_large_gain_are_no_verdict() -> None:
    differences = np.array([-0.010, -0.011, -0.012, -0.013, -0.014, -0.015, -0.016, -0.017, -0.018,
                            -0.019, -0.020, 0.9])  # fmt: skip
    found = bootstrap_mean(differences)
    assert wilcoxon_p(differences) < 0.05
    assert found.mean > 0
    mean = MeanOf(n=found.n, mean=found.mean, low=found.low, high=found.high)
    assert verdict_of(mean, wilcoxon_p(differences), "final_accuracy", False) == "unknown"


def test_under_no_difference_hardly_any_verdict_is_a_win() -> None:
    """400 pairs of methods that do not differ, with as few seeds as people use."""
    generator = np.random.default_rng(5)
    for seeds in (3, 5, 6, 10):
        wins = 0
        for _ in range(400):
            differences = generator.normal(0, 0.02, seeds)
            found = bootstrap_mean(differences, draws=500)
            mean = MeanOf(n=seeds, mean=found.mean, low=found.low, high=found.high)
            verdict = verdict_of(mean, wilcoxon_p(differences), "final_accuracy", False)
            wins += verdict in ("better", "worse")
        assert wins <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5
        assert seeds > 5 or wins == 0


def test_the_family_wins_and_the_rest_is_ahead(tmp_path: Path) -> None:
    summary = _summary(_plan(tmp_path), _flat(), joules={"cwmp": 1.2})
    said = "\n".join(summary.verdicts)
    assert (
        "CWMP against Top-K: wins at 20% (+5.00 [+5.00, +5.00] points, Holm p 0.00195, 1.2 x"
        in said
    )
    assert "CWMP against Random-K: is ahead at 20%" in said
    assert "uncorrected" in said
    assert "CWMP against dense: is less accurate at 20%" in said
    assert "1.2 x its joules" in said
    assert "1 of 1 tests pass Holm" in said


def test_unequal_joules_are_judged_by_hypervolume_too(tmp_path: Path) -> None:
    summary = _summary(_plan(tmp_path), _flat(), joules={"dense": 100.0})
    (said,) = [s for s in summary.verdicts if "against dense" in s]
    assert "is less accurate at 20% (-25.00" in said
    assert "0.01 x its joules" in said
    assert "hypervolume larger at 20% (+" in said


def test_a_family_against_methods_without_a_budget_may_count_joules(tmp_path: Path) -> None:
    text = TEXT.replace("{name: main}", "{name: main, unmatched: hypervolume}")
    plan = _plan(tmp_path, text + "references: [topk, dense]\n")
    endpoints = {(place[4], place[5]) for place in plan.spec.family_places()}
    assert endpoints == {("topk", "final_accuracy"), ("dense", "hypervolume")}
    summary = _summary(plan, _flat(), joules={"dense": 100.0})
    found = {(t.other, t.endpoint): t.verdict for t in summary.tests if t.family}
    assert found == {("topk", "final_accuracy"): "better", ("dense", "hypervolume"): "better"}


def test_the_family_decides_when_all_seeds_are_there(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    early = _summary(plan, _flat(), seeds=8)
    (test,) = [t for t in early.tests if t.family]
    assert (test.verdict, test.p_holm) == ("unknown", 1.0)
    assert test.p == pytest.approx(2**-7)
    assert any("not decided, 1 of 1 tests wait for seeds" in said for said in early.verdicts)
    assert not any("pass Holm" in said for said in early.verdicts)


@pytest.mark.parametrize("methods", ["[cwmp, topk]", "[topk, cwmp]"])
@pytest.mark.parametrize("references", ["[topk]", "[cwmp]", "[topk, cwmp]"])
def test_a_pair_of_the_family_is_tested_once_whichever_way_it_is_named(
    tmp_path: Path, methods: str, references: str
) -> None:
    text = TEXT.replace("{name: main}", f"{{name: main, methods: {methods}}}")
    plan = _plan(tmp_path, text + f"references: {references}\n")
    assert len(plan.spec.family_places()) == 1
    own = [t for t in _summary(plan, _flat()).tests if t.family]
    assert [{t.method, t.other} for t in own] == [{"cwmp", "topk"}]
    better = {(t.method, t.verdict) for t in own}
    assert better in ({("cwmp", "better")}, {("topk", "worse")})


def test_joules_left_unspent_are_told(tmp_path: Path) -> None:
    summary = _summary(_plan(tmp_path), _flat(), declared={"cwmp": 0.6})
    spent = {c.method: c.spent for c in summary.cells}
    assert spent == {"dense": None, "topk": 1.0, "random": 1.0, "cwmp": pytest.approx(0.6)}
    assert any("CWMP 20% on board (60 %)" in warning for warning in summary.warnings)
    assert "| 60 % |" in markdown(summary)


@pytest.mark.parametrize(
    ("method", "takes"),
    [("cahfp", True), ("cahfp:0.5", False), ("evofed:64,0.01,1", False), ("dense:fp16", False),
     ("hard", True), ("topk+ef", True)],
)  # fmt: skip
def test_who_takes_a_budget(tmp_path: Path, method: str, takes: bool) -> None:
    plan = _plan(tmp_path, TEXT.replace("random, cwmp", f"random, cwmp, '{method}'"))
    budgets = {t.labels["budget"] for t in plan.tasks if t.labels["method"] == method}
    assert budgets == ({"20%"} if takes else {"100%"})


def test_a_study_says_the_rate_of_evofed(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="a study says all arguments of evofed"):
        _plan(tmp_path, TEXT.replace("random, cwmp", "random, cwmp, 'evofed:64'"))


def test_the_uniform_control_has_the_feedback_of_its_method(tmp_path: Path) -> None:
    text = TEXT.replace("random, cwmp", "random, cwmp, topk+ef, cwmp+ef")
    controls = "controls: {method: cwmp+ef, shuffled: false}\n"
    plan = _plan(tmp_path, text + controls)
    methods = {t.labels["method"] for t in plan.tasks if t.labels["control"] == "uniform"}
    assert methods == {"topk+ef", "cwmp+ef"}
    with pytest.raises(FileFormatError, match="uniform costs make CWMP equal Top-K, not random"):
        _plan(tmp_path, text + controls.replace("cwmp+ef", "random"))
