"""Selections priced by the bytes really sent, and value types compared at equal joules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import device_traces
from costmodels import costs_from_trace
from costmodels.costfile import Estimate, OperationCost, Piece
from cwmp.codec import decode, encode
from cwmp.payload import VALUE_BYTES, PayloadLayout, layer_bytes
from cwmp.selectors import CostWeighted, RandomK, TopK
from cwmp.selectors.block_shapes import Channels
from cwmp.selectors.blocks import BlockWeighted
from cwmp.selectors.burst_costs import BurstCosts, linear_bursts
from cwmp.selectors.bursts import BurstWeighted
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.refined import Refined
from cwmp.selectors.value_types import best_value_type
from profiler.errors import BudgetError, InputError, UpdateError

TRACE = "amd-epyc-2core-vm/resnet8-modelled"


def _clustered(numbers: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of very different scale, so that what is kept lies together."""
    scale = np.exp(numbers.normal(0, 1.5, size=(shape[0],) + (1,) * (len(shape) - 1)))
    return (numbers.laplace(size=shape) * scale).astype(np.float32)


@st.composite
def problems(draw: st.DrawFn):
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    value_type = draw(st.sampled_from(list(VALUE_BYTES)))
    shapes = {
        f"layer{i}": (int(numbers.integers(1, 40)), 8) for i in range(draw(st.integers(1, 3)))
    }
    layers = tuple(
        LayerPrice(
            name,
            shape,
            (1,),
            (draw(st.sampled_from([0.0, 30.0])),),
            (float(numbers.uniform(0.1, 3)),),
            dense_j=draw(st.none() | st.just(100.0)),
            byte_j=1.0,
            value_bytes=VALUE_BYTES[value_type],
        )
        for name, shape in shapes.items()
    )
    costs = SelectionCosts(layers, message_j=24.0)
    update = {name: _clustered(numbers, shape) for name, shape in shapes.items()}
    share = draw(st.floats(0.05, 1))
    budget_j = costs.cheapest_j + share * (costs.dense_j - costs.cheapest_j)
    return costs, update, min(budget_j, costs.dense_j), PayloadLayout(shapes, value_type=value_type)


@given(problems(), st.sampled_from([CostWeighted, TopK, RandomK, BlockWeighted]), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_never_worse_than_plain_never_over_budget_by_the_bytes(problem, rule, rounds) -> None:
    costs, update, budget_j, layout = problem
    selector = rule(costs, Channels(0)) if rule is BlockWeighted else rule(costs)
    refined = Refined(selector, layout, rounds=rounds)
    try:
        plain = selector.select(update, budget_j, generator=np.random.default_rng(7))
    except BudgetError:
        with pytest.raises(BudgetError):
            refined.refine(update, budget_j, generator=np.random.default_rng(7))
        return
    found = refined.refine(update, budget_j, generator=np.random.default_rng(7))
    assert found.plain.captured == plain.captured
    assert found.selection.captured >= plain.captured
    assert found.selection.bound is None
    assert 1 <= len(found.rounds) <= rounds
    assert found.rounds[0].feasible
    assert found.rounds[0].true_j <= plain.energy_j
    payload = encode(found.selection.layers, layout)
    assert refined.message_bytes(found.selection.layers) == len(payload)
    prices = {layer.name: layer for layer in costs.layers}
    spent_j = float(len(payload)) if found.selection.layers else 0.0
    for layer in found.selection.layers:
        price, k = prices[layer.name], layer.indices.size
        applied = price.form_j(k, layer.form)
        spent_j += float(applied - layer_bytes(price.parameters, k, layer.form, price.value_bytes))
    assert found.selection.energy_j == pytest.approx(spent_j, rel=1e-9)
    assert found.selection.energy_j <= budget_j == found.selection.budget_j
    assert found.selection.captured == pytest.approx(
        max(here.objective for here in found.rounds if here.feasible), rel=1e-11
    )


def _rows() -> tuple[SelectionCosts, dict[str, np.ndarray], PayloadLayout]:
    shape = (400, 64)
    costs = SelectionCosts((LayerPrice("a", shape, (1,), (0.0,), (1e-3,), byte_j=1.0),), 24.0)
    return costs, {"a": _clustered(np.random.default_rng(0), shape)}, PayloadLayout({"a": shape})


def test_entries_that_lie_together_pay_for_more_of_them() -> None:
    costs, update, layout = _rows()
    budget_j = 0.1 * costs.dense_j
    found = Refined(BlockWeighted(costs, Channels(0)), layout).refine(update, budget_j)
    assert found.selection.entries > 1.1 * found.plain.entries
    assert found.selection.energy_j > 0.95 * budget_j
    assert found.rounds[-1].inner_budget_j > budget_j


def test_a_round_that_overshoots_is_taken_back_and_oscillation_is_reported() -> None:
    costs, update, layout = _rows()
    budget_j = 0.1 * costs.dense_j

    class Jumpy:
        """Keeps few entries in the first half of the layer; just above the budget, all of it."""

        name = "jumpy"

        def __init__(self) -> None:
            self.costs = costs
            self.asked: list[float] = []

        def select(self, update, budget_j, *, generator=None):
            self.asked.append(budget_j)
            few, many = (CostWeighted(costs).select(update, share * first) for share in (0.5, 3.0))
            return few if len(self.asked) % 2 else many

    first, selector = budget_j, Jumpy()
    found = Refined(selector, layout, rounds=6).refine(update, budget_j)
    assert found.oscillated
    assert len(found.rounds) == 6
    assert [here.feasible for here in found.rounds] == [True, False] * 3
    assert found.selection.entries == found.plain.entries
    low = max(b for b, here in zip(selector.asked, found.rounds, strict=True) if here.feasible)
    high = min(b for b, here in zip(selector.asked, found.rounds, strict=True) if not here.feasible)
    assert low < selector.asked[-1] <= high or selector.asked[-1] == low
    assert not Refined(CostWeighted(costs), layout).refine(update, budget_j).oscillated


def _send(*pieces: tuple[int, float, float], unit: str = "byte") -> OperationCost:
    def estimate(value: float) -> Estimate:
        return Estimate(value=value, low=value / 2, high=2 * value)

    return OperationCost(
        operation="send",
        pattern="random",
        unit=unit,
        payer="client",
        origin="assumed",
        implementation="by hand",
        pieces=tuple(Piece(from_k=k, a_j=estimate(a), c_j=estimate(c)) for k, a, c in pieces),
        k_min=1,
        k_max=10**6,
    )


def test_a_send_cost_of_its_own_is_charged_by_the_message() -> None:
    costs, update, layout = _rows()
    send = _send((1, 5.0, 0.5))
    refined = Refined(CostWeighted(costs), layout, send)
    found = refined.refine(update, 0.1 * costs.dense_j)
    size = len(encode(found.selection.layers, layout))
    assert found.selection.energy_j == pytest.approx(
        5.0 + 0.5 * size + 1e-3 * found.selection.entries
    )
    assert found.selection.entries > 1.5 * found.plain.entries
    with pytest.raises(BudgetError, match="dearer"):
        Refined(CostWeighted(costs), layout, _send((1, 1e9, 1.0))).select(update, 1e4)
    with pytest.raises(InputError, match="per entry"):
        Refined(CostWeighted(costs), layout, _send((1, 1.0, 1.0), unit="entry"))


def test_what_cannot_be_refined_is_refused() -> None:
    costs, _, layout = _rows()
    bursts = linear_bursts({"a": (400, 64)}, {"a": 1.0}, {"a": 1.0})
    with pytest.raises(InputError, match="'bursts'"):
        Refined(BurstWeighted(bursts), layout)
    with pytest.raises(InputError, match="0 rounds"):
        Refined(TopK(costs), layout, rounds=0)
    with pytest.raises(InputError, match="same layers"):
        Refined(TopK(costs), PayloadLayout({"a": (64, 400)}))
    with pytest.raises(InputError, match="int8"):
        Refined(TopK(costs), PayloadLayout({"a": (400, 64)}, value_type="int8"))


@pytest.fixture(scope="module")
def recorded():
    file = costs_from_trace(device_traces.load(TRACE))
    numbers = np.random.default_rng(4)
    return file, {
        layer.name: (0.01 * numbers.laplace(size=layer.shape)).astype(np.float32)
        for layer in file.layers
    }


def _budget(costs: SelectionCosts | BurstCosts, share: float) -> float:
    """*share* of what there is beyond the cheapest selection."""
    return costs.cheapest_j + share * (costs.dense_j - costs.cheapest_j)


@pytest.mark.parametrize("value_type", VALUE_BYTES)
def test_declared_joules_hold_for_every_value_type(recorded, value_type) -> None:
    file, update = recorded
    costs = SelectionCosts.from_cost_file(file, value_type=value_type)
    layout = PayloadLayout({x.name: x.shape for x in file.layers}, value_type=value_type)
    assert {layer.value_bytes for layer in costs.layers} == {VALUE_BYTES[value_type]}
    selection = CostWeighted(costs).select(update, _budget(costs, 0.3))
    true_j = Refined(CostWeighted(costs), layout, file.message_cost("send")).true_j(selection)
    assert true_j <= selection.energy_j * (1 + 1e-12)
    assert true_j > 0.9 * selection.energy_j


def test_shorter_values_buy_more_and_the_loss_is_the_receivers(recorded) -> None:
    file, update = recorded
    costs = SelectionCosts.from_cost_file(file)
    budget_j = _budget(costs, 0.05)
    choice = best_value_type(update, file, budget_j)
    trials = {trial.value_type: trial for trial in choice.trials}
    assert set(trials) == {"float32", "float16", "bfloat16", "int8"}
    assert not choice.refused
    assert trials["float32"].error == 0
    assert trials["float32"].captured == CostWeighted(costs).select(update, budget_j).captured
    kept = [trials[kind].selection.entries for kind in ("int8", "bfloat16", "float32")]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1]
    assert [t.net for t in choice.trials] == sorted((t.net for t in choice.trials), reverse=True)
    for kind, trial in trials.items():
        layout = PayloadLayout({x.name: x.shape for x in file.layers}, value_type=kind)
        received = {name: np.zeros(array.size) for name, array in update.items()}
        for layer in decode(encode(trial.selection.layers, layout), layout).layers:
            received[layer.name][layer.indices] = layer.values
        missed = sum(
            float(((array.reshape(-1).astype(np.float64) - received[name]) ** 2).sum())
            for name, array in update.items()
        )
        assert trial.selection.total - missed == pytest.approx(trial.net, rel=1e-9)
        assert trial.selection.energy_j <= budget_j


def test_a_type_that_cannot_hold_the_values_is_named(recorded) -> None:
    file, update = recorded
    large = {name: 1e7 * array for name, array in update.items()}
    budget_j = _budget(SelectionCosts.from_cost_file(file), 0.1)
    choice = best_value_type(large, file, budget_j, value_types=("float16", "int8"))
    assert [trial.value_type for trial in choice.trials] == ["int8"]
    assert "float16" in choice.refused["float16"]
    with pytest.raises(UpdateError):
        best_value_type(large, file, budget_j, value_types=("float16",))
    with pytest.raises(BudgetError):
        best_value_type(update, file, 1e-30)
    with pytest.raises(InputError, match="at least one"):
        best_value_type(update, file, budget_j, value_types=())
    with pytest.raises(InputError, match="'half'"):
        SelectionCosts.from_cost_file(file, value_type="half")


@pytest.mark.parametrize("value_type", ["float32", "int8"])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_burst_costs_of_a_file_cover_the_bytes_really_sent(recorded, value_type, share) -> None:
    file, update = recorded
    costs = BurstCosts.from_cost_file(file, value_type=value_type)
    selection = BurstWeighted(costs).select(update, _budget(costs, share))
    layout = PayloadLayout({x.name: x.shape for x in file.layers}, value_type=value_type)
    sent_j = float(file.message_cost("send").energy_j(len(encode(selection.layers, layout))))
    update_j = 0.0
    prices = {layer.name: layer for layer in file.layers}
    for layer in selection.layers:
        clustered = prices[layer.name].find("update", "clustered")
        update_j += float(clustered.energy_j(layer.indices.size))
    assert selection.energy_j >= sent_j + update_j
    assert costs.dense_j > selection.budget_j >= selection.energy_j
    with pytest.raises(InputError, match="density"):
        BurstCosts.from_cost_file(file, density=0.0)


def test_a_file_of_random_and_run_costs_gives_the_price_of_a_burst(recorded) -> None:
    file, _ = recorded
    layer = next(
        x
        for x in file.layers
        if x.find("update", "random").pieces[0].c_j.value
        > 1.05 * x.find("update", "clustered").pieces[0].c_j.value
    )
    price = next(p for p in BurstCosts.from_cost_file(file).layers if p.name == layer.name)
    apart_j, together_j = (
        layer.find("update", pattern).pieces[0].c_j.value for pattern in ("random", "clustered")
    )
    byte_j = price.entry_j + price.burst_j - apart_j
    assert price.burst_j > 0
    assert price.burst_j / 16 + price.entry_j - byte_j == pytest.approx(together_j, rel=1e-9)
