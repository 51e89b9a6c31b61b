"""Layers in expectation: what a threshold on |g| captures, and the joules that it spends.

A layer of n entries of which each exceeds t with probability P keeps K of them, binomial with
mean n P. It captures n M(t) on average, and is opened at all with probability
1 - (1 - P)^n. Its joules are taken as

    E[E_l(K)]  ~  P(K > 0) E_l( E[K | K > 0] )

which is exact for E_l(k) = a + c k (it is a P(K > 0) + c n P) and an upper limit where E_l is
concave, close wherever K is either large or rarely above 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwmp.gain.tails import Floats, Tail
from cwmp.selectors.costs import LayerPrice, SelectionCosts

_COUNTS = 257
_SECTIONS, _PASSES = 32, 9
_NOTHING = 1e-300
_FREE_RIDE = 1 - 1e-12


@dataclass(frozen=True)
class ExpectedCurves:
    """The layers of some costs, with entries that follow *tail*.

    Attributes:
        tail: the distribution of |g|.
        marginal_j: c of the score, of each layer; shape (L,).
        message_j: joules that a message costs whatever is in it.
        linear: whether every E_l(k) is c k.
        entries: n of each layer; shape (L,).
        counts: k from 1 to n in even steps of log k; shape (L, C).
        energy_j: E_l at *counts*; between them it is taken as a line; shape (L, C).
    """

    tail: Tail
    marginal_j: Floats
    message_j: float
    linear: bool
    entries: Floats
    counts: Floats
    energy_j: Floats

    @classmethod
    def of(cls, costs: SelectionCosts, tail: Tail) -> ExpectedCurves:
        """Tabulate the layers of *costs*."""
        entries = np.array([layer.parameters for layer in costs.layers], dtype=np.float64)
        counts = entries[:, None] ** np.linspace(0, 1, _COUNTS)
        pairs = zip(costs.layers, counts, strict=True)
        return cls(
            tail=tail,
            marginal_j=np.array([layer.marginal_j for layer in costs.layers]),
            message_j=costs.message_j,
            linear=all(layer.is_linear for layer in costs.layers),
            entries=entries,
            counts=counts,
            energy_j=np.array([_between(layer, k) for layer, k in pairs]),
        )

    def energy_of(self, k: Floats) -> Floats:
        """E_l(k) for k in [1, n], the last axis the layers'."""
        steps = (_COUNTS - 1) / np.log(np.maximum(self.entries, 2))
        left = np.minimum((np.log(np.maximum(k, 1)) * steps).astype(np.int64), _COUNTS - 2)
        left += np.arange(self.entries.size) * _COUNTS
        low, high = self.counts.take(left), self.counts.take(left + 1)
        bottom, top = self.energy_j.take(left), self.energy_j.take(left + 1)
        part = (k - low) / np.where(high > low, high - low, 1.0)
        return bottom + (top - bottom) * np.minimum(np.maximum(part, 0.0), 1.0)

    def spend(self, t: Floats, sure: Floats) -> tuple[Floats, Floats]:
        """(joules, probability of being opened) of each layer that keeps |g| > t, shapes as *t*.

        Where *sure* is 1 the layer is opened whatever comes.
        """
        share = self.tail.exceed(t)
        with np.errstate(divide="ignore"):
            opened = np.maximum(-np.expm1(self.entries * np.log1p(-share)), sure)
        kept = self.entries * share
        wanted = np.divide(kept, opened, out=np.ones_like(kept), where=opened > 0)
        return opened * self.energy_of(np.minimum(wanted, self.entries)), opened

    def captured(self, t: Floats, sure: Floats) -> Floats:
        """The sum of g^2 of each layer; one that is as cheap whole is kept whole."""
        energy_j, opened = self.spend(t, sure)
        whole = energy_j >= opened * self.energy_j[:, -1] * _FREE_RIDE
        moment = self.tail.moment(np.where(whole, 0.0, t))
        return self.entries * moment * np.where(whole, opened, 1.0)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a rule captures: sum of g^2 expected, and how many entries of each layer it keeps."""

    captured: float
    kept: Floats


def longest_prefix(
    curves: ExpectedCurves,
    weights: Floats,
    spendable_j: float,
    opens: Floats,
    base: Floats | None = None,
) -> Expected:
    """The longest prefix by falling |g| / w_l that fits: layer l keeps |g| > x w_l.

    x is found by sections of the expected joules; what is left between the last two
    thresholds (a tie, or a layer that turns whole) is shared out in proportion.

    Args:
        curves: the layers.
        weights: w_l; 1 for Top-K; shape (L,).
        spendable_j: joules, the message's own taken off.
        opens: 1 for layers that may be opened, 0 for those passed over; shape (L,).
        base: thresholds of what is kept already in the layers that may be opened; shape (L,).
    """

    sure = np.zeros_like(opens) if base is None else opens

    def thresholds(x: Floats) -> Floats:
        t: Floats = x[:, None] * weights
        return t if base is None else np.minimum(t, base)

    def spent_j(x: Floats) -> Floats:
        total: Floats = curves.spend(thresholds(x), sure)[0] @ opens
        return total

    highest = curves.tail.quantile(np.full(weights.size, _NOTHING)) / weights
    low, high = 0.0, float(highest.max())
    if spent_j(np.zeros(1))[0] <= spendable_j:
        high = 0.0
    for _ in range(_PASSES):
        x = np.linspace(low, high, _SECTIONS + 1)
        fits = np.flatnonzero(spent_j(x[:-1]) <= spendable_j)  # joules fall as x grows
        first = int(fits[0]) if fits.size else _SECTIONS
        low, high = float(x[max(first - 1, 0)]), float(x[first])
    x = np.array([low, high])
    over_j, under_j = spent_j(x).tolist()
    part = (spendable_j - under_j) / (over_j - under_j) if over_j > under_j else 0.0
    mixed = np.array([min(max(part, 0.0), 1.0), 1 - min(max(part, 0.0), 1.0)])
    captured = curves.captured(thresholds(x), sure) @ opens
    kept = curves.entries * curves.tail.exceed(thresholds(x)) * opens
    return Expected(float(mixed @ captured), mixed @ kept)


def _between(layer: LayerPrice, k: Floats) -> Floats:
    """E_l at *k* entries, a line between whole numbers."""
    below = np.floor(k)
    above = np.minimum(below + 1, layer.parameters)
    low_j, high_j = layer.energy_j(np.array([below, above], dtype=np.int64))
    return np.asarray(low_j + (k - below) * (high_j - low_j))
