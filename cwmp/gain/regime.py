"""Where weighing pays: the gain over how far costs are spread and how much is sent.

Both maps have Top-K's density, the share of entries that it keeps, as one axis: it says the
same of every device and budget. The other axis is what costs do beside it:

- `spread_map`: half of the entries cost 1 and half r, nothing else is charged. Costs of many
  levels have an r too, exp(2 sd of ln c), which gives the same gain where the spread is small.
- `fixed_map`: the layers of a model, all entries at one cost, and the same fixed cost to open
  each layer, in entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cwmp.gain.curves import ExpectedCurves
from cwmp.gain.expected import capture
from cwmp.gain.predict import PredictedGain
from cwmp.gain.tails import Floats, Laplace, Tail
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError

_PRICES = 2000
_LAPLACE = Laplace()

Reals = Sequence[float] | Floats


@dataclass(frozen=True, slots=True)
class DevicePoint:
    """Where a device's costs stand on both maps at one budget.

    Attributes:
        budget: as it was written.
        density: share of the entries that Top-K keeps.
        spread: r, exp(2 sd of ln c) over entries.
        fixed_entries: the mean joules of opening a layer, in entries of mean cost.
        gain: the predicted ratio of captured sums.
        marginal, fixed: the parts of it that each map shows.
    """

    budget: str
    density: float
    spread: float
    fixed_entries: float
    gain: float
    marginal: float
    fixed: float


def device_point(costs: SelectionCosts, gain: PredictedGain, budget: str) -> DevicePoint:
    """The point of *costs* at a budget for which *gain* was predicted by expectation.

    Raises:
        InputError: *gain* was simulated.
    """
    if gain.density is None or gain.marginal is None or gain.fixed is None:
        raise InputError(
            "a simulated gain has no parts to show on the maps: predict by expectation"
        )
    entries = np.array([layer.parameters for layer in costs.layers], dtype=np.float64)
    marginal_j = np.array([layer.marginal_j for layer in costs.layers])
    opening_j = np.array([float(layer.energy_j(1)) for layer in costs.layers]) - marginal_j
    log_c = np.log(marginal_j)
    mean = np.average(log_c, weights=entries)
    variance = np.average((log_c - mean) ** 2, weights=entries)
    return DevicePoint(
        budget=budget,
        density=gain.density,
        spread=float(np.exp(2 * np.sqrt(variance))),
        fixed_entries=float(
            np.maximum(opening_j, 0).mean() / np.average(marginal_j, weights=entries)
        ),
        gain=gain.gain,
        marginal=gain.marginal.value,
        fixed=gain.fixed,
    )


def spread_map(ratios: Reals, densities: Reals, tail: Tail = _LAPLACE) -> Floats:
    """Gain where half of the entries cost 1 and half r; shape (ratios, densities).

    The closed form, read at many prices: sqrt(price) is x, so that the halves keep
    |g| > x and |g| > x sqrt r and spend the share (P(x) + r P(x sqrt r)) / (1 + r). Top-K,
    blind to cost, spends the share that it keeps.
    """
    shares = np.asarray(densities, dtype=np.float64)
    x = tail.quantile(np.geomspace(shares.min() / 1e3, 1.0, _PRICES))

    def captured(r: float) -> Floats:
        spent = (tail.exceed(x) + r * tail.exceed(x * np.sqrt(r))) / (1 + r)
        kept = (tail.moment(x) + tail.moment(x * np.sqrt(r))) / 2
        return np.interp(np.log(shares), np.log(spent), kept)

    return np.array([captured(r) for r in ratios]) / captured(1.0)


def fixed_map(
    sizes: Sequence[int],
    fixed_entries: Reals,
    densities: Reals,
    tail: Tail = _LAPLACE,
) -> Floats:
    """Gain where opening a layer costs as much as so many entries; shape (fixed, densities).

    The budget of each point is what Top-K's expected selection at that density costs.
    """
    shapes = {str(number): (size,) for number, size in enumerate(sizes)}
    ones = dict.fromkeys(shapes, 1.0)
    never = np.zeros(len(sizes))
    gains = np.empty((len(fixed_entries), len(densities)))
    for row, fixed in enumerate(fixed_entries):
        costs = SelectionCosts.linear(shapes, ones, dict.fromkeys(shapes, float(fixed)))
        curves = ExpectedCurves.of(costs, tail)
        for column, density in enumerate(densities):
            t = tail.quantile(np.full(len(sizes), density))
            budget_j = float(curves.spend(t, never)[0].sum())
            gains[row, column] = capture(curves, budget_j, check=False).gain
    return gains
