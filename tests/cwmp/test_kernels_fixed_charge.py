"""Counts under fixed charges against every subset, scipy's MILP and the certificate."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from cwmp.kernels.dual import curves_of, minimise_dual
from cwmp.kernels.energy import energy_table
from cwmp.kernels.fixed_charge import solve
from cwmp.kernels.lines import Curves
from cwmp.kernels.reference import energy_of, largest_prefix, score_order
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.fit import affordable, prepared
from cwmp.selectors.fixed_counts import fixed_charge_entries
from cwmp.selectors.updates import read_update

joules = st.floats(0.01, 10)


def _gains(squares: np.ndarray) -> np.ndarray:
    return np.concatenate(([0.0], np.cumsum(np.sort(squares)[::-1])))


class _Problem:
    """Costs, each layer's g^2 and a budget; and what the solver makes of them."""

    def __init__(self, costs: SelectionCosts, squares: list[np.ndarray], budget_j: float) -> None:
        self.costs, self.squares, self.budget_j = costs, squares, budget_j
        self.gains = [_gains(layer) for layer in squares]

    def solve(self, listed: list[int] | None = None, scale: float = 1.0, unlisted=None):
        """With no more than *listed* entries of each layer."""
        known = [
            gain[: None if listed is None else listed[number] + 1] * scale
            for number, gain in enumerate(self.gains)
        ]
        curves = Curves(
            np.concatenate(known),
            np.cumsum([0, *(gain.size for gain in known)]),
            np.array([gain[-1] * scale for gain in self.gains]),
            np.full(len(known), np.inf) if unlisted is None else unlisted,
        )
        return solve(curves, energy_table(self.costs), self.costs.message_j, self.budget_j)

    def options(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(gain, joules) of each count; a layer that is cheaper dense is captured whole."""
        found = []
        for layer, gain in zip(self.costs.layers, self.gains, strict=True):
            counts = np.arange(gain.size)
            dense = layer.form_j(counts, "dense") < layer.form_j(counts, "sparse")
            found.append((np.where(dense, gain[-1], gain), layer.energy_j(counts)))
        return found

    def captured(self, counts: np.ndarray) -> float:
        pairs = zip(self.options(), counts, strict=True)
        return float(sum(gain[k] for (gain, _), k in pairs))

    def best_subset(self) -> float:
        """Over every subset of the entries, one by one."""
        kept = np.array(list(product([0, 1], repeat=sum(len(x) for x in self.squares))))
        ends = np.cumsum([0, *(len(layer) for layer in self.squares)])
        spent_j, captured = np.zeros(len(kept)), np.zeros(len(kept))
        for layer, squares, start, end in zip(
            self.costs.layers, self.squares, ends, ends[1:], strict=False
        ):
            counts = kept[:, start:end].sum(axis=1)
            dense = layer.form_j(counts, "dense") < layer.form_j(counts, "sparse")
            spent_j += layer.energy_j(counts)
            captured += np.where(dense, squares.sum(), kept[:, start:end] @ squares)
        fits = self.costs.message_j + spent_j <= self.budget_j
        return float(captured[fits & kept.any(axis=1)].max(initial=0.0))

    def milp(self) -> float:
        """One binary for each layer and count: within a layer the best k are the k largest."""
        options = self.options()
        gain = np.concatenate([one[1:] for one, _ in options])
        energy_j = np.concatenate([one[1:] for _, one in options])
        layer = np.repeat(np.arange(len(options)), [one.size - 1 for one, _ in options])
        one_count = csr_array((np.ones(gain.size), (layer, np.arange(gain.size))))
        found = milp(
            -gain / gain.max(),
            constraints=[
                LinearConstraint((energy_j / (self.budget_j - self.costs.message_j))[None], ub=1.0),
                LinearConstraint(one_count, ub=1.0),
            ],
            integrality=np.ones(gain.size),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 1e-6},
        )
        assert found.status == 0, found.message
        return float(gain[found.x > 0.5].sum())


def _random(numbers: np.random.Generator, entries: int, layers: int) -> _Problem:
    """Log-normal costs, a fixed cost of 2 to 20 % of a mean layer's entries, dense and bytes."""
    sizes = numbers.multinomial(entries - layers, numbers.dirichlet(np.ones(layers))) + 1
    slope_j = 1e-8 * np.exp(numbers.normal(0, 1, layers))
    fixed_j = slope_j * np.exp(numbers.normal(np.log(0.06 * entries / layers), 0.7, layers))
    dense, by_byte = numbers.random(2) < 0.5
    prices = tuple(
        LayerPrice(
            f"layer{number}",
            (int(size),),
            (1,),
            (float(fixed),),
            (float(slope),),
            dense_j=float(fixed + 0.3 * slope * size) if dense else None,
            byte_j=1.5e-9 if by_byte else 0.0,
        )
        for number, (size, fixed, slope) in enumerate(zip(sizes, fixed_j, slope_j, strict=True))
    )
    costs = SelectionCosts(prices, float(fixed_j.mean()))
    squares = [
        numbers.laplace(scale=np.exp(numbers.normal(0, 0.5)), size=size) ** 2 for size in sizes
    ]
    share = numbers.uniform(0.02, 0.8)
    budget_j = costs.message_j + share * (costs.dense_j - costs.message_j)
    return _Problem(costs, squares, max(budget_j, costs.cheapest_j))


@st.composite
def tiny_problems(draw: st.DrawFn) -> _Problem:
    """At most 12 entries, with knees, fixed costs, bytes and dense forms."""
    layers = []
    for number in range(draw(st.integers(1, 3))):
        starts = (1, *draw(st.lists(st.integers(2, 4), max_size=1)))
        slopes = sorted(draw(joules) for _ in starts)
        fixed = draw(st.just(0.0) | joules)
        layers.append(
            LayerPrice(
                f"layer{number}",
                (draw(st.integers(1, 4)),),
                starts,
                tuple(fixed for _ in starts),
                tuple(slopes),
                dense_j=draw(st.none() | joules),
                byte_j=draw(st.just(0.0) | st.floats(0.001, 0.1)),
                value_bytes=draw(st.sampled_from([1, 4])),
            )
        )
    costs = SelectionCosts(tuple(layers), draw(st.just(0.0) | joules))
    squares = [
        np.array(draw(st.lists(st.floats(0, 50), min_size=x.parameters, max_size=x.parameters)))
        for x in layers
    ]
    budget_j = costs.cheapest_j + draw(st.floats(0, 1)) * (costs.dense_j - costs.cheapest_j)
    return _Problem(costs, squares, budget_j)


@given(tiny_problems())
@settings(max_examples=150, deadline=None)
def test_every_subset_lies_within_the_bound_and_the_counts_within_the_budget(problem) -> None:
    counts, price, bound, certified = problem.solve()
    best = problem.best_subset()
    assert problem.costs.energy_j(counts) <= problem.budget_j
    assert problem.captured(counts) <= best * (1 + 1e-12)
    assert bound >= best * (1 - 1e-12)
    assert certified
    assert price >= 0
    again = problem.solve()
    assert again[0].tolist() == counts.tolist()
    assert again[1:] == (price, bound, certified)


def test_tiny_problems_are_nearly_always_solved() -> None:
    numbers = np.random.default_rng(1)
    short = []
    for _ in range(150):
        problem = _random(numbers, int(numbers.integers(6, 13)), int(numbers.integers(1, 5)))
        best = problem.best_subset()
        assert best > 0
        short.append(1 - problem.captured(problem.solve()[0]) / best)
    assert np.median(short) < 1e-12
    assert np.quantile(short, 0.95) < 1e-3, np.sort(short)[-10:]


def test_two_hundred_entries_against_milp() -> None:
    numbers = np.random.default_rng(2)
    short, gap = [], []
    for _ in range(40):
        problem = _random(numbers, 200, int(numbers.integers(3, 11)))
        counts, _, bound, _ = problem.solve()
        captured, best = problem.captured(counts), problem.milp()
        assert problem.costs.energy_j(counts) <= problem.budget_j
        assert bound >= best * (1 - 1e-9)
        assert captured <= best * (1 + 1e-5)  # the solver's own tolerances
        short.append(1 - captured / best)
        gap.append(1 - captured / bound)
    assert np.median(short) < 1e-6, np.sort(short)
    assert np.quantile(short, 0.95) < 1e-3, np.sort(short)[-10:]
    assert np.median(gap) < 0.01, np.sort(gap)


@pytest.mark.parametrize(("entries", "layers"), [(20_000, 10), (60_000, 80)])
def test_large_problems_come_close_to_the_certificate(entries: int, layers: int) -> None:
    numbers = np.random.default_rng(3)
    gap = []
    for _ in range(10):
        problem = _random(numbers, entries, layers)
        counts, _, bound, _ = problem.solve()
        assert problem.costs.energy_j(counts) <= problem.budget_j
        gap.append(1 - problem.captured(counts) / bound)
    assert np.median(gap) < 2e-3, gap
    assert min(gap) > -1e-9, gap


@given(st.integers(0, 2**32), st.floats(0.02, 0.95))
@settings(max_examples=60, deadline=None)
def test_linear_costs_leave_at_most_one_entry(seed: int, share: float) -> None:
    numbers = np.random.default_rng(seed)
    sizes = numbers.integers(1, 40, size=numbers.integers(1, 6))
    names = [f"layer{number}" for number in range(sizes.size)]
    costs = SelectionCosts.linear(
        {name: (int(size),) for name, size in zip(names, sizes, strict=True)},
        {name: float(np.exp(numbers.normal())) for name in names},
    )
    squares = [numbers.laplace(size=size) ** 2 for size in sizes]
    problem = _Problem(costs, squares, max(share * costs.dense_j, costs.cheapest_j))
    counts, _, bound, _ = problem.solve()
    slope_j = np.repeat([layer.slope_j[0] for layer in costs.layers], sizes)
    entries = np.concatenate(squares)
    payable = np.flatnonzero(slope_j <= problem.budget_j)
    order = payable[np.argsort(-(entries / slope_j)[payable], kind="stable")]
    length = int((np.cumsum(slope_j[order]) <= problem.budget_j).sum())
    prefix, captured = entries[order[:length]].sum(), problem.captured(counts)
    missed = entries[order[length]] if length < order.size else 0.0
    assert problem.costs.energy_j(counts) <= problem.budget_j
    assert captured >= prefix * (1 - 1e-9)
    assert bound * (1 + 1e-9) >= captured
    assert prefix + missed >= bound * (1 - 1e-9)


@given(st.integers(0, 2**32), st.floats(0.05, 1))
@settings(max_examples=60, deadline=None)
def test_a_curve_cut_short_keeps_its_bound(seed: int, share: float) -> None:
    numbers = np.random.default_rng(seed)
    problem = _random(numbers, 300, int(numbers.integers(1, 7)))
    listed = [int(share * (gain.size - 1)) for gain in problem.gains]
    whole, _, whole_bound, _ = problem.solve()
    counts, _, bound, certified = problem.solve(listed)
    sizes = [gain.size - 1 for gain in problem.gains]
    assert all(k <= most or k == size for k, most, size in zip(counts, listed, sizes, strict=True))
    assert problem.costs.energy_j(counts) <= problem.budget_j
    assert bound >= problem.captured(whole) * (1 - 1e-9)
    if certified:
        assert bound <= whole_bound * (1 + 1e-3)  # whole bytes move the price a little
    if listed == sizes:
        assert certified


@given(st.integers(0, 2**32), st.floats(0.05, 1))
@settings(max_examples=60, deadline=None)
def test_what_is_known_of_unlisted_entries_certifies_more(seed: int, share: float) -> None:
    numbers = np.random.default_rng(seed)
    problem = _random(numbers, 300, int(numbers.integers(1, 7)))
    listed = [int(share * (gain.size - 1)) for gain in problem.gains]
    below = np.array(
        [
            gain[k + 1] - gain[k] if k + 1 < gain.size else 0.0
            for gain, k in zip(problem.gains, listed, strict=True)
        ]
    )
    whole, _, whole_bound, _ = problem.solve()
    _, _, unknown_bound, unknown = problem.solve(listed)
    counts, _, bound, certified = problem.solve(listed, unlisted=below)
    assert problem.costs.energy_j(counts) <= problem.budget_j
    assert certified >= unknown
    assert bound >= problem.captured(whole) * (1 - 1e-9)
    assert bound <= unknown_bound * (1 + 1e-3)
    if certified:
        assert bound <= whole_bound * (1 + 1e-3)


def test_a_cut_is_certified_where_the_price_lies_above_it() -> None:
    numbers = np.random.default_rng(4)
    flags = {
        share: [
            problem.solve([int(share * (gain.size - 1)) for gain in problem.gains])[3]
            for problem in (_random(numbers, 400, 4) for _ in range(20))
        ]
        for share in (0.02, 0.9)
    }
    assert sum(flags[0.02]) < sum(flags[0.9])
    assert any(flags[0.9])


@given(st.integers(0, 2**32), st.sampled_from([-900, -500, -40, 40, 500, 900]))
@settings(max_examples=20, deadline=None)
def test_counts_do_not_depend_on_the_scale_of_the_update(seed: int, power: int) -> None:
    problem = _random(np.random.default_rng(seed), 100, 4)
    counts, _, bound, _ = problem.solve()
    scaled, _, scaled_bound, _ = problem.solve(scale=2.0**power)
    assert scaled.tolist() == counts.tolist()
    assert scaled_bound == pytest.approx(bound * 2.0**power, rel=1e-12)


def test_what_cannot_be_opened_stays_closed() -> None:
    costs = SelectionCosts.linear(
        {"a": (3,), "b": (3,)}, {"a": 1.0, "b": 1.0}, {"a": 5.0, "b": 1.0}
    )
    squares = [np.array([9.0, 9.0, 9.0]), np.array([1.0, 1.0, 1.0])]
    assert _Problem(costs, squares, 4.0).solve()[0].tolist() == [0, 3]
    assert _Problem(costs, squares, 1.5).solve()[0].tolist() == [0, 0]
    assert _Problem(costs, [np.zeros(3), np.zeros(3)], 8.0).solve()[0].tolist() == [0, 0]
    assert _Problem(costs, squares, 100.0).solve()[0].tolist() == [3, 3]


def _update(problem: _Problem) -> dict[str, np.ndarray]:
    pairs = zip(problem.costs.layers, problem.squares, strict=True)
    return {layer.name: np.sqrt(squares) for layer, squares in pairs}


def test_no_prefix_and_no_single_price_does_better() -> None:
    """The heuristics: the longest prefixes by |g| and by g^2 / c, and the dual's own counts."""
    numbers = np.random.default_rng(6)
    for _ in range(60):
        problem = _random(numbers, int(numbers.integers(50, 400)), int(numbers.integers(2, 9)))
        costs = prepared(problem.costs)
        flat = read_update(_update(problem), costs)
        weights = np.sqrt([layer.marginal_j for layer in costs.layers])
        by_size = score_order(flat.magnitudes, flat.layer_of, np.ones(weights.size))
        order = affordable(by_size, flat, costs, problem.budget_j)
        curves = curves_of(order, flat.magnitudes, flat.layer_of, costs)
        dual = minimise_dual(curves, costs.message_j, problem.budget_j)
        rivals = [dual.counts]
        for ranked in (by_size, score_order(flat.magnitudes, flat.layer_of, weights)):
            ranked = affordable(ranked, flat, costs, problem.budget_j)
            length = largest_prefix(ranked, flat.layer_of, costs, problem.budget_j)
            rivals.append(np.bincount(flat.layer_of[ranked[:length]], minlength=weights.size))
        kept = fixed_charge_entries(curves, costs, problem.budget_j)
        counts = np.bincount(flat.layer_of[kept], minlength=weights.size)
        assert energy_of(counts, costs) <= problem.budget_j
        for rival in rivals:
            assert problem.captured(counts) >= problem.captured(rival) * (1 - 1e-9)
