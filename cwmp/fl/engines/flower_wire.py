"""What Flower's server and clients say to each other, and what the server believes of it.

A request holds the shared state, the number of the round, a key that is drawn anew for every
request, and what the server has to say to single clients; one message asks a node for all of its
clients. A reply holds one payload a client and a report of a few numbers. Examples and memories
are in neither. A reply is read against its request: its key, round and clients must be those that
were asked, its sizes are bounded before anything is parsed, and numbers are finite and in range.
Needs the extra ``cwmp[flower]``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cwmp.fl.algorithms.base import SelectionReport, Upload
from cwmp.fl.archive import state_arrays, state_from
from cwmp.fl.training import ModelState
from cwmp.integrations.flower_replies import unwrapped
from profiler.errors import FileFormatError, MissingExtraError, PayloadError
from profiler.trace import describe

try:
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
except ImportError as error:
    raise MissingExtraError("Flower is not installed: pip install 'cwmp[flower]'") from error

VERSION = 1
STATE, TASK, MESSAGES, PAYLOADS, REPORT = (
    "cwmp.state",
    "cwmp.task",
    "cwmp.messages",
    "cwmp.payloads",
    "cwmp.report",
)
MAX_REPORT_CHARS = 16_000_000
Failure = Literal["", "BudgetError", "UpdateError", "error"]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=2**31)]


@dataclass(frozen=True, slots=True)
class Request:
    """What a node is asked.

    Attributes:
        federation: digest of the problem; a node that holds another one says so.
        key: drawn anew for this request alone.
        round: from 1.
        clients: which of the node's clients are asked.
        state: the shared model.
        messages: what the server says to one client alone, by client.
    """

    federation: str
    key: str
    round: int
    clients: tuple[int, ...]
    state: ModelState
    messages: Mapping[int, bytes] = field(default_factory=dict)

    def content(self) -> RecordDict:
        """The same as Flower's records; integer buffers (counters) stay behind."""
        sent = ModelState(self.state.parameters, self.state.buffers)
        task = {
            "version": VERSION,
            "federation": self.federation,
            "key": self.key,
            "round": self.round,
            "clients": list(self.clients),
        }
        return RecordDict(
            {
                STATE: record_of(state_arrays(sent)),
                TASK: ConfigRecord(task),
                MESSAGES: ArrayRecord({str(c): of_bytes(m) for c, m in self.messages.items()}),
            }
        )


def request_from(content: RecordDict, like: ModelState) -> Request:
    """What a client was asked; counters are those of *like*, the state that it starts from.

    Raises:
        FileFormatError: another version, another model, or not a request.
    """
    try:
        task = dict(content[TASK])
        if task["version"] != VERSION:
            raise FileFormatError(
                f"the server speaks version {task['version']}; this release speaks {VERSION}"
            )
        arrays = arrays_of(content[STATE])
        messages = {int(c): a.tobytes() for c, a in arrays_of(content[MESSAGES]).items()}
        clients = tuple(int(client) for client in task["clients"])
        number, key = int(task["round"]), str(task["key"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError("the message is not a request of this project's server") from error
    arrays |= {f"counters/{name}": counter for name, counter in like.counters.items()}
    state = state_from(arrays, like, "the message")
    return Request(str(task["federation"]), key, number, clients, state, messages)


class Report(BaseModel):
    """What a client says beside its payload; ``failed`` and ``why`` where it has none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    client: _Count
    examples: _Count = 0
    loss: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    batches: tuple[_Count, ...] = ()
    forwards: tuple[_Count, ...] = ()
    selection: dict[str, Any] | None = None
    failed: Failure = ""
    why: Annotated[str, Field(max_length=500)] = ""


class _Selection(BaseModel):
    """`SelectionReport`, read from a stranger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entries: _Count
    considered: _Count | None
    energy_j: _Amount
    captured: _Amount
    total: _Amount
    bound: _Amount | None


_FIELDS = tuple(_Selection.model_fields)
_REPORTS: TypeAdapter[tuple[Report, ...]] = TypeAdapter(tuple[Report, ...])


def reply_content(request: Request, answers: Sequence[Upload | Report]) -> RecordDict:
    """What a node replies: the payloads of its uploads, and a report of each answer."""
    payloads = {str(a.client): of_bytes(a.payload) for a in answers if isinstance(a, Upload)}
    reports = [_report(a).model_dump(mode="json") for a in answers]
    echo = {
        "version": VERSION,
        "key": request.key,
        "round": request.round,
        "clients": json.dumps(reports, allow_nan=False),
    }
    return RecordDict({PAYLOADS: ArrayRecord(payloads), REPORT: ConfigRecord(echo)})


def read_reply(
    content: RecordDict, request: Request, max_bytes: int, examples: Mapping[int, int]
) -> dict[int, Upload | Report | PayloadError]:
    """What came of each client that *request* names, trusting nothing.

    Args:
        content: of the reply.
        request: what it must answer.
        max_bytes: of one payload.
        examples: the most that a client may claim to have, by client.

    Raises:
        PayloadError: the reply as a whole is not one to *request*.
    """
    reports = _reports_of(content, request)
    payloads = content.array_records.get(PAYLOADS)
    if payloads is None or set(payloads) - {str(report.client) for report in reports}:
        raise PayloadError("the reply holds payloads that its report does not name")
    return {r.client: _read_one(r, payloads, max_bytes, examples[r.client]) for r in reports}


def _reports_of(content: RecordDict, request: Request) -> tuple[Report, ...]:
    echo = content.config_records.get(REPORT)
    if echo is None or echo.get("version") != VERSION:
        raise PayloadError(f"the reply is not one of version {VERSION}")
    if echo.get("key") != request.key or echo.get("round") != request.round:
        raise PayloadError(
            f"the reply is of another request than that of round {request.round}: replayed, or "
            "from another run"
        )
    text = echo.get("clients")
    if not isinstance(text, str) or len(text) > MAX_REPORT_CHARS:
        raise PayloadError("the reply has no report, or one that is too long")
    try:
        reports = _REPORTS.validate_json(text)
    except ValidationError as error:
        raise PayloadError(f"the report is refused: {describe(error)}") from error
    named = [report.client for report in reports]
    if sorted(named) != sorted(request.clients):
        raise PayloadError(
            f"the reply is of clients {_some(named)}; clients {_some(request.clients)} were asked"
        )
    return reports


def _some(clients: Sequence[int]) -> str:
    return ", ".join(map(str, clients[:5])) + (" ..." if len(clients) > 5 else "") or "none"


def _read_one(
    report: Report, payloads: ArrayRecord, max_bytes: int, examples: int
) -> Upload | Report | PayloadError:
    if report.failed:
        return report
    try:
        if str(report.client) not in payloads:
            raise PayloadError("it sent no payload")
        if not 1 <= report.examples <= examples:
            raise PayloadError(f"it claims {report.examples} examples and has {examples}")
        return Upload(
            payload=unwrapped(payloads[str(report.client)], max_bytes),
            examples=report.examples,
            batches=report.batches,
            loss=report.loss,
            selection=_selection(report),
            client=report.client,
            forwards=report.forwards,
        )
    except PayloadError as error:
        return error


def _selection(report: Report) -> SelectionReport | None:
    if report.selection is None:
        return None
    try:
        return SelectionReport(**_Selection.model_validate(report.selection).model_dump())
    except ValidationError as error:
        raise PayloadError(f"its selection is refused: {describe(error)}") from error


def _report(answer: Upload | Report) -> Report:
    if isinstance(answer, Report):
        return answer
    said = answer.selection
    return Report(
        client=answer.client,
        examples=answer.examples,
        loss=answer.loss,
        batches=answer.batches,
        forwards=answer.forwards,
        selection=None if said is None else {n: _plain(getattr(said, n)) for n in _FIELDS},
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def of_bytes(content: bytes) -> Array:
    """*content* as a uint8 array."""
    return Array(np.frombuffer(content, np.uint8))


def record_of(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Arrays by name as Flower carries them."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def arrays_of(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    """What `record_of` wrapped; read without pickle."""
    return {name: array.numpy() for name, array in record.items()}
