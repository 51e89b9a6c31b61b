"""Tied scores, and samples that mislead: exact all the same, in memory that does not grow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from element_cases import VALUES, check_same, costs_of, update_of

from cwmp import ElementCosts, ElementWeighted
from cwmp.kernels import costed_refine
from cwmp.kernels.costed_crossing import Crossing
from cwmp.kernels.costed_places import EVERYTHING, NOTHING, Place
from cwmp.kernels.costed_sample import Bracket
from cwmp.selectors import element_search
from profiler.errors import UpdateError

TIED = {
    "one pair": ("all equal", "equal"),
    "one score, many pairs": ("roots", "squares"),
    "a few scores": ("three values", "few"),
    "one |g|": ("all equal", "any"),
    "blocks": ("blocks", "equal"),
    "almost all equal": ("one outlier", "equal"),
}


def _tied(name: str, sizes: list[int], seed: int = 0) -> tuple[ElementCosts, dict]:
    values, kind = TIED[name]
    numbers = np.random.default_rng(seed)
    costs = costs_of(numbers, sizes, kind)
    if values == "roots":
        roots = {x: np.sqrt(c).astype(np.float32) for x, c in costs.quanta.items()}
        return costs, {
            x: numbers.choice([-2, 2], r.size).astype("f4") * r for x, r in roots.items()
        }
    return costs, update_of(numbers, costs, values)


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_ties_end_where_the_reference_s_do(name: str, threads: int) -> None:
    costs, update = _tied(name, [7, 90_000, 33, 60_001])
    for share in (0.0004, 0.01, 0.3, 0.61, 0.99, 1.0):
        for p, q in ((2, 1), (1, 1), (1, 0)):
            check_same(costs, update, share * costs.dense_j, p, q, threads)


@pytest.mark.parametrize("name", TIED)
def test_ties_take_no_more_memory_than_what_is_kept(name: str) -> None:
    costs, update = _tied(name, [3_000_000])
    rule = ElementWeighted(costs, threads=1)
    budget_j = 0.01 * costs.dense_j
    rule.select(update, budget_j)
    fresh = ElementWeighted(costs, threads=1)
    tracemalloc.start()
    selection = fresh.select(update, budget_j)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * selection.entries + 8_000_000


WRONG = {
    "too high": lambda g: (_scaled(g.high, 4.0), _scaled(g.low, 2.0)),
    "too low": lambda g: (_scaled(g.high, 0.25), _scaled(g.low, 0.125)),
    "nothing known": lambda g: (NOTHING, EVERYTHING),
    "everything sure": lambda g: (EVERYTHING._replace(bits=2**31), EVERYTHING),
    "an empty bracket": lambda g: (g.low, g.low),
    "a chunk too early": lambda g: (g.high, g.low._replace(exact=True, bits=1, chunk=0)),
    "ties that are none": lambda g: (
        _scaled(g.high, 1.1)._replace(exact=True, bits=5, cost=3),
        _scaled(g.low, 0.9)._replace(exact=True, bits=2**31 - 1, cost=3),
    ),
}


def _scaled(place: Place, factor: float) -> Place:
    return place._replace(score=place.score * factor if np.isfinite(place.score) else 1e30)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["one pair", "one score, many pairs", "a few scores", "normal"])
def test_a_sample_that_misleads_costs_time_alone(
    wrong: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = element_search.costed_bracket
    calls = []

    def misled(*arguments) -> Bracket:
        guess = honest(*arguments)
        calls.append(guess)
        high, low = WRONG[wrong](guess)
        return Bracket(high, low, 1, 1)

    monkeypatch.setattr(element_search, "costed_bracket", misled)
    monkeypatch.setattr(costed_refine, "_FEW", 16)
    monkeypatch.setattr(costed_refine, "_SHARE", 10_000)
    if name == "normal":
        costs = costs_of(np.random.default_rng(3), [17, 70_000, 33_000], "any")
        update = update_of(np.random.default_rng(4), costs, "normal")
    else:
        costs, update = _tied(name, [17, 70_000, 33_000])
    for share in (0.0004, 0.02, 0.6, 1.0):
        for p, q in ((2, 1), (1, 0)):
            check_same(costs, update, share * costs.dense_j, p, q, threads=2)
    assert len(calls) == 8


PLACE = Place(2.0, 9, 3, 5, True)


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        (PLACE, True),
        (PLACE._replace(score=3.0), False),
        (PLACE._replace(score=2.5), True),
        (PLACE._replace(bits=8), False),
        (PLACE._replace(bits=10, chunk=99), True),
        (PLACE._replace(chunk=6), False),
        (PLACE._replace(chunk=4), True),
        (PLACE._replace(score=1.5), False),
    ],
)
def test_an_end_counts_only_between_the_places_that_were_asked_for(place, inside) -> None:
    guess = Bracket(Place(2.5, 9, 1, 0, True), PLACE, 1, 1)
    assert element_search.holds(Crossing(10, 0, place), guess, 12) is inside


def test_all_fits_only_where_everything_was_kept() -> None:
    some, every = Bracket(NOTHING, PLACE, 1, 1), Bracket(NOTHING, EVERYTHING, 1, 1)
    assert not element_search.holds(Crossing(10), some, 12)
    assert element_search.holds(Crossing(10), every, 12)
    assert not element_search.holds(Crossing(13), every, 12)


def test_an_update_that_changes_meanwhile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(element_search, "holds", lambda *_: False)
    costs, update = _tied("one pair", [40])
    with pytest.raises(UpdateError, match="changed while it was read"):
        ElementWeighted(costs).select(update, costs.dense_j)


@pytest.mark.parametrize("values", VALUES)
def test_counting_alone_finds_the_end(values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample at all: the bracket that the counting passes find must hold as it stands."""
    brackets = []
    honest = element_search.refined

    def counted(*arguments):
        brackets.append(honest(*arguments))
        return brackets[-1]

    monkeypatch.setattr(element_search, "refined", counted)
    monkeypatch.setattr(
        element_search,
        "costed_bracket",
        lambda *_: Bracket(EVERYTHING._replace(bits=2**31), NOTHING, 1, 1),
    )
    monkeypatch.setattr(costed_refine, "_FEW", 16)
    monkeypatch.setattr(costed_refine, "_SHARE", 10_000)
    numbers = np.random.default_rng(12)
    costs = costs_of(numbers, [40, 70_000], "few")
    update = update_of(numbers, costs, values)
    for share in (0.01, 0.5, 1.0):
        for p, q in ((2, 1), (1, 1), (1, 0)):
            check_same(costs, update, share * costs.dense_j, p, q, threads=2)
    assert len(brackets) <= 9
    if values != "all zero":
        assert brackets
