"""An interrupted run ends as one that was not interrupted, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins.federations import small_job

from cwmp.fl.checkpoint import Checkpoint
from cwmp.fl.engines.base import Standing
from cwmp.fl.engines.local import LocalEngine
from cwmp.fl.job import Job
from cwmp.fl.rounds import RoundRecord
from profiler.errors import FileFormatError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _rounds(
    job: Job, start: Standing | None = None, stop_after: int = 99
) -> tuple[list[RoundRecord], list[Standing]]:
    prepared = job.prepare()
    standings: list[Standing] = []
    records = []
    for record in LocalEngine().run(
        prepared.federation, prepared.team, start=start, keep=standings.append
    ):
        records.append(record)
        if record.round == stop_after:
            break
    return records, standings


@pytest.mark.parametrize("method", ["dense", "topk+ef", "cwmp+sapef:0.85", "random"])
@pytest.mark.parametrize("model", ["mlp", "resnet8"])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, method: str, model: str) -> None:
    rounds = 3 if model == "resnet8" else 6
    job = small_job(tmp_path, method=method, model=model, clients=3, per_round=2, rounds=rounds)
    whole, standings = _rounds(job)
    first, kept = _rounds(job, stop_after=2)
    checkpoint = Checkpoint(tmp_path / "run.npz", job.key)
    checkpoint.save(kept[-1], first)
    found = checkpoint.load(job.prepare().federation.initial)
    assert found is not None
    start, records = found
    assert list(records) == first == whole[:2]
    rest, resumed = _rounds(job, start)
    assert [*records, *rest] == whole
    for name, values in standings[-1].state.parameters.items():
        np.testing.assert_array_equal(resumed[-1].state.parameters[name], values)
    assert resumed[-1].memories.keys() == standings[-1].memories.keys()
    for client, memory in standings[-1].memories.items():
        for name, values in memory.items():
            np.testing.assert_array_equal(resumed[-1].memories[client][name], values)


def test_messages_and_server_memory_are_kept(tmp_path: Path) -> None:
    initial = small_job(tmp_path).prepare().federation.initial
    standing = Standing(
        3,
        initial,
        memories={7: {}, 2: {"a/b": np.arange(3)}},
        messages={1: b"\0x", 4: b""},
        server={"price": np.array(0.5)},
        norm=0.1,
        buffer_norm=2.5,
    )
    checkpoint = Checkpoint(tmp_path / "c.npz", "k")
    checkpoint.save(standing, [])
    found = checkpoint.load(initial)
    assert found is not None
    start, records = found
    assert records == ()
    assert (start.round, start.messages) == (3, {1: b"\0x", 4: b""})
    assert (start.norm, start.buffer_norm) == (0.1, 2.5)
    assert start.memories[7] == {}
    assert start.memories[2]["a/b"].tolist() == [0, 1, 2]
    assert float(start.server["price"]) == 0.5


def test_there_may_be_none(tmp_path: Path) -> None:
    initial = small_job(tmp_path).prepare().federation.initial
    assert Checkpoint(tmp_path / "none.npz", "k").load(initial) is None


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, how: str) -> None:
    initial = small_job(tmp_path).prepare().federation.initial
    path = tmp_path / "c.npz"
    Checkpoint(path, "k").save(Standing(1, initial), [])
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    spoilt = {"cut": content[:-50], "flipped": flipped, "empty": b"", "text": b"hello"}
    path.write_bytes(spoilt[how])
    with pytest.raises(FileFormatError, match=r"checkpoint .*c\.npz"):
        Checkpoint(path, "k").load(initial)


def test_a_checkpoint_of_another_run_or_model_is_refused(tmp_path: Path) -> None:
    initial = small_job(tmp_path).prepare().federation.initial
    other = small_job(tmp_path, model="resnet8").prepare().federation.initial
    path = tmp_path / "c.npz"
    Checkpoint(path, "k").save(Standing(1, initial), [])
    with pytest.raises(FileFormatError, match="of another run"):
        Checkpoint(path, "other").load(initial)
    with pytest.raises(FileFormatError, match="of another model"):
        Checkpoint(path, "k").load(other)
