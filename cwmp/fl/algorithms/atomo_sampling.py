"""ATOMO's probabilities (arXiv 1806.04090, algorithm 1), and draws that keep them exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def probabilities(coefficients: ArrayLike, r: int) -> NDArray[np.float64]:
    """p_i = min(1, r' |s_i| / sum' |s|): the least variance at sum p_i = r.

    Args:
        coefficients: s; shape (n,).
        r: atoms to send, at least 1.

    Returns:
        Probabilities that add up to r, or to the number of atoms that are not zero where that
        is smaller; 0 for zeros. Shape (n,).

    >>> probabilities([4.0, -1.0, 1.0, 0.0], 2).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    size = np.abs(np.asarray(coefficients, dtype=np.float64))
    p = np.zeros(size.size)
    active = np.flatnonzero(size)
    if active.size <= r:
        p[active] = 1
        return p
    active = active[np.argsort(-size[active], kind="stable")]
    falling = size[active] / size[active[0]]
    # Clipped are the largest: the first c, c the smallest with (r - c) s_c <= sum of s from c on.
    tails = np.cumsum(falling[::-1])[::-1]
    left = r - np.arange(active.size)
    clipped = int(np.argmax(left * falling <= tails))
    p[active[:clipped]] = 1
    p[active[clipped:]] = np.minimum(1.0, left[clipped] * falling[clipped:] / tails[clipped])
    return p


def draw(p: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Places drawn with probabilities *p*, as many as they add up to; ascending.

    Systematic sampling: of the points u, u + 1, u + 2, ... on the running sum of p, each takes
    the atom in whose stretch it falls. What has p = 1 is always drawn.
    """
    certain = np.flatnonzero(p >= 1)
    open_ = np.flatnonzero((p > 0) & (p < 1))
    if not open_.size:
        return certain
    running = np.cumsum(p[open_])
    points = generator.random() + np.arange(round(float(running[-1])))
    found = np.searchsorted(running, points, side="right")
    chosen = np.unique(np.minimum(found, open_.size - 1))  # the sum may be an ulp short
    return np.sort(np.concatenate((certain, open_[chosen])))


def variance(coefficients: ArrayLike, p: NDArray[np.float64]) -> float:
    """sum s_i^2 (1/p_i - 1): the mean squared error of one draw, for orthonormal atoms.

    It is the same for all draws with these p_i, whatever goes together: the mean squared
    error adds up over atoms.
    """
    s = np.asarray(coefficients, dtype=np.float64)
    held = s != 0
    return float(np.sum(np.square(s[held]) * (1 / p[held] - 1)))
