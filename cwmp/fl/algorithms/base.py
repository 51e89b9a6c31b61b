"""What a federated method is: what a client sends, what the server makes of it, how it lands.

A method never sees the loop, the engine or the ledger: it turns a `ClientTask` into bytes,
bytes into bytes, and bytes into the next state. So one file a method is enough, and every
engine that can move bytes runs every method.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from cwmp.fl.training import ModelState, Trainer
from cwmp.selection import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ClientTask:
    """What a client works on in one round.

    Attributes:
        state: the model as received.
        x, y: the client's examples and labels.
        order: draws the order of examples; equal for every method, so that runs are paired.
        draws: the method's own randomness.
    """

    state: ModelState
    x: Tensor
    y: Tensor
    order: np.random.Generator
    draws: np.random.Generator


class Touch(NamedTuple):
    """k entries of a layer as they were sent and applied."""

    layer: str
    k: int
    form: Form


@dataclass(frozen=True, slots=True)
class SelectionReport:
    """What a client says of its selection: for the results, not for the server.

    Attributes:
        entries: kept.
        considered: entries looked at to choose; ``None`` when nothing was chosen.
        energy_j: declared joules of sending and applying.
        captured, total: sum of g^2 over kept and over all entries.
        bound: what no selection in the budget can exceed; ``None`` where it is not known.
    """

    entries: int
    considered: int | None
    energy_j: float
    captured: float
    total: float
    bound: float | None


@dataclass(frozen=True, slots=True)
class Upload:
    """What a client sends: the payload and its weight; the rest is for the records.

    Attributes:
        payload: the encoded update.
        examples: n_j.
        batches: examples in each training step taken.
        loss: mean training loss.
        selection: ``None`` for methods that do not select entries.
    """

    payload: bytes
    examples: int
    batches: tuple[int, ...]
    loss: float
    selection: SelectionReport | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """What the server sends back to every client.

    Attributes:
        payload: the encoded aggregate.
        touched: what applying it touches.
        received: what applying each upload touched, in the order of the uploads.
    """

    payload: bytes
    touched: tuple[Touch, ...]
    received: tuple[tuple[Touch, ...], ...]


class Algorithm(Protocol):
    """A federated method, as three pure functions."""

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        """Train, reduce, encode.

        Raises:
            BudgetError: the budget opens no layer.
            UpdateError: training diverged: the update holds NaN or infinity.
        """
        ...

    def server(self, uploads: Iterable[Upload]) -> Download:
        """Decode, validate, aggregate, encode.

        Raises:
            PayloadError: an upload is not a valid payload for this model.
        """
        ...

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        """The state after *payload* of the server; every receiver does this.

        Raises:
            PayloadError: not a valid payload for this model; *state* is as it was.
        """
        ...
