"""How a layer's entries fall into blocks that are kept or left whole."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from cwmp.kernels.reference import Floats, Integers
from profiler.errors import InputError

OUTSIDE = -1
"""The label of an entry that may not be kept."""


class Blocks(Protocol):
    """A division of a layer into blocks."""

    @property
    def allows_dense(self) -> bool:
        """Whether a layer may go out whole, every entry of it."""
        ...

    def labels(self, shape: tuple[int, ...], magnitudes: Floats) -> Integers:
        """Each entry's block, 0, 1, ..., or `OUTSIDE`; flat like *magnitudes*.

        Raises:
            InputError: a layer of this shape has no such blocks.
        """
        ...


@dataclass(frozen=True, slots=True)
class Channels:
    """All entries of one index of *axis*: rows, filters, output channels (axis 0).

    >>> Channels(1).labels((2, 3), np.zeros(6)).tolist()
    [0, 1, 2, 0, 1, 2]
    """

    axis: int = 0
    allows_dense = True

    def labels(self, shape: tuple[int, ...], magnitudes: Floats) -> Integers:
        """The index along the axis; the single entry of a scalar is a block."""
        if not shape:
            return np.zeros(1, dtype=np.int64)
        if not -len(shape) <= self.axis < len(shape):
            raise InputError(f"a layer of shape {shape} has no axis {self.axis} to take blocks of")
        along = np.arange(shape[self.axis])
        column = along.reshape(
            [-1 if i == self.axis % len(shape) else 1 for i in range(len(shape))]
        )
        return np.broadcast_to(column, shape).reshape(-1).copy()


@dataclass(frozen=True, slots=True)
class Groups:
    """*size* consecutive entries of the flat layer; its last group may have fewer.

    Raises:
        InputError: groups of less than one entry.

    >>> Groups(2).labels((5,), np.zeros(5)).tolist()
    [0, 0, 1, 1, 2]
    """

    size: int
    allows_dense = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"groups have at least one entry, not {self.size}")

    def labels(self, shape: tuple[int, ...], magnitudes: Floats) -> Integers:
        """The position over the size, rounded down."""
        return np.arange(prod(shape)) // self.size


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles of *rows* x *columns* of the layer as a matrix, one row an index of axis 0.

    Tiles at the lower and right edges may be smaller. Layers of fewer axes are one row.

    Raises:
        InputError: tiles of less than one entry.

    >>> Tiles(1, 2).labels((2, 3), np.zeros(6)).tolist()
    [0, 0, 1, 2, 2, 3]
    """

    rows: int
    columns: int
    allows_dense = True

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1:
            raise InputError(f"tiles of {self.rows} x {self.columns} have no entries")

    def labels(self, shape: tuple[int, ...], magnitudes: Floats) -> Integers:
        """Tiles by rows of tiles."""
        high = shape[0] if len(shape) > 1 else 1
        wide = prod(shape) // max(high, 1)
        across = -(-wide // self.columns)
        row = np.arange(high)[:, None] // self.rows
        return (row * across + np.arange(wide)[None] // self.columns).reshape(-1)


@dataclass(frozen=True, slots=True)
class NofM:
    """At most *n* of every *m* consecutive entries, the layout of sparse matrix units (2:4).

    Of each group the n largest |g| may be kept, ties by position, each for itself: a selection of
    more than those of a group could be exchanged for one that captures no less. Such a layer
    never goes out dense.

    Raises:
        InputError: not 1 <= n <= m.

    >>> NofM(2, 4).labels((6,), np.array([1.0, 3, 0, 2, 5, 6])).tolist()
    [-1, 0, -1, 1, 2, 3]
    """

    n: int
    m: int
    allows_dense = False

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise InputError(f"at most {self.n} of every {self.m} entries is not a pattern")

    def labels(self, shape: tuple[int, ...], magnitudes: Floats) -> Integers:
        """Entries that may be kept, numbered by position."""
        groups = -(-magnitudes.size // self.m)
        padded = np.full((groups, self.m), -1.0)
        padded.reshape(-1)[: magnitudes.size] = magnitudes
        rank = np.argsort(-padded, axis=1, kind="stable")[:, : self.n]
        allowed = np.zeros(padded.shape, dtype=bool)
        np.put_along_axis(allowed, rank, values=True, axis=1)
        flat = allowed.reshape(-1)[: magnitudes.size]
        return np.where(flat, np.cumsum(flat) - 1, OUTSIDE)
