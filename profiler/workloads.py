"""What is measured: an operation, cut into cells, each a loop and its matched reference.

An `Operation` names the cells it wants measured; a `Cell` is one point of the design (this
layer, this k, this index pattern); a `Workload` is that cell made ready to run. Operations
are passed in as instances, so that the encoder, which lives in ``cwmp``, can be profiled by
a package that never imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from profiler.errors import InputError
from profiler.meters.base import Covers

OperationName = Literal["update", "encode", "send", "select", "train"]
Pattern = Literal["random", "clustered", "dense", "batch", "topk", "cwmp"]
"""How the indices lie; dense for all of them, batch for training, the rule for select."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the design: what a block repeats. Fields as in the trace's columns."""

    operation: OperationName
    layer: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    k: int
    pattern: Pattern
    payload_bytes: int | None = None
    macs: float | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"{self.operation} of {self.layer}: k is {self.k}, below 1")
        if self.pattern != "batch" and self.k > self.parameters:
            raise InputError(f"{self.operation} of {self.layer}: k {self.k} > {self.parameters}")

    @property
    def density(self) -> float | None:
        """k / parameters; ``None`` where k counts examples."""
        return None if self.pattern == "batch" else self.k / self.parameters


class Workload(Protocol):
    """A cell made ready: buffers allocated, fresh random values and indices drawn."""

    def run(self, repetitions: int) -> None:
        """Do the operation *repetitions* times and return when it is done."""
        ...

    def reference(self, repetitions: int) -> None:
        """The same loop without the write, the send or the computation."""
        ...

    def close(self) -> None: ...


class Operation(Protocol):
    """One thing whose energy is wanted.

    It may also say ``implementation``, the code measured; ``scope``, what the joules include
    beyond it; and ``runs_on``, where it works: see `place_of_work`.
    """

    @property
    def name(self) -> OperationName: ...

    def cells(self) -> Sequence[Cell]:
        """The points to measure, in a fixed order."""
        ...

    def prepare(self, cell: Cell, seed: int) -> Workload:
        """Make *cell* ready with values and indices drawn from *seed*."""
        ...


def place_of_work(operation: Operation) -> Covers:
    """Where *operation* works, its ``runs_on``: ``cpu``, also where it does not say, or ``gpu``."""
    place: Covers = getattr(operation, "runs_on", "cpu")
    return place
