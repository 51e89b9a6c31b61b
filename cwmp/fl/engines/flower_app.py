"""Flower apps that run a `Job`: the same client code as the local engine, on Flower's nodes.

A node serves the clients c with c mod num-partitions = partition-id, both from its node config;
with as many nodes as clients each node is one client. It prepares the job for itself (data,
model, costs, method) and keeps what its clients remember in its own context: neither examples nor
memories leave it. Needs the extra ``cwmp[flower]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from cwmp.fl.algorithms.base import Memory, Personal, Upload
from cwmp.fl.engines.flower import absolute, from_folder
from cwmp.fl.engines.flower_wire import (
    REPORT,
    Failure,
    Report,
    Request,
    arrays_of,
    record_of,
    reply_content,
    request_from,
)
from cwmp.fl.job import Job, Prepared
from cwmp.fl.rounds import Federation
from profiler.errors import (
    BudgetError,
    CwmpError,
    FileFormatError,
    InputError,
    MissingExtraError,
    UpdateError,
)
from profiler.files import read_json
from profiler.threads import threads_for

try:
    from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.common.constant import ErrorCode
except ImportError as error:
    raise MissingExtraError("Flower is not installed: pip install 'cwmp[flower]'") from error

MEMORY = "cwmp.memory."
PLACE = "cwmp.place"


def client_app(job: Job | None = None) -> ClientApp:
    """A `ClientApp` for *job*, or for the file that the node's or the run's config names as
    ``job``; the node's own goes first."""
    text = job.model_dump_json() if job is not None else None
    app = ClientApp()

    def place(message: Message, context: Context) -> Message:
        return _answer(message, lambda: _place(context))

    def train(message: Message, context: Context) -> Message:
        return _answer(message, lambda: _train(prepared(text, context), message, context))

    def evaluate(message: Message, context: Context) -> Message:
        return _answer(message, lambda: _evaluate(prepared(text, context), message, context))

    app.query()(place)
    app.train()(train)
    app.evaluate()(evaluate)
    return app


def prepared(text: str | None, context: Context) -> Prepared:
    """The job of *text*, or of the file that the configuration names; made once a process.

    Raises:
        InputError: no job is named, or one that cannot be used.
        InputFileError, FileFormatError: the file cannot be read.
    """
    if text is None:
        path = context.node_config.get("job") or context.run_config.get("job")
        if not path:
            raise InputError("no job is named: set job=\"PATH\" in the node's or the run's config")
        text = load_job(Path(str(path))).model_dump_json()
    return _prepared(text)


def load_job(path: Path) -> Job:
    """The job of a JSON file, or that of a finished run's file; with absolute paths.

    A job's relative paths are relative to its file, a run's to where the program runs.

    Raises:
        InputFileError, FileFormatError, InputError: it cannot be read or used.
    """
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise FileFormatError(f"{path} is not a job: it holds no JSON object")
    if "schema_name" not in raw:
        return from_folder(Job.parse(**raw), path.parent)
    from cwmp.studies.runs import RunFile

    return absolute(RunFile.load(path).job)


@lru_cache(maxsize=2)
def _prepared(text: str) -> Prepared:
    return Job.model_validate_json(text).prepare()


def digest(federation: Federation, job: Job) -> str:
    """16 hexadecimal digits that agree where the jobs do (folders aside), and model and labels."""
    model = [(layer.name, layer.shape) for layer in federation.trainer.layers]
    said = hashlib.sha256(repr((job.key, model)).encode())
    for x, y in (*federation.shards, federation.test):
        said.update(repr(tuple(x.shape)).encode())
        said.update(np.ascontiguousarray(y.numpy()).tobytes())
    return said.hexdigest()[:16]


def _answer(message: Message, work: Callable[[], RecordDict]) -> Message:
    """What *work* gives, or an error of one line: an exception would become a stack trace."""
    try:
        return Message(work(), reply_to=message)
    except Exception as error:
        said = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, _line(error))
        return Message(said, reply_to=message)


def _line(error: Exception) -> str:
    kind = "" if isinstance(error, CwmpError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:500]


def _place(context: Context) -> RecordDict:
    """Which clients the node serves."""
    names = ("partition-id", "num-partitions")
    values = [context.node_config.get(name) for name in names]
    if not all(isinstance(value, int) for value in values):
        raise InputError(
            "the node does not say which clients it serves: start it with --node-config "
            "'partition-id=0 num-partitions=N'"
        )
    return RecordDict({PLACE: ConfigRecord(dict(zip(names, values, strict=True)))})


def _asked(ready: Prepared, message: Message, context: Context) -> Request:
    request = request_from(message.content, ready.federation.initial)
    if request.federation != digest(ready.federation, ready.job):
        raise InputError(
            "this node holds another federation than the server: give both the same job, data "
            "and release"
        )
    part, parts = (int(value) for value in _place(context)[PLACE].values())
    for client in request.clients:
        if client % parts != part or not 0 <= client < len(ready.federation.shards):
            raise InputError(f"client {client} is not on the node of partition {part} of {parts}")
    return request


def _train(ready: Prepared, message: Message, context: Context) -> RecordDict:
    request = _asked(ready, message, context)
    size = sum(layer.parameters for layer in ready.trainer.layers)
    with threads_for(size):
        answers = [_client(ready, request, client, context) for client in request.clients]
    return reply_content(request, answers)


def _client(ready: Prepared, request: Request, client: int, context: Context) -> Upload | Report:
    """One client's work, which its neighbours on the node do not suffer from."""
    from cwmp.fl.engines.client import run_client

    federation = ready.federation
    task = federation.task(
        request.state,
        request.round,
        client,
        memory_of(context, client),
        request.messages.get(client, b""),
    )
    try:
        upload = run_client(federation, ready.team, task)
    except (BudgetError, UpdateError) as error:
        kind: Failure = "BudgetError" if isinstance(error, BudgetError) else "UpdateError"
        return Report(client=client, failed=kind, why=_line(error))
    except Exception as error:
        return Report(client=client, failed="error", why=_line(error))
    _remember(context, client, upload.memory)
    return upload


def memory_of(context: Context, client: int) -> Memory:
    """What *client* remembers; empty where it never worked, or its node was started anew."""
    kept = context.state.array_records.get(f"{MEMORY}{client}")
    return {} if kept is None else arrays_of(kept)


def _remember(context: Context, client: int, memory: Mapping[str, Any]) -> None:
    if memory or f"{MEMORY}{client}" in context.state:
        context.state[f"{MEMORY}{client}"] = record_of(memory)


def _evaluate(ready: Prepared, message: Message, context: Context) -> RecordDict:
    """Each client's own model on the test set, for methods that leave clients their own."""
    request = _asked(ready, message, context)
    scores: dict[str, Any] = {"key": request.key, "round": request.round}
    for client in request.clients:
        method = cast(Personal, ready.team.client(client))
        model = method.model_of(request.state, memory_of(context, client))
        found = ready.trainer.evaluate(model, *ready.federation.test)
        scores[f"client.{client}"] = [found.accuracy, found.loss]
    return RecordDict({REPORT: ConfigRecord(scores)})


__all__ = ["PLACE", "client_app", "digest", "load_job", "memory_of", "prepared"]
