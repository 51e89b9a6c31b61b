"""Costs varied within their intervals, so that what follows from them has an interval too.

Every layer's measured c is its own c plus noise, so the c of a cost file differ more than the
layers do; varying each one about its value would add the noise a second time, and costs that
are equal would never come out equal. So the c of the layers are drawn by the random-effects
model on y = ln c with standard errors s from the intervals::

    y_l = theta_l + s_l e_l,    theta_l = mu + tau u_l,    e, u standard normal

tau^2 comes from Cochran's Q(tau^2) = sum (y_l - mean)^2 / (s_l^2 + tau^2) by setting it to a
draw of chi-square with L - 1 degrees of freedom (the Q-profile of Viechtbauer, 2007), 0 where
even Q(0) is less; then mu, then each theta_l about its shrunk value. Draws in which tau is 0
have one c for all layers: their share is the p-value of equal costs. What was not detected
takes no part in Q.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
from cwmp.gain.tails import Floats

_Z95 = 1.959964
_LEAST = 1e-3
_EXACT = 1e-9
_STEPS = 60


def varied_costs(
    costs: CostFile, generator: np.random.Generator, draws: int, pattern: str = "random"
) -> Iterator[CostFile]:
    """*costs* again and again, each estimate drawn within its interval.

    c of the layers' sparse updates is drawn as the module says; every other estimate on its
    own, normal on either side of its value, no further than its interval reaches.
    """
    found = [layer.find("update", pattern) for layer in costs.layers]
    factors = np.ones((draws, len(found)))
    priced = [number for number, cost in enumerate(found) if cost is not None]
    slopes = [cost.pieces[0].c_j for cost in found if cost is not None]
    if slopes:
        values = np.array([slope.value for slope in slopes])
        factors[:, priced] = marginal_draws(slopes, generator, draws) / values
    for row in factors:
        layers = tuple(
            _layer(layer, pattern, float(factor), generator)
            for layer, factor in zip(costs.layers, row, strict=True)
        )
        message = tuple(_operation(cost, None, generator) for cost in costs.message)
        yield costs.model_copy(update={"layers": layers, "message": message})


def marginal_draws(
    slopes: Sequence[Estimate], generator: np.random.Generator, draws: int
) -> Floats:
    """Joules of an entry of each layer, drawn; shape (draws, layers).

    Layers that share a measurement have one estimate: it counts once, and they move together.
    """
    distinct = list(dict.fromkeys(slopes))
    drawn = _drawn(distinct, generator, draws)
    return drawn[:, [distinct.index(slope) for slope in slopes]]


def _drawn(slopes: Sequence[Estimate], generator: np.random.Generator, draws: int) -> Floats:
    y = np.log([slope.value for slope in slopes])
    s = np.maximum([np.log(slope.high / slope.value) / _Z95 for slope in slopes], _EXACT)
    known = np.array([not slope.below_detection for slope in slopes])
    if not known.any():
        known[:] = True
    freedom = int(known.sum()) - 1
    tau2 = np.zeros(draws)
    if freedom:
        tau2 = _spread(y[known], s[known], generator.chisquare(freedom, draws))
    mean, weight = _mean(y[known], s[known], tau2)
    mu = mean + generator.standard_normal(draws) / np.sqrt(weight)
    kept = tau2[:, None] / (tau2[:, None] + s**2)
    noise = generator.standard_normal((draws, y.size)) * np.sqrt(kept) * s
    drawn: Floats = np.exp(kept * y + (1 - kept) * mu[:, None] + noise)
    return drawn


def _spread(y: Floats, s: Floats, q: Floats) -> Floats:
    """tau^2 with Q(tau^2) = q, elementwise; 0 where Q(0) <= q. Q falls in tau^2."""

    def cochran(tau2: Floats) -> Floats:
        mean, _ = _mean(y, s, tau2)
        found: Floats = ((y - mean[:, None]) ** 2 / (s**2 + tau2[:, None])).sum(axis=1)
        return found

    low = np.zeros_like(q)
    flat = cochran(low) <= q
    high = np.full_like(q, float(((y - y.mean()) ** 2).sum())) / q + _EXACT
    for _ in range(_STEPS):
        middle = (low + high) / 2
        above = cochran(middle) > q
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(flat, 0.0, high)


def _mean(y: Floats, s: Floats, tau2: Floats) -> tuple[Floats, Floats]:
    """The mean of y weighted by 1 / (s^2 + tau^2), and the sum of the weights; by draw."""
    weights = 1 / (s**2 + tau2[:, None])
    total = weights.sum(axis=1)
    return (weights * y).sum(axis=1) / total, total


def _layer(
    layer: LayerCost, pattern: str, factor: float, generator: np.random.Generator
) -> LayerCost:
    operations = tuple(
        _operation(
            cost,
            factor if (cost.operation, cost.pattern) == ("update", pattern) else None,
            generator,
        )
        for cost in layer.operations
    )
    return layer.model_copy(update={"operations": operations})


def _operation(
    cost: OperationCost, factor: float | None, generator: np.random.Generator
) -> OperationCost:
    """One draw; pieces move together, so that the energy keeps its shape at a knee."""
    a, c = np.clip(generator.standard_normal(2), -_Z95, _Z95) / _Z95
    pieces = tuple(
        Piece.model_construct(
            from_k=piece.from_k,
            a_j=None if piece.a_j is None else _moved(piece.a_j, float(a)),
            c_j=_moved(piece.c_j, float(c)) if factor is None else _scaled(piece.c_j, factor),
        )
        for piece in cost.pieces
    )
    return cost.model_copy(update={"pieces": pieces})


def _moved(estimate: Estimate, way: float) -> Estimate:
    """The value moved by *way*, 1 for all the way up to the interval's end and -1 down."""
    reach = estimate.high - estimate.value if way > 0 else estimate.value - estimate.low
    value = max(estimate.value + way * reach, _LEAST * estimate.value)
    return estimate.model_copy(update={"value": value})


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return estimate.model_copy(update={"value": factor * estimate.value})
