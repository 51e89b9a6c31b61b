"""One line a + s x over a piecewise linear energy, so that joules of bytes add up over layers."""

from __future__ import annotations

import numpy as np

from costmodels.costfile import OperationCost

_SIZES = 65
_DIGITS = 12


def upper_line(cost: OperationCost, smallest: int, largest: int) -> tuple[float, float]:
    """(a, s) with a + s x >= E(x) for each whole x from *smallest* to *largest*; a >= 0, s > 0.

    Of those lines it is the one with the least mean of (a + s x) / E(x) over sizes spaced
    evenly in log x: E itself where *cost* is one piece. The best line touches E at two of its
    corners, the origin among them, or runs along a piece; so each of those slopes is tried,
    with the least a that keeps the line above every corner and so above what is between them.
    """
    knees = [piece.from_k for piece in cost.pieces if smallest < piece.from_k <= largest]
    corners = np.array(sorted({0, smallest, largest, *knees, *(knee - 1 for knee in knees)}))
    height_j = cost.energy_j(corners)
    one, two = np.triu_indices(corners.size, 1)
    chords = (height_j[two] - height_j[one]) / (corners[two] - corners[one])
    slopes = np.array([*(piece.c_j.value for piece in cost.pieces), *chords[chords > 0]])
    fixed = (height_j - slopes[:, None] * corners).max(axis=1)
    sizes = np.geomspace(smallest, largest, _SIZES)
    excess = ((fixed[:, None] + slopes[:, None] * sizes) / cost.energy_j(sizes)).mean(axis=1)
    best = np.argmin(excess.round(_DIGITS))  # a piece's own slope before a chord's rounding
    return float(fixed[best]), float(slopes[best])
