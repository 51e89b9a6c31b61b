from __future__ import annotations

import pytest

from cwmp.budget import Budget
from profiler.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "amount", "relative"),
    [
        ("5%", 0.05, True),
        ("0.1 %", 0.001, True),
        (" 100% ", 1.0, True),
        ("2.5mJ", 2.5e-3, False),
        ("3 uJ", 3e-6, False),
        ("3 µJ", 3e-6, False),
        ("7nJ", 7e-9, False),
        ("1e-3 J", 1e-3, False),
        ("0.001", 1e-3, False),
        ("2kJ", 2e3, False),
    ],
)
def test_reads_what_people_write(text: str, amount: float, relative: bool) -> None:
    budget = Budget.parse(text)
    assert budget.amount == pytest.approx(amount, rel=1e-15)
    assert budget.relative is relative


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0%",
        "-1%",
        "-2 mJ",
        "nan",
        "nan%",
        "inf",
        "101%",
        "100.0001%",
        "1e-400",
        "",
        "%",
        "J",
        "five",
        "5 %%",
        "5 W",
        "5MJ",
        "1,5%",
        "0x10",
    ],
)
def test_refuses_in_one_line(text: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text)
    assert "budget" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_joules_of_a_share_and_of_joules() -> None:
    assert Budget.parse("25%").joules(dense_j=8.0) == 2.0
    assert Budget.parse("25mJ").joules(dense_j=8.0) == 0.025


def test_all_of_the_dense_cost_is_exactly_the_dense_cost() -> None:
    dense_j = 0.1 + 0.2
    assert Budget.parse("100%").joules(dense_j) == dense_j


@pytest.mark.parametrize("text", ["5%", "0.1%", "100%", "0.0025 J", "3e-06 J"])
def test_is_printed_as_it_is_read(text: str) -> None:
    assert str(Budget.parse(text)) == text
