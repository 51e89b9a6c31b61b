"""One price for all: the run keeps its budget, and the messages are checked."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins.federations import small_data, small_job
from stand_ins.given_updates import (
    GivenTrainer,
    arrived,
    follow,
    method_of,
    priced,
    updates,
    zero_state,
)

from cwmp.controller_state import ControllerState
from cwmp.fl.algorithms.base import ClientTask, Memory, ServerTask, Upload
from cwmp.fl.engines.base import Standing
from cwmp.fl.engines.local import LocalEngine
from cwmp.selectors import CostWeighted
from profiler.errors import BudgetError, InputError, PayloadError

SHARE = 0.6


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _run(rounds: int, clients: int, given: Callable[[int, int], dict]) -> list[list[Upload]]:
    """Rounds of clients with given updates, the server's messages passed on."""
    method = method_of(
        "cwmp-price", priced(), SHARE, clients=clients, per_round=clients, rounds=rounds
    )
    messages: dict[int, bytes] = {}
    server: Memory = {}
    done = []
    for number in range(1, rounds + 1):
        uploads = []
        for client in range(clients):
            task = ClientTask(
                zero_state(),
                torch.zeros(4, 1),
                torch.zeros(4, dtype=torch.int64),
                order=np.random.default_rng(0),
                draws=np.random.default_rng(0),
                client=client,
                round=number,
                message=messages.get(client, b""),
            )
            uploads.append(method.client(GivenTrainer([given(number, client)]), task))
        task = ServerTask(zero_state(), number, np.random.default_rng(0), server)
        download = method.server(map(method.read, uploads), task)
        messages, server = dict(download.personal), download.memory
        done.append(uploads)
    return done


def test_all_clients_together_stay_within_the_budget_of_the_run() -> None:
    """After every round; and it is used: most of what was there is spent."""
    rounds, clients = 8, 4
    scales = [1.0, 0.3, 3.0, 0.1]

    def given(number: int, client: int) -> dict:
        return dict(updates(1, seed=10 * number + client, scale=0.01 * scales[client])[0])

    done = _run(rounds, clients, given)
    spent = np.cumsum([sum(u.selection.energy_j for u in uploads) for uploads in done])
    total_j = SHARE * priced().dense_j * rounds * clients
    assert spent[-1] <= total_j * (1 + 1e-6)
    assert spent[-1] > 0.6 * total_j
    budget_j = SHARE * priced().dense_j
    assert all(u.selection.energy_j <= budget_j * (1 + 1e-12) for u in done[0])


def test_whoever_has_more_to_say_spends_more() -> None:
    def given(number: int, client: int) -> dict:
        return dict(updates(1, seed=number, scale=0.001 if client else 0.01)[0])

    last = _run(4, 2, given)[1:]
    assert sum(u[0].selection.energy_j for u in last) > sum(u[1].selection.energy_j for u in last)


def test_the_first_round_spends_the_budget_as_cwmp_does() -> None:
    method = method_of("cwmp-price", priced(), SHARE, rounds=2)
    update = updates(1)
    sent = arrived_of(method, follow(method, update).uploads[0])
    frame_j = 1e-9 * 124  # 16 bytes of frame, 4 of checksum, 104 of report
    chosen = CostWeighted(priced()).select(update[0], SHARE * priced().dense_j - frame_j)
    assert {name for name, values in sent.items() if values.any()} == {
        layer.name for layer in chosen.layers
    }
    for layer in chosen.layers:
        np.testing.assert_array_equal(np.flatnonzero(sent[layer.name]), layer.indices)


def arrived_of(method, upload: Upload) -> dict[str, np.ndarray]:
    content = method.read(upload).content.decoded
    inner = replace(upload, payload=upload.payload[20 + 104 :])
    assert [x.name for x in method.inner.read(inner).content.layers] == [
        x.name for x in content.layers
    ]
    return arrived(method.inner, inner)


def _sealed(payload: bytes, report: bytes, price: float) -> bytes:
    start = struct.pack("<4sBBHd", b"CWPU", 1, 0, len(report), price)
    rest = payload[20 + 104 :]
    return start + struct.pack("<I", zlib.crc32(report, zlib.crc32(start))) + report + rest


def _report(spent_j: float, curve_j: list[float]) -> bytes:
    return struct.pack(f"<2sBBf{len(curve_j)}f", b"SJ", 1, len(curve_j), spent_j, *curve_j)


@pytest.mark.parametrize(
    ("report", "price", "says"),
    [
        (_report(float("nan"), [1e-9] * 24), 1.0, "reports nan J"),
        (_report(-1e-9, [1e-9] * 24), 1.0, "reports -"),
        (_report(1e-9, [1e-9] * 23 + [1e-8]), 1.0, "rises with the price"),
        (_report(1e-9, [1e-9] * 12), 1.0, "reports 12 prices, not 24"),
        (_report(1.0, [1e-9] * 24), 1.0, "above the limit"),
        (_report(1e-9, [1e-9] * 24), float("nan"), "price of nan"),
        (_report(1e-9, [1e-9] * 24), -1.0, "price of -1"),
        (b"", 1.0, "no spend report"),
    ],
)
def test_a_client_that_lies_about_its_joules_is_refused(
    report: bytes, price: float, says: str
) -> None:
    """With a checksum that fits."""
    method = method_of("cwmp-price", priced(), SHARE)
    (upload,) = follow(method, updates(1)).uploads
    with pytest.raises(PayloadError, match=says):
        method.read(replace(upload, payload=_sealed(upload.payload, report, price)))


@pytest.mark.parametrize("how", ["short", "flipped", "magic"])
def test_a_price_that_was_damaged_is_refused(how: str) -> None:
    method = method_of("cwmp-price", priced(), SHARE, rounds=3)
    (upload,) = follow(method, updates(1)).uploads
    task = ServerTask(zero_state(), 1, np.random.default_rng(0))
    message = bytearray(method.server([method.read(upload)], task).personal[0])
    assert len(message) == 28
    if how == "flipped":
        message[12] ^= 1
    if how == "magic":
        message[:4] = b"CWPU"
    told = bytes(message[:-1] if how == "short" else message)
    asked = ClientTask(
        zero_state(),
        torch.zeros(4, 1),
        torch.zeros(4, dtype=torch.int64),
        order=np.random.default_rng(0),
        draws=np.random.default_rng(0),
        message=told,
    )
    with pytest.raises(PayloadError):
        method.client(GivenTrainer(updates(1)), asked)


def test_a_budget_that_pays_for_the_report_alone_is_infeasible() -> None:
    costs = priced()
    share = (costs.cheapest_j + 1e-9 * 60) / costs.dense_j
    follow(method_of("cwmp", costs, share), updates(1))
    with pytest.raises(BudgetError, match="beside a spend report"):
        follow(method_of("cwmp-price", costs, share), updates(1))


def test_a_memory_of_something_else_is_one_error() -> None:
    method = method_of("cwmp-price", priced(), SHARE)
    (upload,) = follow(method, updates(1)).uploads
    for held in (b"{}", b"\xff\xfe"):
        memory = {"controller": np.frombuffer(held, np.uint8)}
        task = ServerTask(zero_state(), 2, np.random.default_rng(0), memory)
        with pytest.raises(InputError, match="no controller"):
            method.server([method.read(upload)], task)


def test_a_report_for_another_price_is_spent_and_moves_no_price() -> None:
    """What is left of the budget falls by it; the price follows the others alone."""
    method = method_of("cwmp-price", priced(), SHARE, clients=2, per_round=2, rounds=3)
    (upload,) = follow(method, updates(1)).uploads
    stray = _sealed(upload.payload, _report(1e-7, [1e-7] * 24), 3.0)
    readings = [method.read(upload), method.read(replace(upload, payload=stray, client=1))]
    task = ServerTask(zero_state(), 1, np.random.default_rng(0))
    states = [
        ControllerState.from_json(method.server(some, task).memory["controller"].tobytes().decode())
        for some in (readings[:1], readings)
    ]
    assert states[1].price == states[0].price
    assert states[1].spent_j - states[0].spent_j == pytest.approx(1e-7, rel=1e-6)


def test_a_run_that_is_cut_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """The controller is in the standing; clients drawn by turns are told the price too."""
    job = small_job(tmp_path, method="cwmp-price+ef", per_round=2, rounds=5, batch_size=8)
    prepared = job.prepare(small_data(120))
    kept: list[Standing] = []
    whole = list(LocalEngine().run(prepared.federation, prepared.team, keep=kept.append))
    rest = list(LocalEngine().run(prepared.federation, prepared.team, start=kept[1]))
    assert rest == whole[2:]
    assert sorted(kept[0].messages) == [0, 1, 2, 3]
    spent = sum(done.selection.energy_j for record in whole for done in record.clients)
    dense_j = prepared.fleet.devices[0].prices.dense_j
    assert spent <= 0.5 * dense_j * 2 * 5 * (1 + 1e-6)
