"""One price across clients against exact programmes, and whole runs under a controller."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from cwmp.controller import PriceController, left_out, round_cap_j
from cwmp.controller_state import ControllerState
from cwmp.selection import Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.priced import PriceSelector
from cwmp.spending import PriceGrid, SpendReport
from profiler.errors import BudgetError, FileFormatError, InputError

Client = tuple[list[int], int, int]
"""Entries, joules of each, weight: integers, so that exact arithmetic can follow."""

clients = st.lists(
    st.tuples(st.lists(st.integers(-9, 9), min_size=1, max_size=6), st.integers(1, 9)).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(1, 4))
    ),
    min_size=1,
    max_size=5,
)


def _keep(client: Client, price: float, cap_j: float | None = None) -> Selection:
    entries, entry_j, weight = client
    costs = SelectionCosts.linear({"a": (len(entries),)}, {"a": float(entry_j)})
    update = {"a": np.array(entries, dtype=np.float64)}
    return PriceSelector(costs).keep(update, price, weight=float(weight), cap_j=cap_j)


def _optimum(items: list[tuple[int, int]], budget_j: Fraction) -> Fraction:
    """The fractional knapsack of (gain, joules), exactly: best gain a joule first."""
    captured = Fraction(0)
    for gain, item_j in sorted(items, key=lambda item: Fraction(-item[0], item[1])):
        share = min(Fraction(1), budget_j / item_j)
        captured += share * gain
        budget_j -= share * item_j
    return captured


def _items(client: Client) -> list[tuple[int, int]]:
    entries, entry_j, weight = client
    return [(weight**2 * entry**2, entry_j) for entry in entries]


@given(clients, st.integers(1, 200), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_one_price_captures_the_programme_s_optimum_and_no_split_beats_it(
    group: list[Client], tenths: int, chance
) -> None:
    kept = [_keep(client, tenths / 10) for client in group]
    captured = sum(
        client[2] ** 2 * Fraction(own.captured) for client, own in zip(group, kept, strict=True)
    )
    spent_j = Fraction(sum(own.energy_j for own in kept))
    assert captured == _optimum([item for client in group for item in _items(client)], spent_j)
    equal = [spent_j / len(group)] * len(group)
    drawn = [chance.randrange(1, 100) for _ in group]
    uneven = [spent_j * part / sum(drawn) for part in drawn]
    for split in (equal, uneven):
        apart = [_optimum(_items(c), share) for c, share in zip(group, split, strict=True)]
        assert captured >= sum(apart)


@given(clients, st.integers(1, 60), st.data())
@settings(max_examples=100, deadline=None)
def test_with_caps_the_shortfall_is_an_entry_a_capped_client(
    group: list[Client], tenths: int, data: st.DataObject
) -> None:
    caps = [data.draw(st.integers(0, 30)) for _ in group]
    kept = [_keep(c, tenths / 10, float(cap)) for c, cap in zip(group, caps, strict=True)]
    assert all(own.energy_j <= cap for own, cap in zip(kept, caps, strict=True))
    free_j = [_keep(client, tenths / 10).energy_j for client in group]
    allowed_j = [min(free, cap) for free, cap in zip(free_j, caps, strict=True)]
    captured = sum(c[2] ** 2 * own.captured for c, own in zip(group, kept, strict=True))
    best = _programme(group, caps, sum(allowed_j))
    lost = sum(
        max(gain for gain, _ in _items(client))
        for client, free, cap in zip(group, free_j, caps, strict=True)
        if free > cap
    )
    assert best - lost - 1e-6 <= captured <= best + 1e-6 * (1 + best)


def _programme(group: list[Client], caps: list[int], budget_j: float) -> float:
    """max sum gain x  s.t.  all joules <= budget, each client's <= its cap, 0 <= x <= 1."""
    items = [(gain, cost, number) for number, c in enumerate(group) for gain, cost in _items(c)]
    gain, cost, owner = (np.array(column, dtype=np.float64) for column in zip(*items, strict=True))
    rows = np.vstack([cost, *[cost * (owner == number) for number in range(len(group))]])
    solution = linprog(-gain, A_ub=rows, b_ub=[budget_j, *caps], bounds=(0, 1))
    assert solution.status == 0, solution.message
    return -float(solution.fun)


class Fleet:
    """Clients whose updates follow Laplace distributions that drift; joules in closed form."""

    def __init__(self, seed: int, size: int = 1000, share: float = 0.8, metered: float = 1.0):
        self.numbers = np.random.default_rng(seed)
        self.entry_j = 10 ** self.numbers.uniform(-8, -5, size)
        self.scale = np.exp(self.numbers.normal(0, 0.5, size))
        self.entries = self.numbers.integers(1_000, 100_000, size)
        self.share = share
        self.metered = metered

    def budget_j(self, rounds: int) -> float:
        """2 % of what sending everything costs."""
        return 0.02 * rounds * self.share * float((self.entries * self.entry_j).sum())

    def spend_j(self, price: float) -> np.ndarray:
        limit = np.sqrt(price * self.entry_j) / self.scale
        return self.entries * np.exp(-limit) * self.entry_j

    def reports(self, controller: PriceController, state: ControllerState) -> list[SpendReport]:
        curves_j = np.array([self.spend_j(price) for price in controller.prices(state)]).T
        present = np.flatnonzero(self.numbers.random(self.scale.size) < self.share)
        spent_j = self.metered * self.spend_j(state.price)
        return [
            SpendReport(f"client {j}", float(spent_j[j]), tuple(curves_j[j].tolist()))
            for j in present
        ]

    def drift(self) -> None:
        self.scale *= 0.95 * np.exp(self.numbers.normal(0, 0.05, self.scale.size))


def _probed(controller: PriceController, fleet: Fleet, guess: float) -> ControllerState:
    state = controller.initial(guess)
    for _ in range(12):
        state = controller.probe(state, fleet.reports(controller, state))
        if state.bracketed:
            return state
    raise AssertionError(f"a guess of {guess} was not mended in 12 probes")


@pytest.mark.parametrize("metered", [0.7, 1.0, 1.4])
@pytest.mark.parametrize("seed", range(4))
def test_a_drifting_run_spends_its_budget_within_one_percent(seed: int, metered: float) -> None:
    fleet = Fleet(seed, metered=metered)
    controller = PriceController(fleet.budget_j(40), rounds=40)
    state = _probed(controller, fleet, guess=1.0)
    spent = []
    for _ in range(controller.rounds):
        before = state.spent_j
        state = controller.update(state, fleet.reports(controller, state))
        spent.append(state.spent_j - before)
        fleet.drift()
    assert state.spent_j == pytest.approx(controller.budget_j, rel=0.01)
    assert np.max(spent[5:]) < 2 * controller.budget_j / controller.rounds
    assert state.correction == pytest.approx(0.93 * metered, rel=0.2)


@pytest.mark.parametrize("guess", [1e-12, 1.0, 1e20])
def test_a_wrong_first_guess_is_mended_without_spending(guess: float) -> None:
    fleet = Fleet(0, share=1.0)
    controller = PriceController(fleet.budget_j(20), rounds=20)
    state = _probed(controller, fleet, guess)
    assert (state.spent_j, state.round) == (0.0, 0)
    assert fleet.spend_j(state.price).sum() == pytest.approx(fleet.budget_j(1), rel=0.02)


def test_a_resumed_run_is_the_run_that_was_not_stopped() -> None:
    one, two = Fleet(5), Fleet(5)
    controller = PriceController(one.budget_j(12), rounds=12)
    straight, resumed = (_probed(controller, fleet, 1.0) for fleet in (one, two))
    for _ in range(controller.rounds):
        straight = controller.update(straight, one.reports(controller, straight))
        again = ControllerState.from_json(resumed.to_json())
        resumed = controller.update(again, two.reports(controller, again))
        one.drift()
        two.drift()
    assert resumed == straight
    assert resumed.spent_j > 0


def test_real_selectors_under_caps_meet_the_budget_over_the_wire() -> None:
    numbers = np.random.default_rng(2)
    size, entries, rounds = 24, 400, 25
    entry_j = 10 ** numbers.uniform(-6, -4, size)
    selectors = [
        PriceSelector(SelectionCosts.linear({"a": (300,), "b": (100,)}, {"a": c, "b": 3 * c}))
        for c in entry_j
    ]
    battery_j = np.where(np.arange(size) % 3 == 0, 20 * rounds * entry_j, np.inf)
    used_j = np.zeros(size)
    controller = PriceController(budget_j=rounds * 0.01 * entries * entry_j.sum(), rounds=rounds)
    state = controller.initial(1e4)
    scale, bound = np.exp(numbers.normal(0, 1, size)), 0
    for number in range(-4, rounds):
        reports = []
        for j, selector in enumerate(selectors):
            drawn = numbers.laplace(scale=scale[j], size=entries)
            update = {"a": drawn[:300], "b": drawn[300:]}
            left = rounds - max(number, 0)
            cap_j = (
                round_cap_j(battery_j[j], used_j[j], left) if np.isfinite(battery_j[j]) else None
            )
            selection = selector.keep(update, state.price, cap_j=cap_j)
            curve_j = selector.spend_j(update, controller.prices(state))
            report = SpendReport.of(str(j), selection, curve_j, cap_j=cap_j)
            reports.append(SpendReport.from_bytes(str(j), report.to_bytes()))
            if number >= 0:
                used_j[j] += selection.energy_j
                bound += cap_j is not None and selection.budget_j == cap_j
        state = (controller.update if number >= 0 else controller.probe)(state, reports)
        scale *= 0.97
    assert (used_j <= battery_j).all()
    assert bound > 0
    assert used_j.sum() == pytest.approx(state.spent_j, rel=1e-6)
    assert state.spent_j == pytest.approx(controller.budget_j, rel=0.01)
    assert state.left_out == len(left_out(reports)) > 0


def test_everything_sent_does_not_let_the_price_sink_for_ever() -> None:
    controller = PriceController(budget_j=1e9, rounds=300, grid=PriceGrid(bins=4, ratio=2.0))
    state = controller.initial(1.0)
    for _ in range(200):
        sated = SpendReport(
            "a", 1.0, tuple(1.0 if p < 0.01 else 0.0 for p in (controller.prices(state)))
        )
        state = controller.update(state, [sated])
    assert 1e-3 < state.price < 0.01


def test_a_spent_budget_raises_the_price_and_says_so() -> None:
    controller = PriceController(budget_j=1.0, rounds=9)
    state = controller.initial(5.0)
    falling = tuple(np.geomspace(10.0, 0.1, controller.grid.bins).tolist())
    state = controller.update(state, [SpendReport("a", 1.0, falling)])
    assert controller.remaining_j(state) == 0
    assert state.price == controller.prices(controller.initial(5.0))[-1]


def test_nobody_in_a_round_leaves_the_price() -> None:
    controller = PriceController(budget_j=1.0, rounds=2)
    state = controller.update(controller.initial(5.0), [])
    assert (state.price, state.round, state.spent_j) == (5.0, 1, 0.0)


def test_more_clients_expected_means_a_higher_price() -> None:
    controller = PriceController(budget_j=10.0, rounds=3)
    falling = tuple(np.geomspace(10.0, 0.1, controller.grid.bins).tolist())
    reports = [SpendReport(name, 1.0, falling) for name in "abcd"]
    start = controller.initial(5.0)
    states = [controller.update(start, reports, clients=n) for n in (2, 4, 8)]
    assert states[0].price < states[1].price < states[2].price
    assert controller.update(start, reports) == states[1]


def test_a_run_ends_after_its_rounds() -> None:
    controller = PriceController(budget_j=1.0, rounds=1)
    report = SpendReport("a", 0.5, (0.5,) * controller.grid.bins)
    state = controller.update(controller.initial(5.0), [report])
    assert state.price == 5.0
    with pytest.raises(InputError, match="the run is over"):
        controller.update(state, [report])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"budget_j": 0.0, "rounds": 2}, "budget is 0"),
        ({"budget_j": float("nan"), "rounds": 2}, "budget is nan"),
        ({"budget_j": 1.0, "rounds": 0}, "at least one round"),
        ({"budget_j": 1.0, "rounds": 2, "gain": 2.0}, "gain"),
        ({"budget_j": 1.0, "rounds": 2, "client_limit_j": -1.0}, "limit of a client"),
    ],
)
def test_a_controller_that_cannot_work_is_refused(arguments, words: str) -> None:
    with pytest.raises(InputError, match=words):
        PriceController(**arguments)


def test_other_refusals() -> None:
    with pytest.raises(BudgetError):
        PriceController(budget_j=-1.0, rounds=1)
    for price in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="first price"):
            PriceController(budget_j=1.0, rounds=1).initial(price)
    for arguments in ((-1.0, 0.0, 1), (1.0, float("nan"), 1), (1.0, 0.0, 0)):
        with pytest.raises(InputError):
            round_cap_j(*arguments)
    assert round_cap_j(1.0, 2.0, 5) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"price": -1}',
        '{"price": 1, "version": 2}',
        '{"price": 1, "schema_name": "cwmp.costs"}',
        '{"price": 1, "mood": "good"}',
        '{"price": 1e999}',
    ],
)
def test_what_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(FileFormatError, match="not the state of a price controller"):
        ControllerState.from_json(text)
