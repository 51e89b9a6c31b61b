"""The grid of posteriors behind `costmodels.transfer.core`: scales at each (kappa, tau_d, tau_g).

See there for the model and its symbols. Everything is batched over the n nodes of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DISTINCT = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
BETWEEN = np.array([0.1, 0.3, 0.8, 2.0])
FURTHER = np.geomspace(0.5, 16.0, 11)
_STEPS = 40


@dataclass(frozen=True)
class LogRows:
    """Rows on the log scale."""

    parts: Floats
    z: Floats
    noise: Floats
    spread: Floats
    layers: NDArray[np.intp]
    shared: float


def posterior(
    data: LogRows, groups: NDArray[np.intp], further: Floats, distinct: Floats, between: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Peak, covariance, log evidence and leverage (edf) at each node, by damped Gauss-Newton."""
    n, p = further.size, groups.size
    precision, log_determinant = _prior_precision(groups, distinct, between)
    start = float(np.median(data.z - np.log(data.parts.sum(axis=1))))
    theta = np.full((n, p), start)
    white = _Whitener(data, further)
    for _ in range(_STEPS):
        fitted, shares = log_mix(data.parts, theta)
        gram, pull, _ = white.products(shares, data.z - fitted)
        hessian = gram + precision
        step = np.linalg.solve(
            hessian, (pull - np.einsum("nij,nj->ni", precision, theta))[..., None]
        )[..., 0]
        step *= np.minimum(1.0, 1.0 / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        theta = theta + step
        if np.abs(step).max() < 1e-7:
            break
    fitted, shares = log_mix(data.parts, theta)
    gram, _, square = white.products(shares, data.z - fitted)
    hessian = gram + precision
    covariance = np.linalg.inv(hessian)
    penalty = np.einsum("ni,nij,nj->n", theta, precision, theta)
    evidence = -0.5 * (
        square + white.log_determinant + penalty + log_determinant + np.linalg.slogdet(hessian)[1]
    )
    leverage = np.einsum("nij,nji->n", covariance, gram)
    return theta, np.asarray(covariance), np.asarray(evidence), np.asarray(leverage)


def log_mix(parts: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """log sum_j exp(theta_j) c_ij and each part's share of it, shapes (n, m) and (n, m, p)."""
    scaled = np.exp(theta)[:, None, :] * parts[None, :, :]
    total = scaled.sum(axis=2)
    return np.log(total), scaled / total[..., None]


def _prior_precision(
    groups: NDArray[np.intp], distinct: Floats, between: Floats
) -> tuple[Floats, Floats]:
    """Inverse prior covariance with the common scale left free; -log pseudo-determinant."""
    same = (groups[:, None] == groups[None, :]).astype(np.float64)
    prior = distinct[:, None, None] ** 2 * np.eye(groups.size)
    if np.unique(groups).size > 1:
        prior = prior + between[:, None, None] ** 2 * same
    inverse = np.linalg.inv(prior)
    ones = inverse.sum(axis=2)
    total = ones.sum(axis=1)
    free = inverse - ones[:, :, None] * ones[:, None, :] / total[:, None, None]
    return free, np.linalg.slogdet(prior)[1] + np.log(total)


def reference_spread(spread: Floats) -> float:
    """The spread that kappa speaks of where rows differ in theirs: the sharpest count most."""
    return float(np.mean(spread**-2.0) ** -0.5)


def misfit_variance(further: Floats, spread: Floats, reference: float) -> Floats:
    """Variance of log y about B's form, shape (n, m): (kappa s)^2, kappa <= 1; beyond it ::

        s^2 + (kappa^2 - 1) reference^2

    What B adds is the same for all rows: an operation that A's model knows to a factor of ten
    is not off by a thousand because another, known to 2 %, turned out to be off by 6 %.
    """
    square = further[:, None] ** 2
    added = spread**2 + (square - 1.0) * reference**2
    return np.asarray(np.where(square <= 1.0, square * spread**2, added))


class _Whitener:
    """Products with the inverse of a layer's shared and own misfit plus noise.

    V = D + u u^T in each layer, inverted by Sherman and Morrison, so that a thousand rows are
    no thousand by thousand matrix.
    """

    def __init__(self, data: LogRows, further: Floats) -> None:
        scatter = misfit_variance(further, data.spread, reference_spread(data.spread))
        self.weight = 1.0 / ((1 - data.shared) * scatter + data.noise + 1e-12)
        self.common = np.sqrt(data.shared * scatter)
        self.member = (data.layers[:, None] == np.unique(data.layers)[None, :]).astype(np.float64)
        inside = 1.0 + (self.weight * self.common**2) @ self.member
        self.shrink = 1.0 / np.sqrt(inside)
        self.log_determinant = np.log(inside).sum(axis=1) - np.log(self.weight).sum(axis=1)

    def products(self, J: Floats, r: Floats) -> tuple[Floats, Floats, Floats]:
        """J^T V^-1 J, J^T V^-1 r and r^T V^-1 r, node by node."""
        weighted = self.weight * self.common
        J_layer = (self.member.T @ (weighted[..., None] * J)) * self.shrink[..., None]
        r_layer = ((weighted * r) @ self.member) * self.shrink
        gram = J.transpose(0, 2, 1) @ (self.weight[..., None] * J)
        return (
            gram - J_layer.transpose(0, 2, 1) @ J_layer,
            np.einsum("nmp,nm->np", J, self.weight * r) - np.einsum("nlp,nl->np", J_layer, r_layer),
            np.einsum("nm,nm->n", self.weight * r, r) - np.einsum("nl,nl->n", r_layer, r_layer),
        )


def log_priors(further: Floats, distinct: Floats, between: Floats, degrees: float | None) -> Floats:
    """Log prior weight of each node, log normal: a misfit like A's, the parts of an operation 20 %
    apart, and operations, which need not share a single component of the device, a factor 2.2.

    The misfit's prior has the spread of A's own estimate of it, sqrt(1 / (2 nu)), beside a
    factor e^0.7 between devices.
    """
    width = 0.7 if degrees is None else np.hypot(0.7, np.sqrt(0.5 / max(degrees, 0.5)))
    width = 1.5 if degrees is None else width
    return np.asarray(
        -0.5 * (np.log(further) / width) ** 2
        - 0.5 * (np.log(distinct / 0.2) / 1.2) ** 2
        - 0.5 * (np.log(between / 0.8) / 1.0) ** 2
    )


def family_test(
    data: LogRows, groups: NDArray[np.intp], between: Floats, degrees: float | None
) -> tuple[float | None, float, float]:
    """Whether B's residuals are what A's own misfit and the noise allow, at kappa = 1.

    Q / (m - edf) against F_{m - edf, nu}: the weighted sum of squares left by the scales that
    are likeliest at kappa = 1, with nu degrees of freedom behind A's spread.
    """
    from scipy.stats import f as f_distribution

    distinct, apart = (
        values.ravel() for values in np.meshgrid(DISTINCT, np.unique(between), indexing="ij")
    )
    ones = np.ones_like(distinct)
    theta, _, evidence, used = posterior(data, groups, ones, distinct, apart)
    best = int(np.argmax(evidence + log_priors(ones, distinct, apart, degrees)))
    fitted, shares = log_mix(data.parts, theta)
    _, _, square = _Whitener(data, ones).products(shares, data.z - fitted)
    left = max(data.z.size - float(used[best]), 1.0)
    ratio = float(square[best]) / left
    p_value = None
    if degrees is not None:
        p_value = float(f_distribution.sf(ratio, left, min(max(degrees, 1.0), 1e9)))
    return p_value, left, float(np.sqrt(ratio))


def node_predictions(
    log_scales: Floats, covariance: Floats, parts: Floats
) -> tuple[Floats, Floats]:
    """Log prediction of each node and its variance by the scales', shapes (n, m)."""
    total = np.maximum(parts.sum(axis=1, keepdims=True), 1e-300)
    mean, shares = log_mix(parts / total + 1e-300, log_scales)
    variance = np.einsum("nmp,npq,nmq->nm", shares, covariance, shares, optimize=True)
    return mean + np.log(total[:, 0]), variance


def mixture_quantile(weights: Floats, mean: Floats, sd: Floats, level: float) -> Floats:
    """Quantile of a mixture of normals, by bisection, shape (m,)."""
    from scipy.special import ndtr

    low, high = (mean - 40 * sd).min(axis=0), (mean + 40 * sd).max(axis=0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = weights @ ndtr((middle - mean) / sd) < level
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(0.5 * (low + high))
