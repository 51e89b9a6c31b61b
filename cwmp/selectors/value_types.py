"""Which type the values should be sent in: more entries for the joules, or finer ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from costmodels.costfile import CostFile
from cwmp.payload import ValueType
from cwmp.selection import Selection
from cwmp.selectors.cost_weighted import CostWeighted
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.updates import AnyUpdate
from cwmp.wire.values import as_sent
from profiler.errors import BudgetError, InputError, UpdateError

VALUE_TYPES: tuple[ValueType, ...] = ("float32", "float16", "bfloat16", "int8")


@dataclass(frozen=True, slots=True)
class ValueTypeTrial:
    """What one value type makes of a budget.

    Attributes:
        value_type: the type on the wire.
        selection: what it can pay for.
        captured: sum of g^2 over the kept entries.
        error: sum of (g - decoded)^2 over them: what rounding loses at the receiver.
    """

    value_type: ValueType
    selection: Selection
    captured: float
    error: float

    @property
    def net(self) -> float:
        """captured - error: by how much |g - received|^2 is below |g|^2, the rest counting as 0."""
        return self.captured - self.error


@dataclass(frozen=True, slots=True)
class ValueTypeChoice:
    """Value types compared at equal joules.

    Attributes:
        trials: by falling net gain; of equals, in the order asked for.
        refused: value type -> why it could not be tried.
    """

    trials: tuple[ValueTypeTrial, ...]
    refused: Mapping[ValueType, str]

    @property
    def best(self) -> ValueTypeTrial:
        """The trial of the largest net gain."""
        return self.trials[0]


def best_value_type(
    update: AnyUpdate,
    costs: CostFile,
    budget_j: float,
    *,
    value_types: Sequence[ValueType] = VALUE_TYPES,
    pattern: str = "random",
    buffer_entries: int = 0,
) -> ValueTypeChoice:
    """Compare value types by what the receiver's error falls by at the same budget.

    With S the kept entries, sum over all of (g - received)^2 is::

        |g|^2 - ( sum over S of g^2  -  sum over S of (g - decoded)^2 )

    so that captured minus rounding error is what counts. Where a type makes everything cheaper
    than the budget, everything is sent and the rest of the budget is left. A layer's update is
    charged alike for every type: the receiver applies floats.

    Args:
        update: layer name -> array.
        costs: a cost file; joules a byte make the difference.
        budget_j: of each trial.
        value_types: what to compare.
        pattern, buffer_entries: as of `SelectionCosts.from_cost_file`.

    Raises:
        BudgetError, UpdateError: no type could be tried; says why the first could not.
        InputError, LayerMismatchError: as for selection.

    >>> from costmodels import costs_from_trace
    >>> from device_traces import load
    >>> costs = costs_from_trace(load("amd-epyc-2core-vm/lenet-modelled"))
    >>> draw = np.random.default_rng(0).standard_normal
    >>> update = {x.name: draw(x.shape).astype(np.float32) for x in costs.layers}
    >>> best_value_type(update, costs, budget_j=0.001).best.value_type
    'int8'
    """
    trials, refused, errors = [], {}, []
    for value_type in value_types:
        prepared = SelectionCosts.from_cost_file(
            costs, pattern=pattern, buffer_entries=buffer_entries, value_type=value_type
        )
        try:
            trials.append(_trial(update, prepared, budget_j, value_type))
        except (BudgetError, UpdateError) as error:
            refused[value_type] = str(error)
            errors.append(error)
    if not trials:
        if errors:
            raise errors[0]
        raise InputError("there are no value types to compare: name at least one")
    trials.sort(key=lambda trial: -trial.net)
    return ValueTypeChoice(tuple(trials), refused)


def _trial(
    update: AnyUpdate, costs: SelectionCosts, budget_j: float, value_type: ValueType
) -> ValueTypeTrial:
    affordable_j = min(budget_j, costs.dense_j) if np.isfinite(budget_j) else budget_j
    selection = CostWeighted(costs).select(update, affordable_j)
    error = 0.0
    for layer in selection.layers:
        decoded = as_sent(layer, value_type).values
        lost = layer.values.astype(np.float64) - decoded.astype(np.float64)
        error += float(np.sum(np.square(lost)))
    return ValueTypeTrial(value_type, selection, selection.captured, error)
