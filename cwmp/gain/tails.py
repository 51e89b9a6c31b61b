"""How the magnitudes of an update are distributed, as far as a selector can see it.

A selector that keeps |g| > t sees two numbers of a distribution: how many entries that is,
P(t) = P(|g| > t), and what they capture, M(t) = E[g^2; |g| > t], the truncated second moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.updates import as_array
from profiler.errors import InputError, LayerMismatchError, UpdateError

Floats = NDArray[np.float64]
_TIE = 1e-9


class Tail(Protocol):
    """A distribution of |g|. The last axis of every argument is the layers'."""

    def exceed(self, t: Floats) -> Floats:
        """P(|g| > t) for t >= 0; 1 less the share of zeros at t = 0."""
        ...

    def moment(self, t: Floats) -> Floats:
        """E[g^2; |g| > t], all of E[g^2] at t = 0."""
        ...

    def quantile(self, share: Floats) -> Floats:
        """The t that a *share* in (0, 1] of the entries exceeds; 0 where fewer are not zero."""
        ...


@dataclass(frozen=True, slots=True)
class Laplace:
    """Density exp(-|g| / b) / 2b with scale b, so E[g^2] = 2 b^2::

        P(t) = exp(-t / b)        M(t) = exp(-t / b) (t^2 + 2 b t + 2 b^2)

    >>> Laplace().moment(np.array([0.0, 1.0])).round(3).tolist()
    [2.0, 1.839]
    """

    scale: float = 1.0

    def exceed(self, t: Floats) -> Floats:
        return np.exp(-t / self.scale)

    def moment(self, t: Floats) -> Floats:
        b = self.scale
        return np.exp(-t / b) * (t * t + 2 * b * t + 2 * b * b)

    def quantile(self, share: Floats) -> Floats:
        return -self.scale * np.log(share)


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Mean 0, standard deviation s, so E[g^2] = s^2. With z = t / s::

    P(t) = erfc(z / sqrt 2)
    M(t) = s^2 ( erfc(z / sqrt 2) + sqrt(2 / pi) z exp(-z^2 / 2) )
    """

    scale: float = 1.0

    def exceed(self, t: Floats) -> Floats:
        from scipy.special import erfc

        tail: Floats = erfc(t / (self.scale * np.sqrt(2)))
        return tail

    def moment(self, t: Floats) -> Floats:
        z = t / self.scale
        below: Floats = np.sqrt(2 / np.pi) * z * np.exp(-(z**2) / 2)
        return self.scale**2 * (self.exceed(t) + below)

    def quantile(self, share: Floats) -> Floats:
        from scipy.special import ndtri

        t: Floats = -self.scale * ndtri(np.asarray(share) / 2)
        return t


class Sample:
    """The empirical distribution of *values*; entries that tie are told apart by position.

    Raises:
        UpdateError: no entries, or NaN or inf among them.
    """

    def __init__(self, name: str, values: NDArray[Any]) -> None:
        magnitudes = np.abs(values.astype(np.float64, copy=False).reshape(-1))
        if not magnitudes.size:
            raise UpdateError(f"{name} has no entries: leave it out")
        if not np.isfinite(magnitudes).all():
            raise UpdateError(f"{name} holds NaN or inf: lower the learning rate or drop it")
        rank = np.arange(magnitudes.size) / magnitudes.size
        self._ascending = np.sort(magnitudes) * (1 + _TIE * rank)
        squares = self._ascending[::-1] ** 2
        self._moments = np.concatenate(([0.0], np.cumsum(squares))) / magnitudes.size

    def exceed(self, t: Floats) -> Floats:
        return self._above(t) / self._ascending.size

    def moment(self, t: Floats) -> Floats:
        return self._moments[self._above(t)]

    def quantile(self, share: Floats) -> Floats:
        size = self._ascending.size
        kept = np.clip(np.rint(np.asarray(share) * size), 0, size).astype(np.int64)
        return np.where(kept < size, self._ascending[np.minimum(size - kept - 1, size - 1)], 0.0)

    def _above(self, t: Floats) -> NDArray[np.int64]:
        return self._ascending.size - np.searchsorted(self._ascending, t, side="right")


@dataclass(frozen=True, slots=True)
class PerLayer:
    """A distribution of its own for each layer, in the costs' order."""

    tails: Sequence[Tail]

    def exceed(self, t: Floats) -> Floats:
        return self._each("exceed", t)

    def moment(self, t: Floats) -> Floats:
        return self._each("moment", t)

    def quantile(self, share: Floats) -> Floats:
        return self._each("quantile", share)

    def _each(self, method: str, x: Floats) -> Floats:
        columns = [getattr(tail, method)(x[..., i]) for i, tail in enumerate(self.tails)]
        return np.stack(columns, axis=-1)


Distribution = (
    str | Laplace | Gaussian | Sample | PerLayer | NDArray[np.floating] | Mapping[str, Any]
)
"""``laplace``, ``gaussian``, a `Tail` of here, a sample for all layers, or samples by layer."""

_NAMED: Mapping[str, Tail] = {"laplace": Laplace(), "gaussian": Gaussian()}


def tail_of(distribution: Distribution, costs: SelectionCosts) -> tuple[Tail, str]:
    """The distribution that is meant, and in a few words what it is.

    Raises:
        InputError: an unknown name.
        LayerMismatchError: samples by layer that are not of the costs' layers.
        UpdateError: a sample with NaN or inf, without entries, of zeros alone, or not of floats.
    """
    if isinstance(distribution, str):
        if distribution not in _NAMED:
            raise InputError(f"unknown distribution {distribution!r}; choose {', '.join(_NAMED)}")
        return _NAMED[distribution], f"{distribution.capitalize()}, one scale for all layers"
    if isinstance(distribution, Mapping):
        return _by_layer(distribution, costs), "the given update, layer by layer"
    if isinstance(distribution, Laplace | Gaussian | Sample | PerLayer):
        return distribution, "the given distribution"
    sample = Sample("the sample", as_array("of the sample", distribution))
    return _not_zero(sample), "the given sample, one for all layers"


def _by_layer(update: Mapping[str, Any], costs: SelectionCosts) -> Tail:
    names = [layer.name for layer in costs.layers]
    for name in (*names, *update):
        if name not in update:
            raise LayerMismatchError(f"the update lacks layer {name!r}, which the costs have")
        if name not in names:
            raise LayerMismatchError(f"the costs have no layer {name!r}, which the update has")
    samples = [Sample(f"layer {name!r}", as_array(name, update[name])) for name in names]
    return _not_zero(PerLayer(samples), len(names))


def _not_zero(tail: Tail, layers: int = 1) -> Tail:
    if not tail.moment(np.zeros(layers)).any():
        raise UpdateError("the update is zero everywhere: there is nothing to capture")
    return tail
