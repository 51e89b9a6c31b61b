"""Selection priced by the bytes that are really sent.

Selectors declare the most that an index code takes, wherever the entries stand. What they keep
usually takes less, the more so the more it lies together, and the joules of the difference buy
more entries. How much less is only known once the entries are, and it is not monotone in them: the
bytes are concave in the density, so that more entries can be cheaper each and one step of
correction can overshoot and be taken back for ever. So budgets are tried, the feasible ones and the
others kept apart, and the best feasible selection is returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from costmodels.costfile import OperationCost
from cwmp.payload import (
    HEADER_BYTES,
    LAYER_HEADER_BYTES,
    SCALE_BYTES,
    PayloadLayout,
    buffer_bytes,
    layer_bytes,
)
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.base import Selector
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.updates import AnyUpdate
from cwmp.wire.indices import checked_indices, smallest_code
from profiler.errors import BudgetError, InputError

_ENOUGH = 1e-4
_FIRST_AIM, _AIM = 0.985, 0.999  # of the budget; the first leaves room for a large block
_NOISE = 1e-12


class PricedSelector(Selector, Protocol):
    """A selector that spends `SelectionCosts`."""

    @property
    def costs(self) -> SelectionCosts: ...


@dataclass(frozen=True, slots=True)
class RefinedRound:
    """One selection that was tried.

    Attributes:
        inner_budget_j: what the selector was given.
        declared_j: what it declared, by the bound on the index code.
        true_j: by the bytes of the message.
        message_bytes: its length.
        objective: what it reached of the rule's objective.
        feasible: whether ``true_j`` is within the budget.
    """

    inner_budget_j: float
    declared_j: float
    true_j: float
    message_bytes: int
    objective: float
    feasible: bool


@dataclass(frozen=True, slots=True)
class RefinedSelection:
    """The best selection found, and how.

    Attributes:
        selection: its ``energy_j`` is by the bytes of the message, at most ``budget_j``. It has
            no bound: the selector's own speaks of declared joules only.
        plain: what the selector keeps for the budget as it is, by declared joules.
        rounds: what was tried; the first is *plain*.
        oscillated: whether a correction led back across the budget, from a selection that did not
            fit to one that did or the other way, more than once.
    """

    selection: Selection
    plain: Selection
    rounds: tuple[RefinedRound, ...]
    oscillated: bool


class Refined:
    """Raise a selector's budget until the bytes really sent use up the joules.

    Each round selects within an inner budget, takes the size of the message from its encoder and
    moves the inner budget b by the joules left over: b <- b B / true joules, until that exceeds B.
    From then on b lies between the largest that fitted and the smallest that did not, where the
    line between the two is just below B; halfway after two in a row that did not. The first round
    is the selector's own answer, which fits unless *send_cost* is dearer than the costs declare, so
    that the result never captures less. The last is the `rounds`-th, or one that spends all but
    1e-4 of the budget, or that would change b by less.

    Args:
        selector: it has ``costs`` that charge for bytes.
        layout: what is sent: the model's layers, buffers and value type.
        send_cost: joules of a message by its bytes; ``None`` for the line that the costs declare.
        rounds: selections at most.

    Raises:
        InputError: a selector without such costs, fewer than one round, or a layout of other
            layers or another value type than the costs price.

    >>> from cwmp.selectors.cost_weighted import CostWeighted
    >>> from cwmp.selectors.costs import LayerPrice
    >>> layer = LayerPrice("w", (4096,), (1,), (0.0,), (1.0,), byte_j=1.0)
    >>> rule = CostWeighted(SelectionCosts((layer,), 0.0))
    >>> update = {"w": np.arange(4096, dtype=np.float32)}
    >>> refined = Refined(rule, PayloadLayout({"w": (4096,)})).refine(update, budget_j=500.0)
    >>> refined.plain.entries, refined.selection.entries
    (82, 96)
    """

    def __init__(
        self,
        selector: PricedSelector,
        layout: PayloadLayout,
        send_cost: OperationCost | None = None,
        *,
        rounds: int = 4,
    ) -> None:
        costs = getattr(selector, "costs", None)
        if not isinstance(costs, SelectionCosts):
            raise InputError(
                f"{selector.name!r} does not spend SelectionCosts, whose bytes could be refined"
            )
        if rounds < 1:
            raise InputError(f"{rounds} rounds select nothing; ask for at least one")
        _check_layout(costs, layout)
        if send_cost is not None and send_cost.unit != "byte":
            raise InputError(f"the send cost is per {send_cost.unit}, not per byte")
        self.selector = selector
        self.layout = layout
        self.send_cost = send_cost
        self.rounds = rounds

    def __repr__(self) -> str:
        return f"Refined({self.selector!r}, rounds={self.rounds})"

    @property
    def name(self) -> str:
        """``refined:`` and the selector's name."""
        return f"refined:{self.selector.name}"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; joules are those of the bytes sent."""
        return self.refine(update, budget_j, generator=generator).selection

    def refine(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> RefinedSelection:
        """`select`, and what was tried. A generator starts each round from the same state.

        Raises:
            BudgetError: nothing fits, on top of what every selector raises.
        """
        costs = self.selector.costs
        state: Any = None if generator is None else generator.bit_generator.state
        inner_j = budget_j
        tried: list[tuple[Selection, RefinedRound]] = []
        while len(tried) < self.rounds:
            if generator is not None:
                generator.bit_generator.state = state
            try:
                selection = self.selector.select(update, inner_j, generator=generator)
            except BudgetError:
                if not tried:
                    raise
                break  # a lowered budget that pays for nothing
            here = self._priced(selection, inner_j, budget_j)
            tried.append((selection, here))
            used_up = here.feasible and budget_j - here.true_j <= _ENOUGH * budget_j
            if used_up or here.declared_j == 0 or (here.feasible and inner_j >= costs.dense_j):
                break
            next_j = min(_next_budget([one for _, one in tried], budget_j), costs.dense_j)
            if abs(next_j - inner_j) <= _ENOUGH * inner_j:
                break
            inner_j = next_j
        return self._best(tried, budget_j)

    def message_bytes(self, layers: Sequence[LayerSelection]) -> int:
        """The length of the message that `cwmp.codec.encode` writes, without writing it."""
        sent = sum(sent_bytes(layer, self.layout) for layer in layers)
        return HEADER_BYTES + sent + buffer_bytes(self.layout.buffer_entries)

    def true_j(self, selection: Selection) -> float:
        """Joules of applying *selection* and of sending the bytes that it takes."""
        if not selection.layers:
            return 0.0
        costs = self.selector.costs
        prices = {price.name: price for price in costs.layers}
        apply_j = sent_j = 0.0
        for layer in selection.layers:
            price, k = prices[layer.name], layer.indices.size
            declared = int(layer_bytes(price.parameters, k, layer.form, price.value_bytes))
            apply_j += float(price.form_j(k, layer.form)) - price.byte_j * declared
            sent_j += price.byte_j * sent_bytes(layer, self.layout)
        if self.send_cost is None:
            return costs.message_j + apply_j + sent_j
        return apply_j + float(self.send_cost.energy_j(self.message_bytes(selection.layers)))

    def _priced(self, selection: Selection, inner_j: float, budget_j: float) -> RefinedRound:
        true_j = self.true_j(selection)
        if selection.energy_j < true_j <= selection.energy_j * (1 + _NOISE):
            true_j = selection.energy_j  # the same terms, added up in another order
        return RefinedRound(
            inner_budget_j=inner_j,
            declared_j=selection.energy_j,
            true_j=true_j,
            message_bytes=self.message_bytes(selection.layers),
            objective=_objective(selection),
            feasible=true_j <= budget_j,
        )

    def _best(
        self, tried: list[tuple[Selection, RefinedRound]], budget_j: float
    ) -> RefinedSelection:
        feasible = [one for one in tried if one[1].feasible]
        if not feasible:
            raise BudgetError(
                f"infeasible: no selection tried fits {budget_j:.4g} J by its bytes, since the "
                "send cost is dearer than the costs declare: prepare both from the same file"
            )
        best, price = feasible[0]
        for selection, here in feasible[1:]:
            if here.objective > price.objective * (1 + _NOISE):
                best, price = selection, here
        sides = [here.feasible for _, here in tried]
        crossings = sum(one != two for one, two in pairwise(sides))
        return RefinedSelection(
            selection=replace(best, energy_j=price.true_j, budget_j=budget_j, bound=None),
            plain=tried[0][0],
            rounds=tuple(here for _, here in tried),
            oscillated=crossings > 1,
        )


def _next_budget(rounds: Sequence[RefinedRound], budget_j: float) -> float:
    """The inner budget to try after *rounds*."""
    last = rounds[-1]
    fits = max((one for one in rounds if one.feasible), key=_inner, default=None)
    above = [one for one in rounds if not one.feasible]
    if not above:
        return last.inner_budget_j * (budget_j / last.true_j)
    exceeds = min(above, key=_inner)
    low_j, low_true_j = (fits.inner_budget_j, fits.true_j) if fits else (0.0, 0.0)
    share = 0.5
    if len(rounds) < 2 or rounds[-2].feasible or last.feasible:
        rise_j = max(exceeds.true_j - low_true_j, budget_j - low_true_j)
        aim = _FIRST_AIM if len(above) == 1 and not last.feasible else _AIM
        share = min(max((aim * budget_j - low_true_j) / rise_j, 0.1), 0.9)
    return low_j + share * (exceeds.inner_budget_j - low_j)


def _inner(one: RefinedRound) -> float:
    return one.inner_budget_j


def sent_bytes(layer: LayerSelection, layout: PayloadLayout) -> int:
    """Bytes that *layer* takes in a message, its header included; 0 without entries.

    Raises:
        UpdateError: indices that no encoder takes.
    """
    k = layer.indices.size
    if not k:
        return 0
    parameters = layout.sizes[layout.numbers[layer.name]]
    header = LAYER_HEADER_BYTES + (SCALE_BYTES if layout.value_type == "int8" else 0)
    if layer.form == "dense":
        return header + layout.value_bytes * parameters
    indices = checked_indices(layer.indices, parameters, f"layer {layer.name!r}")
    return header + layout.value_bytes * k + smallest_code(indices, parameters).size


def _objective(selection: Selection) -> float:
    return selection.captured if selection.reached is None else selection.reached


def _check_layout(costs: SelectionCosts, layout: PayloadLayout) -> None:
    if {x.name: tuple(x.shape) for x in costs.layers} != {
        name: tuple(shape) for name, shape in layout.layers.items()
    }:
        raise InputError("the payload layout and the costs are not of the same layers")
    for layer in costs.layers:
        if layer.value_bytes != layout.value_bytes:
            raise InputError(
                f"the costs price values of {layer.value_bytes} bytes, the payload layout sends "
                f"{layout.value_type}: prepare the costs with its value_type"
            )
