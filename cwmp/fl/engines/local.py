"""Every client in this process, one after the other: deterministic, and the reference.

One model is loaded and trained for each client in turn, and each upload is folded into the
average before the next is made, so memory does not grow with the number of clients. All
receivers of a download hold bit-equal models, so it is applied once.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from cwmp.fl.algorithms.base import Algorithm, Upload
from cwmp.fl.rounds import ClientRecord, Federation, RoundRecord
from cwmp.fl.training import ModelState
from profiler.errors import UpdateError
from profiler.threads import threads_for


class LocalEngine:
    """One process, one client at a time."""

    def run(self, federation: Federation, algorithm: Algorithm) -> Iterator[RoundRecord]:
        state = federation.initial
        for number in range(1, federation.rounds + 1):
            with threads_for(sum(layer.parameters for layer in federation.trainer.layers)):
                state, record = self._round(federation, algorithm, state, number)
            yield record

    def _round(
        self, federation: Federation, algorithm: Algorithm, state: ModelState, number: int
    ) -> tuple[ModelState, RoundRecord]:
        sent: list[Upload] = []

        def uploads() -> Iterator[Upload]:
            for client in range(len(federation.shards)):
                upload = _upload(federation, algorithm, state, number, client)
                sent.append(upload)
                yield upload

        download = algorithm.server(uploads())
        state = algorithm.apply(state, download.payload)
        accuracy, loss = federation.trainer.evaluate(state, *federation.test)
        if not isfinite(loss):
            raise UpdateError(
                f"training diverged: the test loss after round {number} is {loss}; lower --lr"
            )
        clients = tuple(
            ClientRecord(u.batches, len(u.payload), touched, u.selection, u.loss)
            for u, touched in zip(sent, download.received, strict=True)
        )
        return state, RoundRecord(
            number, accuracy, loss, clients, len(download.payload), download.touched
        )


def _upload(
    federation: Federation, algorithm: Algorithm, state: ModelState, number: int, client: int
) -> Upload:
    try:
        return algorithm.client(federation.trainer, federation.task(state, number, client))
    except UpdateError as error:
        raise UpdateError(
            f"training diverged at client {client} in round {number}: {error}; lower --lr"
        ) from error
