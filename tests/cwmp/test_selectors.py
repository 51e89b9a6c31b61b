"""What every selector keeps, whatever the costs and the update."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cwmp.bounds import captured_bound
from cwmp.selection import Selection
from cwmp.selectors import SELECTORS, CostWeighted, Dense, RandomK, TopK, make_selector
from cwmp.selectors.base import Selector
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from profiler.errors import BudgetError, InputError, LayerMismatchError, UpdateError

SPARSIFIERS = ("topk", "random", "cwmp", "cwmp:1,1", "cwmp:1,0", "cwmp:3,0.5")
EVERY = (*SPARSIFIERS, "dense")

joules = st.floats(1e-9, 1e-3)
entries = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-40]),
    st.floats(-1e6, 1e6, width=32),
)


@st.composite
def prices(draw: st.DrawFn, number: int) -> LayerPrice:
    shape = draw(st.lists(st.integers(1, 5), min_size=0, max_size=2).map(tuple))
    pieces = draw(st.sampled_from([1, 2]))
    fixed = draw(st.just(0.0) | joules)
    slope = draw(joules)
    starts, fixed_j, slope_j = (1,), (fixed,), (slope,)
    if pieces == 2:  # a jump upwards at k = 4, as a cache cliff makes it
        later = draw(joules)
        starts, slope_j = (1, 4), (slope, later)
        fixed_j = (fixed, max(fixed, fixed + 4 * (slope - later)))
    return LayerPrice(
        f"layer{number}",
        shape,
        starts,
        fixed_j,
        slope_j,
        dense_j=draw(st.none() | joules),
        byte_j=draw(st.just(0.0) | joules),
        value_bytes=draw(st.sampled_from([2, 4])),
    )


@st.composite
def problems(draw: st.DrawFn):
    """Costs of every kind, an update with ties, zeros and denormals, and a budget in joules."""
    layers = tuple(draw(prices(number)) for number in range(draw(st.integers(1, 4))))
    costs = SelectionCosts(layers, draw(st.just(0.0) | joules))
    update = {
        layer.name: np.array(
            draw(st.lists(entries, min_size=layer.parameters, max_size=layer.parameters)),
            dtype=draw(st.sampled_from([np.float32, np.float64])),
        ).reshape(layer.shape)
        for layer in layers
    }
    fraction = draw(st.floats(0, 1))
    budget_j = costs.cheapest_j + fraction * (costs.dense_j - costs.cheapest_j)
    return costs, update, min(budget_j, costs.dense_j)


def _select(name: str, costs: SelectionCosts, update, budget_j: float, seed: int = 0) -> Selection:
    selector: Selector = make_selector(name, costs)
    return selector.select(update, budget_j, generator=np.random.default_rng(seed))


@pytest.mark.parametrize("name", SPARSIFIERS)
@given(problem=problems())
@settings(max_examples=60, deadline=None)
def test_a_selection_is_sound_and_never_over_budget(name: str, problem) -> None:
    costs, update, budget_j = problem
    try:
        selection = _select(name, costs, update, budget_j)
    except BudgetError as error:
        assert "no layer in which" in str(error)
        return
    counts = dict.fromkeys((layer.name for layer in costs.layers), 0)
    for layer in selection.layers:
        flat = update[layer.name].reshape(-1)
        assert layer.shape == update[layer.name].shape
        assert layer.indices.dtype in (np.int32, np.int64)
        assert layer.indices.size > 0
        assert (np.diff(layer.indices) > 0).all()
        assert layer.values.dtype == flat.dtype
        assert layer.values.tobytes() == flat[layer.indices].tobytes()
        counts[layer.name] = layer.indices.size
        price = next(price for price in costs.layers if price.name == layer.name)
        assert layer.form == price.form(layer.indices.size)
        if layer.form == "dense":
            assert layer.indices.size == flat.size
        elif name != "random":
            assert (layer.values != 0).all()
    assert [layer.name for layer in selection.layers] == [n for n, k in counts.items() if k]
    assert selection.energy_j == costs.energy_j(list(counts.values()))
    assert selection.energy_j <= budget_j == selection.budget_j
    squares = sum(float((a.astype(np.float64) ** 2).sum()) for a in update.values())
    assert selection.total == pytest.approx(squares, rel=1e-12)
    assert selection.captured <= selection.total * (1 + 1e-12)
    assert selection.entries > 0 or not any(array.any() for array in update.values())
    if selection.certificate is not None:
        reached = selection.captured if selection.reached is None else selection.reached
        assert 0 <= reached <= selection.bound * (1 + 1e-12)


@given(problem=problems())
@settings(max_examples=100, deadline=None)
def test_no_selector_passes_the_bound_and_top_k_never_captures_more(problem) -> None:
    costs, update, budget_j = problem
    assume(any(array.any() for array in update.values()))
    try:
        bound, price = captured_bound(update, costs, budget_j)
    except BudgetError:
        assume(False)
    assert price >= 0
    for name in SPARSIFIERS:
        assert _select(name, costs, update, budget_j).captured <= bound * (1 + 1e-12)
    weighted = _select("cwmp", costs, update, budget_j)
    assert weighted.captured <= weighted.bound <= bound * (1 + 1e-12)
    assert weighted.captured >= _select("cwmp:4,2", costs, update, budget_j).captured * (1 - 1e-12)
    top = _select("topk", costs, update, budget_j)
    assert weighted.captured >= top.captured * (1 - 1e-12)


@pytest.mark.parametrize("name", EVERY)
@given(problem=problems(), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_everything_fits_in_the_dense_cost(name: str, problem, seed: int) -> None:
    costs, update, _ = problem
    selection = _select(name, costs, update, costs.dense_j, seed)
    assert selection.captured == pytest.approx(selection.total, rel=1e-12)
    if name == "dense":
        assert selection.energy_j == costs.dense_j
        assert selection.entries == sum(array.size for array in update.values())


def _example() -> tuple[SelectionCosts, dict[str, np.ndarray]]:
    shapes = {"a": (40, 5), "b": (300,), "c": ()}
    costs = SelectionCosts.linear(
        shapes, {"a": 1e-9, "b": 7e-9, "c": 3e-9}, {"a": 4e-8, "b": 1e-8}, message_j=1e-8
    )
    numbers = np.random.default_rng(5)
    return costs, {name: numbers.laplace(size=shape) for name, shape in shapes.items()}


def _same(one: Selection, two: Selection) -> None:
    assert [layer.name for layer in one.layers] == [layer.name for layer in two.layers]
    for a, b in zip(one.layers, two.layers, strict=True):
        np.testing.assert_array_equal(a.indices, b.indices)
        np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("name", SPARSIFIERS)
def test_a_seed_makes_it_reproducible_and_the_mappings_order_does_not_matter(name: str) -> None:
    costs, update = _example()
    budget_j = 0.2 * costs.dense_j
    first = _select(name, costs, update, budget_j, seed=3)
    _same(first, _select(name, costs, dict(reversed(update.items())), budget_j, seed=3))
    other = _select(name, costs, update, budget_j, seed=4)
    assert (first.layers[0].indices.tolist() != other.layers[0].indices.tolist()) is (
        name == "random"
    )


@pytest.mark.parametrize("name", ("topk", "cwmp:1,1"))
def test_not_one_entry_more_of_the_order_would_fit(name: str) -> None:
    costs, update = _example()
    budget_j = 0.2 * costs.dense_j
    selection = _select(name, costs, update, budget_j)
    counts = [0, 0, 0]
    for layer in selection.layers:
        counts["abc".index(layer.name)] = layer.indices.size
    q = 0 if name == "topk" else 1
    outside = []
    for number, price in enumerate(costs.layers):
        left = np.sort(np.abs(update[price.name]).reshape(-1))[::-1][counts[number] :]
        outside += [(left[0] / price.marginal_j**q, number)] if left.size else []
    counts[max(outside)[1]] += 1
    assert costs.energy_j(counts) > budget_j


@pytest.mark.parametrize("name", EVERY)
def test_an_update_of_zeros_is_worth_nothing(name: str) -> None:
    costs, update = _example()
    zeros = {key: np.zeros_like(array) for key, array in update.items()}
    selection = _select(name, costs, zeros, costs.dense_j)
    assert selection.captured == selection.total == 0
    if name not in ("random", "dense"):
        assert selection.layers == ()
        assert selection.energy_j == 0
    if name == "cwmp":
        assert (selection.bound, selection.certificate) == (0, 1)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", ("float16", "bfloat16", "float32", "float64"))
def test_torch_tensors_select_like_arrays(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    costs, update = _example()
    tensors = {
        key: torch.tensor(array, dtype=getattr(torch, dtype), requires_grad=True)
        for key, array in update.items()
    }
    arrays = {
        key: tensor.detach().float().numpy() if dtype == "bfloat16" else tensor.detach().numpy()
        for key, tensor in tensors.items()
    }
    budget_j = costs.dense_j if name == "dense" else 0.3 * costs.dense_j
    one, two = (_select(name, costs, data, budget_j) for data in (tensors, arrays))
    _same(one, two)
    assert one.layers[0].values.dtype == arrays["a"].dtype


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"a": None}, LayerMismatchError, "lacks layer 'a'"),
        ({"d": np.ones(3)}, LayerMismatchError, "no layer 'd'"),
        ({"a": np.ones((5, 40))}, LayerMismatchError, r"\(5, 40\)"),
        ({"b": np.where(np.arange(300) < 3, np.nan, 1.0)}, UpdateError, "'b'.*3 of 300"),
        ({"b": np.where(np.arange(300) < 2, -np.inf, 1.0)}, UpdateError, "'b'.*2 of 300"),
        ({"b": np.ones(300, dtype=np.int64)}, UpdateError, "int64"),
        ({"b": np.ones(300, dtype=np.complex64)}, UpdateError, "complex64"),
        ({"b": np.full(300, 1e200)}, UpdateError, "overflows"),
    ],
)
def test_a_bad_update_is_refused_by_name(name: str, change, error, says: str) -> None:
    costs, update = _example()
    changed = {key: array for key, array in (update | change).items() if array is not None}
    with pytest.raises(error, match=says) as caught:
        _select(name, costs, changed, costs.dense_j)
    assert "\n" not in str(caught.value)


def test_a_layer_without_entries_is_refused() -> None:
    costs = SelectionCosts.linear({"a": (2,), "none": (0, 3)}, {"a": 1.0, "none": 1.0})
    with pytest.raises(UpdateError, match="'none'"):
        TopK(costs).select({"a": np.ones(2), "none": np.ones((0, 3))}, 1.0)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("budget_j", [0.0, -1e-9, np.nan, np.inf, 1.0, 1e-12])
def test_a_budget_that_cannot_be_spent_is_refused(name: str, budget_j: float) -> None:
    costs, update = _example()
    with pytest.raises(BudgetError) as caught:
        _select(name, costs, update, budget_j)
    assert "\n" not in str(caught.value)


def test_dense_needs_the_dense_cost() -> None:
    costs, update = _example()
    with pytest.raises(BudgetError, match="infeasible: dense"):
        Dense(costs).select(update, 0.99 * costs.dense_j)


@pytest.mark.parametrize("name", ("topk", "cwmp"))
def test_a_layer_that_the_budget_cannot_open_is_passed_over(name: str) -> None:
    costs = SelectionCosts.linear({"dear": (2,), "cheap": (9,)}, {"dear": 50.0, "cheap": 1.0})
    update = {"dear": np.array([9.0, 8.0]), "cheap": np.arange(9.0)}
    selection = _select(name, costs, update, 3.0)
    assert [(x.name, x.indices.tolist()) for x in selection.layers] == [("cheap", [6, 7, 8])]
    update["cheap"] = np.zeros(9)
    with pytest.raises(BudgetError, match="infeasible"):
        _select(name, costs, update, 3.0)


def test_what_top_k_would_keep_is_a_candidate() -> None:
    """One large, dear entry fills the budget; the score would take the small, cheap one first."""
    costs = SelectionCosts.linear({"dear": (1,), "cheap": (1,)}, {"dear": 10.0, "cheap": 1.0})
    update = {"dear": np.array([3.2]), "cheap": np.array([1.1])}
    top, weighted = (_select(name, costs, update, 10.0) for name in ("topk", "cwmp"))
    _same(weighted, top)
    assert weighted.captured == top.captured > _select("cwmp:1,1", costs, update, 10.0).captured


def test_the_rest_of_a_dense_layer_rides_for_free() -> None:
    costs = SelectionCosts((LayerPrice("a", (6,), (1,), (0.0,), (1.0,), dense_j=2.5),))
    selection = TopK(costs).select({"a": np.array([0.0, 3, 2, 0, 1, 0])}, 2.5)
    assert selection.layers[0].form == "dense"
    assert selection.layers[0].indices.tolist() == list(range(6))
    assert selection.energy_j == 2.5


def test_random_needs_a_generator() -> None:
    costs, update = _example()
    with pytest.raises(InputError, match="generator"):
        RandomK(costs).select(update, costs.dense_j)


def test_random_keeps_each_entry_equally_often() -> None:
    costs = SelectionCosts.linear({"a": (10,)}, {"a": 1.0})
    numbers = np.random.default_rng(1)
    kept = np.zeros(10)
    for _ in range(2000):
        selection = RandomK(costs).select({"a": np.ones(10)}, 3.0, generator=numbers)
        kept[selection.layers[0].indices] += 1
    spread = 5 * np.sqrt(2000 * 0.3 * 0.7)  # five standard deviations
    assert (np.abs(kept - 600) < spread).all()


def test_names_of_the_command_line(tmp_path, monkeypatch) -> None:
    costs, update = _example()
    for name in (*SELECTORS, "cwmp:1,1", "cwmp:1.5,0"):
        assert make_selector(name, costs).name == name
    assert make_selector("cwmp:2,1", costs).name == "cwmp"
    for bad in ("nope", "cwmp:", "cwmp:1", "cwmp:1,2,3", "cwmp:0,1"):
        with pytest.raises(InputError):
            make_selector(bad, costs)

    (tmp_path / "first_entries.py").write_text("from cwmp import TopK\nclass First(TopK): ...\n")
    installed = tmp_path / "first_entries-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: first-entries\nVersion: 1.0\n"
    )
    (installed / "entry_points.txt").write_text("[cwmp.selectors]\nfirst = first_entries:First\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = make_selector("first", costs)
    assert type(plugin).__name__ == "First"
    _same(plugin.select(update, 1e-7), TopK(costs).select(update, 1e-7))
    with pytest.raises(InputError, match="first"):
        make_selector("nope", costs)


def test_price_is_that_of_the_entry_at_the_margin() -> None:
    costs = SelectionCosts.linear({"a": (4,), "b": (3,)}, {"a": 1.0, "b": 2.0})
    update = {"a": np.array([5.0, 4, 3, 1]), "b": np.array([6.0, 2, 1])}
    selection = CostWeighted(costs).select(update, 4.0)
    assert selection.price == pytest.approx(9.0)  # a's 3: the first that did not fit, g^2 / c
    assert selection.bound == pytest.approx(25 + 36 + 16)
    assert selection.certificate == pytest.approx(1.0)
