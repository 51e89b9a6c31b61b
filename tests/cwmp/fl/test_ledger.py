from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.cost_files import cost_file, line

from costmodels.costfile import CostFile, OperationCost
from cwmp.fl.algorithms.base import SelectionReport, Touch
from cwmp.fl.charges import Rates
from cwmp.fl.ledger import PHASES, Entry, Joules, Ledger, joules
from cwmp.fl.rounds import ClientRecord, RoundRecord
from profiler.errors import InputError
from profiler.layers import LayerInfo

LAYERS = (
    LayerInfo("a", "linear.weight", (40, 10), "float32"),
    LayerInfo("b", "linear.bias", (40,), "float32"),
)
COSTS = cost_file(LAYERS)

values = st.floats(0, 1e3)
energies = st.builds(
    lambda low, more, most, origin: Joules(low + more, low, low + more + most, origin),
    values,
    values,
    values,
    st.sampled_from(["measured", "modelled", "assumed"]),
)
entries = st.builds(
    Entry,
    round=st.integers(1, 4),
    client=st.one_of(st.none(), st.integers(0, 3)),
    party=st.sampled_from(["client", "server"]),
    phase=st.sampled_from(PHASES),
    energy=st.one_of(st.none(), energies, energies, energies),
)


@given(st.lists(energies.map(lambda e: e), min_size=1), st.data())
def test_phases_rounds_and_clients_each_add_up_to_the_total(
    cells: list[Joules], data: st.DataObject
) -> None:
    ledger = Ledger(
        tuple(
            Entry(
                data.draw(st.integers(1, 4)),
                data.draw(st.one_of(st.none(), st.integers(0, 3))),
                "client",
                data.draw(st.sampled_from(PHASES)),
                cell,
            )
            for cell in cells
        )
    )
    total = ledger.total()
    assert total.lacks == ()
    assert total.energy is not None
    by_phase = [ledger.phase(phase) for phase in PHASES]
    by_round = [part.total().energy for _, part in ledger.rounds()]
    by_client = [ledger.of_client(client).total().energy for client in (None, 0, 1, 2, 3)]
    for parts in (by_phase, by_round, by_client):
        for name in ("value", "low", "high"):
            found = sum(getattr(part, name) for part in parts if part is not None)
            assert found == pytest.approx(getattr(total.energy, name), rel=1e-9, abs=1e-9)


@given(st.lists(entries))
def test_an_unknown_cell_makes_its_phase_absent_and_the_total_says_so(cells: list[Entry]) -> None:
    ledger = Ledger(tuple(cells))
    unknown = {entry.phase for entry in cells if entry.energy is None}
    assert {phase for phase in PHASES if ledger.phase(phase) is None} == unknown
    assert set(ledger.total().lacks) == unknown
    if unknown == set(PHASES):
        assert ledger.total().energy is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("measured", "measured", "measured"),
        ("measured", "modelled", "modelled"),
        ("assumed", "modelled", "assumed"),
    ],
)
def test_a_sum_is_only_as_good_as_its_weakest_part(first: str, second: str, expected: str) -> None:
    summed = Joules(1.0, 0.5, 2.0, first) + Joules(3.0, 2.0, 4.0, second)  # type: ignore[arg-type]
    assert summed == Joules(4.0, 2.5, 6.0, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [(2.0, 3.0), (0.0, 0.5), (-1.0, 2.0), (0.0, float("nan"))])
def test_joules_lie_within_their_interval(limits: tuple[float, float]) -> None:
    with pytest.raises(InputError):
        Joules(1.0, *limits, "measured")


def _pieces() -> OperationCost:
    first = line("update", "random", "entry", a_j=1.0, c_j=2.0)
    later = line("update", "random", "entry", a_j=5.0, c_j=3.0).pieces[0]
    pieces = (first.pieces[0], later.model_copy(update={"from_k": 10}))
    return first.model_copy(update={"pieces": pieces})


@given(st.integers(0, 100))
def test_the_charge_is_the_cost_file_s_energy(k: int) -> None:
    cost = _pieces()
    charged = joules(cost, k)
    assert charged.value == pytest.approx(float(cost.energy_j(k)))
    assert charged.low == pytest.approx(0.9 * charged.value)
    assert charged.high == pytest.approx(1.1 * charged.value)


def _record(**changes: object) -> RoundRecord:
    report = SelectionReport(5, 440, 1e-6, 1.0, 2.0, 1.5)
    first = ClientRecord(
        (32, 8), 100, (Touch("a", 3, "sparse"), Touch("b", 2, "sparse")), report, 1
    )
    second = ClientRecord((32,), 400, (Touch("b", 40, "dense"),), None, 1, client=1)
    return RoundRecord(1, 0.5, 1.0, (first, second), 300, (Touch("a", 3, "sparse"),))


def _phase(costs: CostFile, phase: str, client: int | None, party: str) -> Joules | None:
    found = [
        entry.energy
        for entry in Rates.of(costs).charge(_record(), "cwmp")
        if (entry.phase, entry.client, entry.party) == (phase, client, party)
    ]
    assert len(found) == 1
    return found[0]


def test_each_phase_is_charged_from_its_own_cost() -> None:
    train = COSTS.modules[0].operations[0]
    send = COSTS.message_cost("send")
    encode = COSTS.message_cost("encode")
    update = {layer.name: layer for layer in COSTS.layers}
    expected = {
        ("train", 0, "client"): train.energy_j(32) + train.energy_j(8),
        ("train", 1, "client"): train.energy_j(32),
        ("select", 0, "client"): COSTS.message_cost("select", "cwmp").energy_j(5),
        ("encode", 0, "client"): encode.energy_j(5),
        ("encode", 1, "client"): encode.energy_j(40),
        ("encode", None, "server"): encode.energy_j(3),
        ("uplink", 0, "client"): send.energy_j(100),
        ("uplink", 1, "client"): send.energy_j(400),
        ("downlink", 1, "client"): send.energy_j(300),
        ("update", 0, "server"): update["a"].find("update", "random").energy_j(3)
        + update["b"].find("update", "random").energy_j(2),
        ("update", 1, "server"): update["b"].find("update", "dense").energy_j(40),
        ("update", 0, "client"): update["a"].find("update", "random").energy_j(3),
    }
    for (phase, client, party), energy_j in expected.items():
        charged = _phase(COSTS, phase, client, party)
        assert charged is not None, phase
        assert charged.value == pytest.approx(float(energy_j)), phase


def test_a_method_that_chooses_nothing_pays_nothing_for_choosing() -> None:
    entries = Rates.of(COSTS).charge(_record(), "cwmp")
    assert [entry.client for entry in entries if entry.phase == "select"] == [0]


def test_what_was_not_measured_as_such_is_assumed() -> None:
    costs = cost_file(LAYERS, origin="measured")
    by_rule = {
        rule: {
            e.phase: e.energy.origin for e in Rates.of(costs).charge(_record(), rule) if e.energy
        }
        for rule in ("cwmp", "cwmp:1,1", "topk", "another")
    }
    assert by_rule["cwmp"]["uplink"] == "measured"
    assert by_rule["cwmp"]["downlink"] == "assumed"
    assert by_rule["cwmp"]["select"] == "measured"
    assert by_rule["cwmp:1,1"]["select"] == "assumed"
    assert by_rule["topk"]["select"] == "measured"
    assert by_rule["another"]["select"] == "assumed"


def test_a_rule_that_was_not_profiled_is_charged_as_the_one_that_does_the_same_work() -> None:
    same = {"cwmp:1,1": "topk", "cwmp:1,0": "topk", "cwmp:4,2": "cwmp", "random": "topk"}
    for rule, profiled in (("topk", "topk"), *same.items()):
        price = COSTS.message_cost("select", profiled)
        (chosen,) = [e for e in Rates.of(COSTS).charge(_record(), rule) if e.phase == "select"]
        assert price is not None and chosen.energy is not None
        assert chosen.energy.value == pytest.approx(float(price.energy_j(5)))
    alone = cost_file(LAYERS, messages=("encode", "send", "cwmp"))
    (absent,) = [e for e in Rates.of(alone).charge(_record(), "topk") if e.phase == "select"]
    assert absent.energy is None


@pytest.mark.parametrize(
    ("costs", "lacks"),
    [
        (cost_file(LAYERS, train=False), ("train",)),
        (cost_file(LAYERS, messages=("send",)), ("select", "encode")),
        (cost_file(LAYERS, messages=("send",), train=False), ("train", "select", "encode")),
        (COSTS, ()),
    ],
)
def test_what_the_cost_file_lacks_is_absent(costs: CostFile, lacks: tuple[str, ...]) -> None:
    ledger = Ledger(Rates.of(costs).charge(_record(), "cwmp"))
    assert ledger.total().lacks == lacks
    assert all(ledger.phase(phase) is None for phase in PHASES if phase in lacks)
    assert ledger.total().energy is not None
