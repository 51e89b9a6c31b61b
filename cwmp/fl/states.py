"""The values of local training: a model's state, how a client trains, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a model is made of, apart from its code.

    Attributes:
        parameters: trainable tensors by the names of `profiler.layers.layers_of`, float32.
        buffers: floating-point buffers (BatchNorm's running statistics), float32.
        counters: buffers of any other type (BatchNorm's count of batches). They are never sent,
            so that every client starts each round from those of the initial state.
    """

    parameters: Arrays
    buffers: Arrays
    counters: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """How a client trains: SGD with momentum from zero, v <- m v + (g + d w); w <- w - lr v."""

    epochs: int = 1
    batch_size: int = 32
    lr: float = 0.05
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(
                f"local training needs at least 1 epoch and 1 example a batch, got "
                f"{self.epochs} and {self.batch_size}"
            )
        if not (np.isfinite(self.lr) and self.lr > 0) or not 0 <= self.momentum < 1:
            raise InputError(
                f"the learning rate must be positive and the momentum in [0, 1), got "
                f"{self.lr} and {self.momentum}"
            )
        if not (np.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError(f"the weight decay must be 0 or more, got {self.weight_decay}")


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What a client has after training.

    Attributes:
        delta: local minus received parameters, by layer.
        buffers: the local buffers.
        batches: examples in each step taken.
        loss: mean training loss over the steps.
    """

    delta: Arrays
    buffers: Arrays
    batches: tuple[int, ...]
    loss: float


class Evaluation(NamedTuple):
    """How a model does on a set of examples.

    Attributes:
        accuracy, loss: share of right answers, mean cross-entropy.
        right, examples: right answers and examples by label; shape (classes,).
    """

    accuracy: float
    loss: float
    right: tuple[int, ...]
    examples: tuple[int, ...]

    @property
    def by_class(self) -> NDArray[np.float64]:
        """Accuracy by label; NaN where there is no example."""
        with np.errstate(invalid="ignore"):
            share: NDArray[np.float64] = np.divide(self.right, self.examples, dtype=np.float64)
        return share


def batches_of(examples: int, size: int) -> Iterator[slice]:
    """Slices of *size*; a last one of a single example joins the one before.

    BatchNorm cannot normalise a single example.
    """
    start = 0
    while start < examples:
        stop = min(start + size, examples)
        if size > 1 and examples - stop == 1:
            stop = examples
        yield slice(start, stop)
        start = stop
