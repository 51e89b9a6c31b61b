"""The expected gain of CWMP over Top-K at equal joules, from the measured spread of costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from costmodels.costfile import CostFile
from cwmp.budget import Budget
from cwmp.gain.curves import ExpectedCurves
from cwmp.gain.draws import varied_costs
from cwmp.gain.expected import Capture, capture
from cwmp.gain.tails import Distribution, Floats, Gaussian, Laplace, PerLayer, Tail, tail_of
from cwmp.selectors.cost_weighted import CostWeighted
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.fit import prepared
from cwmp.selectors.top_k import TopK
from profiler.errors import BudgetError, InputError, UpdateError

DRAWS = 100
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Ratio:
    """CWMP's captured sum over Top-K's, with the 95 % interval that the costs' give it.

    ``low`` and ``high`` are ``None`` where the costs came without intervals.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PredictedGain:
    """What CWMP and Top-K capture at equal joules.

    Attributes:
        budget_j: the joules, the same for both.
        captured, topk_captured: sum of g^2, expected; for a named distribution of scale 1.
        bound: the most that any selection captures.
        total: sum of g^2 over all entries.
        density: share of the entries that Top-K keeps; ``None`` if simulated.
        ratio: captured over topk_captured; 1 means that the costs leave nothing to win.
        marginal: the part of it that the spread of c gives: the ratio where entries cost c_l
            and nothing else, at the joules of Top-K's entries; ``None`` if simulated.
        fixed: the part that fixed costs and forms give: the ratio where c is the same in every
            layer, at the same joules and for the same Top-K; ``None`` if simulated.
        basis: in a few words, the distribution.

    >>> costs = SelectionCosts.linear({"a": (10**6,), "b": (10**6,)}, {"a": 1.0, "b": 1.0})
    >>> gain = predict_gain(costs, "gaussian", "10%")
    >>> round(gain.gain, 6), round(gain.density, 3), gain.flat
    (1.0, 0.1, None)
    """

    budget_j: float
    captured: float
    topk_captured: float
    bound: float
    total: float
    density: float | None
    ratio: Ratio
    marginal: Ratio | None
    fixed: float | None
    basis: str

    @property
    def gain(self) -> float:
        """``ratio.value``."""
        return self.ratio.value

    @property
    def flat(self) -> bool | None:
        """Whether the intervals allow one c for all layers; ``None`` without intervals."""
        if self.marginal is None or self.marginal.low is None:
            return None
        return self.marginal.low <= 1


def predict_gain(
    costs: CostFile | SelectionCosts,
    distribution: Distribution = "laplace",
    budget: Budget | str = "5%",
    *,
    method: Literal["expected", "simulate"] = "expected",
    generator: np.random.Generator | None = None,
    draws: int = DRAWS,
) -> PredictedGain:
    """What *costs* let CWMP capture over Top-K at equal joules, before anyone trains.

    With linear costs, CWMP keeps |g| > sqrt(price c_l) and Top-K |g| > t, each with the
    threshold at which the expected joules are the budget::

        spent = sum_l n_l c_l P(t_l)      captured = sum_l n_l M(t_l)

    P and M in closed form for Laplace and Gaussian (`cwmp.gain.tails`), counted for samples.
    Fixed costs, dense forms and bytes come in as in `cwmp.gain.curves`, the layers worth
    opening by the price of energy. It is a mean-field answer: joules fit on average, not in
    every draw, which matters where a budget opens only a handful of layers or entries.

    Args:
        costs: the costs of a model's layers.
        distribution: ``laplace`` or ``gaussian``, of one scale in all layers; an array, whose
            distribution is taken for every layer; a mapping of layer name to array, an update
            or samples of one; or a distribution of `cwmp.gain.tails`.
        budget: a share of the dense cost, or joules.
        method: ``simulate`` runs the selectors themselves, on the mapping, or on one update
            drawn from the distribution. No split and no interval then.
        generator: seeded. With it, and costs that are a cost file, the ratios get intervals:
            costs are drawn within theirs *draws* times (`cwmp.gain.draws`). Needed to draw an
            update.
        draws: how many.

    Raises:
        BudgetError: the budget is above the dense cost or opens no layer.
        InputError: an unknown distribution or method, nothing to draw an update from, or less
            than 0 draws.
        LayerMismatchError, UpdateError: an update that is not of these layers, or of zeros.

    >>> costs = SelectionCosts.linear({"a": (10**6,), "b": (10**6,)}, {"a": 1.0, "b": 3.0})
    >>> gain = predict_gain(costs, "laplace", "5%")
    >>> round(gain.topk_captured / gain.total, 3), round(gain.captured / gain.total, 3)
    (0.424, 0.471)
    """
    if draws < 0:
        raise InputError(f"costs cannot be drawn {draws} times: pass 0 or more")
    budget = Budget.parse(budget) if isinstance(budget, str) else budget
    prices = prepared(costs)
    budget_j = budget.joules(prices.dense_j)
    prices.check_budget(budget_j)
    tail, basis = tail_of(distribution, prices)
    if method == "simulate":
        return _simulated(prices, distribution, budget_j, generator, basis)
    if method != "expected":
        raise InputError(f"unknown method {method!r}; choose expected or simulate")
    found = _captured(prices, tail, budget_j)
    gains = found.gain, _marginal_gain(prices, tail, found)
    ratios = [Ratio(gain) for gain in gains]
    if generator is not None and isinstance(costs, CostFile):
        drawn = [_varied(each, tail, budget) for each in varied_costs(costs, generator, draws)]
        ratios = _with_intervals(gains, [each for each in drawn if each is not None])
    return PredictedGain(
        budget_j=budget_j,
        captured=found.weighted,
        topk_captured=found.top,
        bound=found.bound,
        total=found.total,
        density=float(found.top_kept.sum()) / sum(layer.parameters for layer in prices.layers),
        ratio=ratios[0],
        marginal=ratios[1],
        fixed=capture(ExpectedCurves.of(_flattened(prices, found), tail), budget_j).gain,
        basis=basis,
    )


def _captured(prices: SelectionCosts, tail: Tail, budget_j: float) -> Capture:
    found = capture(ExpectedCurves.of(prices, tail), budget_j)
    if found.top == 0:
        raise UpdateError("the layers that the budget opens hold zeros alone: raise the budget")
    return found


def _marginal_gain(prices: SelectionCosts, tail: Tail, found: Capture) -> float:
    """The gain where entries cost c_l alone, at what those that Top-K keeps cost."""
    marginal_j = {layer.name: layer.marginal_j for layer in prices.layers}
    linear = SelectionCosts.linear({x.name: x.shape for x in prices.layers}, marginal_j)
    spent_j = float(found.top_kept @ np.array([*marginal_j.values()]))
    return capture(ExpectedCurves.of(linear, tail), spent_j, check=False).gain


def _flattened(prices: SelectionCosts, found: Capture) -> SelectionCosts:
    """The same with the mean marginal cost of Top-K's entries in every layer."""
    marginal_j = np.array([layer.marginal_j for layer in prices.layers])
    mean_j = float(found.top_kept @ marginal_j / found.top_kept.sum())
    return replace(prices, layers=tuple(_tilted(layer, mean_j) for layer in prices.layers))


def _tilted(layer: LayerPrice, marginal_j: float) -> LayerPrice:
    step = marginal_j - layer.marginal_j
    return replace(layer, slope_j=tuple(max(slope + step, 0.0) for slope in layer.slope_j))


def _varied(costs: CostFile, tail: Tail, budget: Budget) -> tuple[float, float] | None:
    prices = prepared(costs)
    budget_j = budget.joules(prices.dense_j)
    try:
        prices.check_budget(budget_j)
    except BudgetError:  # near the end of what is feasible some draws are not
        return None
    found = _captured(prices, tail, budget_j)
    return found.gain, _marginal_gain(prices, tail, found)


def _with_intervals(values: Sequence[float], drawn: Sequence[tuple[float, float]]) -> list[Ratio]:
    """Percentiles of *drawn*, widened to hold the value itself."""
    if not drawn:
        return [Ratio(value) for value in values]
    ends = np.percentile(np.array(drawn), _INTERVAL, axis=0)
    return [
        Ratio(value, min(float(low), value), max(float(high), value))
        for value, low, high in zip(values, *ends, strict=True)
    ]


def _simulated(
    prices: SelectionCosts,
    distribution: Distribution,
    budget_j: float,
    generator: np.random.Generator | None,
    basis: str,
) -> PredictedGain:
    """Both selectors run."""
    update = distribution if isinstance(distribution, Mapping) else None
    if update is None:
        if generator is None:
            raise InputError("pass an update, or a seeded generator to draw one from")
        update, basis = _drawn(prices, distribution, generator), f"a draw: {basis}"
    weighted = CostWeighted(prices).select(update, budget_j)
    top = TopK(prices).select(update, budget_j)
    if weighted.bound is None or top.captured == 0:
        raise UpdateError("the update is zero everywhere: there is nothing to capture")
    return PredictedGain(
        budget_j=budget_j,
        captured=weighted.captured,
        topk_captured=top.captured,
        bound=weighted.bound,
        total=weighted.total,
        density=None,
        ratio=Ratio(weighted.captured / top.captured),
        marginal=None,
        fixed=None,
        basis=basis,
    )


def _drawn(
    prices: SelectionCosts, distribution: Any, generator: np.random.Generator
) -> dict[str, Floats]:
    """An update whose entries are independent and follow *distribution*."""
    tail, _ = tail_of(distribution, prices)
    if isinstance(tail, Laplace):
        return {x.name: generator.laplace(0, tail.scale, x.shape) for x in prices.layers}
    if isinstance(tail, Gaussian):
        return {x.name: generator.normal(0, tail.scale, x.shape) for x in prices.layers}
    if isinstance(tail, PerLayer):
        raise InputError("an update is not drawn from samples by layer: pass them as a mapping")
    values = tail.quantile(1 - generator.random(sum(x.parameters for x in prices.layers)))
    ends = np.cumsum([x.parameters for x in prices.layers])[:-1]
    pairs = zip(prices.layers, np.split(values, ends), strict=True)
    return {layer.name: part.reshape(layer.shape) for layer, part in pairs}
