"""One round, whatever runs the clients: ask, read, refuse, aggregate, apply, evaluate, record."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from math import isfinite
from typing import cast

import numpy as np

from cwmp.fl.algorithms.base import (
    ClientTask,
    Download,
    Memory,
    Personal,
    Reading,
    Touch,
    Upload,
)
from cwmp.fl.algorithms.team import Team
from cwmp.fl.engines.base import Available, Standing
from cwmp.fl.engines.guard import GATHERED, Guard
from cwmp.fl.rounds import Absence, ClientRecord, Federation, RoundRecord, worst_tenth
from profiler.errors import PayloadError, RoundError, UpdateError


@dataclass(frozen=True, slots=True)
class Missing:
    """A client whose upload did not come.

    Attributes:
        client: which.
        reason: ``died`` or ``late``, and what is known of it.
    """

    client: int
    reason: str


Result = Upload | Missing
RunClients = Callable[[Iterator[ClientTask]], Iterator[Result]]
"""Runs tasks and yields what came of each, in their order, as soon as it is there."""
Score = Callable[[Federation, Team, Standing], tuple[float, float, float]]
"""Accuracy, loss and worst decile of a standing, as `evaluate`."""


def run_round(
    federation: Federation,
    team: Team,
    before: Standing,
    number: int,
    run_clients: RunClients,
    available: Available | None = None,
    score: Score | None = None,
) -> tuple[Standing, RoundRecord]:
    """Round *number*, from where *before* stands.

    Args:
        federation: the problem.
        team: the method.
        before: what the round follows from; it is left as it is.
        number: from 1.
        run_clients: takes the clients' tasks and yields their uploads, in order.
        available: why a client cannot take part; empty if it can.
        score: evaluates the new standing where `evaluate` cannot: personal models elsewhere.

    Raises:
        BudgetError, UpdateError, RoundError: as `cwmp.fl.engines.base.Engine.run`.
    """
    guard = Guard(before.norm, before.buffer_norm, before.state)
    present = _Attendance(federation, team, before, number, available, guard)
    download = _aggregated(federation, team, before, number, present, run_clients)
    state = team.server.apply(before.state, download.payload)
    norm, buffer_norm = guard.after()
    after = Standing(
        round=number,
        state=state,
        memories={**before.memories, **present.memories},
        messages={**before.messages, **download.personal},
        server=download.memory,
        norm=norm,
        buffer_norm=buffer_norm,
    )
    clients = tuple(_told(record, download) for record in present.records)
    absent = [
        absence if absence.did is None else replace(absence, did=_told(absence.did, download))
        for absence in present.absent
    ]
    accuracy, loss, worst = (score or evaluate)(federation, team, after)
    if not isfinite(loss):
        raise UpdateError(
            f"training diverged: the test loss after round {number} is {loss}; lower --lr"
        )
    record = RoundRecord(
        number,
        accuracy,
        loss,
        clients,
        len(download.payload),
        download.touched,
        tuple(sorted(absent, key=lambda absence: absence.client)),
        worst,
    )
    return after, record


def evaluate(federation: Federation, team: Team, after: Standing) -> tuple[float, float, float]:
    """Accuracy, loss and worst decile of a standing.

    Of a shared model on the test set; of personal models the means over clients, each on the
    test set, and the worst tenth of them.
    """
    if team.server.track == "shared":
        found = federation.trainer.evaluate(after.state, *federation.test)
        return found.accuracy, found.loss, federation.worst_decile(found)
    accuracies, losses = [], []
    for client in range(len(federation.shards)):
        method = cast(Personal, team.client(client))
        model = method.model_of(after.state, after.memories.get(client, {}))
        found = federation.trainer.evaluate(model, *federation.test)
        accuracies.append(found.accuracy)
        losses.append(found.loss)
    scores = np.asarray(accuracies)
    return float(scores.mean()), float(np.mean(losses)), worst_tenth(scores)


def record_of(upload: Upload, touched: tuple[Touch, ...]) -> ClientRecord:
    """What is written down of an upload."""
    return ClientRecord(
        upload.batches,
        len(upload.payload),
        touched,
        upload.selection,
        upload.loss,
        upload.client,
        forwards=upload.forwards,
    )


def _told(record: ClientRecord, download: Download) -> ClientRecord:
    return replace(record, personal_bytes=len(download.personal.get(record.client, b"")))


@dataclass
class _Attendance:
    """Who was asked, who came, and what they left behind."""

    federation: Federation
    team: Team
    before: Standing
    number: int
    available: Available | None
    guard: Guard
    asked: deque[int] = field(default_factory=deque)
    records: list[ClientRecord] = field(default_factory=list)
    absent: list[Absence] = field(default_factory=list)
    memories: dict[int, Memory] = field(default_factory=dict)

    def tasks(self) -> Iterator[ClientTask]:
        """The tasks of the clients that can take part."""
        before = self.before
        for client in self.federation.asked(self.number):
            reason = self.available(self.number, client) if self.available else ""
            if reason:
                self.absent.append(Absence(client, reason))
                continue
            self.asked.append(client)
            yield self.federation.task(
                before.state,
                self.number,
                client,
                before.memories.get(client),
                before.messages.get(client, b""),
            )

    def read(self, results: Iterator[Result]) -> Iterator[Reading]:
        """The uploads that are valid; the others are written down as absent."""
        decoded = self._decoded(results)
        first = [] if self.guard.has_scale else list(islice(decoded, GATHERED))
        self.guard.gauge([reading for _, reading in first])
        for upload, reading in chain(first, decoded):
            try:
                self.guard.check(reading)
            except PayloadError as error:
                self._refuse(upload, error)
                continue
            self.records.append(record_of(upload, reading.touched))
            yield reading

    def _decoded(self, results: Iterator[Result]) -> Iterator[tuple[Upload, Reading]]:
        """What can be read, each as the client that was asked for it; engines keep the order."""
        for result in results:
            if not self.asked:
                raise RoundError(f"more came in round {self.number} than was asked for")
            client = self.asked.popleft()
            if isinstance(result, Missing):
                self.absent.append(Absence(client, result.reason))
                continue
            self.memories[client] = result.memory  # it does not know what becomes of its upload
            upload = replace(result, client=client, round=self.number)
            try:
                if result.client != client:
                    raise PayloadError(f"it says that it is client {result.client}")
                examples = len(self.federation.shards[client][1])
                if result.examples > examples:
                    raise PayloadError(f"it claims {result.examples} examples and has {examples}")
                reading = self.team.server.read(upload)
            except PayloadError as error:
                self._refuse(upload, error)
                continue
            yield upload, reading
        self.absent += [Absence(client, "died: nothing was heard of it") for client in self.asked]

    def _refuse(self, upload: Upload, error: PayloadError) -> None:
        did = record_of(upload, ())
        self.absent.append(Absence(upload.client, f"refused: {error}", did))


def _aggregated(
    federation: Federation,
    team: Team,
    before: Standing,
    number: int,
    present: _Attendance,
    run_clients: RunClients,
) -> Download:
    """The server's answer to whoever came; at least one must."""
    readings = present.read(run_clients(present.tasks()))
    first = next(readings, None)
    if first is None:
        raise RoundError(_nobody(number, present.absent))

    def all_of_them() -> Iterator[Reading]:
        yield first
        yield from readings

    task = federation.server_task(before.state, number, before.server)
    return team.server.server(all_of_them(), task)


def _nobody(number: int, absent: Sequence[Absence]) -> str:
    reasons = "; ".join(f"client {a.client} {a.reason}" for a in absent[:3])
    more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
    return f"no update arrived in round {number}: {reasons or 'no client was asked'}{more}"
