"""One federated problem, and what each round of solving it leaves behind.

Everything that two methods must share to be compared is in the `Federation`: weights,
partition, test set, and the seed from which the order of examples follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cwmp.fl.algorithms.base import ClientTask, SelectionReport, Touch
from cwmp.fl.data import Dataset
from cwmp.fl.partition import dirichlet_partition
from cwmp.fl.training import ModelState, Trainer

if TYPE_CHECKING:
    from torch import Tensor

_STREAMS = {"order": 1, "draws": 2}


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
    """

    trainer: Trainer
    initial: ModelState
    shards: tuple[tuple[Tensor, Tensor], ...]
    test: tuple[Tensor, Tensor]
    rounds: int
    seed: int

    @classmethod
    def prepare(
        cls, trainer: Trainer, data: Dataset, *, clients: int, alpha: float, rounds: int, seed: int
    ) -> Federation:
        """Deal *data* to *clients*; the trainer's present state is where every run starts."""
        import torch

        parts = dirichlet_partition(data.y_train, clients, alpha, seed)
        x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
        shards = tuple((x[part], y[part]) for part in map(torch.from_numpy, parts))
        test = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
        return cls(trainer, trainer.state(), shards, test, rounds, seed)

    def task(self, state: ModelState, round_number: int, client: int) -> ClientTask:
        """What *client* works on; a pure function of its arguments and the seed."""
        x, y = self.shards[client]
        order = self._generator(round_number, client, "order")
        return ClientTask(state, x, y, order, self._generator(round_number, client, "draws"))

    def _generator(
        self, round_number: int, client: int, stream: Literal["order", "draws"]
    ) -> np.random.Generator:
        return np.random.default_rng([self.seed, round_number, client, _STREAMS[stream]])


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """What one client did in one round.

    Attributes:
        batches: examples in each training step.
        payload_bytes: length of the payload that went up.
        touched: what applying it touched on the server.
        selection: what the client says of its selection.
        loss: its mean training loss.
    """

    batches: tuple[int, ...]
    payload_bytes: int
    touched: tuple[Touch, ...]
    selection: SelectionReport | None
    loss: float


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What one round did. Rounds count from 1.

    Attributes:
        accuracy, loss: of the new model on the test set.
        clients: in their fixed order.
        downlink_bytes: length of the payload that every client received.
        touched: what applying it touches at every receiver.
    """

    round: int
    accuracy: float
    loss: float
    clients: tuple[ClientRecord, ...]
    downlink_bytes: int
    touched: tuple[Touch, ...]
