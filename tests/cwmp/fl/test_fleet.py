"""Fleets of different devices: each client by its own costs, link, pace and battery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.federations import save_costs, small_data, small_job

from costmodels.composition.link_table import find_link
from cwmp.fl.engines.local import LocalEngine
from cwmp.fl.job import Job, Prepared
from cwmp.fl.ledger import PHASES, Entry, Joules, Ledger
from cwmp.fl.rounds import RoundRecord
from cwmp.fl.waiting import Pace, Seconds, Transfer, waits
from profiler.errors import InputError, RoundError

NANO = 1e-9
DATA = small_data()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _job(folder: Path, *devices: dict[str, Any], **values: Any) -> Job:
    """A job of *devices* that each name their cost file's changes under ``made``."""
    specs = []
    for number, device in enumerate(devices):
        made = device.pop("made", {})
        path = save_costs(folder, name=f"costs{number}.json", **made)
        specs.append({"name": f"kind {number}", "costs": path, **device})
    return small_job(folder, **{"budget": "100%", **values, "devices": tuple(specs)})


def _run(prepared: Prepared) -> tuple[list[RoundRecord], Ledger]:
    charging = prepared.fleet.charging(prepared.federation)
    records: list[RoundRecord] = []
    entries: list[Entry] = []
    for record in LocalEngine().run(
        prepared.federation, prepared.team, available=charging.available
    ):
        records.append(record)
        entries.extend(charging.charge(record, prepared.job.method))
    return records, Ledger(tuple(entries))


def _phase(ledger: Ledger, client: int, phase: str) -> Joules | None:
    return ledger.of_client(client).of_party("client").phase(phase)  # type: ignore[arg-type]


def test_each_client_is_charged_by_its_own_device(tmp_path: Path) -> None:
    job = _job(
        tmp_path,
        {"clients": 1},
        {"made": {"byte_j": 50 * NANO, "entry_j": lambda _: 70 * NANO}},
        method="dense",
        rounds=1,
    )
    prepared = job.prepare(DATA)
    (record,), ledger = _run(prepared)
    for done in record.clients:
        costs = prepared.fleet.device(done.client).costs
        send = costs.message_cost("send")
        uplink, applied = (_phase(ledger, done.client, phase) for phase in ("uplink", "update"))
        assert send is not None and uplink is not None and applied is not None
        assert uplink.value == pytest.approx(float(send.energy_j(done.payload_bytes)))
        expected = 0.0
        for layer, touch in zip(costs.layers, record.touched, strict=True):
            cost = layer.find("update", "dense")
            assert cost is not None
            expected += float(cost.energy_j(touch.k))
        assert applied.value == pytest.approx(expected)
    server = [ledger.of_client(client).of_party("server").phase("update") for client in range(4)]
    assert len({energy.value for energy in server if energy}) == 1


def test_a_server_of_its_own_is_charged_by_its_own_costs(tmp_path: Path) -> None:
    dear = save_costs(tmp_path, name="server.json", entry_j=lambda _: 900 * NANO, messages=())
    job = _job(tmp_path, {}, method="dense", rounds=1, server={"name": "server", "costs": dear})
    _, own = _run(job.prepare(DATA))
    _, shared = _run(job.model_copy(update={"server": None}).prepare(DATA))
    assert own.of_party("client").total() == shared.of_party("client").total()
    spent, usual = (ledger.of_party("server").phase("update") for ledger in (own, shared))
    assert spent is not None and usual is not None and spent.value > 20 * usual.value
    assert own.total().lacks == ("encode",)
    assert own.of_party("client").total().lacks == ()


def test_a_link_prices_both_the_selection_and_the_ledger(tmp_path: Path) -> None:
    bare = {"messages": ("encode", "topk", "cwmp")}
    job = _job(
        tmp_path,
        {"made": bare, "uplink": "lte-2012-uplink", "downlink": "lte-2012-downlink"},
        rounds=1,
        budget="100%",
        method="dense",
    )
    prepared = job.prepare(DATA)
    (record,), ledger = _run(prepared)
    device = prepared.fleet.devices[0]
    up, down = find_link("lte-2012-uplink"), find_link("lte-2012-downlink")
    sent, received = (_phase(ledger, 0, phase) for phase in ("uplink", "downlink"))
    assert sent is not None and received is not None
    payload_bytes = record.clients[0].payload_bytes
    assert sent.value == pytest.approx(up.energy_j(8 * payload_bytes))
    assert received.value == pytest.approx(down.energy_j(8 * record.downlink_bytes))
    assert sent.origin == received.origin == "modelled"
    assert sent.low < sent.value / 1.9 and sent.high > 1.9 * sent.value
    (selection,) = {c.selection.energy_j for c in record.clients if c.selection}
    assert selection == pytest.approx(device.prices.dense_j)
    assert selection > up.energy_j(8 * payload_bytes) > 12  # joules of one tail


def test_without_a_downlink_receiving_is_assumed(tmp_path: Path) -> None:
    job = _job(tmp_path, {"uplink": "wifi-uplink"}, rounds=1)
    _, ledger = _run(job.prepare(DATA))
    received = ledger.phase("downlink")
    assert received is not None and received.origin == "assumed"


def test_a_device_that_does_not_price_a_phase_makes_it_absent(tmp_path: Path) -> None:
    job = _job(tmp_path, {"clients": 1, "made": {"train": False}}, {}, rounds=1)
    _, ledger = _run(job.prepare(DATA))
    assert ledger.total().lacks == ("train",)
    assert _phase(ledger, 0, "train") is None
    known = _phase(ledger, 1, "train")
    assert known is not None and known.value > 0
    over = ledger.of_phases([phase for phase in PHASES if phase != "train"])
    parts = [over.of_client(client).total().energy for client in (None, 0, 1, 2, 3)]
    total = ledger.total().energy
    assert total is not None
    assert sum(part.value for part in parts if part) == pytest.approx(total.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"uplink": "wifi-downlink"}, "has 'wifi-downlink' as its uplink, which is a downlink"),
        ({"downlink": "wi-fi"}, "no link is called 'wi-fi'"),
        ({"uplink_bps": 1e6}, "has a rate for its uplink and no link"),
    ],
)
def test_links_that_cannot_be(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        _ = _job(tmp_path, changes).prepare(DATA).fleet


# Waiting


def test_waiting_is_charged_until_the_slowest_has_sent(tmp_path: Path) -> None:
    link = {"uplink": "wifi-uplink", "uplink_bps": 1e6}
    fast, slow = {"clients": 3, "power_w": 10.0, "idle_w": 2.0}, {"power_w": 1.0, "idle_w": 0.5}
    job = _job(tmp_path, {**fast, **link}, {**slow, **link}, method="dense", rounds=1)
    prepared = job.prepare(DATA)
    (record,), ledger = _run(prepared)
    watts = {0: 10.0, 1: 10.0, 2: 10.0, 3: 1.0}
    busy_s = {}
    for done in record.clients:
        phases = (_phase(ledger, done.client, phase) for phase in ("train", "select", "encode"))
        spent_j = sum(energy.value for energy in phases if energy)
        busy_s[done.client] = spent_j / watts[done.client] + 8 * done.payload_bytes / 1e6
    for client in range(4):
        idle = _phase(ledger, client, "idle")
        assert idle is not None and idle.origin != "measured"
        others = max(seconds for other, seconds in busy_s.items() if other != client)
        expected = (2.0 if client < 3 else 0.5) * max(0.0, others - busy_s[client])
        assert idle.value == pytest.approx(expected)
    assert ledger.total().lacks == ()
    assert list(ledger.by_phase())[-1] == "idle"


def test_where_nobody_says_what_waiting_draws_it_is_no_phase(tmp_path: Path) -> None:
    _, ledger = _run(_job(tmp_path, {"power_w": 1.0}, rounds=1).prepare(DATA))
    assert tuple(ledger.by_phase()) == PHASES
    assert ledger.phase("idle") is None and ledger.total().lacks == ()


def test_waiting_for_a_client_of_unknown_pace_is_absent(tmp_path: Path) -> None:
    job = _job(tmp_path, {"clients": 1}, {"power_w": 1.0, "idle_w": 1.0}, rounds=1)
    _, ledger = _run(job.prepare(DATA))
    assert ledger.total().lacks == ("idle",)
    assert all(entry.energy is None for entry in ledger.entries if entry.phase == "idle")


times = st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10)).map(sorted)
busy = st.lists(times.map(lambda t: Seconds(t[1], t[0], t[2])), min_size=1, max_size=6)


@given(busy)
def test_waits_against_the_slow_obvious_way(clients: list[Seconds]) -> None:
    for place, (own, wait) in enumerate(zip(clients, waits(clients), strict=True)):
        others = [each for number, each in enumerate(clients) if number != place]
        slowest = max((each.value for each in others), default=0.0)
        assert wait.value == pytest.approx(max(0.0, slowest - own.value))
        assert wait.low <= wait.value <= wait.high
    assert min(wait.value for wait in waits(clients)) == 0


def test_a_rate_that_is_not_given_is_assumed() -> None:
    link = find_link("lte-uplink")
    usual, given_s = Transfer(link).seconds(1000), Transfer(link, 2e6).seconds(1000)
    assert usual == Seconds(8e-4, 4e-4, 16e-4, "assumed")
    assert given_s == Seconds(4e-3, 4e-3, 4e-3, "modelled")
    framed = find_link("ble-uplink")
    assert framed.frame is not None
    assert Transfer(framed).seconds(21).value == pytest.approx(2 * framed.frame.airtime_s)
    assert Transfer(framed).seconds(0).value == 0


def test_seconds_an_example_go_before_watts() -> None:
    energy = Joules(6.0, 5.0, 8.0, "measured")
    amounts = {"examples": 10.0, "up_bytes": 100, "down_bytes": 100}
    found = Pace(power_w=2.0, example_s=0.1).busy(energy, energy, **amounts)  # type: ignore[arg-type]
    assert found == Seconds(1.0 + 3.0, 1.0 + 2.5, 1.0 + 4.0, "modelled")
    assert Pace().busy(energy, energy, **amounts) is None  # type: ignore[arg-type]
    assert Pace(power_w=1.0).busy(None, energy, **amounts) is None  # type: ignore[arg-type]


# Batteries


def _client_round_j(folder: Path, **values: Any) -> dict[int, float]:
    """What a first round costs each client on mains."""
    (_, *_), ledger = _run(_job(folder, {}, **{**values, "rounds": 1}).prepare(DATA))
    spent = {}
    for client in range(4):
        total = ledger.of_client(client).of_party("client").total().energy
        assert total is not None
        spent[client] = total.value
    return spent


def test_clients_drop_out_one_after_another_and_the_round_goes_on(tmp_path: Path) -> None:
    values = {"method": "dense", "alpha": 1000.0, "rounds": 4}
    cost_j = _client_round_j(tmp_path, **values)
    devices = [
        {"clients": 1, "battery_j": (rounds + 0.5) * cost_j[client]}
        for client, rounds in enumerate((1, 2, 3))
    ]
    prepared = _job(tmp_path, *devices, {}, **values).prepare(DATA)
    records, ledger = _run(prepared)
    there = [tuple(done.client for done in record.clients) for record in records]
    assert there == [(0, 1, 2, 3), (1, 2, 3), (2, 3), (3,)]
    gone = [{a.client: a.reason for a in record.absent} for record in records]
    assert gone == [
        {},
        {0: "battery"},
        {0: "battery", 1: "battery"},
        dict.fromkeys(range(3), "battery"),
    ]
    for client, rounds in enumerate((1, 2, 3, 4)):
        spent = [entry.round for entry in ledger.of_client(client).entries]
        assert set(spent) == set(range(1, rounds + 1))


def test_a_battery_is_spent_to_its_last_round(tmp_path: Path) -> None:
    values = {"method": "dense", "rounds": 3}
    cost_j = _client_round_j(tmp_path, **values)
    devices = [{"clients": 1, "battery_j": 2 * cost_j[client]} for client in range(3)]
    prepared = _job(tmp_path, *devices, {}, **values).prepare(DATA)
    records, _ = _run(prepared)
    assert [len(record.clients) for record in records] == [4, 4, 1]


def test_a_battery_too_small_for_its_first_training_never_takes_part(tmp_path: Path) -> None:
    prepared = _job(tmp_path, {"clients": 1, "battery_j": 1e-9}, {}, rounds=1).prepare(DATA)
    (record,), ledger = _run(prepared)
    assert [absence.client for absence in record.absent] == [0]
    assert not ledger.of_client(0).entries


def test_when_all_are_out_the_run_ends_with_one_clear_line(tmp_path: Path) -> None:
    cost_j = max(_client_round_j(tmp_path).values())
    prepared = _job(tmp_path, {"battery_j": 1.5 * cost_j}, rounds=9).prepare(DATA)
    with pytest.raises(RoundError) as error:
        _run(prepared)
    said = str(error.value)
    assert said.startswith("no update arrived in round ") and "client 0 battery" in said
    assert "\n" not in said
