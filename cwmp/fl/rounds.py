"""One federated problem, and what each round of solving it leaves behind.

Everything that two methods must share to be compared is in the `Federation`: weights,
partition, test set, who takes part in which round, and the seed from which the order of
examples follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import cos, pi
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.algorithms.base import ClientTask, Memory, SelectionReport, ServerTask, Touch
from cwmp.fl.data import Dataset
from cwmp.fl.partition import dirichlet_partition
from cwmp.fl.training import Evaluation, ModelState, Trainer
from profiler.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Schedule = Literal["constant", "cosine"]
_STREAMS = {"order": 1, "draws": 2}
_SAMPLING, _SERVER = 3, 4
WORST_SHARE = 0.1


@dataclass(frozen=True)
class Federation:
    """A model, clients with their examples, and a test set.

    Attributes:
        trainer: the model, made ready.
        initial: the state every method starts from.
        shards: examples and labels by client.
        test: examples and labels for evaluation.
        rounds: how many.
        seed: all randomness of a run follows from it.
        per_round: clients drawn each round, without replacement; ``None`` asks all of them.
        schedule: of the learning rate over rounds: constant, or half a cosine down to 0.
        joins: client -> the first round it takes part in; 1 where it is absent.

    Raises:
        InputError: more clients a round than there are, or fewer than 1; a client that joins
            and is not there, or nobody in the first round.
    """

    trainer: Trainer
    initial: ModelState
    shards: tuple[tuple[Tensor, Tensor], ...]
    test: tuple[Tensor, Tensor]
    rounds: int
    seed: int
    per_round: int | None = None
    schedule: Schedule = "constant"
    joins: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.per_round is not None and not 1 <= self.per_round <= len(self.shards):
            raise InputError(
                f"{self.per_round} clients a round cannot be drawn from {len(self.shards)}"
            )
        strangers = sorted(set(self.joins) - set(range(len(self.shards))))
        if strangers:
            raise InputError(
                f"joins: there is no client {strangers[0]}; they are 0 to {len(self.shards) - 1}"
            )
        if not self.asked(1):
            raise InputError("joins: no client takes part in round 1")

    @classmethod
    def prepare(
        cls,
        trainer: Trainer,
        data: Dataset,
        *,
        clients: int,
        alpha: float,
        rounds: int,
        seed: int,
        per_round: int | None = None,
        schedule: Schedule = "constant",
        joins: Mapping[int, int] | None = None,
    ) -> Federation:
        """Deal *data* to *clients*; the trainer's present state is where every run starts."""
        import torch

        parts = dirichlet_partition(data.y_train, clients, alpha, seed)
        x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
        shards = tuple((x[part], y[part]) for part in map(torch.from_numpy, parts))
        test = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
        return cls(
            trainer, trainer.state(), shards, test, rounds, seed, per_round, schedule, joins or {}
        )

    def asked(self, round_number: int) -> tuple[int, ...]:
        """The clients of a round, ascending; a pure function of the seed and the round."""
        everyone = [c for c in range(len(self.shards)) if self.joins.get(c, 1) <= round_number]
        if self.per_round is None or self.per_round >= len(everyone):
            return tuple(everyone)
        generator = np.random.default_rng([self.seed, round_number, 0, _SAMPLING])
        return tuple(sorted(generator.choice(everyone, self.per_round, replace=False).tolist()))

    def task(
        self,
        state: ModelState,
        round_number: int,
        client: int,
        memory: Memory | None = None,
        message: bytes = b"",
    ) -> ClientTask:
        """What *client* works on; a pure function of its arguments and the seed."""
        x, y = self.shards[client]
        return ClientTask(
            state,
            x,
            y,
            order=self._generator(round_number, client, "order"),
            draws=self._generator(round_number, client, "draws"),
            client=client,
            round=round_number,
            memory=memory or {},
            message=message,
            lr_factor=self.lr_factor(round_number),
        )

    def server_task(
        self, state: ModelState, round_number: int, memory: Memory | None = None
    ) -> ServerTask:
        """What the server works on; a pure function of its arguments and the seed."""
        draws = np.random.default_rng([self.seed, round_number, 0, _SERVER])
        return ServerTask(state, round_number, draws, memory or {})

    def lr_factor(self, round_number: int) -> float:
        """1, or (1 + cos(pi (t - 1) / T)) / 2 in round t of T."""
        if self.schedule == "constant":
            return 1.0
        return (1 + cos(pi * (round_number - 1) / self.rounds)) / 2

    @cached_property
    def mix(self) -> NDArray[np.float64]:
        """Share of each label at each client; shape (clients, classes)."""
        import torch

        classes = 1 + max(int(y.max()) for _, y in (*self.shards, self.test))
        counts = [torch.bincount(y, minlength=classes).numpy() for _, y in self.shards]
        return np.stack([count / count.sum() for count in counts])

    def worst_decile(self, evaluation: Evaluation) -> float:
        """Mean accuracy of the worst tenth of clients (at least one) under a shared model.

        A client's accuracy is that on the test set, its labels weighted as the client's are:
        sum over labels of share_jc * accuracy_c; labels without a test example are left out.
        """
        accuracy = evaluation.by_class[: self.mix.shape[1]]
        known = np.isfinite(accuracy)
        mix = self.mix[:, : accuracy.size][:, known]
        mass = mix.sum(axis=1)
        scored = mass > 0
        found = (mix[scored] @ accuracy[known]) / mass[scored]
        return worst_tenth(found)

    def _generator(
        self, round_number: int, client: int, stream: Literal["order", "draws"]
    ) -> np.random.Generator:
        return np.random.default_rng([self.seed, round_number, client, _STREAMS[stream]])


def worst_tenth(accuracies: NDArray[np.float64]) -> float:
    """The mean of the lowest tenth of *accuracies*, at least one of them."""
    count = max(1, int(accuracies.size * WORST_SHARE))
    return float(np.sort(accuracies)[:count].mean())


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """What one client did in one round.

    Attributes:
        batches: examples in each training step.
        payload_bytes: length of the payload that went up.
        touched: what applying it touched on the server.
        selection: what the client says of its selection.
        loss: its mean training loss.
        client: which, from 0.
        personal_bytes: length of what the server sent to it alone after the round.
        forwards: examples in each batch that went forward alone.
    """

    batches: tuple[int, ...]
    payload_bytes: int
    touched: tuple[Touch, ...]
    selection: SelectionReport | None
    loss: float
    client: int = 0
    personal_bytes: int = 0
    forwards: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Absence:
    """A client that was asked and whose update is not in the round.

    Attributes:
        client: which.
        reason: ``battery``, ``died``, ``late`` or ``refused: ...``.
        did: what it did all the same, where that is known; its joules are spent.
    """

    client: int
    reason: str
    did: ClientRecord | None = None


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What one round did. Rounds count from 1.

    Attributes:
        accuracy, loss: of the new model on the test set; the mean over clients where each
            has its own.
        clients: those whose updates are in the round, in their fixed order.
        downlink_bytes: length of the payload that every client received.
        touched: what applying it touches at every receiver.
        absent: who was asked and is not in it.
        worst_decile: mean accuracy of the worst tenth of clients; ``None`` if not evaluated.
    """

    round: int
    accuracy: float
    loss: float
    clients: tuple[ClientRecord, ...]
    downlink_bytes: int
    touched: tuple[Touch, ...]
    absent: tuple[Absence, ...] = ()
    worst_decile: float | None = None
