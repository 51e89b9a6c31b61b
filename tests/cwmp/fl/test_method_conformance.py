"""What every federated method promises, run over every row of `stand_ins.methods.CASES`."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins.federations import small_data, small_job
from stand_ins.methods import CASES, MethodCase

from cwmp.codec import encode
from cwmp.fl.algorithms import METHODS
from cwmp.fl.algorithms.base import Algorithm, ClientTask, Download, Memory, Upload
from cwmp.fl.engines.base import Standing
from cwmp.fl.engines.local import LocalEngine
from cwmp.fl.job import Prepared
from cwmp.fl.rounds import RoundRecord
from cwmp.payload import PayloadLayout
from cwmp.selection import LayerSelection
from profiler.errors import BudgetError, InputError, PayloadError

BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}@{case.budget}")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("methods")


class Problem:
    """A case made ready, and the first round's parts of it."""

    def __init__(self, case: MethodCase, folder: Path, **values: object) -> None:
        job = {"method": case.method, "budget": case.budget, "rounds": 3, "batch_size": 8}
        self.case = case
        self.prepared: Prepared = small_job(folder, **{**job, **case.job, **values}).prepare(
            small_data(240)
        )
        self.federation = self.prepared.federation
        self.server = self.prepared.team.server

    def method(self, client: int) -> Algorithm:
        return self.prepared.team.client(client)

    def task(self, client: int = 0, standing: Standing | None = None) -> ClientTask:
        before = standing or Standing(0, self.federation.initial)
        return self.federation.task(
            before.state,
            before.round + 1,
            client,
            before.memories.get(client),
            before.messages.get(client, b""),
        )

    def upload(self, client: int = 0, standing: Standing | None = None) -> Upload:
        task = self.task(client, standing)
        return self.method(client).client(self.federation.trainer, task)

    def download(self, uploads: list[Upload], standing: Standing | None = None) -> Download:
        before = standing or Standing(0, self.federation.initial)
        task = self.federation.server_task(before.state, before.round + 1, before.server)
        return self.server.server(map(self.server.read, uploads), task)

    def run(self) -> Iterator[tuple[RoundRecord, Standing]]:
        kept: list[Standing] = []
        records = LocalEngine().run(self.federation, self.prepared.team, keep=kept.append)
        for record in records:
            yield record, kept[-1]


_RUNS: dict[tuple[str, str], tuple[Problem, list[tuple[RoundRecord, Standing]]]] = {}


@pytest.fixture
def ran(case: MethodCase, folder: Path) -> tuple[Problem, list[tuple[RoundRecord, Standing]]]:
    """The case's problem and its three rounds, run once."""
    key = case.method, case.budget
    if key not in _RUNS:
        problem = Problem(case, folder)
        _RUNS[key] = problem, list(problem.run())
    return _RUNS[key]


Ran = tuple[Problem, list[tuple[RoundRecord, Standing]]]


def test_every_registered_method_has_a_row() -> None:
    assert {case.name for case in CASES} >= set(METHODS)


@BY_NAME
def test_it_runs_and_learns(case: MethodCase, ran: Ran) -> None:
    problem, rounds = ran
    trainer, test = problem.federation.trainer, problem.federation.test
    assert [record.round for record, _ in rounds] == [1, 2, 3]
    assert all(not record.absent for record, _ in rounds)
    before = trainer.evaluate(problem.federation.initial, *test).loss
    assert rounds[-1][0].loss < before


@BY_NAME
def test_the_fleet_charges_its_rounds(case: MethodCase, ran: Ran) -> None:
    problem, rounds = ran
    for record, _ in rounds:
        entries = problem.prepared.fleet.charge(record, case.method)
        assert {entry.phase for entry in entries} >= {"train", "uplink", "downlink"}
        assert all(entry.energy is None or entry.energy.value >= 0 for entry in entries)


@BY_NAME
def test_declared_joules_are_capped(case: MethodCase, ran: Ran) -> None:
    problem, rounds = ran
    budget_j = float(case.budget.removesuffix("%")) / 100
    budget_j *= problem.prepared.fleet.devices[0].prices.dense_j
    for record, _ in rounds:
        for done in record.clients:
            if done.selection is None:
                continue
            assert done.selection.energy_j > 0
            assert done.selection.captured >= 0
            if case.capped:
                assert done.selection.energy_j <= budget_j * (1 + 1e-9)


@BY_NAME
def test_equal_inputs_give_equal_bytes_and_inputs_stay(case: MethodCase, ran: Ran) -> None:
    """In the first round and in a later one, where there is something to remember."""
    problem, rounds = ran
    for standing in (Standing(0, problem.federation.initial), rounds[1][1]):
        kept = copy.deepcopy(standing)
        first, again = problem.upload(1, standing), problem.upload(1, standing)
        assert first.payload == again.payload
        _assert_same(first.memory, again.memory)
        back, twice = problem.download([first], standing), problem.download([again], standing)
        assert (back.payload, back.personal) == (twice.payload, twice.personal)
        _assert_same(back.memory, twice.memory)
        problem.server.apply(standing.state, back.payload)
        _assert_same(kept.state.parameters, standing.state.parameters)
        _assert_same(kept.state.buffers, standing.state.buffers)
        _assert_same(kept.server, standing.server)
        for client, memory in kept.memories.items():
            _assert_same(memory, standing.memories[client])


@BY_NAME
def test_bytes_are_those_recorded(case: MethodCase, ran: Ran) -> None:
    problem, rounds = ran
    uploads = [problem.upload(client) for client in range(4)]
    download = problem.download(uploads)
    record = rounds[0][0]
    assert [done.payload_bytes for done in record.clients] == [len(u.payload) for u in uploads]
    assert record.downlink_bytes == len(download.payload)
    personal = [len(download.personal.get(client, b"")) for client in range(4)]
    assert [done.personal_bytes for done in record.clients] == personal


@BY_NAME
def test_memories_keep_their_names_and_go_through_a_file(case: MethodCase, ran: Ran) -> None:
    """Arrays that npz holds without pickling, of the same names and shapes every round."""
    _, rounds = ran
    for pick in (lambda s: s.server, *(lambda s, c=c: s.memories.get(c, {}) for c in range(4))):
        memories: list[Memory] = [pick(standing) for _, standing in rounds]
        assert [sorted(memory) for memory in memories[1:]] == [sorted(memories[0])] * 2
        for memory in memories:
            file = io.BytesIO()
            np.savez(file, **{f"{n:04d}": array for n, array in enumerate(memory.values())})
            file.seek(0)
            with np.load(file, allow_pickle=False) as back:
                for array, read in zip(memory.values(), back.values(), strict=True):
                    assert array.dtype == read.dtype
                    np.testing.assert_array_equal(array, read)


@BY_NAME
@pytest.mark.parametrize("how", ["empty", "truncated", "longer", "flipped", "foreign", "nan"])
def test_hostile_payloads_are_refused(case: MethodCase, how: str, ran: Ran) -> None:
    problem, rounds = ran
    standing = rounds[0][1]
    upload = problem.upload(0, standing)
    with pytest.raises(PayloadError):
        problem.server.read(replace(upload, payload=_spoilt(upload.payload, how)))
    payload = problem.download([upload], standing).payload
    kept = copy.deepcopy(standing.state)
    with pytest.raises(PayloadError):
        problem.server.apply(standing.state, _spoilt(payload, how))
    _assert_same(kept.parameters, standing.state.parameters)
    _assert_same(kept.buffers, standing.state.buffers)


@BY_NAME
def test_any_flipped_bit_is_refused(case: MethodCase, ran: Ran) -> None:
    problem, rounds = ran
    upload = problem.upload(0, rounds[0][1])
    numbers = np.random.default_rng(0)
    for _ in range(20):
        spoilt = bytearray(upload.payload)
        spoilt[int(numbers.integers(len(spoilt)))] ^= 1 << int(numbers.integers(8))
        with pytest.raises(PayloadError):
            problem.server.read(replace(upload, payload=bytes(spoilt)))


@BY_NAME
def test_a_claim_of_no_examples_is_refused(case: MethodCase, ran: Ran) -> None:
    problem, _ = ran
    with pytest.raises(PayloadError, match="examples"):
        problem.server.read(replace(problem.upload(), examples=0))


@BY_NAME
def test_a_round_without_uploads_is_one_error(case: MethodCase, ran: Ran) -> None:
    problem, _ = ran
    with pytest.raises(InputError):
        problem.download([])


@BY_NAME
def test_too_little_is_infeasible(case: MethodCase, folder: Path) -> None:
    if case.too_little is None:
        pytest.skip("no budget stops this method")
    with pytest.raises(BudgetError, match=r"infeasible|opens no layer"):
        Problem(case, folder, budget=case.too_little).upload()


@BY_NAME
def test_unknown_arguments_are_one_error(case: MethodCase, folder: Path) -> None:
    """A method that takes arguments refuses those it does not know, and so does one without."""
    unknown = replace(case, method=f"{case.name}:no-such-argument")
    with pytest.raises(InputError) as caught:
        Problem(unknown, folder).method(0)
    assert "\n" not in str(caught.value)


def _spoilt(payload: bytes, how: str) -> bytes:
    if how == "empty":
        return b""
    if how == "truncated":
        return payload[:-3]
    if how == "longer":
        return payload + b"\0"
    if how == "flipped":
        return payload[:-1] + bytes([payload[-1] ^ 0x55])
    if how == "nan":
        return payload[:-4] + np.float32(np.nan).tobytes()
    layer = LayerSelection("w", (2,), np.array([0]), np.array([np.float32(1)]))
    return encode((layer,), PayloadLayout({"w": (2,)}))


def _assert_same(one: Memory, other: Memory) -> None:
    assert list(one) == list(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
