"""The kept entries of an update: what a selector returns and a payload carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["sparse", "dense"]

Indices = NDArray[np.signedinteger[Any]]

Update = Mapping[str, NDArray[np.floating]]
"""Layer name -> array of the layer's shape. The order of the layers is the costs' order."""


@dataclass(frozen=True, slots=True)
class LayerSelection:
    """The kept entries of one layer.

    Attributes:
        name: the layer's name.
        shape: the layer's shape.
        indices: int32 or int64, ascending, positions in the flattened layer; shape (k,). No
            layer has more than 2^31 entries.
        values: the update's values there, in the update's dtype, bfloat16 as float32, which numpy
            lacks; shape (k,).
        form: how the layer is sent and applied: entry by entry, or as one dense vector.

    >>> kept = LayerSelection("w", (2, 2), np.array([0, 3]), np.array([1.5, -2.0]))
    >>> whole = np.zeros(kept.shape)
    >>> whole.flat[kept.indices] = kept.values
    >>> whole.tolist()
    [[1.5, 0.0], [0.0, -2.0]]
    """

    name: str
    shape: tuple[int, ...]
    indices: Indices
    values: NDArray[np.floating]
    form: Form = "sparse"


@dataclass(frozen=True, slots=True)
class Selection:
    """The kept indices and values of an update, their joules, and the bound that certifies them.

    Attributes:
        layers: the touched layers, in the costs' order; untouched layers are absent.
        energy_j: declared joules of sending and applying them, fixed costs included.
        budget_j: what was allowed; ``energy_j <= budget_j`` always.
        captured: sum of g^2 over the kept entries.
        total: sum of g^2 over all entries.
        bound: an upper limit on what any selection within the budget reaches of the rule's
            objective, which is `captured` but for (1, 1); ``None`` for rules without one.
        price: the price of energy, the objective per joule at the margin, where there is one.
        reached: sum of |g| over the kept entries for (1, 1), whose objective that is; else
            ``None``.

    >>> layer = LayerSelection("w", (3,), np.array([1]), np.array([3.0]))
    >>> selection = Selection((layer,), 1.0, budget_j=1.5, captured=9.0, total=14.0, bound=10.0)
    >>> selection.entries, selection.certificate
    (1, 0.9)
    """

    layers: tuple[LayerSelection, ...]
    energy_j: float
    budget_j: float
    captured: float
    total: float
    bound: float | None = None
    price: float | None = None
    reached: float | None = None

    @property
    def entries(self) -> int:
        """The number of kept entries."""
        return sum(layer.indices.size for layer in self.layers)

    @property
    def certificate(self) -> float | None:
        """The objective over its bound, 1 when no selection could reach more."""
        if self.bound is None:
            return None
        reached = self.captured if self.reached is None else self.reached
        return 1.0 if self.bound == 0 else min(1.0, reached / self.bound)
