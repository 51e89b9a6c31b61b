"""Declared joules, worked out by hand, and what a cost file must hold to declare them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
from cwmp.codec import encode
from cwmp.fl.algorithms.base import Touch
from cwmp.fl.charges import Rates
from cwmp.fl.rounds import ClientRecord, RoundRecord
from cwmp.payload import HEADER_BYTES, PayloadLayout, buffer_bytes, layer_bytes
from cwmp.selectors import CostWeighted, Dense, RandomK, TopK
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.upper_line import upper_line
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
            _layer(
                "b",
                (6,),
                _operation("update", "random", (1, None, 5e-9)),
                _operation("update", "dense", (1, None, 20e-9)),
            ),
        ),
        "message": (_operation("send", "random", (1, 2e-6, BYTE_J), unit="byte"),),
    }
    return CostFile(**content | changes)


def test_joules_by_hand() -> None:
    costs = SelectionCosts.from_cost_file(_cost_file(), buffer_entries=4)
    a, b = costs.layers
    message_j = 2e-6 + BYTE_J * (24 + 12 + 4 * 4)
    assert costs.message_j == pytest.approx(message_j)
    assert a.marginal_j == pytest.approx(3e-9 + 5 * BYTE_J)
    assert a.energy_j(2) == pytest.approx(1e-6 + 2 * 3e-9 + BYTE_J * (12 + 2 * 4 + 2))
    assert a.energy_j(3) == pytest.approx(1e-6 + 3 * 3e-9 + BYTE_J * (12 + 3 * 4 + 3))
    assert a.form_j(50, "sparse") == pytest.approx(0.5e-6 + 50 * 14e-9 + BYTE_J * (12 + 210))
    dense_j = 0.4e-6 + 80 * 1e-9 + BYTE_J * (12 + 320)
    assert a.energy_j(80) == a.form_j(1, "dense") == pytest.approx(dense_j)
    assert (a.form(80), a.form(3)) == ("dense", "sparse")
    assert b.energy_j(6) == pytest.approx(6 * 5e-9 + BYTE_J * (12 + 24 + 1))
    assert b.form(6) == "sparse"
    whole_j = 6 * 20e-9 + BYTE_J * (12 + 24)
    assert b.energy_j(6) < whole_j
    assert costs.dense_j == pytest.approx(message_j + dense_j + whole_j)
    assert costs.cheapest_j == pytest.approx(message_j + 5e-9 + BYTE_J * (12 + 5))
    assert costs.energy_j([0, 0]) == 0


def test_joules_of_bytes_are_the_most_that_the_bytes_can_cost() -> None:
    """At no cost but bytes, the real payload is as long as declared, or a few bytes shorter."""
    free = tuple(_operation("update", form, (1, None, 1e-30)) for form in ("random", "dense"))
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
        declared, real = round(selection.energy_j), len(encode(selection.layers, layout))
        assert 0.95 * declared <= real <= declared


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
    with pytest.raises(InputError, match=r"'a'.* random"):
        TopK(_cost_file(layers=(only_dense,)))
    only_sparse = _layer("a", (10, 8), _operation("update", "random", (1, None, 1e-9)))
    with pytest.raises(InputError, match=r"'a'.* dense add"):
        TopK(_cost_file(layers=(only_sparse,)))


def test_dense_is_every_layer_whole_even_where_entries_cost_less() -> None:
    costs = SelectionCosts.from_cost_file(_cost_file())
    update = {"a": np.zeros((10, 8)), "b": np.arange(6.0)}
    everything = Dense(costs).select(update, costs.dense_j)
    assert [layer.form for layer in everything.layers] == ["dense", "dense"]
    assert everything.energy_j == costs.dense_j > costs.energy_j([80, 6])
    assert everything.captured == everything.total == 55
    assert SelectionCosts.linear({"a": (3,)}, {"a": 2.0}, {"a": 1.0}).dense_j == 7


joules = st.floats(1e-12, 1e-3)


@st.composite
def sends(draw: st.DrawFn, *, largest: int = 500) -> OperationCost:
    """One line, or two that meet at a knee or jump there, flatter or steeper beyond."""
    first_a, first_c = draw(st.none() | joules), draw(joules)
    pieces = [(1, first_a, first_c)]
    if draw(st.booleans()):
        knee, later = draw(st.integers(2, largest)), draw(joules)
        least = (first_a or 0.0) + (first_c - later) * knee
        jump = draw(st.just(0.0) | joules)
        pieces.append((knee, max(least, 0.0) * (1 + 1e-9) + jump or None, later))
    return _operation("send", "random", *pieces, unit="byte")


@st.composite
def files(draw: st.DrawFn) -> CostFile:
    layers = []
    for number in range(draw(st.integers(1, 3))):
        operations = [
            _operation("update", pattern, (1, draw(st.none() | joules), draw(joules)))
            for pattern in ("random", "dense")
        ]
        layers.append(_layer(f"layer{number}", (draw(st.integers(1, 30)),), *operations))
    return _cost_file(layers=tuple(layers), message=(draw(sends()),))


@given(files(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=300, deadline=None)
def test_declared_joules_are_never_less_than_the_ledgers(file, seed: int, buffers: bool) -> None:
    """More by the bytes saved alone where sending is one line; never above the dense cost."""
    held = {"statistics": (4,)} if buffers else {}
    costs = SelectionCosts.from_cost_file(file, buffer_entries=4 * buffers)
    layout = PayloadLayout({layer.name: layer.shape for layer in costs.layers}, held)
    numbers = np.random.default_rng(seed)
    update = {layer.name: numbers.normal(size=layer.shape) for layer in costs.layers}
    for rule in (CostWeighted, TopK, RandomK, Dense):
        budget_j = costs.cheapest_j + numbers.random() * (costs.dense_j - costs.cheapest_j)
        budget_j = costs.dense_j if rule is Dense else min(budget_j, costs.dense_j)
        selection = rule(costs).select(update, budget_j, generator=numbers)
        assert selection.energy_j <= costs.dense_j
        payload = encode(selection.layers, layout, {name: np.zeros(4) for name in held})
        charged_j = _charged_by_the_ledger(file, selection.layers, len(payload))
        assert selection.energy_j >= charged_j * (1 - 1e-9)
        if len(file.message[0].pieces) == 1:
            declared = HEADER_BYTES + buffer_bytes(4 * buffers)
            for layer in selection.layers:
                n = layout.layers[layer.name][0]
                declared += int(layer_bytes(n, layer.indices.size, layer.form))
            saved_j = costs.layers[0].byte_j * (declared - len(payload))
            assert selection.energy_j == pytest.approx(charged_j + saved_j, rel=1e-9, abs=0)


def test_a_single_entry_sent_dense_is_the_smallest_message() -> None:
    """One entry takes a byte less dense than with an index, and a steep line is not below it."""
    send = _operation("send", "random", (1, 8e-4, 5e-5), (52, 3.2e-3, 4.8e-6), unit="byte")
    update = [
        _operation("update", form, (1, None, c)) for form, c in (("random", 9e-4), ("dense", 6e-5))
    ]
    file = _cost_file(layers=(_layer("one", (1,), *update),), message=(send,))
    costs = SelectionCosts.from_cost_file(file, buffer_entries=4)
    (layer,) = Dense(costs).select({"one": np.ones(1)}, costs.dense_j).layers
    held = {"statistics": (4,)}
    payload = encode([layer], PayloadLayout({"one": (1,)}, held), {"statistics": np.zeros(4)})
    assert costs.dense_j >= _charged_by_the_ledger(file, (layer,), len(payload)) * (1 - 1e-9)


def _charged_by_the_ledger(file: CostFile, layers, payload_bytes: int) -> float:
    touched = tuple(Touch(layer.name, layer.indices.size, layer.form) for layer in layers)
    client = ClientRecord((1,), payload_bytes, touched, None, 0.0)
    record = RoundRecord(1, 0.0, 0.0, (client,), payload_bytes, touched)
    return sum(
        entry.energy.value
        for entry in Rates.of(file).charge(record, "topk")
        if (entry.party, entry.phase) in (("client", "uplink"), ("server", "update"))
    )


@given(sends(largest=300), st.integers(1, 100), st.integers(1, 300))
@settings(max_examples=150, deadline=None)
def test_the_upper_line_is_the_best_that_is_nowhere_below(send, smallest: int, more: int) -> None:
    """Against a linear program over every size, least mean excess over the same sizes."""
    largest = smallest + more
    a, s = upper_line(send, smallest, largest)
    every = np.arange(smallest, largest + 1)
    assert a >= 0
    assert s > 0
    assert (a + s * every >= send.energy_j(every) * (1 - 1e-12)).all()
    sizes = np.geomspace(smallest, largest, 65)
    weight = 1 / send.energy_j(sizes)
    scale = float(send.energy_j(largest))
    best = linprog(
        [weight.mean() * scale, (weight * sizes).mean() * scale],
        A_ub=-np.column_stack((np.ones(every.size), every)),
        b_ub=-send.energy_j(every) / scale,
        bounds=(0, None),
    )
    assert best.status == 0, best.message
    excess = (a + s * sizes) * weight
    assert excess.mean() <= best.fun * (1 + 1e-5)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fixed_j": (-5.0,)}, "finite joules, 0 or more"),
        ({"slope_j": (float("nan"),)}, "finite joules, 0 or more"),
        ({"byte_j": -1e-9}, "finite joules, 0 or more"),
        ({"dense_j": float("inf")}, "finite joules, 0 or more"),
        ({"starts": (1, 9)}, "2 starts, 1 fixed and 1 marginal"),
        ({"starts": (2,)}, "the first from 1 on"),
    ],
)
def test_a_layer_s_price_checks_itself(change: dict[str, object], message: str) -> None:
    good = {"name": "a", "shape": (4,), "starts": (1,), "fixed_j": (1.0,), "slope_j": (1.0,)}
    LayerPrice(**good)
    with pytest.raises(InputError, match=message):
        LayerPrice(**{**good, **change})


def test_costs_check_themselves() -> None:
    for message_j in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="a message costs"):
            SelectionCosts.linear({"a": (2,)}, {"a": 1.0}, message_j=message_j)
    with pytest.raises(InputError, match="without layers"):
        SelectionCosts(())
    with pytest.raises(InputError, match="'b' has a shape but no marginal cost"):
        SelectionCosts.linear({"a": (2,), "b": (1,)}, {"a": 1.0})
