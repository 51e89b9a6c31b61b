"""What is selected on a device is what the host's kernels select, with one wait for it.

Tensors on the CPU stand in for a GPU's: the same code runs on them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cwmp.kernels import cuda, cuda_bracket
from cwmp.selection import Selection
from cwmp.selectors import CostWeighted, TopK
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.device import prefix_on_device
from cwmp.selectors.kernel_rule import KernelRule
from profiler.errors import BudgetError, LayerMismatchError, UpdateError

TINY = np.float32(1e-45)
DISTRIBUTIONS = {
    "normal": lambda r, n: r.standard_normal(n),
    "heavy tailed": lambda r, n: r.standard_normal(n) ** 9,
    "mostly zero": lambda r, n: np.where(r.random(n) < 0.02, r.standard_normal(n), 0.0),
    "all zero": lambda r, n: np.zeros(n),
    "negative zeros": lambda r, n: np.where(r.random(n) < 0.5, -0.0, r.standard_normal(n)),
    "equal but for the sign": lambda r, n: r.choice([-1.5, 1.5], n),
    "three values": lambda r, n: r.integers(0, 3, n),
    "a grid": lambda r, n: np.round(20 * r.standard_normal(n)),
    "one outlier": lambda r, n: np.where(np.arange(n) == n // 2, 1e6, 1.0),
    "subnormal": lambda r, n: r.integers(-4, 5, n) * TINY,
    "huge": lambda r, n: np.clip(1e37 * r.standard_normal(n), -3e38, 3e38),
    "rising": lambda r, n: np.arange(n),
    "clustered": lambda r, n: (
        r.standard_normal(n) * np.repeat(np.exp(r.normal(0, 2, n // 64 + 1)), 64)[:n]
    ),
}
SIZES = [1, 2, 17, 1000, 4095, 4096, 4097, 30_001]
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "is_nonzero")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _on_device(rule: KernelRule) -> KernelRule:
    """*rule*, treating tensors on any device as it treats a GPU's, however small."""
    rule._device_kind, rule._small = None, 0
    return rule


@contextmanager
def _copies() -> Iterator[list[int]]:
    """The number of tensors in each copy to the host."""
    copies: list[int] = []
    honest = cuda.to_host

    def counted(parts):
        copies.append(len(parts))
        return honest(parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "to_host", counted)
        yield copies


def _kept(selection: Selection) -> list[tuple]:
    return [
        (x.name, x.form, x.indices.astype(np.int64).tobytes(), x.values.dtype, x.values.tobytes())
        for x in selection.layers
    ]


def _same(rule: KernelRule, update: dict[str, torch.Tensor], budget_j: float) -> None:
    device = _on_device(_copy(rule))
    try:
        expected = rule.select(update, budget_j)
    except (BudgetError, UpdateError) as error:
        with pytest.raises(type(error)) as raised:
            device.select(update, budget_j)
        assert str(raised.value) == str(error)
        return
    for _ in range(2):  # the second time with room as the first has needed it
        selection = device.select(update, budget_j)
        assert _kept(selection) == _kept(expected)
        assert selection.energy_j == expected.energy_j <= budget_j
        assert selection.captured == pytest.approx(expected.captured, rel=1e-12)
        assert selection.total == pytest.approx(expected.total, rel=1e-12)
        assert (selection.bound or 0) == pytest.approx(expected.bound or 0, rel=1e-12)


def _copy(rule: KernelRule) -> KernelRule:
    if isinstance(rule, CostWeighted):
        return CostWeighted(rule.costs, rule.p, rule.q)
    return TopK(rule.costs)


def _update(costs: SelectionCosts, numbers, distribution: str, kind=torch.float32):
    draw = DISTRIBUTIONS[distribution]
    return {
        x.name: torch.from_numpy(np.asarray(draw(numbers, x.parameters), dtype=np.float32))
        .to(kind)
        .reshape(x.shape)
        for x in costs.layers
    }


def _linear(sizes: list[int], numbers: np.random.Generator, message_j: float = 0.0):
    names = [f"layer{number}" for number in range(len(sizes))]
    return SelectionCosts.linear(
        {name: (size,) for name, size in zip(names, sizes, strict=True)},
        {name: float(numbers.choice([1.0, 1.0, 0.3, 7.0])) for name in names},
        message_j=message_j,
    )


def _charged(sizes: list[int], numbers: np.random.Generator) -> SelectionCosts:
    """Costs as a cost file has them: a jump, a dense form, and bytes by the real index code."""
    layers = tuple(
        LayerPrice(
            f"layer{number}",
            (size,),
            (1, 50),
            (fixed, 2 * fixed),
            (3e-9, 4e-9),
            dense_j=2e-9 * size + fixed,
            byte_j=float(numbers.choice([0.0, 1e-9, 5e-9])),
        )
        for number, (size, fixed) in enumerate(
            zip(sizes, numbers.choice([1e-8, 1e-6], len(sizes)), strict=True)
        )
    )
    return SelectionCosts(layers, 1e-7)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=5),
    share=st.sampled_from([0.0, 1.0]) | st.floats(0.0005, 1.0),
    charged=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_a_device_selects_what_the_host_does(distribution, seed, sizes, share, charged) -> None:
    numbers = np.random.default_rng(seed)
    costs = _charged(sizes, numbers) if charged else _linear(sizes, numbers, 3.0)
    update = _update(costs, numbers, distribution)
    budget_j = max(share * costs.dense_j, costs.cheapest_j)
    for rule in (TopK(costs), CostWeighted(costs, 3, 0.5), CostWeighted(costs)):
        _same(rule, update, budget_j)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("distribution", ["normal", "three values", "negative zeros", "tied"])
def test_shorter_types_stay_what_they_are(kind: torch.dtype, distribution: str) -> None:
    numbers = np.random.default_rng(5)
    costs = _linear([33, 5000, 40_000], numbers)
    name = "a grid" if distribution == "tied" else distribution
    update = _update(costs, numbers, name, kind)
    _same(TopK(costs), update, 0.03 * costs.dense_j)
    _same(CostWeighted(costs), update, 0.2 * costs.dense_j)
    update["layer0"] = update["layer0"].float()  # types may differ between layers
    _same(CostWeighted(costs, 1, 1), update, 0.2 * costs.dense_j)


def _large(fixed: bool = False):
    numbers = np.random.default_rng(8)
    sizes = [300_001, 64, 5, 100_000]
    costs = _charged(sizes, numbers) if fixed else _linear(sizes, numbers)
    return costs, _update(costs, numbers, "heavy tailed")


@pytest.mark.parametrize("share", [1e-5, 0.001, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_host_waits_once_to_decide_and_once_for_what_is_kept(share: float, p: int) -> None:
    costs, update = _large()
    rule = _on_device(TopK(costs) if p == 3 else CostWeighted(costs, p, 1 if p == 1 else 0.5))
    with _copies() as copies:
        assert rule.select(update, share * costs.dense_j).entries > 0
    assert len(copies) == 2
    assert copies[1] == 3  # positions, values, sums of g^2


def test_fixed_charges_are_solved_by_the_host_over_candidates_alone() -> None:
    costs, update = _large(fixed=True)
    rule = _on_device(CostWeighted(costs))
    with _copies() as copies:
        selection = rule.select(update, 0.02 * costs.dense_j)
    assert 1 <= selection.entries < 0.2 * 400_070
    assert copies[0] == 1  # the sample; then the candidates, until none below could matter
    assert set(copies[1:]) == {8}
    assert len(copies) <= 4
    _same(CostWeighted(costs), update, 0.02 * costs.dense_j)


class _Record(TorchDispatchMode):
    """The operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_no_operation_waits_for_the_device_on_its_own() -> None:
    for fixed in (False, True):
        costs, update = _large(fixed)
        rule = _on_device(TopK(costs))
        rule.select(update, 0.01 * costs.dense_j)
        with _Record() as record:
            rule.select(update, 0.01 * costs.dense_j)
        assert "nonzero_static" in record.names
        assert [name for name in record.names if name in WAITS] == []


def _guess(low: float, high: float, weights: torch.Tensor) -> cuda_bracket.Guess:
    scores = torch.tensor([low, high], dtype=torch.float64)
    return cuda_bracket.Guess(scores, *cuda_bracket.thresholds(scores, weights))


@pytest.mark.parametrize("wrong", ["too high", "too low", "nothing", "everything", "rounded"])
@pytest.mark.parametrize("distribution", ["normal", "a grid", "equal but for the sign"])
def test_a_sample_that_misleads_costs_time_alone(wrong, distribution, monkeypatch) -> None:
    honest = cuda_bracket.Sampler.guess

    def misled(self, rows, charges, weights, budget_j):
        guess = honest(self, rows, charges, weights, budget_j)
        low, high = guess.scores.tolist()
        if wrong == "rounded":  # thresholds that another division has made
            return guess._replace(low=guess.low + 1, high=guess.high - 1)
        scores = {
            "too high": (2 * min(high, 1e30), 4 * min(high, 1e30)),
            "too low": (low / 8, low / 4),
            "nothing": (np.inf, np.inf),
            "everything": (0.0, np.inf),
        }[wrong]
        return _guess(*scores, weights)

    monkeypatch.setattr(cuda_bracket.Sampler, "guess", misled)
    numbers = np.random.default_rng(11)
    costs = _linear([17, 30_000, 70_000], numbers)
    update = _update(costs, numbers, distribution)
    for share in (0.001, 0.05, 0.6):
        _same(TopK(costs), update, share * costs.dense_j)


def test_ties_without_number_are_left_to_the_host() -> None:
    costs = SelectionCosts.linear({"a": (2_000_000,)}, {"a": 1.0})
    update = {"a": torch.full((2_000_000,), 0.5)}
    with _copies() as copies:
        selection = _on_device(TopK(costs)).select(update, 1000.0)
    assert selection.layers[0].indices.tolist() == list(range(1000))
    assert copies[1:] == [1]  # the layer


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 16_384, -1])
@pytest.mark.parametrize("fixed", [False, True])
def test_what_is_not_finite_is_refused_as_the_host_does(bad, place, fixed) -> None:
    numbers = np.random.default_rng(0)
    costs = (_charged if fixed else _linear)([3, 50_001], numbers)
    update = _update(costs, numbers, "normal")
    update["layer1"][place] = bad
    for rule in (TopK(costs), CostWeighted(costs)):
        with pytest.raises(UpdateError, match="layer 'layer1' holds NaN or inf in 1 of 50001"):
            _on_device(rule).select(update, 0.1 * costs.dense_j)


def test_an_update_that_is_not_the_costs_is_refused_as_the_host_does() -> None:
    costs = SelectionCosts.linear({"a": (4,), "b": (2, 2)}, {"a": 1.0, "b": 2.0})
    good = {"a": torch.ones(4), "b": torch.ones(2, 2)}
    rule = _on_device(TopK(costs))
    assert rule.select(good, 8.0).entries == 6
    for wrong in ({"a": good["a"]}, {**good, "c": good["a"]}, {**good, "b": torch.ones(4)}):
        with pytest.raises(LayerMismatchError):
            rule.select(wrong, 8.0)
    with pytest.raises(UpdateError, match="holds int64"):
        rule.select({**good, "a": torch.ones(4, dtype=torch.int64)}, 8.0)
    with pytest.raises(BudgetError):
        rule.select(good, 1e9)


def test_other_updates_are_read_by_the_host() -> None:
    costs = SelectionCosts.linear({"a": (4,)}, {"a": 1.0})
    array = np.array([1.0, -4.0, 3.0, 0.0])
    rule = _on_device(TopK(costs))
    with _copies() as copies:
        for value in (array, array.astype(np.float32), torch.from_numpy(array)):
            assert rule.select({"a": value}, 2.0).layers[0].indices.tolist() == [1, 2]
    assert copies == []


def test_a_small_update_is_copied_whole_and_strides_are_followed() -> None:
    costs = SelectionCosts.linear({"a": (3, 2), "b": (2,)}, {"a": 1.0, "b": 1.0})
    update = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([9.0, 0.0])}
    rule = _on_device(TopK(costs))
    whole = rule.select(update, 3.0)
    rule._small = 8
    with _copies() as copies:
        assert _kept(rule.select(update, 3.0)) == _kept(whole)
    assert copies == [2]
    assert [layer.indices.tolist() for layer in whole.layers] == [[3, 5], [0]]


@pytest.mark.parametrize("size", [0, 1, 5, 40])
def test_the_running_count_finds_what_nonzero_does(size: int) -> None:
    mask = torch.from_numpy(np.random.default_rng(size).random(50) < 0.3)
    expected = torch.nonzero(mask).view(-1)[:size].tolist()
    expected += [50] * (size - len(expected))
    assert cuda._searched(mask, size, 50).tolist() == expected
    assert cuda.first_true(mask, size, 50).tolist() == expected


def test_what_is_copied_comes_back_with_its_type() -> None:
    parts = [
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.arange(3),
        torch.empty(0),
        torch.tensor([[7]], dtype=torch.int32),
        torch.tensor([0.1], dtype=torch.float64),
    ]
    here = cuda.to_host(parts)
    for part, copy in zip(parts, here, strict=True):
        assert copy.dtype == part.dtype
        assert torch.equal(copy, part.reshape(-1))


@pytest.mark.parametrize("pieces", [1, 2])
def test_energies_on_a_device_are_those_of_the_costs(pieces: int) -> None:
    numbers = np.random.default_rng(2)
    sizes = [1, 40, 3000, 70_000]
    costs = _charged(sizes, numbers) if pieces == 2 else _linear(sizes, numbers, 2.0)
    charges = cuda_bracket.Charges(TopK(costs)._search.table, costs.message_j, torch.device("cpu"))
    counts = np.concatenate(
        (np.zeros((1, 4)), (numbers.random((40, 4)) ** 3 * (np.array(sizes) + 1)).astype(int))
    ).astype(int)
    energies = charges.energy(torch.from_numpy(counts).double())
    expected = [costs.energy_j(row) for row in counts]
    assert energies.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_sample_proposes_an_interval_that_holds_the_end() -> None:
    """Not needed for a right selection, but for a quick one."""
    numbers = np.random.default_rng(4)
    costs = _linear([200_000, 50_000], numbers)
    rule = _on_device(TopK(costs))
    for distribution in ("normal", "heavy tailed", "clustered"):
        update = _update(costs, numbers, distribution)
        reading = rule._on_device(update)
        search = reading.search
        for share in (0.001, 0.01, 0.3):
            budget_j = share * costs.dense_j
            weights = torch.ones(2, dtype=torch.float64)
            guess = search.sampler.guess(reading.rows, search.charges, weights, budget_j)
            low, high = guess.scores.tolist()
            kept = rule.select(update, budget_j)
            least = min(abs(layer.values).min() for layer in kept.layers)
            reach = sum(int((x.abs() >= low).sum()) for x in update.values())
            assert low <= least <= high
            assert reach <= 2 * kept.entries + 8000


def test_what_is_kept_can_stay_on_the_device() -> None:
    costs, update = _large()
    rule = _on_device(TopK(costs))
    expected = rule.select(update, 0.01 * costs.dense_j)
    search = rule._device_searches[torch.device("cpu")]
    layers = [update[layer.name] for layer in costs.layers]
    with _copies() as copies:
        kept = prefix_on_device(search, layers, np.ones(4), 0.01 * costs.dense_j)
    assert len(copies) == 1
    assert list(kept) == [layer.name for layer in expected.layers]
    for layer in expected.layers:
        index, value = kept[layer.name]
        assert np.array_equal(index.numpy(), layer.indices)
        assert np.array_equal(value.numpy(), layer.values)


BACKENDS = ["torch"]
if find_spec("triton") and (torch.cuda.is_available() or "triton" not in sys.modules):
    BACKENDS.append("triton")
    if not torch.cuda.is_available():  # Triton asks for it once, when it is imported
        os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(params=BACKENDS)
def where(request, monkeypatch) -> str:
    """A device, with the passes over rows made by each means there is on it."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    kernels = None
    if request.param == "triton":
        kernels = import_module("cwmp.kernels.cuda_rows")
    monkeypatch.setattr(cuda, "row_kernels", lambda _: kernels)
    return kind


@pytest.mark.parametrize("capacity", [1, 7, 500, 20_000])
def test_candidates_come_in_order_with_their_sums(where: str, capacity: int) -> None:
    sizes = [5000, 3, 4096, 9000]
    layout = cuda.Layout(sizes, torch.device(where))
    numbers = np.random.default_rng(1)
    layers = [numbers.standard_normal(size).astype(np.float32) for size in sizes]
    layers[0][:7] = 0.0, -0.0, TINY, -1e-40, 3e38, -3e38, 2.0
    rows = layout.lay_out([torch.from_numpy(layer).to(where) for layer in layers])
    low = np.array([1, 1, 0x3F800000, 0x7FFFFFFF], dtype=np.int32)
    found, sums = cuda.collect(rows, layout, torch.from_numpy(low).to(where), capacity)
    expected = [
        (layer, place)
        for layer, values in enumerate(layers)
        for place in np.flatnonzero((values.view(np.int32) & 0x7FFFFFFF) >= low[layer])
    ]
    assert found.number.tolist() == [len(expected)]
    index, value = (part.cpu()[: len(expected)].tolist() for part in cuda.pairs(found, layout))
    assert index == [place for _, place in expected[:capacity]]
    assert value == [float(layers[layer][place]) for layer, place in expected[:capacity]]
    if capacity >= len(expected):
        counts = np.bincount([layer for layer, _ in expected], minlength=4)
        assert found.ends.tolist() == np.cumsum(counts).tolist()
    padded = rows.cpu().numpy()
    squares = np.square(padded, dtype=np.float64).sum(1)
    assert sums.squares.tolist() == pytest.approx(squares.tolist(), rel=1e-13)
    assert sums.largest.tolist() == (padded.view(np.int32) & 0x7FFFFFFF).max(1).tolist()


def test_every_means_of_reading_rows_selects_the_same(where: str) -> None:
    numbers = np.random.default_rng(6)
    costs = _linear([20_000, 70, 9000], numbers)
    for distribution in ("normal", "three values"):
        update = _update(costs, numbers, distribution)
        there = {name: value.to(where) for name, value in update.items()}
        for rule in (TopK(costs), CostWeighted(costs)):
            expected = rule.select(update, 0.05 * costs.dense_j)
            selection = _on_device(_copy(rule)).select(there, 0.05 * costs.dense_j)
            assert _kept(selection) == _kept(expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_selects_what_the_host_does() -> None:
    for fixed in (False, True):
        costs, update = _large(fixed)
        there = {name: value.cuda() for name, value in update.items()}
        for rule in (TopK(costs), CostWeighted(costs)):
            for share in (0.001, 0.05, 0.5):
                expected = rule.select(update, share * costs.dense_j)
                torch.cuda.set_sync_debug_mode("error")
                try:
                    selection = rule.select(there, share * costs.dense_j)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
                assert _kept(selection) == _kept(expected)
