"""Costs of single entries, in whole quanta of energy.

Declared joules of a selection S::

    J(S) = A + quantum * sum over i in S of quanta_i        (0 for an empty S)

with A the message's own charge. Quanta are integers because a sum of floats depends on the order
in which threads add, and a sum of integers does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.errors import BudgetError, InputError

Quanta = NDArray[np.uint16] | NDArray[np.uint32]

_WIDTHS = (np.dtype(np.uint16), np.dtype(np.uint32))
_MOST_NARROW, _MOST_WIDE = 2**16 - 1, 2**32 - 1
_MOST_TOTAL = 2**63 - 1
_PART = 2**20


@dataclass(frozen=True, eq=False)
class ElementCosts:
    """What each entry of a model charges.

    Attributes:
        quanta: layer name -> uint16 or uint32 array of the layer's shape, each at least 1; not
            copied where it is contiguous, and not to be changed afterwards.
        quantum_j: joules of one quantum.
        message_j: joules of a message, charged once.
        largest_rounding: by how much, relative to it, a cost was rounded up at most; 0 where the
            quanta are the costs.

    Raises:
        InputError: no layers, a layer without entries, another type, a cost of 0 quanta, a
            quantum that is not positive, a message charge that is negative, or a total above
            2^63 quanta or all joules.

    >>> costs = ElementCosts({"a": np.array([1, 3], dtype=np.uint16)}, quantum_j=0.5)
    >>> costs.dense_j
    2.0
    """

    quanta: Mapping[str, Quanta]
    quantum_j: float
    message_j: float = 0.0
    largest_rounding: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.quantum_j) and self.quantum_j > 0):
            raise InputError(f"the quantum is {self.quantum_j} J; it must be a positive number")
        if not (np.isfinite(self.message_j) and self.message_j >= 0):
            raise InputError(f"a message cannot cost {self.message_j} J: give 0 or more")
        if not self.quanta:
            raise InputError("there are no costs: give an array for each layer of the model")
        checked = {name: _checked(name, array) for name, array in self.quanta.items()}
        object.__setattr__(self, "quanta", checked)
        if self.total > _MOST_TOTAL:
            raise InputError(
                f"all entries together cost {self.total} quanta, more than 2^63: use a larger "
                "quantum"
            )
        if not np.isfinite(self.dense_j):
            raise InputError("the joules of all entries together overflow float64: rescale them")

    @classmethod
    def from_joules(
        cls,
        costs_j: Mapping[str, ArrayLike],
        quantum_j: float | None = None,
        message_j: float = 0.0,
    ) -> ElementCosts:
        """Every cost in whole quanta, rounded up, so that declared joules are never too few.

        Args:
            costs_j: layer name -> joules of each entry, positive; of the layer's shape.
            quantum_j: joules of a quantum; ``None`` for the largest cost over 65,535, with which
                costs take two bytes each. A smaller one rounds less and takes four.
            message_j: joules of a message.

        Raises:
            InputError: a cost that is not a positive number, or a quantum that is not one, or so
                small that a cost takes 2^32 quanta.

        >>> costs = ElementCosts.from_joules({"a": [1e-9, 2.5e-9]}, quantum_j=1e-9)
        >>> costs.quanta["a"].tolist(), round(costs.largest_rounding, 6)
        ([1, 3], 0.2)
        """
        joules = {name: _joules(name, array) for name, array in costs_j.items()}
        if not joules:
            raise InputError("there are no costs: give an array for each layer of the model")
        largest_j = max(float(array.max()) for array in joules.values())
        if quantum_j is None:
            quantum_j = largest_j / _MOST_NARROW
            while quantum_j * _MOST_NARROW < largest_j:
                quantum_j = float(np.nextafter(quantum_j, np.inf))
        if not (np.isfinite(quantum_j) and quantum_j > 0):
            raise InputError(f"the quantum is {quantum_j} J; it must be a positive number")
        if largest_j > quantum_j * _MOST_WIDE:
            raise InputError(
                f"a cost of {largest_j:.4g} J takes more than 2^32 quanta of {quantum_j:.4g} J: "
                "use a larger quantum"
            )
        width = np.uint16 if largest_j <= quantum_j * _MOST_NARROW else np.uint32
        rounded, rounding = {}, 0.0
        for name, array in joules.items():
            rounded[name], excess = _rounded_up(array, quantum_j, width)
            rounding = max(rounding, excess)
        return cls(rounded, quantum_j, message_j, rounding)

    def __repr__(self) -> str:
        return (
            f"ElementCosts({len(self.quanta)} layers, quantum_j={self.quantum_j:g}, "
            f"message_j={self.message_j:g})"
        )

    @cached_property
    def total(self) -> int:
        """All entries, in quanta."""
        return sum(
            int(np.sum(flat[start : start + _PART], dtype=np.uint64))
            for flat in (array.reshape(-1) for array in self.quanta.values())
            for start in range(0, flat.size, _PART)
        )

    @cached_property
    def dense_j(self) -> float:
        """Joules of sending and applying every entry: what a budget of 100 % means."""
        return self.energy_j(self.total)

    @cached_property
    def cheapest_j(self) -> float:
        """Joules of the cheapest selection that is not empty."""
        return self.energy_j(min(int(array.min()) for array in self.quanta.values()))

    def energy_j(self, quanta: int) -> float:
        """Declared joules of entries that cost *quanta* together; 0 for nothing at all."""
        return self.message_j + self.quantum_j * float(quanta) if quanta else 0.0

    def quanta_within(self, budget_j: float) -> int:
        """The most quanta, up to all, of which the declared joules are at most *budget_j*."""
        fits, too_many = 0, self.total + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.energy_j(middle) <= budget_j:
                fits = middle
            else:
                too_many = middle
        return fits

    def check_budget(self, budget_j: float) -> None:
        """Raise unless *budget_j* can be spent.

        Raises:
            BudgetError: not a positive number, above the dense cost, or too small for one entry.
        """
        if not (np.isfinite(budget_j) and budget_j > 0):
            raise BudgetError(f"the budget is {budget_j} J; it must be a positive number")
        if budget_j > self.dense_j * (1 + 1e-12):
            raise BudgetError(
                f"the budget of {budget_j:.4g} J is above the dense cost of {self.dense_j:.4g} J; "
                "100 % sends everything"
            )
        if budget_j < self.cheapest_j:
            raise BudgetError(
                f"infeasible: the budget of {budget_j:.4g} J pays for no entry; the cheapest "
                f"one costs {self.cheapest_j:.4g} J with its message"
            )


def _checked(name: str, array: Any) -> Quanta:
    if not isinstance(array, np.ndarray) or array.dtype not in _WIDTHS:
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(
            f"the costs of layer {name!r} are {kind}; give uint16 or uint32 quanta, or joules to "
            "ElementCosts.from_joules"
        )
    if not array.size:
        raise InputError(f"layer {name!r} of shape {array.shape} has no entries: leave it out")
    if not array.min():
        free = array.size - int(np.count_nonzero(array))
        raise InputError(
            f"layer {name!r} has {free} entries of 0 quanta: a cost is at least one quantum"
        )
    return np.ascontiguousarray(array).reshape(array.shape)


def _joules(name: str, array: ArrayLike) -> NDArray[np.float64]:
    try:
        joules = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the costs of layer {name!r} are not numbers: {error}") from error
    if not joules.size:
        raise InputError(f"layer {name!r} of shape {joules.shape} has no entries: leave it out")
    bad = joules.size - int(np.count_nonzero(np.isfinite(joules) & (joules > 0)))
    if bad:
        raise InputError(
            f"layer {name!r} has {bad} of {joules.size} costs that are not a positive number of "
            "joules"
        )
    return joules


def _rounded_up(
    joules: NDArray[np.float64], quantum_j: float, width: type[np.unsignedinteger[Any]]
) -> tuple[Quanta, float]:
    """*joules* in quanta, and the largest relative rounding."""
    whole = np.ceil(joules / quantum_j)
    whole += whole * quantum_j < joules  # the division was rounded, to either side
    whole -= (whole > 1) & ((whole - 1) * quantum_j >= joules)
    np.minimum(whole, np.iinfo(width).max, out=whole)
    with np.errstate(over="ignore"):  # a cost so far below the quantum: rounded up without limit
        excess = float(np.max((whole * quantum_j - joules) / joules))
    return whole.astype(width), max(excess, 0.0)
