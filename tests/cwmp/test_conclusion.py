from __future__ import annotations

import pytest

from cwmp.budget import Budget
from cwmp.comparison import compare_paired, mean_of
from cwmp.conclusion import (
    conclude,
    describe_accuracy,
    describe_difference,
    display_name,
    nothing_fits,
    share_of_dense,
)
from cwmp.fl.ledger import Phase
from cwmp.selectors.costs import SelectionCosts
from cwmp.summary import CellSummary, Comparison, Energy

BETTER = ([0.80, 0.82, 0.84], [0.70, 0.71, 0.75])
UNTOLD = ([0.80, 0.70, 0.75], [0.79, 0.72, 0.74])
TIED = ([0.800, 0.700, 0.750], [0.801, 0.699, 0.750])


def _cell(
    method: str,
    budget: str,
    exchange_j: float,
    train_j: float | None,
    lacks: tuple[Phase, ...] = (),
) -> CellSummary:
    def energy(value_j: float, lacks: tuple[Phase, ...] = ()) -> Energy:
        return Energy(value_j=value_j, low_j=0, high_j=2 * value_j, origin="modelled", lacks=lacks)

    without_train: tuple[Phase, ...] = () if train_j is not None else ("train",)

    return CellSummary(
        method=method,
        budget=budget,
        budget_j=1.0,
        seeds=(0, 1, 2),
        feasible=True,
        accuracy=mean_of([0.5, 0.6, 0.7]),
        total=energy(exchange_j + (train_j or 0), (*without_train, *lacks)),
        exchange=energy(exchange_j, lacks),
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
        (UNTOLD, "CWMP was not told apart from Top-K"),
        (TIED, "CWMP was tied with Top-K in final accuracy: +0.0 points (95 % -0.2 to 0.2"),
        (TIED, "; the interval lies within 1 point."),
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
    comparisons = [_compared(BETTER, "1%"), _compared(UNTOLD, "5%"), _compared(UNTOLD, None)]
    whole, listed = conclude([], comparisons)
    assert "over all budgets, CWMP was not told apart from Top-K" in whole
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
    assert sentences[3].startswith("Pareto front of total joules and accuracy, against every round")
    assert "of the others: CWMP 5%. Joules count as equal" in sentences[3]
    assert "less than 1 % of what is not training" in sentences[3]


def test_training_that_is_not_priced_is_not_weighed() -> None:
    cells = [_cell("topk", "5%", 1.0, None), _cell("cwmp", "5%", 2.0, None)]
    assert not any("training takes" in sentence for sentence in conclude(cells, []))


def test_no_sentence_claims_a_phase_that_is_not_priced() -> None:
    lacks: tuple[Phase, ...] = ("select", "encode")
    cells = [_cell("topk", "5%", 1.0, 9.0, lacks), _cell("cwmp", "5%", 1.5, 9.0, lacks)]
    _, spent, share, front = conclude(cells, [_compared(UNTOLD, "5%")])
    assert spent.startswith(
        "With downlink charged too, selection and encoding not priced, and training left out, "
        "CWMP spent 1.50 times"
    )
    assert "of all joules (without select, encode)" in share
    assert front.startswith("Pareto front of total joules (without select, encode) and accuracy")


def test_totals_that_lack_different_phases_are_not_compared() -> None:
    cells = [_cell("topk", "5%", 1.0, 9.0, ("select",)), _cell("cwmp", "5%", 1.5, 9.0)]
    verdict, front = conclude(cells, [_compared(UNTOLD, "5%")])
    assert "not told apart" in verdict
    assert front == ("No Pareto front of total joules: some totals lack select; some lack nothing.")


def test_a_front_on_which_no_run_ends_is_said_to_be_one() -> None:
    (_, front) = conclude([_cell("topk", "5%", 1.0, 9.0)], [])
    assert "of the others: no run ends on it." in front


@pytest.mark.parametrize("message_j", [1e-9, 0.3, 7.0, 1234.5])
def test_the_smallest_budget_is_named_and_can_be_spent(message_j: float) -> None:
    prices = SelectionCosts.linear({"w": (50,)}, {"w": 1.0}, message_j=message_j)
    shown = share_of_dense(prices.cheapest_j, prices)
    budget_j = Budget.parse(shown).joules(prices.dense_j)
    assert prices.cheapest_j <= budget_j <= min(1.02 * prices.cheapest_j, prices.dense_j)
    sparse = _cell("topk", "1%", 1.0, 9.0).model_copy(
        update={"budget_j": 0.9 * prices.cheapest_j, "feasible": False}
    )
    dense = _cell("dense", "100%", 1.0, 9.0).model_copy(update={"budget_j": prices.dense_j})
    said = nothing_fits([dense, sparse], prices)
    assert said is not None
    assert f"is {shown} of the dense cost" in said
    enough = sparse.model_copy(update={"budget_j": prices.cheapest_j})
    assert nothing_fits([dense, sparse, enough], prices) is None
    assert nothing_fits([dense], prices) is None


def test_numbers_as_people_read_them() -> None:
    assert describe_accuracy(mean_of([0.9, 0.92])) == "91.0 ± 1.4"
    assert describe_accuracy(mean_of([0.9])) == "90.0"
    assert describe_difference(compare_paired([0.9], [0.8])).startswith("+10.0 points with 1 ")
    assert display_name("cwmp:1,1") == "CWMP (1,1)"
    assert display_name("cwmp:1,1+saef:0.5") == "CWMP (1,1) + SAEF 0.5"
    assert display_name("topk+ef") == "Top-K + EF"
    assert display_name("someone-elses") == "someone-elses"
