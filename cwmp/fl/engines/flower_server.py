"""The server's side of a Flower run: which node serves which client, and what came of each.

`Nodes.results` is what `cwmp.fl.engines.round.run_round` asks of whoever runs clients, so that
refusals, absences, aggregation and evaluation are those of the local engine. Nodes may come and
go: each round asks those that are there, and a client whose node is missing is absent.
Needs the extra ``cwmp[flower]``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from typing import Any

import numpy as np

from cwmp.fl.algorithms.base import Algorithm, ClientTask, Upload
from cwmp.fl.algorithms.team import Team, team_of
from cwmp.fl.data import input_spec
from cwmp.fl.engines.base import Available, Keep, Standing
from cwmp.fl.engines.flower import NO_START
from cwmp.fl.engines.flower_app import PLACE, digest
from cwmp.fl.engines.flower_wire import REPORT, Report, Request, read_reply
from cwmp.fl.engines.round import Missing, Result, run_round
from cwmp.fl.job import Job
from cwmp.fl.rounds import Federation, RoundRecord, worst_tenth
from profiler.errors import (
    BudgetError,
    InputError,
    MissingExtraError,
    PayloadError,
    RoundError,
    UpdateError,
)
from profiler.threads import threads_for

try:
    from flwr.app import Message, MessageType, RecordDict
    from flwr.serverapp import Grid
except ImportError as error:
    raise MissingExtraError("Flower is not installed: pip install 'cwmp[flower]'") from error

CHUNK = 256
"""Clients asked at once: what bounds the payloads that are held in memory."""
PLACE_TIMEOUT_S = 60.0
_ROOM_BYTES = 1 << 20
_FAILURES = {"BudgetError": BudgetError, "UpdateError": UpdateError}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the server waits.

    Attributes:
        deadline_s: for a chunk of clients, then the rest are late; ``None`` waits.
        gather_s: at the start, for all clients to have a node; the run then begins without.
        trusted: clients are this run's own (a simulation): one that diverges ends the run, as on
            the local engine. A stranger's word for it makes it absent.
    """

    deadline_s: float | None = None
    gather_s: float = 60.0
    trusted: bool = False


@dataclass
class Nodes:
    """The nodes of a federation, as a server sees them.

    Args:
        grid: Flower's.
        federation, team: the problem and the method, for sizes and sanity.
        job: what both follow from.
        patience: how long to wait.
    """

    grid: Grid
    federation: Federation
    team: Team
    job: Job
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        self._digest = digest(self.federation, self.job)
        self._places: dict[int, tuple[int, int] | None] = {}
        self._node_of: dict[int, int] = {}
        self._seen: set[int] = set()
        state = self.federation.initial
        entries = sum(a.size for part in (state.parameters, state.buffers) for a in part.values())
        examples = sum(len(y) for _, y in self.federation.shards)
        scores = self.job.public * input_spec(self.job.data)[1]
        self.max_bytes = 16 * entries + 64 * examples + 16 * scores + _ROOM_BYTES
        self._examples = {c: len(y) for c, (_, y) in enumerate(self.federation.shards)}

    def gather(self) -> None:
        """Wait until each client has a node, or as long as patience has it.

        Raises:
            RoundError: no node came.
        """
        until = time.monotonic() + self.patience.gather_s
        while True:
            self.look()
            if len(self._node_of) == len(self.federation.shards):
                return
            if time.monotonic() > until:
                break
            time.sleep(0.2)
        if not self._node_of:
            raise RoundError(
                f"no node serves a client after {self.patience.gather_s:g} s{self._complaint()}"
            )

    def look(self) -> None:
        """Learn of nodes that came, and forget those that left; places first come are kept."""
        there = set(self.grid.get_node_ids())
        if there == self._seen:
            return
        for node in set(self._places) - there:
            del self._places[node]
        new = sorted(there - set(self._places))
        messages = [Message(RecordDict(), node, MessageType.QUERY) for node in new]
        if messages:
            for reply in self.grid.send_and_receive(messages, timeout=PLACE_TIMEOUT_S):
                self._places[reply.metadata.src_node_id] = _place_in(reply)
        self._seen = set(self._places)
        self._node_of = {}
        for node, place in self._places.items():
            if place is None:
                continue
            for client in range(place[0], len(self.federation.shards), place[1]):
                self._node_of.setdefault(client, node)

    def _complaint(self) -> str:
        mute = sum(place is None for place in self._places.values())
        return f"; {mute} nodes do not say which clients they serve" if mute else ""

    def results(self, tasks: Iterator[ClientTask]) -> Iterator[Result]:
        """What came of each task, in order; see `cwmp.fl.engines.round.RunClients`."""
        self.look()
        while chunk := list(islice(tasks, CHUNK)):
            came = self._ask(chunk)
            for task in chunk:
                yield self._result(task, came.get(task.client))

    def _result(self, task: ClientTask, came: Any) -> Result:
        if isinstance(came, Upload):
            return came
        if isinstance(came, PayloadError):
            return Missing(task.client, f"refused: {came}")
        if isinstance(came, Report):
            if self.patience.trusted and came.failed in _FAILURES:
                raise _FAILURES[came.failed](came.why)
            return Missing(task.client, f"died: {' '.join(came.why.split())}")
        return Missing(task.client, came or "late")

    def _ask(self, tasks: Sequence[ClientTask]) -> dict[int, Upload | Report | PayloadError | str]:
        """Send one message a node; what is not in the answer did not come."""
        came: dict[int, Upload | Report | PayloadError | str] = {}
        by_node: dict[int, list[ClientTask]] = {}
        for task in tasks:
            if task.client in self._node_of:
                by_node.setdefault(self._node_of[task.client], []).append(task)
            else:
                came[task.client] = "died: no node serves it"
        requests = {node: self._request(asked) for node, asked in by_node.items()}
        for node, reply in self._exchange(requests, MessageType.TRAIN):
            request = requests[node]
            if reply.has_error():
                why = " ".join((reply.error.reason or f"error {reply.error.code}").split())
                came |= dict.fromkeys(request.clients, f"died: {why[-200:]}")
                continue
            try:
                came |= read_reply(reply.content, request, self.max_bytes, self._examples)
            except PayloadError as error:
                came |= dict.fromkeys(request.clients, error)
        return came

    def _request(self, tasks: Sequence[ClientTask]) -> Request:
        return Request(
            self._digest,
            secrets.token_hex(16),
            tasks[0].round,
            tuple(task.client for task in tasks),
            tasks[0].state,
            {task.client: task.message for task in tasks if task.message},
        )

    def _exchange(self, requests: dict[int, Request], kind: str) -> Iterable[tuple[int, Message]]:
        messages = [
            Message(request.content(), node, kind, group_id=str(request.round))
            for node, request in requests.items()
        ]
        if not messages:
            return
        for reply in self.grid.send_and_receive(messages, timeout=self.patience.deadline_s):
            node = reply.metadata.src_node_id
            if node in requests:
                yield node, reply

    def evaluate(
        self, federation: Federation, team: Team, after: Standing
    ) -> tuple[float, float, float]:
        """`cwmp.fl.engines.round.evaluate`, with personal models evaluated where they are."""
        from cwmp.fl.engines.round import evaluate

        if team.server.track == "shared":
            return evaluate(federation, team, after)
        asked: dict[int, list[int]] = {}
        for client, node in sorted(self._node_of.items()):
            asked.setdefault(node, []).append(client)
        requests = {
            node: Request(
                self._digest, secrets.token_hex(16), after.round, tuple(clients), after.state
            )
            for node, clients in asked.items()
        }
        scores: dict[int, tuple[float, float]] = {}
        for node, reply in self._exchange(requests, MessageType.EVALUATE):
            if not reply.has_error():
                scores |= _scores(reply.content, requests[node])
        if not scores:
            raise RoundError(f"no client evaluated its model after round {after.round}")
        accuracies = np.asarray([scores[client][0] for client in sorted(scores)])
        losses = [scores[client][1] for client in sorted(scores)]
        return float(accuracies.mean()), float(np.mean(losses)), worst_tenth(accuracies)


@dataclass(frozen=True)
class GridEngine:
    """Runs a job's clients on the nodes of a grid: an `Engine` for inside a server app.

    Attributes:
        job: what is run; it must be what the federation given to `run` was prepared from.
        grid: Flower's.
        patience: how long to wait.
    """

    job: Job
    grid: Grid
    patience: Patience = field(default_factory=Patience)

    def run(
        self,
        federation: Federation,
        method: Algorithm | Team,
        *,
        available: Available | None = None,
        start: Standing | None = None,
        keep: Keep | None = None,
    ) -> Iterator[RoundRecord]:
        """As `cwmp.fl.engines.base.Engine.run`; what clients remember is not in a standing.

        Raises:
            InputError: a start.
            RoundError: no node came.
        """
        if start is not None and start.round > 0:
            raise InputError(NO_START)
        team = team_of(method, len(federation.shards))
        nodes = Nodes(self.grid, federation, team, self.job, self.patience)
        nodes.gather()
        standing = Standing(0, federation.initial)
        size = sum(layer.parameters for layer in federation.trainer.layers)
        for number in range(1, federation.rounds + 1):
            with threads_for(size):
                standing, record = run_round(
                    federation, team, standing, number, nodes.results, available, nodes.evaluate
                )
            if keep is not None:
                keep(standing)
            yield record


def _place_in(reply: Message) -> tuple[int, int] | None:
    """(partition, partitions) as a node says; ``None`` where it makes no sense."""
    if reply.has_error():
        return None
    said = reply.content.config_records.get(PLACE)
    part, parts = (said or {}).get("partition-id"), (said or {}).get("num-partitions")
    if not isinstance(part, int) or not isinstance(parts, int) or not 0 <= part < parts:
        return None
    return part, parts


def _scores(content: RecordDict, request: Request) -> dict[int, tuple[float, float]]:
    """Accuracy and loss by client, where they are such; nothing from a reply to another request."""
    said = content.config_records.get(REPORT)
    if said is None or said.get("key") != request.key or said.get("round") != request.round:
        return {}
    scores = {}
    for client in request.clients:
        pair = said.get(f"client.{client}")
        if not isinstance(pair, list) or len(pair) != 2:
            continue
        accuracy, loss = float(pair[0]), float(pair[1])
        if 0 <= accuracy <= 1 and isfinite(loss):
            scores[client] = (accuracy, loss)
    return scores
