"""Groups gathered into few parts that are left out together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fold_numbers(labels: Any, most: int, seed: int) -> NDArray[np.int64]:
    """The part of each row, shape (m,): every group whole in one part, at most *most* of them.

    With no more groups than parts, each group is a part of its own. Otherwise groups are taken
    in random order, each into the part with the fewest rows so far, the largest groups first.

    Args:
        labels: the group of each row, shape (m,).
        most: parts at most.
        seed: of the order among groups of equal size.
    """
    _, number = np.unique(np.asarray(labels), return_inverse=True)
    count = np.bincount(number)
    if count.size <= most:
        return np.asarray(number, dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(count.size)
    part = np.empty(count.size, dtype=np.int64)
    order = shuffled[np.argsort(-count[shuffled], kind="stable")]
    if count.max() == count.min():  # equal groups: dealt out, without a search for each
        part[order] = np.arange(count.size) % most
        return np.asarray(part[number])
    filled = np.zeros(most)
    for group in order:
        part[group] = np.argmin(filled)
        filled[part[group]] += count[group]
    return np.asarray(part[number])
