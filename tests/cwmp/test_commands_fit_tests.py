"""What ``cwmp fit`` prints of the tests of a trace model: each number is the model's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from costmodels import CostModel, fit_cost_model
from costmodels.evaluation.scores import Coverage
from cwmp.commands.fit_tests import print_tests
from profiler.trace import Trace

TRACE = Path(__file__).resolve().parents[1] / "golden" / "trace-v1.csv"


@pytest.fixture(scope="module")
def model() -> CostModel:
    return fit_cost_model(Trace.load(TRACE))


def printed(
    model: CostModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    print_tests(model)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    return text


def section(text: str, title: str) -> list[list[str]]:
    """The rows under the table that starts with *title*, as words."""
    lines = text[text.index(title) :].splitlines()
    body = lines[: lines.index(next((x for x in lines if not x.strip()), lines[-1]))]
    return [line.split() for line in body]


def test_each_grouping_of_each_operation_has_its_row(
    model: CostModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = section(printed(model, capsys, monkeypatch), "left out by")[2:]
    expected = sum(1 + len(model.tests[found.group]) for found in model.operations)
    assert len(rows) == expected
    at = next(number for number, row in enumerate(rows) if row[0] == "update")
    (kind,) = (test for test in model.tests["update"] if test.grouping == "kind")
    row, found = rows[at + 1], kind.validation
    assert row[:2] == ["kind", str(found.groups)]
    metrics = (found.mape, found.median_ape, found.r2, found.r2_log, found.spearman, found.bias)
    for word, metric, scale in zip(row[2:], metrics, (100, 100, 1, 1, 1, 100), strict=True):
        assert metric is not None and metric.value is not None
        assert float(word) == pytest.approx(metric.value * scale, rel=6e-3)


def test_steps_are_printed_beside_the_sum_of_their_modules(
    model: CostModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = section(printed(model, capsys, monkeypatch), "training steps of whole")
    found = [row for row in rows if row[0] == "small"]
    assert len(found) == len(model.whole_steps) > 0
    for row, step in zip(found, model.whole_steps, strict=True):
        assert row[1:3] == [str(step.examples), str(step.modules)]
        numbers = [float(word.strip("[],")) for word in (*row[3:5], *row[6:9])]
        wanted = (step.whole_j, step.sum_j, step.overhead_j, step.low_j, step.high_j)
        assert numbers == pytest.approx([1e3 * joules for joules in wanted], rel=6e-3)
        assert float(row[5]) == pytest.approx(100 * (step.sum_j / step.whole_j - 1), rel=6e-3)


def test_coverage_comes_with_its_interval_and_worst_group(
    model: CostModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Coverage(
        level=0.9,
        value=0.83,
        low=0.61,
        high=0.95,
        rows=40,
        groups=12,
        row_value=0.8,
        worst_group="conv.weight",
        worst_value=0.25,
        worst_rows=4,
    )
    first, *others = model.operations
    report = first.validation.model_copy(update={"coverage": held})
    operations = (first.model_copy(update={"validation": report}), *others)
    text = printed(model.model_copy(update={"operations": operations}), capsys, monkeypatch)
    said = "90 % ones held 83 % [61, 95], worst in conv.weight: 25 % of 4"
    assert said in " ".join(text.split())


def test_a_model_of_an_earlier_release_or_a_transfer_has_no_further_tables(
    model: CostModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = model.model_copy(update={"tests": {}, "whole_steps": ()})
    text = printed(bare, capsys, monkeypatch)
    assert "cross-validation" in text
    assert "left out by" not in text and "training steps" not in text
