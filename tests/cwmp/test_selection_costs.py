"""Declared joules, worked out by hand, and what a cost file must hold to declare them."""

from __future__ import annotations

import numpy as np
import pytest

from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
from cwmp.codec import encode
from cwmp.payload import PayloadLayout
from cwmp.selectors import CostWeighted, Dense, TopK
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import BudgetError, InputError, LayerMismatchError
from profiler.layers import LayerInfo

BYTE_J = 2e-8


def _estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value / 2, high=2 * value)


def _operation(operation: str, pattern: str, *pieces: tuple[int, float | None, float], **other):
    return OperationCost(
        operation=operation,
        pattern=pattern,
        payer="client",
        origin="assumed",
        implementation="by hand",
        pieces=tuple(
            Piece(from_k=start, a_j=None if a is None else _estimate(a), c_j=_estimate(c))
            for start, a, c in pieces
        ),
        k_min=1,
        k_max=100,
        **{"unit": "entry"} | other,
    )


def _layer(name: str, shape: tuple[int, ...], *operations: OperationCost) -> LayerCost:
    return LayerCost(
        name=name,
        kind="conv2d.weight",
        shape=shape,
        dtype="float32",
        parameters=int(np.prod(shape)),
        operations=operations,
    )


def _cost_file(**changes) -> CostFile:
    update = _operation("update", "random", (1, 1e-6, 3e-9), (50, 0.5e-6, 14e-9))
    content = {
        "created_utc": "2026-01-01T00:00:00Z",
        "device": "a board",
        "meter": "by hand",
        "origin": "assumed",
        "model": "two layers",
        "basis": "numbers made up for a test",
        "layers": (
            _layer("a", (10, 8), update, _operation("update", "dense", (1, 0.4e-6, 1e-9))),
            _layer("b", (6,), _operation("update", "random", (1, None, 5e-9))),
        ),
        "message": (_operation("send", "random", (1, 2e-6, BYTE_J), unit="byte"),),
    }
    return CostFile(**content | changes)


def test_joules_by_hand() -> None:
    costs = SelectionCosts.from_cost_file(_cost_file(), buffer_entries=4)
    a, b = costs.layers
    message_j = 2e-6 + BYTE_J * (24 + 12 + 4 * 4)
    assert costs.message_j == pytest.approx(message_j)
    assert a.marginal_j == pytest.approx(3e-9 + 8 * BYTE_J)
    assert a.energy_j(2) == pytest.approx(1e-6 + 2 * 3e-9 + BYTE_J * (12 + 2 * 8))
    assert a.energy_j(3) == pytest.approx(1e-6 + 3 * 3e-9 + BYTE_J * (12 + 3 * 4 + 10))
    assert a.form_j(50, "sparse") == pytest.approx(0.5e-6 + 50 * 14e-9 + BYTE_J * (12 + 210))
    dense_j = 0.4e-6 + 80 * 1e-9 + BYTE_J * (12 + 320)
    assert a.energy_j(80) == a.form_j(1, "dense") == pytest.approx(dense_j)
    assert (a.form(80), a.form(3)) == ("dense", "sparse")
    assert b.energy_j(6) == pytest.approx(6 * 5e-9 + BYTE_J * (12 + 24 + 1))
    assert costs.dense_j == pytest.approx(message_j + dense_j + 6 * 5e-9 + BYTE_J * 37)
    assert costs.cheapest_j == pytest.approx(message_j + 5e-9 + BYTE_J * (12 + 5))
    assert costs.energy_j([0, 0]) == 0


def test_joules_of_bytes_are_those_of_the_bytes_that_are_sent() -> None:
    """At no cost but bytes, declared joules are the length of the real payload."""
    free = (_operation("update", "random", (1, None, 1e-30)),)
    file = _cost_file(
        layers=(_layer("a", (10, 8), *free), _layer("b", (6,), *free)),
        message=(_operation("send", "random", (1, None, 1.0), unit="byte"),),
    )
    costs = SelectionCosts.from_cost_file(file)
    layout = PayloadLayout({layer.name: layer.shape for layer in costs.layers})
    numbers = np.random.default_rng(0)
    update = {layer.name: numbers.normal(size=layer.shape) for layer in costs.layers}
    for budget_j in (45.0, 100.0, 200.0, costs.dense_j):
        selection = CostWeighted(file).select(update, budget_j)
        assert len(encode(selection.layers, layout)) == round(selection.energy_j)


def test_tables_list_every_count() -> None:
    costs = SelectionCosts.from_cost_file(_cost_file())
    assert [table.size for table in costs.tables] == [81, 7]
    for layer, table in zip(costs.layers, costs.tables, strict=True):
        assert table[0] == 0
        assert (np.diff(table) >= 0).all()
        assert [float(layer.energy_j(k)) for k in range(table.size)] == table.tolist()


def test_only_a_bare_slope_is_linear() -> None:
    shapes, slope = {"a": (3,)}, {"a": 1.0}
    assert SelectionCosts.linear(shapes, slope).layers[0].is_linear
    assert not SelectionCosts.linear(shapes, slope, {"a": 1.0}).layers[0].is_linear
    assert not any(x.is_linear for x in SelectionCosts.from_cost_file(_cost_file()).layers)


@pytest.mark.parametrize("rule", [CostWeighted, TopK, Dense])
def test_selectors_take_a_cost_file(rule) -> None:
    update = {"a": np.ones((10, 8), np.float32), "b": np.arange(6, dtype=np.float32)}
    costs = SelectionCosts.from_cost_file(_cost_file())
    one, two = (rule(given).select(update, costs.dense_j) for given in (_cost_file(), costs))
    assert one.energy_j == two.energy_j <= costs.dense_j


def test_a_file_without_send_or_update_costs_is_refused() -> None:
    with pytest.raises(InputError, match="send"):
        TopK(_cost_file(message=()))
    only_dense = _layer("a", (10, 8), _operation("update", "dense", (1, None, 1e-9)))
    with pytest.raises(InputError, match="'a'"):
        TopK(_cost_file(layers=(only_dense,)))


def test_costs_of_another_model_are_refused() -> None:
    model = (LayerInfo("a", "conv2d.weight", (8, 10), "float32"),)
    with pytest.raises(LayerMismatchError):
        SelectionCosts.from_cost_file(_cost_file(), model)


@pytest.mark.parametrize(
    ("factor", "says"), [(1.01, "above the dense cost"), (1e-9, "infeasible"), (0.0, "positive")]
)
def test_budgets_that_cannot_be_spent(factor: float, says: str) -> None:
    costs = SelectionCosts.from_cost_file(_cost_file())
    costs.check_budget(costs.dense_j)
    costs.check_budget(costs.cheapest_j)
    with pytest.raises(BudgetError, match=says):
        costs.check_budget(factor * costs.dense_j)


def test_linear_costs_must_be_positive() -> None:
    with pytest.raises(InputError, match="'a'"):
        SelectionCosts.linear({"a": (3,)}, {"a": 0.0})
