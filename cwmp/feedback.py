"""Error feedback: what a budget leaves unsent is not forgotten, it waits.

Per layer a residual e, zero at first, and once a round (Seide et al. 2014; Stich et al. 2018,
arXiv 1809.07599)::

    e <- e + g;    S = select(e, budget);    e <- e - sent(S)

so that sum of sent + e = sum of g at every moment, up to float32's rounding. Memory: four bytes
an entry that stay, and as many again while a round is selected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.payload import ValueType
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.base import Selector
from cwmp.selectors.kernel_rule import KernelRule, ResidualLostError
from cwmp.selectors.updates import AnyUpdate, as_array
from cwmp.wire.values import as_sent
from profiler.errors import BudgetError, InputError, LayerMismatchError, UpdateError

SentValues = Callable[[LayerSelection], NDArray[Any]]
"""What receivers read of a layer's kept values, aligned with its indices; shape (k,)."""

_Arrays = dict[str, NDArray[np.float32]]


class ErrorFeedback:
    """A selector with memory: of one sender, which calls `select` once a round.

    Args:
        selector: the rule that spends the budget; it sees e + g in place of g.
        sent_values: what of the kept values arrives, where the wire loses some of it (see
            `as_received`): the loss stays in the residual. By default values arrive as they are.
        check: look for NaN and inf before anything is added, which is one more reading of the
            update. Without it they are found too, but the residual is then lost, and forgotten.

    A rule on the kernels (`CostWeighted`, `TopK`) adds, selects and zeroes what was sent in one
    pass and in place, where values arrive as they are; other rules get a new array a round.

    Raises:
        InputError: a selector without ``select``, such as `PriceSelector`.

    >>> from cwmp.selectors import TopK
    >>> from cwmp.selectors.costs import SelectionCosts
    >>> feedback = ErrorFeedback(TopK(SelectionCosts.linear({"w": (3,)}, {"w": 1.0})))
    >>> update = {"w": np.array([3.0, 2.0, 0.5], dtype=np.float32)}
    >>> [feedback.select(update, budget_j=1.0).layers[0].indices.tolist() for _ in range(3)]
    [[0], [1], [0]]
    >>> feedback.state_dict()["w"].tolist()
    [0.0, 2.0, 1.5]
    """

    def __init__(
        self, selector: Selector, sent_values: SentValues | None = None, *, check: bool = True
    ) -> None:
        if not callable(getattr(selector, "select", None)):
            raise InputError(
                f"{type(selector).__name__} spends no budget, it has no select: error feedback "
                "takes a rule such as CostWeighted"
            )
        self.selector = selector
        self.sent_values = sent_values
        self.check = check
        self._residual: _Arrays = {}
        self._norm = 0.0

    def __repr__(self) -> str:
        return (
            f"ErrorFeedback(selector={self.selector!r}, sent_values={self.sent_values!r}, "
            f"check={self.check})"
        )

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """Select from residual + *update* and keep the rest for the next round.

        Whatever of these is raised, the residual is what it was before the call (but see
        *check*); an interrupt or a lack of memory in the middle of a pass makes it forgotten.

        Args:
            update: layer name -> numpy array or torch tensor; it is not changed.
            budget_j, generator: as for `cwmp.selectors.base.Selector.select`.

        Returns:
            The selection; its values, ``captured``, ``total`` and ``bound`` are of e + g.

        Raises:
            LayerMismatchError, UpdateError, BudgetError: as the selector's.
        """
        selection = self._in_one_pass(update, budget_j)
        if selection is not None:
            return selection
        waiting = self._plus(update)
        selection = _on_its_own(
            self.selector.select(waiting, budget_j, generator=generator), waiting
        )
        sent = [self._arriving(layer) for layer in selection.layers]
        for layer, values in zip(selection.layers, sent, strict=True):
            waiting[layer.name].reshape(-1)[layer.indices] -= values
        self._residual = waiting
        self._norm = self.residual_norm
        return selection

    def _in_one_pass(self, update: AnyUpdate, budget_j: float) -> Selection | None:
        """What a rule on the kernels selects, the residual brought up to date; else ``None``."""
        if not (
            isinstance(self.selector, KernelRule) and self.sent_values is None and self._residual
        ):
            return None
        try:
            selection = self.selector.select_added(
                update, self._residual, budget_j, norm=self._norm, check=self.check
            )
        except ResidualLostError:
            self.reset()
            raise
        except (BudgetError, LayerMismatchError, UpdateError):
            raise
        except BaseException:  # an interrupt or no memory, with the update added or half added
            self.reset()
            raise
        if selection is not None:
            self._norm = math.sqrt(selection.total)
        return selection

    def reset(self) -> None:
        """Forget what waits."""
        self._residual = {}
        self._norm = 0.0

    @property
    def residual_norm(self) -> float:
        """sqrt(sum e^2) over all layers; 0 before the first round."""
        squares = [np.square(e, dtype=np.float64).sum() for e in self._residual.values()]
        return float(np.sqrt(sum(squares)))

    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """A copy of the residual, layer by layer; empty before the first round."""
        return {name: residual.copy() for name, residual in self._residual.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave; an empty state is a fresh start.

        Raises:
            LayerMismatchError: its layers are not those that the selector prices, or that
                wait here.
            UpdateError: a layer holds NaN or inf, or a type that is not a float.
        """
        arrays = {name: as_array(name, value) for name, value in state.items()}
        expected = self._shapes()
        if arrays and expected and {name: x.shape for name, x in arrays.items()} != expected:
            raise LayerMismatchError(
                "the residual to load is of other layers or shapes than this selector's: "
                "load one of the same model"
            )
        loaded = {name: _as_float32(array) for name, array in arrays.items()}
        for name, array in loaded.items():
            if not np.isfinite(array).all():
                raise UpdateError(f"the residual to load holds NaN or inf in layer {name!r}")
        self._residual = loaded
        self._norm = self.residual_norm

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The layers that this sender has, as far as is known."""
        costs = getattr(self.selector, "costs", None)
        if costs is not None:
            return {layer.name: tuple(layer.shape) for layer in costs.layers}
        return {name: array.shape for name, array in self._residual.items()}

    def _plus(self, update: AnyUpdate) -> _Arrays:
        """e + g in new arrays."""
        arrays = {name: as_array(name, value) for name, value in update.items()}
        if not self._residual:
            return {name: _as_float32(array) for name, array in arrays.items()}
        if {name: array.shape for name, array in arrays.items()} != {
            name: residual.shape for name, residual in self._residual.items()
        }:
            raise LayerMismatchError(
                "the update has other layers or shapes than the rounds before: "
                "one ErrorFeedback serves one model"
            )
        total = {}
        for name, array in arrays.items():
            total[name] = _as_float32(array)
            with np.errstate(over="ignore", invalid="ignore"):  # the selector refuses these
                total[name] += self._residual[name]
        return total

    def _arriving(self, layer: LayerSelection) -> NDArray[Any]:
        if self.sent_values is None:
            return layer.values
        values = self.sent_values(layer)
        if values.shape != layer.values.shape or not np.isfinite(values).all():
            raise UpdateError(
                f"what arrives of layer {layer.name!r} must be {layer.values.size} finite values: "
                "mend sent_values"
            )
        return values


def as_received(value_type: ValueType) -> SentValues | None:
    """The values as a payload of *value_type* delivers them; ``None`` where all of each arrives.

    Pass it as the *sent_values* of `ErrorFeedback`, so that what a shorter type loses waits.

    >>> layer = LayerSelection("w", (1,), np.array([0]), np.array([0.1], dtype=np.float32))
    >>> as_received("float16")(layer).tolist()
    [0.0999755859375]
    """
    if value_type in ("float32", "float64"):
        return None
    return lambda layer: as_sent(layer, value_type).values


def _on_its_own(selection: Selection, arrays: _Arrays) -> Selection:
    """*selection* with values that do not change when *arrays* do; a rule may return views."""
    layers = tuple(
        replace(layer, values=layer.values.copy())
        if np.may_share_memory(layer.values, arrays[layer.name])
        else layer
        for layer in selection.layers
    )
    return replace(selection, layers=layers)


def _as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """A new, contiguous float32 array; beyond float32 becomes inf, which selectors refuse."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array, dtype=np.float32, order="C")
