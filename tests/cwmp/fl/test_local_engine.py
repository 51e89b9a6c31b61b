"""The local engine: the same run whatever runs its clients, and rounds that survive them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stand_ins.federations import small_job

from cwmp.fl.algorithms.base import ClientTask, Upload
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.fl.algorithms.team import Team
from cwmp.fl.engines.base import Standing
from cwmp.fl.engines.local import LocalEngine
from cwmp.fl.job import Job, Prepared
from cwmp.fl.rounds import RoundRecord
from cwmp.fl.training import Trainer
from profiler.errors import InputError, RoundError, UpdateError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _run(job: Job, engine: LocalEngine | None = None, **how: Any) -> list[RoundRecord]:
    prepared = job.prepare()
    return list((engine or LocalEngine()).run(prepared.federation, prepared.team, **how))


@pytest.mark.parametrize("method", ["dense", "cwmp+sapef:0.85", "random+ef"])
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_give_the_same_run_bit_for_bit(tmp_path: Path, method: str, workers: int) -> None:
    job = small_job(tmp_path, method=method, clients=5, per_round=3, rounds=4)
    assert _run(job, LocalEngine(workers=workers)) == _run(job)


@pytest.mark.parametrize("method", ["dense", "topk+ef"])
def test_clients_trained_together_agree_within_rounding(tmp_path: Path, method: str) -> None:
    job = small_job(tmp_path, method=method, clients=7, alpha=0.5, rounds=3, momentum=0.9)
    last: dict[str, Standing] = {}

    def run(name: str, engine: LocalEngine) -> list[RoundRecord]:
        return _run(job, engine, keep=lambda standing: last.update({name: standing}))

    apart, together = run("apart", LocalEngine()), run("together", LocalEngine(together=3))
    for one, other in zip(apart, together, strict=True):
        assert [c.batches for c in one.clients] == [c.batches for c in other.clients]
        losses = [[client.loss for client in record.clients] for record in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, values in last["apart"].state.parameters.items():
        found = last["together"].state.parameters[name]
        # a rounding can swap two entries of almost equal size in a selection
        assert np.mean(np.isclose(found, values, rtol=1e-3, atol=1e-5)) > 0.999


def test_models_with_state_are_not_trained_together(tmp_path: Path) -> None:
    job = small_job(tmp_path, model="resnet8", method="dense", clients=2, rounds=1)
    assert _run(job, LocalEngine(together=2)) == _run(job)


@dataclass(frozen=True)
class Spoiling(SparseAveraging):
    """Client 1 does *deed* in place of sending what it should."""

    deed: str = ""

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        upload = super().client(trainer, task)
        if task.client != 1 or task.round == 1:
            return upload
        match self.deed:
            case "die":
                os._exit(9)
            case "hang":
                time.sleep(600)
            case "raise":
                raise RuntimeError("the sensor fell off")
            case "huge":
                return replace(upload, payload=_scaled(self, upload.payload, 1e30))
            case "NaN":
                return replace(upload, payload=_with_nan(upload.payload))
            case "nothing":
                return replace(upload, payload=b"")
            case "no examples":
                return replace(upload, examples=0)
        return upload


def _scaled(method: SparseAveraging, payload: bytes, factor: float) -> bytes:
    from cwmp.codec import decode, encode

    held = decode(payload, method.layout)
    layers = [replace(x, values=x.values * np.float32(factor)) for x in held.layers]
    return encode(layers, method.layout, held.buffers)


def _with_nan(payload: bytes) -> bytes:
    """The last value made NaN, and the checksum made good again."""
    import zlib

    spoilt = bytearray(payload)
    spoilt[-4:] = np.float32("nan").tobytes()
    spoilt[20:24] = zlib.crc32(bytes(spoilt[:20]) + bytes(spoilt[24:])).to_bytes(4, "little")
    return bytes(spoilt)


def _spoilt(prepared: Prepared, deed: str) -> Team:
    honest = prepared.team
    methods = tuple(
        Spoiling(
            method.selector,
            method.budget_j,
            method.costs,
            method.layout,
            method.considers_all,
            deed=deed,
        )
        for method in honest.devices
        if isinstance(method, SparseAveraging)
    )
    return replace(honest, devices=methods)


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("die", "died"),
        ("hang", "late: nothing came in 1"),
        ("raise", "died: RuntimeError: the sensor fell off"),
        ("huge", "refused: its norm is"),
        ("NaN", "refused: "),
        ("nothing", "refused: "),
        ("no examples", "refused: it claims 0 examples"),
    ],
)
def test_the_round_goes_on_with_who_is_left(tmp_path: Path, deed: str, said: str) -> None:
    prepared = small_job(tmp_path, method="topk", rounds=3).prepare()
    engine = LocalEngine(workers=2, deadline_s=1.0 if deed == "hang" else None)
    states: list[Standing] = []
    records = list(engine.run(prepared.federation, _spoilt(prepared, deed), keep=states.append))
    assert [done.client for done in records[0].clients] == [0, 1, 2, 3]
    for record in records[1:]:
        assert [done.client for done in record.clients] == [0, 2, 3]
        (absence,) = record.absent
        assert absence.client == 1
        assert absence.reason.startswith(said)
    for values in states[-1].state.parameters.values():
        assert np.isfinite(values).all()
    assert records[-1].loss < records[0].loss


def test_a_round_without_anybody_says_why(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    with pytest.raises(RoundError, match=r"no update arrived in round 2: client 0 battery.*1 more"):
        _run(job, available=lambda number, client: "battery" if number == 2 else "")


def test_who_joins_late_is_asked_from_then_on(tmp_path: Path) -> None:
    records = _run(small_job(tmp_path, rounds=3, joins={2: 3}))
    asked = [[done.client for done in record.clients] for record in records]
    assert asked == [[0, 1, 3], [0, 1, 3], [0, 1, 2, 3]]


def test_clients_are_drawn_alike_for_every_method(tmp_path: Path) -> None:
    drawn = {}
    for method in ("dense", "cwmp", "random+ef"):
        records = _run(small_job(tmp_path, method=method, clients=6, per_round=2, rounds=5))
        drawn[method] = [[done.client for done in record.clients] for record in records]
    assert drawn["dense"] == drawn["cwmp"] == drawn["random+ef"]
    assert len({tuple(clients) for clients in drawn["dense"]}) > 1


def test_an_error_of_a_worker_is_raised_as_it_is(tmp_path: Path) -> None:
    job = small_job(tmp_path, method="topk", lr=1e30)
    with pytest.raises(UpdateError, match=r"diverged at client \d in round 1.*lower --lr"):
        _run(job, LocalEngine(workers=2))


@pytest.mark.parametrize("engine", [{"workers": -1}, {"deadline_s": 1.0}])
def test_engines_that_cannot_be(engine: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="workers"):
        LocalEngine(**engine)
