"""The costs a selector spends: E_l(k) for each layer and one charge for the message.

Declared joules of a selection with k_l entries in layer l::

    J = A + sum over layers with k_l > 0 of E_l(k_l)
    E_l(k) = min( update_l(k) + s * sparse_bytes_l(k),  dense_l + s * dense_bytes_l )
    A = send_fixed + s * (message header + buffers)

with s joules a byte sent, and sparse_bytes the most that k entries can take, wherever they stand
(`cwmp.payload.layer_bytes`): the real payload never takes more. A layer goes out in whichever form
costs fewer joules. Joules of encoding and selecting are in the ledger, not in the budget.

send_fixed + s * bytes is what the cost file says of sending where that is one line. Where it has
a knee, it is a line that is nowhere below it (`cwmp.selectors.upper_line`), so that the declared
joules of a selection are never less than what the cost file charges for its real payload.

100 %, the dense cost, is every layer sent and applied whole::

    J_dense = A + sum over layers of dense_l + s * dense_bytes_l

No E_l(k) is above its term, so no selection costs more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from costmodels.costfile import CostFile, LayerCost
from cwmp.payload import HEADER_BYTES, VALUE_BYTES, ValueType, buffer_bytes, layer_bytes
from cwmp.selection import Form
from cwmp.selectors.upper_line import upper_line
from profiler.errors import BudgetError, InputError
from profiler.layers import LayerInfo

_INDEX_BYTES = 1
"""What an index takes near a density of 1 %, where its entropy is 8 bits."""


@dataclass(frozen=True, slots=True)
class LayerPrice:
    """What one layer charges.

    Attributes:
        name, shape: the layer.
        starts, fixed_j, slope_j: the pieces of the sparse update, E(k) = fixed + slope k from
            each start on.
        dense_j: the vectorised add of all entries; ``None`` in theory, where there is no other
            form than the sparse one.
        byte_j: joules a byte sent.
        value_bytes: bytes a value takes on the wire.

    Raises:
        InputError: joules that are negative or not finite, or pieces that do not match.

    >>> LayerPrice("fc", (10, 512), (1,), (6e-6,), (9e-9,), byte_j=1e-9).energy_j([0, 1]).tolist()
    [0.0, 6.026e-06]
    """

    name: str
    shape: tuple[int, ...]
    starts: tuple[int, ...]
    fixed_j: tuple[float, ...]
    slope_j: tuple[float, ...]
    dense_j: float | None = None
    byte_j: float = 0.0
    value_bytes: int = 4

    def __post_init__(self) -> None:
        lengths = {len(self.starts), len(self.fixed_j), len(self.slope_j)}
        if len(lengths) != 1 or self.starts[:1] != (1,):
            raise InputError(
                f"layer {self.name!r} has {len(self.starts)} starts, {len(self.fixed_j)} fixed and "
                f"{len(self.slope_j)} marginal costs: give one of each a piece, the first from 1 on"
            )
        paid = (self.fixed_j[0], *self.slope_j, self.dense_j or 0.0, self.byte_j)
        if not (np.isfinite([*self.fixed_j, *paid]).all() and min(paid) >= 0):
            raise InputError(
                f"the costs of layer {self.name!r} must be finite joules, 0 or more: "
                f"fixed {self.fixed_j}, marginal {self.slope_j}, dense {self.dense_j}, a byte "
                f"{self.byte_j}"
            )

    @property
    def parameters(self) -> int:
        """n, the layer's entries."""
        return prod(self.shape)

    @property
    def marginal_j(self) -> float:
        """c of the score: joules an entry adds at low density, its index included."""
        return self.slope_j[0] + self.byte_j * (self.value_bytes + _INDEX_BYTES)

    @property
    def whole_form(self) -> Form:
        """The form in which all entries go out where nothing is selected."""
        return "sparse" if self.dense_j is None else "dense"

    @property
    def is_linear(self) -> bool:
        """Whether E(k) = c k: one piece, no fixed cost, no dense form, nothing by the byte."""
        free = self.fixed_j == (0.0,) and self.byte_j == 0
        return free and self.dense_j is None

    def form_j(self, k: ArrayLike, form: Form) -> NDArray[np.float64]:
        """Joules of *k* entries sent and applied in *form*, elementwise; 0 at k = 0."""
        amounts = np.asarray(k, dtype=np.int64)
        if form == "dense":
            apply_j = np.full(amounts.shape, np.inf if self.dense_j is None else self.dense_j)
        else:
            which = np.maximum(np.searchsorted(self.starts, amounts, side="right") - 1, 0)
            apply_j = np.asarray(self.fixed_j)[which] + np.asarray(self.slope_j)[which] * amounts
        sent = layer_bytes(self.parameters, amounts, form, self.value_bytes)
        return np.where(amounts > 0, apply_j + self.byte_j * sent, 0.0)

    def energy_j(self, k: ArrayLike) -> NDArray[np.float64]:
        """E_l(k): joules of *k* entries in the cheaper form, elementwise; non-decreasing in k."""
        return np.minimum(self.form_j(k, "sparse"), self.form_j(k, "dense"))

    def form(self, k: int) -> Form:
        """The form in which *k* entries cost fewer joules; sparse when equal."""
        return "dense" if self.form_j(k, "dense") < self.form_j(k, "sparse") else "sparse"


@dataclass(frozen=True)
class SelectionCosts:
    """The prices of a model's layers and the charge A of a message."""

    layers: tuple[LayerPrice, ...]
    message_j: float = 0.0

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("costs of a model without layers")
        if not (np.isfinite(self.message_j) and self.message_j >= 0):
            raise InputError(f"a message costs {self.message_j} J; it must be a number, 0 or more")
        object.__setattr__(self, "message_j", float(self.message_j))

    @classmethod
    def from_cost_file(
        cls,
        costs: CostFile,
        model_layers: Sequence[LayerInfo] | None = None,
        *,
        pattern: str = "random",
        buffer_entries: int = 0,
        value_type: ValueType = "float32",
    ) -> SelectionCosts:
        """Prepare a cost file for selection.

        Args:
            costs: the cost file.
            model_layers: the model's layers, checked against the file; ``None`` trusts it.
            pattern: which index pattern's update cost is charged.
            buffer_entries: entries of the model's buffers, sent whole with every message.
            value_type: the type of values on the wire, the payload layout's: shorter values
                make the same budget buy more entries.

        Raises:
            LayerMismatchError: file and model disagree.
            InputError: the file holds no update cost for the pattern or for the dense add, or
                no send cost, or the value type is unknown.
        """
        send = costs.message_cost("send")
        if send is None:
            raise InputError("the cost file has no 'send' cost: profile with --operations send")
        if value_type not in VALUE_BYTES:
            known = ", ".join(VALUE_BYTES)
            raise InputError(f"values cannot be sent as {value_type!r}; choose from {known}")
        width = VALUE_BYTES[value_type]
        layers = costs.layers if model_layers is None else costs.match(model_layers)
        overhead = HEADER_BYTES + buffer_bytes(buffer_entries)
        smallest = overhead + min(min(_sizes(layer, 1, width)) for layer in layers)
        largest = overhead + sum(max(_sizes(layer, layer.parameters, width)) for layer in layers)
        send_fixed_j, byte_j = upper_line(send, smallest, largest)
        prices = tuple(_price(layer, pattern, byte_j, width) for layer in layers)
        return cls(prices, send_fixed_j + byte_j * overhead)

    @classmethod
    def linear(
        cls,
        shapes: Mapping[str, tuple[int, ...]],
        marginal_j: Mapping[str, float],
        fixed_j: Mapping[str, float] | None = None,
        *,
        message_j: float = 0.0,
    ) -> SelectionCosts:
        """E_l(k) = a_l + c_l k with nothing charged for bytes: for theory, controls and tests.

        There is no dense form: `dense_j` means every entry in the only form it has.

        Args:
            shapes: name -> shape of each layer.
            marginal_j: name -> c_l, joules an entry, positive.
            fixed_j: name -> a_l, joules of opening the layer; 0 where it is absent.
            message_j: A, joules of a message.

        Raises:
            InputError: no layers, or costs that are missing, negative or not finite.

        >>> shapes = {"a": (3,), "b": (2,)}
        >>> SelectionCosts.linear(shapes, {"a": 1.0, "b": 2.0}, message_j=1.0).dense_j
        8.0
        """
        for name in shapes:
            if name not in marginal_j:
                raise InputError(f"layer {name!r} has a shape but no marginal cost")
            if not marginal_j[name] > 0:
                raise InputError(f"the cost of layer {name!r} is {marginal_j[name]}, not positive")
        fixed = fixed_j or {}
        prices = tuple(
            LayerPrice(name, tuple(shape), (1,), (fixed.get(name, 0.0),), (marginal_j[name],))
            for name, shape in shapes.items()
        )
        return cls(prices, message_j)

    @cached_property
    def is_linear(self) -> bool:
        """Whether every layer's E(k) is c k."""
        return all(layer.is_linear for layer in self.layers)

    @cached_property
    def dense_j(self) -> float:
        """Joules of sending and applying every layer whole: what a budget of 100 % means."""
        spent_j = 0.0  # one by one, as in energy_j
        for layer in self.layers:
            spent_j += float(layer.form_j(layer.parameters, layer.whole_form))
        return self.message_j + spent_j

    @cached_property
    def cheapest_j(self) -> float:
        """Joules of the cheapest selection that is not empty."""
        return self.message_j + min(float(layer.energy_j(1)) for layer in self.layers)

    @cached_property
    def tables(self) -> tuple[NDArray[np.float64], ...]:
        """E_l(k) for k = 0..n_l, one array a layer; for rules that look at every k."""
        return tuple(layer.energy_j(np.arange(layer.parameters + 1)) for layer in self.layers)

    def energy_j(self, counts: Sequence[int] | NDArray[np.int64]) -> float:
        """Declared joules of keeping ``counts[l]`` entries in layer l; 0 for nothing at all."""
        if not any(counts):
            return 0.0
        spent_j = 0.0  # one by one: sum() compensates from Python 3.12 on, the kernels do not
        for layer, k in zip(self.layers, counts, strict=True):
            spent_j += float(layer.energy_j(k))
        return self.message_j + spent_j

    def check_budget(self, budget_j: float) -> None:
        """Raise unless *budget_j* can be spent.

        Raises:
            BudgetError: not a positive number, above the dense cost, or too small for one entry.
        """
        check_budget(budget_j, self.cheapest_j, self.dense_j)


def check_budget(budget_j: float, cheapest_j: float, dense_j: float) -> None:
    """Raise unless *budget_j* is between the cheapest selection and the dense cost.

    Raises:
        BudgetError: it is not, or not a positive number.
    """
    if not (np.isfinite(budget_j) and budget_j > 0):
        raise BudgetError(f"the budget is {budget_j} J; it must be a positive number")
    if budget_j > dense_j * (1 + 1e-12):
        raise BudgetError(
            f"the budget of {budget_j:.4g} J is above the dense cost of {dense_j:.4g} J; "
            "100 % sends everything"
        )
    if budget_j < cheapest_j:
        raise BudgetError(
            f"infeasible: the budget of {budget_j:.4g} J opens no layer; the cheapest "
            f"single entry costs {cheapest_j:.4g} J with its fixed costs"
        )


def _price(layer: LayerCost, pattern: str, byte_j: float, value_bytes: int) -> LayerPrice:
    sparse = layer.find("update", pattern)
    if sparse is None:
        raise InputError(f"layer {layer.name!r} has no update cost for {pattern} indices")
    dense = layer.find("update", "dense")
    if dense is None:
        raise InputError(
            f"layer {layer.name!r} has no update cost for the dense add, so that 100 % is not "
            "defined: profile with --operations update"
        )
    return LayerPrice(
        name=layer.name,
        shape=layer.shape,
        starts=tuple(piece.from_k for piece in sparse.pieces),
        fixed_j=tuple(piece.a_j.value if piece.a_j else 0.0 for piece in sparse.pieces),
        slope_j=tuple(piece.c_j.value for piece in sparse.pieces),
        dense_j=float(dense.energy_j(layer.parameters)),
        byte_j=byte_j,
        value_bytes=value_bytes,
    )


def _sizes(layer: LayerCost, k: int, value_bytes: int) -> tuple[int, int]:
    """Bytes of *k* entries of *layer*, sparse and dense; of a single entry dense is the smaller."""
    sparse, dense = (
        int(layer_bytes(layer.parameters, k, form, value_bytes)) for form in ("sparse", "dense")
    )
    return sparse, dense
