"""Reports as they come over a network: honest ones add up, others name their client and end."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.controller import PriceController
from cwmp.spending import PriceGrid, SpendReport, SpendTotal, solve
from profiler.errors import InputError

GRID = PriceGrid(bins=5, ratio=2.0)
CONTROLLER = PriceController(budget_j=100.0, rounds=4, grid=GRID, client_limit_j=50.0)
HONEST = (16.0, 8.0, 4.0, 2.0, 1.0)
NAN, INF = float("nan"), float("inf")

float32 = st.floats(0, 2.0**100, width=32, allow_subnormal=True)
curves = st.lists(float32, min_size=5, max_size=5).map(lambda j: tuple(sorted(j, reverse=True)))
honest = st.builds(SpendReport, st.just("c"), float32, curves)


@pytest.mark.parametrize(
    ("spent_j", "curve_j"),
    [
        (NAN, HONEST),
        (INF, HONEST),
        (-1.0, HONEST),
        (1.0, (NAN, *HONEST[1:])),
        (1.0, (INF, *HONEST[1:])),
        (1.0, (*HONEST[:4], -1e-9)),
        (1.0, HONEST[::-1]),
        (1.0, (16.0, 8.0, 9.0, 2.0, 1.0)),
    ],
)
def test_a_report_that_cannot_be_is_refused_by_name(spent_j: float, curve_j) -> None:
    with pytest.raises(InputError, match=r"client 'mallory' reports .*refuse this report"):
        SpendReport("mallory", spent_j, curve_j)
    data = struct.pack("<2sBBf5f", b"SJ", 1, 5, spent_j, *curve_j)
    with pytest.raises(InputError, match=r"client 'mallory' reports .*refuse this report"):
        SpendReport.from_bytes("mallory", data)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (SpendReport("mallory", 1.0, HONEST[:4]), "'mallory' reports 4 prices, not 5"),
        (SpendReport("mallory", 1.0, (*HONEST, 0.5)), "'mallory' reports 6 prices, not 5"),
        (SpendReport("mallory", 51.0, HONEST), "'mallory' reports 51 J, above the limit of 50"),
        (SpendReport("mallory", 1.0, (1e30, *HONEST[1:])), "'mallory' reports 1e\\+30 J"),
    ],
)
def test_a_report_of_another_run_is_refused_and_the_state_stays(
    report: SpendReport, words: str
) -> None:
    state = CONTROLLER.initial(1.0)
    before = state.to_json()
    good = SpendReport("alice", 4.0, HONEST)
    for move in (CONTROLLER.update, CONTROLLER.probe):
        with pytest.raises(InputError, match=words):
            move(state, [good, report])
    assert state.to_json() == before


def test_a_server_drops_who_lies_and_goes_on() -> None:
    state = CONTROLLER.initial(1.0)
    wire = {
        "alice": SpendReport("alice", 4.0, HONEST).to_bytes(),
        "mallory": struct.pack("<2sBBf5f", b"SJ", 1, 5, NAN, *HONEST),
        "trudy": SpendReport("trudy", 1.0, (1e30, *HONEST[1:])).to_bytes(),
    }
    heard, refused = [], []
    for client, data in wire.items():
        try:
            heard.append(CONTROLLER.check(SpendReport.from_bytes(client, data)))
        except InputError:
            refused.append(client)
    assert refused == ["mallory", "trudy"]
    alone = CONTROLLER.update(state, [SpendReport("alice", 4.0, HONEST)])
    assert CONTROLLER.update(state, heard) == alone


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SJ",
        b"PK\x03\x04" + bytes(24),
        struct.pack("<2sBBf5f", b"SJ", 2, 5, 4.0, *HONEST),
        SpendReport("a", 4.0, HONEST).to_bytes()[:-1],
        SpendReport("a", 4.0, HONEST).to_bytes() + b"\0",
        struct.pack("<2sBBf", b"SJ", 1, 255, 4.0),
    ],
)
def test_bytes_that_are_no_report_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(InputError, match="client 'mallory' sent"):
        SpendReport.from_bytes("mallory", data)


@given(st.binary(max_size=64) | st.binary(min_size=24, max_size=24).map(b"SJ\x01\x05".__add__))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_report_or_an_error(data: bytes) -> None:
    state = CONTROLLER.initial(1.0)
    try:
        state = CONTROLLER.update(state, [SpendReport.from_bytes("c", data)])
    except InputError as error:
        assert "'c'" in str(error)
    prices = GRID.prices(1.0)
    assert prices[0] <= state.price <= prices[-1]


@given(honest)
@settings(max_examples=200, deadline=None)
def test_a_report_survives_the_wire(report: SpendReport) -> None:
    data = report.to_bytes()
    assert len(data) == 8 + 4 * 5
    assert SpendReport.from_bytes("c", data) == report


def test_the_default_report_is_104_bytes() -> None:
    assert len(SpendReport("a", 1.0, (1.0,) * PriceGrid().bins).to_bytes()) == 104


@pytest.mark.parametrize("curve_j", [(1e300, *HONEST[1:]), (1.0,) * 300])
def test_what_the_wire_cannot_carry_is_refused(curve_j) -> None:
    with pytest.raises(InputError, match="client 'a' cannot report"):
        SpendReport("a", 1.0, curve_j).to_bytes()


@given(st.lists(honest, min_size=1, max_size=6), st.floats(1e-9, 1e9), st.floats(1e-30, 1e30))
@settings(max_examples=150, deadline=None)
def test_a_valid_report_moves_the_price_within_its_grid(
    reports: list[SpendReport], budget_j: float, price: float
) -> None:
    controller = PriceController(budget_j, rounds=3, grid=GRID)
    state = controller.initial(price)
    while state.round < controller.rounds:
        prices = controller.prices(state)
        state = controller.update(state, reports)
        assert prices[0] * (1 - 1e-12) <= state.price <= prices[-1] * (1 + 1e-12)
        assert 1e-3 <= state.correction <= 1e3
        assert type(state).from_json(state.to_json()) == state


@given(st.lists(honest, min_size=2, max_size=8), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_a_sum_of_sums_is_the_sum(reports: list[SpendReport], cut: int) -> None:
    nothing = SpendTotal(0, 0, 0.0, (0.0,) * 5)
    parts = [SpendTotal.of(report) for report in reports]
    straight = sum(parts, nothing)
    tree = sum(parts[:cut], nothing) + sum(parts[cut:], nothing)
    assert (straight.clients, straight.left_out) == (tree.clients, tree.left_out)
    assert straight.curve_j == pytest.approx(tree.curve_j)
    assert straight.spent_j == pytest.approx(sum(report.spent_j for report in reports))
    one, two = (
        PriceController(10.0, rounds=2, grid=GRID).update(CONTROLLER.initial(1.0), total)
        for total in (straight, tree)
    )
    assert one.price == pytest.approx(two.price)


def test_sums_that_are_not_finite_are_refused() -> None:
    controller = PriceController(10.0, rounds=2, grid=GRID)
    reports = [SpendReport("c", 1e308, (1e308,) * 5)] * 2
    with pytest.raises(InputError, match="infinite joules: set client_limit_j"):
        controller.update(controller.initial(1.0), reports)
    with pytest.raises(InputError, match="a sum of 4 prices"):
        controller.update(controller.initial(1.0), SpendTotal(1, 0, 1.0, HONEST[:4]))
    with pytest.raises(InputError, match="rises with the price"):
        controller.update(controller.initial(1.0), SpendTotal(1, 0, 1.0, HONEST[::-1]))


@given(curves, st.floats(0, 1e9))
@settings(max_examples=150, deadline=None)
def test_the_solved_price_lies_between_the_prices_around_it(curve_j, target_j: float) -> None:
    prices = GRID.prices(1.0)
    price, joules, within = solve(prices, curve_j, target_j)
    assert prices[0] <= price <= prices[-1] * (1 + 1e-12)
    if within and curve_j[0] >= target_j > curve_j[-1]:
        assert joules == target_j
        cheaper = [j for p, j in zip(prices, curve_j, strict=True) if p < price * (1 - 1e-9)]
        dearer = [j for p, j in zip(prices, curve_j, strict=True) if p > price * (1 + 1e-9)]
        assert all(j >= target_j * (1 - 1e-6) for j in cheaper)
        assert all(j <= target_j * (1 + 1e-6) for j in dearer)
    else:
        assert joules in curve_j


def test_the_solved_price_is_exact_on_a_power_law() -> None:
    prices = GRID.prices(3.0)
    curve_j = [7.0 / price**1.5 for price in prices]
    for target_j in np.geomspace(curve_j[-1] * 1.01, curve_j[0] * 0.99, 7):
        price, _, within = solve(prices, curve_j, target_j)
        assert within
        assert 7.0 / price**1.5 == pytest.approx(target_j)


@pytest.mark.parametrize("arguments", [{"bins": 1}, {"bins": 256}, {"ratio": 1.0}, {"ratio": NAN}])
def test_a_grid_that_cannot_be_is_refused(arguments) -> None:
    with pytest.raises(InputError, match="price grid"):
        PriceGrid(**arguments)
