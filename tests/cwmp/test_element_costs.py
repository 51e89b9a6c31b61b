"""Costs of single entries: rounding, sums, budgets, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwmp import ElementCosts
from profiler.errors import BudgetError, InputError

joules = st.floats(1e-300, 1e300)


def _narrow(*quanta: int) -> dict[str, np.ndarray]:
    return {"a": np.array(quanta, dtype=np.uint16)}


@given(st.lists(joules, min_size=1, max_size=20))
def test_declared_joules_are_never_below_the_costs(costs: list[float]) -> None:
    prepared = ElementCosts.from_joules({"a": costs})
    declared = prepared.quanta["a"] * prepared.quantum_j
    assert prepared.quanta["a"].dtype == np.uint16
    assert (declared >= costs).all()
    assert ((declared - costs) <= prepared.quantum_j * (1 + 1e-9)).all()
    with np.errstate(over="ignore"):
        rounding = float(np.max((declared - costs) / np.asarray(costs)))
    assert prepared.largest_rounding == pytest.approx(rounding)


@given(st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=20), st.floats(1e-12, 1e3))
def test_whole_quanta_stay_as_they_are(quanta: list[int], quantum_j: float) -> None:
    costs = {"a": np.array(quanta) * quantum_j}
    prepared = ElementCosts.from_joules(costs, quantum_j)
    assert prepared.quanta["a"].tolist() == quanta
    wide = max(quanta) > 65535
    assert prepared.quanta["a"].dtype == (np.uint32 if wide else np.uint16)
    assert prepared.largest_rounding == 0


def test_all_layers_share_a_quantum_that_the_largest_cost_sets() -> None:
    costs = ElementCosts.from_joules({"a": [[1e-9, 2e-9]], "b": [65535e-9]})
    assert costs.quantum_j == pytest.approx(1e-9)
    assert costs.quanta["a"].shape == (1, 2)
    assert costs.quanta["b"].tolist() == [65535]


def test_sums_are_exact_where_float64_and_32_bits_are_not() -> None:
    wide = np.full(3_000_001, 2**32 - 1, dtype=np.uint32)
    costs = ElementCosts({"a": wide, "b": np.array([1], dtype=np.uint16)}, 1.0)
    assert costs.total == 3_000_001 * (2**32 - 1) + 1


def test_a_total_that_could_overflow_is_refused() -> None:
    shared = np.full(2**20, 2**32 - 1, dtype=np.uint32)
    with pytest.raises(InputError, match=r"more than 2\^63"):
        ElementCosts({f"layer{number}": shared for number in range(2**11 + 1)}, 1e-30)
    with pytest.raises(InputError, match="overflow float64"):
        ElementCosts(_narrow(1, 3), 1e308)


@given(
    st.lists(st.integers(1, 65535), min_size=1, max_size=30),
    st.floats(1e-12, 1.0),
    st.sampled_from([0.0, 1e-9, 0.3]),
    st.floats(0, 2),
)
def test_the_most_quanta_within_a_budget(
    quanta: list[int], quantum_j: float, message_j: float, share: float
) -> None:
    costs = ElementCosts(_narrow(*quanta), quantum_j, message_j)
    budget_j = share * costs.dense_j
    within = costs.quanta_within(budget_j)
    assert 0 <= within <= costs.total
    assert costs.energy_j(within) <= budget_j
    assert within == costs.total or costs.energy_j(within + 1) > budget_j
    if within > 1:
        exact = (Fraction(budget_j) - Fraction(message_j)) / Fraction(quantum_j)
        exact = min(exact, Fraction(costs.total))
        assert within == pytest.approx(float(exact), abs=1.01, rel=1e-12)


def test_joules_of_everything_of_one_entry_and_of_nothing() -> None:
    costs = ElementCosts(_narrow(3, 2, 7), quantum_j=0.5, message_j=1.0)
    assert costs.dense_j == 7.0
    assert costs.cheapest_j == 2.0
    assert costs.energy_j(0) == 0.0


@pytest.mark.parametrize(
    ("budget_j", "message"),
    [
        (0.0, "must be a positive number"),
        (-1.0, "must be a positive number"),
        (float("nan"), "must be a positive number"),
        (float("inf"), "must be a positive number"),
        (7.1, "above the dense cost"),
        (1.9, "pays for no entry"),
    ],
)
def test_a_budget_that_cannot_be_spent_is_refused(budget_j: float, message: str) -> None:
    costs = ElementCosts(_narrow(3, 2, 7), quantum_j=0.5, message_j=1.0)
    with pytest.raises(BudgetError, match=message):
        costs.check_budget(budget_j)


@pytest.mark.parametrize(
    ("quanta", "message"),
    [
        ({}, "there are no costs"),
        ({"a": np.array([1, 2])}, "costs of layer 'a' are int64"),
        ({"a": [1, 2]}, "costs of layer 'a' are list"),
        ({"a": np.zeros(0, dtype=np.uint16)}, "no entries"),
        ({"a": np.array([1, 0, 0], dtype=np.uint16)}, "2 entries of 0 quanta"),
    ],
)
def test_quanta_that_cannot_be_used_are_refused(quanta: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ElementCosts(quanta, 1.0)


@pytest.mark.parametrize("quantum_j", [0.0, -1.0, float("nan"), float("inf")])
def test_a_quantum_is_a_positive_number(quantum_j: float) -> None:
    with pytest.raises(InputError, match="quantum"):
        ElementCosts(_narrow(1), quantum_j)
    with pytest.raises(InputError, match="quantum"):
        ElementCosts.from_joules({"a": [1.0]}, quantum_j)


@pytest.mark.parametrize("message_j", [-1.0, float("nan"), float("inf")])
def test_a_message_costs_nothing_or_more(message_j: float) -> None:
    with pytest.raises(InputError, match="message"):
        ElementCosts(_narrow(1), 1.0, message_j)


@pytest.mark.parametrize("cost", [0.0, -1e-9, float("nan"), float("inf")])
def test_joules_of_an_entry_are_positive_numbers(cost: float) -> None:
    with pytest.raises(InputError, match="1 of 2 costs"):
        ElementCosts.from_joules({"a": [1.0, cost]})


@pytest.mark.parametrize(
    ("costs_j", "quantum_j", "message"),
    [
        ({}, None, "there are no costs"),
        ({"a": []}, None, "no entries"),
        ({"a": ["much"]}, None, "not numbers"),
        ({"a": [1.0]}, 1e-12, "larger quantum"),
    ],
)
def test_joules_that_cannot_be_rounded_are_refused(costs_j, quantum_j, message) -> None:
    with pytest.raises(InputError, match=message):
        ElementCosts.from_joules(costs_j, quantum_j)


def test_costs_that_do_not_lie_in_order_are_laid_out() -> None:
    every_other = np.arange(1, 13, dtype=np.uint32).reshape(3, 4)[:, ::2]
    costs = ElementCosts({"a": every_other}, 1.0)
    assert costs.quanta["a"].flags.c_contiguous
    assert costs.quanta["a"].tolist() == [[1, 3], [5, 7], [9, 11]]
    assert repr(costs) == "ElementCosts(1 layers, quantum_j=1, message_j=0)"
