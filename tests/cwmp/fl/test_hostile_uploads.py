"""What a round does with uploads that a method could read and that must not get in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins.federations import small_data, small_job

from cwmp.codec import decode, encode
from cwmp.fl.algorithms.base import ClientTask, Reading, Upload
from cwmp.fl.engines.base import Standing
from cwmp.fl.engines.client import run_client
from cwmp.fl.engines.guard import FACTOR, GATHERED, Guard
from cwmp.fl.engines.round import Missing, Result, run_round
from cwmp.fl.job import Prepared
from cwmp.fl.rounds import RoundRecord
from cwmp.fl.states import ModelState
from profiler.errors import PayloadError, RoundError

Deed = Callable[[Upload], Result]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _prepared(folder: Path, method: str = "topk", **values: object) -> Prepared:
    job = {"method": method, "rounds": 3, "batch_size": 16, **values}
    return small_job(folder, **job).prepare(small_data(80))


def _round(
    prepared: Prepared, deed: Deed, before: Standing | None = None, liar: int = 1
) -> tuple[Standing, RoundRecord]:
    """The next round, in which *liar* sends what *deed* makes of its upload."""
    federation, team = prepared.federation, prepared.team

    def clients(tasks: Iterator[ClientTask]) -> Iterator[Result]:
        for task in tasks:
            upload = run_client(federation, team, task)
            yield deed(upload) if task.client == liar else upload

    start = before or Standing(0, federation.initial)
    return run_round(federation, team, start, start.round + 1, clients)


def _times(prepared: Prepared, factor: float) -> Deed:
    """The same update, *factor* times as large."""

    def deed(upload: Upload) -> Upload:
        held = decode(upload.payload, prepared.layout)
        layers = [replace(x, values=x.values * np.float32(factor)) for x in held.layers]
        return replace(upload, payload=encode(layers, prepared.layout, held.buffers))

    return deed


def _honest(upload: Upload) -> Upload:
    return upload


def _only_1_is_refused(record: RoundRecord, said: str) -> None:
    assert [done.client for done in record.clients] == [0, 2, 3]
    (absence,) = record.absent
    assert absence.client == 1
    assert absence.reason.startswith("refused: ")
    assert said in absence.reason
    assert absence.did is not None  # it trained and sent all the same


@pytest.mark.parametrize("factor", [1e5, 1e30])
@pytest.mark.parametrize("liar", [0, 1, 3])
def test_nonsense_is_refused_in_the_first_round_already(
    tmp_path: Path, factor: float, liar: int
) -> None:
    """Wherever it comes in the round, and with no round before to judge it by."""
    prepared = _prepared(tmp_path)
    after, record = _round(prepared, _times(prepared, factor), liar=liar)
    assert [absence.client for absence in record.absent] == [liar]
    assert all(np.isfinite(x).all() for x in after.state.parameters.values())
    without, _ = _round(prepared, lambda upload: Missing(upload.client, "died"), liar=liar)
    for name, values in without.state.parameters.items():
        np.testing.assert_array_equal(after.state.parameters[name], values)


def test_a_quiet_round_does_not_make_honest_clients_liars(tmp_path: Path) -> None:
    """Updates a thousand times as large as the round before are what they always were."""
    prepared = _prepared(tmp_path)
    first, _ = _round(prepared, _honest)

    def quiet(tasks: Iterator[ClientTask]) -> Iterator[Result]:
        for task in tasks:
            yield _times(prepared, 1e-6)(run_client(prepared.federation, prepared.team, task))

    second, _ = run_round(prepared.federation, prepared.team, first, 2, quiet)
    assert second.norm == first.norm
    _, record = _round(prepared, _honest, second)
    assert not record.absent


def test_a_minority_does_not_move_the_scale(tmp_path: Path) -> None:
    prepared = _prepared(tmp_path)
    honest, _ = _round(prepared, _honest)
    liar, record = _round(prepared, _times(prepared, 20.0))
    assert not record.absent  # within reach of an honest update: a lie that is not seen
    assert honest.norm is not None
    assert liar.norm is not None
    assert liar.norm < 2 * honest.norm


def _state(size: float) -> ModelState:
    return ModelState({"w": np.full(4, size / 2, dtype=np.float32)}, {})


def _reading(norm: float, **buffers: np.ndarray) -> Reading:
    return Reading(0, 1, (), None, norm, buffers)


def test_weights_that_start_at_zero_are_judged_by_the_others() -> None:
    guard = Guard(None, None, _state(0.0))
    guard.gauge([_reading(x) for x in (0.0, 1.0, 1e30, 2.0)])
    with pytest.raises(PayloadError, match=r"norm is 1e\+30 beside a median of 2"):
        guard.check(_reading(1e30))
    guard.check(_reading(2 * FACTOR))


def test_empty_messages_say_nothing_of_the_scale() -> None:
    guard = Guard(None, None, _state(1.0))
    guard.gauge([_reading(0.0)] * GATHERED)
    guard.check(_reading(0.0))
    assert guard.after() == (None, None)
    guard.check(_reading(5.0))
    with pytest.raises(PayloadError, match="beside 1 of the model"):
        guard.check(_reading(11.0))


def test_buffers_are_judged_too(tmp_path: Path) -> None:
    """Values of statistics that no client has, and variances below zero."""
    prepared = _prepared(tmp_path, "dense", model="resnet8")

    def with_buffers(change: Callable[[str, np.ndarray], np.ndarray]) -> Deed:
        def deed(upload: Upload) -> Upload:
            held = decode(upload.payload, prepared.layout)
            buffers = {name: change(name, values) for name, values in held.buffers.items()}
            return replace(upload, payload=encode(held.layers, prepared.layout, buffers))

        return deed

    _, record = _round(prepared, with_buffers(lambda _, x: np.full_like(x, 1e20)))
    _only_1_is_refused(record, "the norm of its buffers is")
    minus = with_buffers(lambda name, x: -x if name.endswith("running_var") else x)
    after, record = _round(prepared, minus)
    _only_1_is_refused(record, "variances below 0")
    assert after.buffer_norm is not None


def test_an_upload_in_the_name_of_another_is_refused(tmp_path: Path) -> None:
    """And the other's own is not: who sends is known by who was asked."""
    _, record = _round(_prepared(tmp_path), lambda upload: replace(upload, client=2))
    _only_1_is_refused(record, "it says that it is client 2")


def test_who_claims_more_examples_than_it_has_is_refused(tmp_path: Path) -> None:
    _, record = _round(_prepared(tmp_path), lambda upload: replace(upload, examples=10**9))
    _only_1_is_refused(record, "it claims 1000000000 examples and has")


def test_a_payload_of_an_earlier_round_is_refused_where_it_names_its_round(
    tmp_path: Path,
) -> None:
    prepared = _prepared(tmp_path, "evofed:16", budget="100%", lr=0.001)
    seen: list[Upload] = []
    first, _ = _round(prepared, lambda upload: seen.append(upload) or upload)
    _, record = _round(prepared, lambda _: seen[0], first)
    _only_1_is_refused(record, "of round 1 came in round 2")


@pytest.mark.parametrize("times", [0, 2])
def test_an_engine_that_answers_too_little_or_too_much(tmp_path: Path, times: int) -> None:
    prepared = _prepared(tmp_path)
    federation, team = prepared.federation, prepared.team

    def clients(tasks: Iterator[ClientTask]) -> Iterator[Result]:
        for task in tasks:
            yield from [run_client(federation, team, task)] * (times if task.client == 3 else 1)

    start = Standing(0, federation.initial)
    if times == 2:
        with pytest.raises(RoundError, match="more came in round 1 than was asked for"):
            run_round(federation, team, start, 1, clients)
        return
    _, record = run_round(federation, team, start, 1, clients)
    assert [done.client for done in record.clients] == [0, 1, 2]
    assert [absence.client for absence in record.absent] == [3]


def test_a_refused_client_is_charged_what_the_server_says_to_it_alone(tmp_path: Path) -> None:
    prepared = _prepared(tmp_path, "cwmp-price")
    _, record = _round(prepared, lambda upload: replace(upload, examples=0))
    did = record.absent[0].did
    assert did is not None
    assert did.personal_bytes == record.clients[0].personal_bytes > 0
