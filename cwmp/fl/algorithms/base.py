"""What a federated method is: what a client sends, what the server makes of it, how it lands.

A method never sees the loop, the engine or the ledger: it turns a `ClientTask` into bytes,
bytes into bytes, and bytes into the next state. What a client or the server must remember from
round to round (residuals, momentum, personal models) comes in with the task and goes out with
the result, so that a method is pure, an engine may run a client anywhere, and a checkpoint is
the sum of its parts. One file a method is enough, and every engine that can move bytes runs
every method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.training import ModelState, Trainer
from cwmp.selection import Form

if TYPE_CHECKING:
    from torch import Tensor

Memory = Mapping[str, NDArray[Any]]
"""What is kept from one round to the next: arrays by name; empty before the first round."""

Track = Literal["shared", "personal"]
"""Whether a method makes one model for all, or leaves each client its own."""


@dataclass(frozen=True, slots=True)
class ClientTask:
    """What a client works on in one round.

    Attributes:
        state: the shared model as received.
        x, y: the client's examples and labels.
        order: draws the order of examples; equal for every method, so that runs are paired.
        draws: the method's own randomness.
        client, round: whose work it is, from 0, and when, from 1.
        memory: what the client returned in `Upload.memory` the last time it was asked.
        message: what the server last sent to this client alone (`Download.personal`).
        lr_factor: by what the plan's learning rate is multiplied this round.
    """

    state: ModelState
    x: Tensor
    y: Tensor
    order: np.random.Generator
    draws: np.random.Generator
    client: int = 0
    round: int = 1
    memory: Memory = field(default_factory=dict)
    message: bytes = b""
    lr_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class ServerTask:
    """What the server works on in one round.

    Attributes:
        state: the shared model that the clients were sent.
        round: from 1.
        draws: the method's own randomness on the server.
        memory: what the server returned in `Download.memory` the round before.
    """

    state: ModelState
    round: int
    draws: np.random.Generator
    memory: Memory = field(default_factory=dict)


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
        batches: examples in each training step taken, forward and backward.
        loss: mean training loss.
        selection: ``None`` for methods that do not select entries.
        client: who sends it.
        memory: what the client keeps for its next round; it stays with the client.
        forwards: examples in each batch that went through the model forward alone
            (logits of a public set, fitness of perturbed models).
        round: in which it arrived, from 1, as the server knows it and not as the client says:
            `Algorithm.read` holds it against what a payload says of itself. 0: not known.
    """

    payload: bytes
    examples: int
    batches: tuple[int, ...]
    loss: float
    selection: SelectionReport | None = None
    client: int = 0
    memory: Memory = field(default_factory=dict)
    forwards: tuple[int, ...] = ()
    round: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """An upload, decoded and found valid.

    Attributes:
        client, examples: who sent it, and its weight n_j.
        touched: what applying it touches on the server.
        content: what the method's `Algorithm.server` understands.
        norm: sqrt of the sum of squares of what it would add, for methods where that means
            something: engines refuse what dwarfs the others.
        buffers: the model's buffers as sent, for methods that send them: engines refuse those
            that dwarf the others, and variances below 0.
    """

    client: int
    examples: int
    touched: tuple[Touch, ...]
    content: Any
    norm: float | None = None
    buffers: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Download:
    """What the server sends back.

    Attributes:
        payload: the encoded aggregate, the same for every client.
        touched: what applying it touches.
        personal: what goes to one client alone, by client; it reaches it with its next task.
        memory: what the server keeps for the next round.
    """

    payload: bytes
    touched: tuple[Touch, ...]
    personal: Mapping[int, bytes] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)


class Algorithm(Protocol):
    """A federated method, as pure functions.

    Attributes:
        track: ``shared``, or ``personal`` for methods whose clients keep models of their own:
            those also have `Personal.model_of`.
    """

    @property
    def track(self) -> Track: ...

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        """Train, reduce, encode.

        Raises:
            BudgetError: the budget opens no layer.
            UpdateError: training diverged: the update holds NaN or infinity.
        """
        ...

    def read(self, upload: Upload) -> Reading:
        """Decode one upload and check everything in it before it touches anything.

        Raises:
            PayloadError: not a valid payload of this method for this model.
        """
        ...

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        """Aggregate and encode; readings come in the order of their clients, one at a time.

        Raises:
            InputError: nothing was received.
        """
        ...

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        """The shared state after *payload* of the server; every receiver does this.

        Raises:
            PayloadError: not a valid payload for this model; *state* is as it was.
        """
        ...


class Personal(Algorithm, Protocol):
    """A method whose clients keep models of their own."""

    def model_of(self, state: ModelState, memory: Memory) -> ModelState:
        """The model of the client that keeps *memory*; *state* before it has one."""
        ...
