from __future__ import annotations

import pytest

from cwmp.comparison import compare_paired, mean_of
from cwmp.conclusion import conclude, describe_accuracy, describe_difference, display_name
from cwmp.summary import CellSummary, Comparison, Energy

BETTER = ([0.80, 0.82, 0.84], [0.70, 0.71, 0.75])
TIED = ([0.80, 0.70, 0.75], [0.79, 0.72, 0.74])


def _cell(method: str, budget: str, exchange_j: float, train_j: float | None) -> CellSummary:
    def energy(value_j: float) -> Energy:
        return Energy(value_j=value_j, low_j=0, high_j=2 * value_j, origin="modelled")

    return CellSummary(
        method=method,
        budget=budget,
        budget_j=1.0,
        seeds=(0, 1, 2),
        feasible=True,
        accuracy=mean_of([0.5, 0.6, 0.7]),
        total=energy(exchange_j + (train_j or 0)),
        exchange=energy(exchange_j),
        phases={"train": None if train_j is None else energy(train_j)},
        on_front=method == "cwmp",
    )


def _compared(
    runs: tuple[list[float], list[float]], budget: str | None, method: str = "cwmp"
) -> Comparison:
    return Comparison(method=method, other="topk", budget=budget, result=compare_paired(*runs))


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        (BETTER, "CWMP was better than Top-K"),
        (BETTER[::-1], "CWMP was worse than Top-K"),
        (TIED, "CWMP was tied with Top-K"),
        ((BETTER[0][:1], BETTER[1][:1]), "CWMP was not told apart from Top-K"),
        ((BETTER[0], BETTER[0]), "CWMP was tied with Top-K: the 3 runs ended in equal accuracy"),
    ],
)
def test_the_verdict_is_what_the_runs_say(
    runs: tuple[list[float], list[float]], verdict: str
) -> None:
    sentences = conclude([], [_compared(runs, "5%")])
    assert len(sentences) == 1
    assert verdict in sentences[0]
    assert "at 5%" in sentences[0]


def test_several_budgets_are_concluded_together_and_listed() -> None:
    comparisons = [_compared(BETTER, "1%"), _compared(TIED, "5%"), _compared(TIED, None)]
    whole, listed = conclude([], comparisons)
    assert "over all budgets, CWMP was tied with Top-K" in whole
    assert listed.startswith("By budget: 1% +10.0 points")
    assert "; 5% " in listed


def test_each_method_gets_its_own_verdict() -> None:
    sentences = conclude([], [_compared(BETTER, "5%"), _compared(TIED, "5%", "cwmp:1,1")])
    assert "CWMP was better" in sentences[0]
    assert "CWMP (1,1) was tied" in sentences[1]


def test_joules_outside_the_budget_and_training_are_put_beside_it() -> None:
    cells = [_cell("topk", "5%", 1.0, 9.0), _cell("cwmp", "5%", 1.5, 9.0)]
    sentences = conclude(cells, [_compared(TIED, "5%")])
    assert "CWMP spent 1.50 times the joules of Top-K" in sentences[1]
    assert "Local training takes 85.7 to 90 % of all joules" in sentences[2]
    assert sentences[3] == "Pareto front of total joules and accuracy: CWMP 5%."


def test_training_that_is_not_priced_is_not_weighed() -> None:
    cells = [_cell("topk", "5%", 1.0, None), _cell("cwmp", "5%", 2.0, None)]
    assert not any("training takes" in sentence for sentence in conclude(cells, []))


def test_numbers_as_people_read_them() -> None:
    assert describe_accuracy(mean_of([0.9, 0.92])) == "91.0 ± 1.4"
    assert describe_accuracy(mean_of([0.9])) == "90.0"
    assert describe_difference(compare_paired([0.9], [0.8])).startswith("+10.0 points with 1 ")
    assert display_name("cwmp:1,1") == "CWMP (1,1)"
    assert display_name("someone-elses") == "someone-elses"
