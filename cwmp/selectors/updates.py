"""An update as it comes from training, checked and laid out flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.selectors.costs import SelectionCosts
from profiler.errors import BudgetError, LayerMismatchError, UpdateError

AnyUpdate = Mapping[str, Any]
"""Layer name -> numpy array or torch tensor of the layer's shape, in any order."""

_DTYPES = {np.dtype(kind) for kind in ("float16", "float32", "float64")}


@dataclass(frozen=True)
class FlatUpdate:
    """An update's entries, numbered through all layers in the costs' order.

    Attributes:
        values: one flat array a layer, in the update's dtype; bfloat16 as float32.
        magnitudes: |g| of every entry; shape (N,).
        layer_of: each entry's layer number; shape (N,).
        starts: each layer's first entry, and N; shape (layers + 1,).
        total: sum of g^2.
    """

    values: tuple[NDArray[Any], ...]
    magnitudes: NDArray[np.float64]
    layer_of: NDArray[np.int64]
    starts: NDArray[np.int64]
    total: float


def read_update(update: AnyUpdate, costs: SelectionCosts) -> FlatUpdate:
    """Check *update* against the layers of *costs* and lay it out flat.

    Raises:
        LayerMismatchError: a layer is missing, unknown, or of another shape.
        UpdateError: NaN or inf, a layer without entries, a type that is not a float, or
            entries so large that the sum of g^2 overflows.
    """
    check_names(update, [layer.name for layer in costs.layers])
    values = []
    for layer in costs.layers:
        array = as_array(layer.name, update[layer.name])
        check_shape(layer.name, array.shape, layer.shape)
        check_values(layer.name, array)
        values.append(array.reshape(-1))
    sizes = np.array([array.size for array in values], dtype=np.int64)
    return FlatUpdate(
        values=tuple(values),
        magnitudes=np.concatenate([np.abs(array.astype(np.float64)) for array in values]),
        layer_of=np.repeat(np.arange(sizes.size), sizes),
        starts=np.concatenate(([0], np.cumsum(sizes))),
        total=sum(sum_of_squares(array) for array in values),
    )


def sum_of_squares(values: NDArray[Any]) -> float:
    """Sum of g^2 in float64, infinite where that overflows."""
    with np.errstate(over="ignore"):
        return float(np.sum(np.square(values, dtype=np.float64)))


def as_joules(budget_j: Any) -> float:
    """*budget_j* as a Python float: kernels are compiled for no other kind of number.

    Raises:
        BudgetError: it is not a number.
    """
    try:
        return float(budget_j)
    except (TypeError, ValueError) as error:
        raise BudgetError(
            f"the budget is {budget_j!r}; it must be a number of joules, such as "
            'Budget.parse("5%").joules(costs.dense_j)'
        ) from error


def check_names(update: AnyUpdate, names: Sequence[str]) -> None:
    """Raise unless *update* has the layers *names* and no others.

    Raises:
        LayerMismatchError: a layer is missing or unknown.
    """
    if len(update) == len(names) and all(name in update for name in names):
        return
    priced = set(names)
    for name in update:
        if name not in priced:
            raise LayerMismatchError(f"the costs have no layer {name!r}, which the update has")
    for name in names:
        if name not in update:
            raise LayerMismatchError(f"the update lacks layer {name!r}, which the costs have")


def check_shape(name: str, shape: tuple[int, ...], priced: tuple[int, ...]) -> None:
    """Raise unless layer *name* has the shape that was priced.

    Raises:
        LayerMismatchError: it has not.
    """
    if shape != priced:
        raise LayerMismatchError(
            f"layer {name!r} has shape {shape} in the update but {priced} "
            "in the costs: use costs of this model"
        )


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Layer *name* of an update as numpy; bfloat16, which numpy lacks, as float32."""
    if hasattr(value, "detach"):  # a torch tensor, told without importing torch
        tensor = value.detach().cpu()
        value = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype not in _DTYPES:
        raise UpdateError(
            f"layer {name!r} holds {array.dtype}; an update is float16, bfloat16, float32 or "
            "float64"
        )
    return array


def check_values(name: str, array: NDArray[Any]) -> None:
    """Raise unless layer *name* has entries, all finite.

    Raises:
        UpdateError: it has none, or NaN or inf, or the sum of g^2 overflows.
    """
    if not array.size:
        raise UpdateError(f"layer {name!r} of shape {array.shape} has no entries: leave it out")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise UpdateError(
            f"layer {name!r} holds NaN or inf in {bad} of {array.size} entries: lower the "
            "learning rate or drop this update"
        )
    if not np.isfinite(sum_of_squares(array)):
        raise UpdateError(f"the sum of g^2 of layer {name!r} overflows float64: rescale it")
