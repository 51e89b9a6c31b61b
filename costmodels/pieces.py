"""Lines with a knee: (piecewise) linear energies that never fall, with no negative price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_ONE, _K = np.array([1.0, 0.0]), np.array([0.0, 1.0])
_NONE = np.zeros(2)
_MOST_KNEES = 256


@dataclass(frozen=True, slots=True)
class Knee:
    """Two lines: a1 + c1 k below *from_k*, a2 + c2 k from there on; all four at least zero.

    Attributes:
        from_k: the first measured k of the second line.
        first, second: (a, c) of each.
        misfit: weighted residual sum of squares.
    """

    from_k: float
    first: tuple[float, float]
    second: tuple[float, float]
    misfit: float


def fit_knee(k: Floats, y: Floats, weight: Floats) -> Knee | None:
    """The best non-decreasing pair of lines, each over at least two distinct k.

    The pairs with a, c >= 0 that do not fall at the knee b are the union of three cones::

        flatter beyond:   E1 = a + (c + d) k      E2 = (a + d b + j) + c k
        dearer beyond:    E1 = a + c k            E2 = (a + j) + (c + d) k
        steeper beyond:   E1 = (a + j) + c k      E2 = a + (c + j/b + d) k

    with a, c, d, j >= 0, so three non-negative least squares problems find the optimum for
    each b, of at most 256 spread evenly over the distinct k. ``None`` when there are fewer than
    four distinct k.
    """
    from scipy.optimize import nnls

    root = np.sqrt(weight)
    best: Knee | None = None
    candidates = np.unique(k)[2:-1]
    if candidates.size > _MOST_KNEES:
        candidates = candidates[np.linspace(0, candidates.size - 1, _MOST_KNEES).astype(int)]
    for b in candidates:
        for cone in (_flatter, _dearer, _steeper):
            below, above = cone(float(b))
            basis = np.where((k < b)[:, None, None], below, above)  # (m, 4, 2): rows of (a, c)
            design = (basis[:, :, 0] + basis[:, :, 1] * k[:, None]) * root[:, None]
            norm = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
            solution, distance = nnls(design / norm, y * root)
            if best is None or distance**2 < best.misfit:
                first, second = (solution / norm) @ below, (solution / norm) @ above
                best = Knee(
                    float(b),
                    (float(first[0]), float(first[1])),
                    (float(second[0]), float(second[1])),
                    float(distance**2),
                )
    return best


def _flatter(b: float) -> tuple[Floats, Floats]:
    """(a, c) of each line for a unit of a, c, d and j; shape (4, 2) each."""
    return np.stack([_ONE, _K, _K, _NONE]), np.stack([_ONE, _K, b * _ONE, _ONE])


def _dearer(b: float) -> tuple[Floats, Floats]:
    return np.stack([_ONE, _K, _NONE, _NONE]), np.stack([_ONE, _K, _K, _ONE])


def _steeper(b: float) -> tuple[Floats, Floats]:
    return np.stack([_ONE, _K, _NONE, _ONE]), np.stack([_ONE, _K, _K, _K / b])


def secants(
    energy: Callable[[Floats], Floats], k_max: int, tolerance: float
) -> list[tuple[int, float, float]]:
    """A concave, non-decreasing E(k) as few secant lines: (from_k, a, c) each, a and c >= 0.

    Exact at the knots, below E between them, by at most *tolerance* of E on the grid that is
    looked at. An E that is not concave, falls or lies below zero at k = 0 is replaced by its
    least concave, non-decreasing majorant through the origin or above it: then no line falls
    and none has a negative a.

    Args:
        energy: E, not negative, over arrays of k.
        k_max: the last k that matters, at least 1.
        tolerance: largest relative deviation.
    """
    grid = np.unique(np.round(np.geomspace(1, max(k_max, 2), 97)).astype(np.int64))
    value = _concave_majorant(grid.astype(np.float64), energy(grid.astype(np.float64)))
    knots = [0, grid.size - 1]
    while True:
        straight = np.interp(grid, grid[knots], value[knots])
        deviation = np.abs(straight - value) / np.maximum(np.abs(value), 1e-300)
        worst = int(np.argmax(deviation))
        if deviation[worst] <= tolerance:
            break
        knots = sorted({*knots, worst})
    lines = []
    for left, right in pairwise(knots):
        c = float((value[right] - value[left]) / (grid[right] - grid[left]))
        a = float(value[left] - c * grid[left])  # at least zero but for rounding
        lines.append((int(grid[left]), max(a, 0.0), c))
    return lines


def _concave_majorant(k: Floats, value: Floats) -> Floats:
    """The upper hull of (0, 0) and the points of the running maximum, at *k*."""
    x, y = np.append(0.0, k), np.append(0.0, np.maximum.accumulate(value))
    hull: list[int] = []
    for point in range(x.size):
        while len(hull) > 1:
            before, last = hull[-2], hull[-1]
            chord = (y[point] - y[before]) * (x[last] - x[before])
            if (y[last] - y[before]) * (x[point] - x[before]) > chord:
                break
            hull.pop()
        hull.append(point)
    return np.asarray(np.interp(k, x[hull], y[hull]))
