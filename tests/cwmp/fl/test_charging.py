"""Rounds in their order: catching up, refusals, clients that were lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins.cost_files import cost_file
from stand_ins.federations import small_data, small_job

from cwmp.codec import encode
from cwmp.fl.algorithms.base import SelectionReport, Touch
from cwmp.fl.charges import Message, Rates
from cwmp.fl.charging import Charging
from cwmp.fl.engines.local import LocalEngine
from cwmp.fl.fleet import Device, Fleet, batches_of
from cwmp.fl.ledger import ALL_PHASES, Entry, Ledger
from cwmp.fl.rounds import Absence, ClientRecord, RoundRecord
from cwmp.fl.training import LocalPlan
from cwmp.selection import LayerSelection
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError
from profiler.layers import LayerInfo

LAYERS = (
    LayerInfo("a", "linear.weight", (40, 10), "float32"),
    LayerInfo("b", "linear.bias", (40,), "float32"),
)
COSTS = cost_file(LAYERS, origin="measured")
WHOLE = Message(1000, (Touch("a", 400, "dense"), Touch("b", 40, "dense")))
RULE = "topk"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _fleet(clients: int = 3, **changes: object) -> Fleet:
    device = Device("board", COSTS, SelectionCosts.from_cost_file(COSTS), Rates.of(COSTS))
    return Fleet((replace(device, **changes),), (0,) * clients, WHOLE)  # type: ignore[arg-type]


def _done(client: int, payload_bytes: int = 100, **changes: object) -> ClientRecord:
    report = SelectionReport(3, 440, 1e-6, 1.0, 2.0, None)
    done = ClientRecord((32, 8), payload_bytes, (Touch("a", 3, "sparse"),), report, 1.0, client)
    return replace(done, **changes)  # type: ignore[arg-type]


def _round(
    number: int, clients: tuple[int, ...], downlink_bytes: int = 300, *absent: Absence
) -> RoundRecord:
    touched = (Touch("a", 3 + number, "sparse"),)
    records = tuple(_done(client) for client in clients)
    return RoundRecord(number, 0.5, 1.0, records, downlink_bytes, touched, absent)


def _cell(entries: tuple[Entry, ...], client: int, phase: str) -> float:
    (found,) = [
        entry.energy
        for entry in entries
        if (entry.client, entry.party, entry.phase) == (client, "client", phase)
    ]
    assert found is not None
    return found.value


def _joules_of(operation: str, *amounts: int) -> float:
    cost = COSTS.message_cost(operation)
    assert cost is not None
    return sum(float(cost.energy_j(amount)) for amount in amounts)


def test_with_everybody_in_every_round_each_round_is_charged_by_itself() -> None:
    rates, charging = Rates.of(COSTS), _fleet().charging()
    for number in (1, 2, 3):
        record = _round(number, (0, 1, 2))
        assert charging.charge(record, RULE) == rates.charge(record, RULE)


def test_a_client_catches_up_on_what_it_missed() -> None:
    charging = _fleet().charging()
    for number, size in ((1, 100), (2, 200), (3, 300)):
        charging.charge(_round(number, (0,), size), RULE)
    entries = charging.charge(_round(4, (0, 1), 50), RULE)
    assert _cell(entries, 0, "downlink") == pytest.approx(_joules_of("send", 50))
    # one transfer of the three missed ones, then the new one
    assert _cell(entries, 1, "downlink") == pytest.approx(_joules_of("send", 600, 50))
    update = COSTS.layers[0].find("update", "random")
    assert update is not None
    applied = sum(float(update.energy_j(3 + number)) for number in (1, 2, 3, 4))
    assert _cell(entries, 1, "update") == pytest.approx(applied)
    again = charging.charge(_round(5, (1,), 70), RULE)
    assert _cell(again, 1, "downlink") == pytest.approx(_joules_of("send", 70))


def test_the_whole_model_is_sent_where_it_is_shorter() -> None:
    charging = _fleet().charging()
    for number in (1, 2, 3, 4):
        charging.charge(_round(number, (0,), 300), RULE)
    entries = charging.charge(_round(5, (1,), 50), RULE)
    assert _cell(entries, 1, "downlink") == pytest.approx(_joules_of("send", 1000, 50))
    dense = [layer.find("update", "dense") for layer in COSTS.layers]
    new = COSTS.layers[0].find("update", "random")
    assert new is not None
    applied = sum(float(c.energy_j(n)) for c, n in zip(dense, (400, 40), strict=True) if c)
    assert _cell(entries, 1, "update") == pytest.approx(applied + float(new.energy_j(8)))


sizes = st.integers(0, 500)
attendance = st.lists(
    st.tuples(st.sets(st.integers(0, 3), min_size=1), sizes), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(attendance)
def test_catching_up_against_the_slow_obvious_sum(
    rounds: list[tuple[set[int], int]],
) -> None:
    charging = _fleet(4).charging()
    got: dict[int, set[int]] = {client: set() for client in range(4)}
    for number, (clients, size) in enumerate(rounds, start=1):
        entries = charging.charge(_round(number, tuple(sorted(clients)), size), RULE)
        for client in clients:
            missed = sum(rounds[n - 1][1] for n in range(1, number) if n not in got[client])
            expected = _joules_of("send", min(missed, WHOLE.payload_bytes), size)
            assert _cell(entries, client, "downlink") == pytest.approx(expected)
            got[client] = set(range(1, number + 1))


@settings(max_examples=30, deadline=None)
@given(attendance, st.integers(0, 8))
def test_a_run_taken_up_again_is_charged_alike(
    rounds: list[tuple[set[int], int]], cut: int
) -> None:
    records = [_round(n, tuple(sorted(c)), size) for n, (c, size) in enumerate(rounds, start=1)]
    fleet = _fleet(4, battery_j=1.0)
    first = fleet.charging()
    whole = [first.charge(record, RULE) for record in records]
    second = fleet.charging()
    for record in records[:cut]:
        second.charge(record, RULE)
    assert [second.charge(record, RULE) for record in records[cut:]] == whole[cut:]
    left = [[c.batteries.remaining_j(i) for i in range(4)] for c in (first, second)]
    assert left[0] == left[1]


def test_rounds_out_of_order_are_refused() -> None:
    charging = _fleet().charging()
    with pytest.raises(InputError, match="round 2 cannot be charged: the next one is round 1"):
        charging.charge(_round(2, (0,)), RULE)


def test_a_refused_client_trained_sent_and_received() -> None:
    did = _done(1, touched=())
    entries = (
        _fleet().charging().charge(_round(1, (0,), 300, Absence(1, "refused: NaN", did)), RULE)
    )
    for phase in ("train", "select", "uplink", "downlink", "update", "encode"):
        assert _cell(entries, 1, phase) == pytest.approx(_cell(entries, 0, phase)), phase
    (encoded,) = [e.energy for e in entries if (e.client, e.phase) == (1, "encode")]
    assert encoded is not None and encoded.origin == "assumed"
    assert not [e for e in entries if (e.client, e.party) == (1, "server")]


@pytest.mark.parametrize("reason", ["died", "late: 3 s"])
def test_a_lost_client_is_charged_at_most_what_it_did_before(reason: str) -> None:
    charging = _fleet().charging()
    before = charging.charge(_round(1, (0, 1)), RULE)
    after = charging.charge(_round(2, (0,), 300, Absence(1, reason)), RULE)
    lost = {e.phase: e.energy for e in after if e.client == 1}
    assert set(lost) == {"train", "select", "encode", "uplink"}
    for phase, energy in lost.items():
        assert energy is not None
        assert (energy.low, energy.origin) == (0.0, "assumed")
        assert energy.value == pytest.approx(_cell(before, 1, phase))
    back = charging.charge(_round(3, (1,), 10), RULE)
    assert _cell(back, 1, "downlink") == pytest.approx(_joules_of("send", 300, 10))


def test_a_client_lost_in_its_first_round_is_charged_its_own_batches() -> None:
    entries = Charging(_fleet(), {1: (7,)}).charge(_round(1, (0,), 300, Absence(1, "died")), RULE)
    train = COSTS.modules[0].operations[0]
    assert _cell(entries, 1, "train") == pytest.approx(float(train.energy_j(7)))
    assert _cell(entries, 1, "uplink") == pytest.approx(_joules_of("send", 100))


def test_batches_that_only_go_forward_are_a_share_of_a_step() -> None:
    rates = Rates.of(COSTS)
    steps, alone = rates.trained((30,)), rates.trained((), (30,))
    assert steps is not None and alone is not None
    assert alone.value == pytest.approx(steps.value / 3)
    assert alone.low < 0.7 * alone.value < 1.4 * alone.value < alone.high
    assert (steps.origin, alone.origin) == ("measured", "assumed")
    record = replace(_round(1, ()), clients=(_done(0, forwards=(30,)), _done(1)))
    entries = _fleet().charging().charge(record, RULE)
    more = _cell(entries, 0, "train") - _cell(entries, 1, "train")
    assert more == pytest.approx(alone.value)


def test_a_message_to_one_client_is_encoded_sent_and_received() -> None:
    record = replace(_round(1, ()), clients=(_done(0, personal_bytes=400), _done(1)))
    entries = _fleet().charging().charge(record, RULE)
    assert _cell(entries, 0, "downlink") == pytest.approx(_joules_of("send", 700))
    (encoded,) = [
        e.energy for e in entries if (e.client, e.party, e.phase) == (0, "server", "encode")
    ]
    assert encoded is not None and encoded.origin == "assumed"
    assert encoded.value == pytest.approx(_joules_of("encode", 100))


def test_the_charged_plan_is_the_one_that_is_trained(tmp_path: Path) -> None:
    prepared = small_job(tmp_path, rounds=1, batch_size=7, local_epochs=2).prepare(small_data(64))
    (record,) = LocalEngine().run(prepared.federation, prepared.team)
    for done, (_, labels) in zip(record.clients, prepared.federation.shards, strict=True):
        assert batches_of(len(labels), prepared.job.plan) == done.batches
    assert batches_of(15, LocalPlan(epochs=1, batch_size=7)) == (7, 8)
    layout, state = prepared.layout, prepared.federation.initial
    layers = [
        LayerSelection(name, values.shape, np.arange(values.size), values.ravel(), "dense")
        for name, values in state.parameters.items()
    ]
    sent = encode(layers, layout, buffers=state.buffers)
    assert prepared.fleet.whole.payload_bytes == len(sent)


def test_a_sampled_run_adds_up_in_every_direction(tmp_path: Path) -> None:
    prepared = small_job(tmp_path, rounds=4, per_round=2).prepare(small_data())
    charging = prepared.fleet.charging(prepared.federation)
    entries: list[Entry] = []
    for record in LocalEngine().run(
        prepared.federation, prepared.team, available=charging.available
    ):
        entries.extend(charging.charge(record, prepared.job.method))
    ledger = Ledger(tuple(entries))
    total = ledger.total()
    assert total.lacks == () and total.energy is not None
    splits = (
        [ledger.phase(phase) for phase in ALL_PHASES],
        [part.total().energy for _, part in ledger.rounds()],
        [ledger.of_party(party).total().energy for party in ("client", "server")],
        [ledger.of_client(client).total().energy for client in (None, 0, 1, 2, 3)],
    )
    for parts in splits:
        for name in ("value", "low", "high"):
            found = sum(getattr(part, name) for part in parts if part is not None)
            assert found == pytest.approx(getattr(total.energy, name), rel=1e-9)
