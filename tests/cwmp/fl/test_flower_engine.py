"""A job over Flower's messages: the local engine's rounds, whoever answers, whatever they say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
pytest.importorskip("flwr", reason="needs the extra cwmp[flower]")

from flwr.app import Array, Error, Message
from stand_ins.federations import save_costs, small_job
from stand_ins.flower_grid import LoopGrid, Tamper

from cwmp.fl.engines import Engine, LocalEngine
from cwmp.fl.engines.flower_server import GridEngine, Nodes, Patience
from cwmp.fl.engines.flower_wire import PAYLOADS, REPORT, of_bytes
from cwmp.fl.job import Job
from cwmp.fl.rounds import RoundRecord
from cwmp.fl.training import ModelState
from profiler.errors import BudgetError, RoundError, UpdateError

AT_ONCE = Patience(gather_s=0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _served(
    job: Job, grid: LoopGrid, patience: Patience = AT_ONCE
) -> tuple[ModelState, list[RoundRecord]]:
    return _run(GridEngine(job, grid, patience), job)  # type: ignore[arg-type]


def _local(job: Job) -> tuple[ModelState, list[RoundRecord]]:
    return _run(LocalEngine(), job)


def _run(engine: Engine, job: Job) -> tuple[ModelState, list[RoundRecord]]:
    """As `cwmp.studies.runner.run_job`: batteries are those of the fleet."""
    ready, states, records = job.prepare(), [], []
    charging = ready.fleet.charging(ready.federation)
    for record in engine.run(
        ready.federation,
        ready.team,
        available=charging.available,
        keep=lambda standing: states.append(standing.state),
    ):
        charging.charge(record, job.method)
        records.append(record)
    return states[-1], records


@pytest.mark.parametrize(
    ("method", "nodes", "values"),
    [
        ("dense", None, {"budget": "100%"}),
        ("topk+ef", None, {"budget": "20%", "rounds": 3}),
        ("topk+ef", 3, {"budget": "20%", "per_round": 2, "rounds": 4}),
        ("cwmp", 1, {"schedule": "cosine", "joins": {1: 2}}),
        ("cwmp-price", None, {"rounds": 3}),
        ("evofed", 2, {}),
        ("fedmd", None, {"budget": "100%", "public": 60, "rounds": 3}),
        ("kta", 3, {"budget": "100%", "public": 60, "per_round": 3, "rounds": 3}),
    ],
)
def test_model_and_records_are_those_of_the_local_engine(
    method: str, nodes: int | None, values: dict[str, Any], tmp_path: Path
) -> None:
    job = small_job(tmp_path, method=method, **values)
    state, records = _served(job, LoopGrid(job, nodes))
    expected, local = _local(job)
    assert records == local
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(state.parameters[name], array)


def test_what_a_node_does_not_evaluate_is_left_out(tmp_path: Path) -> None:
    """Of personal models only their nodes know; a score out of range is none."""
    job = small_job(tmp_path, method="fedmd", budget="100%", public=60, rounds=1)

    def boast(node: int, request: Message, reply: Message) -> Message | None:
        if request.metadata.message_type != "evaluate":
            return reply
        scores = {100: None, 101: _echo(reply, **{"client.1": [1.5, 0.1]})}
        return scores.get(node, reply)

    _, (record,) = _served(job, LoopGrid(job, tamper=boast))
    ready = job.prepare()
    team, standings = ready.team, []
    list(LocalEngine().run(ready.federation, team, keep=standings.append))
    found = []
    for client in (2, 3):
        method = team.client(client)
        model = method.model_of(standings[-1].state, standings[-1].memories[client])  # type: ignore[attr-defined]
        found.append(ready.trainer.evaluate(model, *ready.federation.test).accuracy)
    assert record.accuracy == pytest.approx(np.mean(found))
    assert record.worst_decile == min(found)


def test_a_link_and_a_battery_take_a_client_out_as_on_the_local_engine(tmp_path: Path) -> None:
    costs = save_costs(tmp_path)
    mains = {"name": "mains", "costs": costs, "uplink": "wifi-uplink", "clients": 2}
    phone = {"name": "phone", "costs": costs, "battery_j": 0.01}
    job = small_job(tmp_path, rounds=3, devices=(mains, phone))
    state, records = _served(job, LoopGrid(job))
    expected, local = _local(job)
    assert records == local
    assert ("battery", 2) in {(a.reason, a.client) for r in records for a in r.absent}
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(state.parameters[name], array)


def test_examples_and_memories_stay_on_the_node(tmp_path: Path) -> None:
    job = small_job(tmp_path, method="topk+ef", budget="20%")
    replies: list[Message] = []
    grid = LoopGrid(job, tamper=lambda node, request, reply: replies.append(reply) or reply)
    _served(job, grid)
    assert all("cwmp.memory.0" not in reply.content for reply in replies)
    assert {key for reply in replies for key in reply.content} == {PAYLOADS, REPORT}
    assert list(grid.contexts[100].state) == ["cwmp.memory.0"]


def _report(reply: Message, **changes: Any) -> Message:
    """The reply with other numbers of its first client."""
    said = json.loads(reply.content[REPORT]["clients"])
    said[0] |= changes
    reply.content[REPORT]["clients"] = json.dumps(said)
    return reply


def _payload(reply: Message, array: Array) -> Message:
    reply.content[PAYLOADS]["1"] = array
    return reply


def _nan(reply: Message) -> Message:
    data = bytearray(reply.content[PAYLOADS]["1"].numpy().tobytes())
    data[-4:] = np.float32("nan").tobytes()
    return _payload(reply, of_bytes(bytes(data)))


def _echo(reply: Message, **changes: Any) -> Message:
    for key, value in changes.items():
        reply.content[REPORT][key] = value
    return reply


def _without(reply: Message, key: str) -> Message:
    del reply.content[key]
    return reply


LIES: dict[str, tuple[Callable[[Message], Message | None], str]] = {
    "silence": (lambda reply: None, "late"),
    "error": (
        lambda reply: Message(error=Error(2, "out\nof memory"), metadata=reply.metadata),
        "died: out of",
    ),
    "replayed": (lambda reply: _echo(reply, key="0" * 32), "refused: the reply is of another req"),
    "other round": (lambda reply: _echo(reply, round=7), "refused: the reply is of another req"),
    "other version": (lambda reply: _echo(reply, version=9), "refused: the reply is not one of v"),
    "no report": (lambda reply: _without(reply, REPORT), "refused: the reply is not one of vers"),
    "no payloads": (lambda reply: _without(reply, PAYLOADS), "refused: the reply holds payloads"),
    "other client": (lambda reply: _report(reply, client=0), "refused: the reply is of clients 0"),
    "no json": (lambda reply: _echo(reply, clients="{"), "refused: the report is refused"),
    "NaN loss": (lambda reply: _echo(reply, clients='[{"client":1,"loss":NaN}]'), "refused: the r"),
    "many examples": (lambda reply: _report(reply, examples=10**9), "refused: it claims"),
    "no examples": (lambda reply: _report(reply, examples=0), "refused: it claims 0 examples"),
    "selection": (
        lambda reply: _report(reply, selection={"entries": -1}),
        "refused: its selection",
    ),
    "floats": (
        lambda reply: _payload(reply, Array(np.ones(3, "f4"))),
        "refused: it is not a one-dimensional uint8 array",
    ),
    "huge": (
        lambda reply: _payload(reply, of_bytes(bytes(4_000_000))),
        "refused: payload of 4000000 bytes exceeds",
    ),
    "garbage": (lambda reply: _payload(reply, of_bytes(b"garbage")), "refused: "),
    "NaN": (_nan, "refused: "),
    "diverged": (
        lambda reply: _report(reply, failed="UpdateError", why="NaN\nin it"),
        "died: NaN in it",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_who_lies_is_left_out_and_named(lie: str, tmp_path: Path) -> None:
    change, said = LIES[lie]

    def tamper(node: int, request: Message, reply: Message) -> Message | None:
        return change(reply) if node == 101 else reply

    job = small_job(tmp_path, method="dense", budget="100%")
    state, records = _served(job, LoopGrid(job, tamper=tamper))
    for record in records:
        (absence,) = record.absent
        assert absence.client == 1
        assert absence.reason.startswith(said)
        assert "\n" not in absence.reason
        assert [client.client for client in record.clients] == [0, 2, 3]
    assert all(np.isfinite(array).all() for array in state.parameters.values())


def test_the_model_without_a_liar_is_the_model_without_the_client(tmp_path: Path) -> None:
    job = small_job(tmp_path, method="dense", budget="100%")
    ready, states = job.prepare(), []
    why: Callable[[int, int], str] = lambda _, client: "battery" if client == 1 else ""  # noqa: E731
    rounds = LocalEngine().run(
        ready.federation, ready.team, available=why, keep=lambda s: states.append(s.state)
    )
    list(rounds)
    tamper: Tamper = lambda node, _, reply: _nan(reply) if node == 101 else reply  # noqa: E731
    state, _ = _served(job, LoopGrid(job, tamper=tamper))
    for name, array in states[-1].parameters.items():
        np.testing.assert_array_equal(state.parameters[name], array)


def test_a_reply_of_the_round_before_is_refused(tmp_path: Path) -> None:
    kept: list[Any] = []

    def replay(node: int, request: Message, reply: Message) -> Message:
        kept.append(reply.content) if node == 102 else None
        return Message(kept[0], reply_to=request) if node == 102 else reply

    job = small_job(tmp_path, rounds=3)
    _, records = _served(job, LoopGrid(job, tamper=replay))
    assert records[0].absent == ()
    assert all("another request" in r.absent[0].reason for r in records[1:])


def test_nodes_may_come_late_leave_and_come_back(tmp_path: Path) -> None:
    job = small_job(tmp_path, rounds=4)
    grid = LoopGrid(job)
    grid.gone = {100}

    def come_and_go(node: int, request: Message, reply: Message) -> Message:
        if node == 103:  # the last of a round
            grid.gone = {100: {101}, 101: set()}.get(min(grid.gone, default=0), set())
        return reply

    grid.tamper = come_and_go
    _, records = _served(job, grid)
    missing = [[absence.client for absence in record.absent] for record in records]
    assert missing == [[0], [1], [], []]
    assert records[0].absent[0].reason == "died: no node serves it"


def test_a_round_without_an_update_ends_the_run_with_one_line(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    with pytest.raises(RoundError, match=r"no update arrived in round 1: client 0 late"):
        _served(job, LoopGrid(job, tamper=lambda *_: None))
    grid = LoopGrid(job)
    grid.gone = set(grid.contexts)
    with pytest.raises(RoundError, match="no node serves a client"):
        _served(job, grid)


def test_a_node_of_another_federation_says_so(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    with pytest.raises(RoundError, match="holds another federation than the server"):
        _served(job, LoopGrid(job.model_copy(update={"seed": 5})))


@pytest.mark.parametrize(
    "change", [{"lr": 0.021}, {"budget": "51%"}, {"joins": {1: 2}}, {"batch_size": 63}]
)
def test_a_node_with_another_plan_says_so(change: dict[str, Any], tmp_path: Path) -> None:
    """The same examples in the same shares, trained otherwise."""
    job = small_job(tmp_path)
    with pytest.raises(RoundError, match="holds another federation than the server"):
        _served(job, LoopGrid(job.model_copy(update=change)))


def test_a_public_set_may_outweigh_the_model_and_the_examples(tmp_path: Path) -> None:
    """Payloads of distillation grow with the public set: their bound does too."""
    job = small_job(tmp_path, method="fedmd", budget="100%", public=1000)
    ready = job.prepare()
    nodes = Nodes(LoopGrid(job), ready.federation, ready.team, job)  # type: ignore[arg-type]
    without = job.model_copy(update={"public": 0})
    fewer = Nodes(LoopGrid(job), ready.federation, ready.team, without)  # type: ignore[arg-type]
    assert nodes.max_bytes - fewer.max_bytes == 16 * 1000 * 10


def test_a_node_serves_its_own_clients_alone(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    grid = LoopGrid(job)
    grid.contexts[101].node_config = {"partition-id": 1, "num-partitions": 0}
    _, records = _served(job, grid)
    assert [absence.client for absence in records[0].absent] == [1]


@pytest.mark.parametrize(
    ("values", "error"), [({"lr": 1e30}, UpdateError), ({"budget": "1e-9 J"}, BudgetError)]
)
def test_in_a_simulation_errors_are_those_of_the_local_engine(
    values: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    job = small_job(tmp_path, **values)
    with pytest.raises(error) as local:
        _local(job)
    with pytest.raises(error) as found:
        _served(job, LoopGrid(job), replace(AT_ONCE, trusted=True))
    assert str(found.value) == str(local.value)
