"""The order of entries that each have a cost: places in it, and scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.jit import compiled
from cwmp.kernels.magnitudes import NO_BITS
from cwmp.kernels.simd_point import POINT

BINS = 2**12
"""Into how many bins of the score the entries in doubt are counted during the pass."""

_INFINITE = 0x7FF0000000000000
_MARGIN = 2.0**-48
_NARROW, _NARROW_MARGIN = 2.0**-60, 2.0**-20


class Place(NamedTuple):
    """A place in the order of entries: falling score |g| / w, then falling |g|, then position.

    The entry at a place is that of score *score* and |g| bits *bits* in chunk *chunk*; positions
    within a chunk are not told apart.

    Attributes:
        cost: of an entry that stands there, where there is one; else 0.
        exact: whether entries of the same score are told apart. Without it, the pass may keep
            entries that score a last digit less.
    """

    score: float
    bits: int
    cost: int
    chunk: int
    exact: bool


EVERYTHING = Place(0.0, 0, 0, 0, False)
"""Before it lie all entries but the zeros."""
NOTHING = Place(np.inf, NO_BITS, 0, 0, False)
"""Before it lies no entry."""


def point(place: Place, exponent: int, most: int) -> NDArray[np.void]:
    """*place* as `cwmp.kernels.simd_point` reads it.

    Args:
        exponent: 0, 1 or 2 for weights 1, sqrt(c) and c.
        most: entries that cost more are left out.
    """
    record = np.zeros(1, dtype=POINT)
    square = place.score * place.score
    record["score"] = place.score
    record["outer"], record["inner"] = square * (1 - _MARGIN), square * (1 + _MARGIN)
    record["exponent"] = exponent
    record["pair_bits"], record["pair_cost"] = place.bits, place.cost
    record["cost_mask"] = 2**32 - 1 if exponent else 0
    record["most"] = most
    record["exact"] = place.exact
    if not place.exact and _NARROW <= place.score <= 1 / _NARROW:
        record["inverse"] = (1 + _NARROW_MARGIN) / place.score
    return record


def score_bins(bracket: tuple[Place, Place]) -> tuple[int, int]:
    """The least key of a score in *bracket* and a shift that leaves `BINS` bins, for `bin_of`."""
    high, low = (int(np.float64(place.score).view(np.int64)) for place in bracket)
    return low, max(0, (max(high - low, 0) // BINS).bit_length())


def bin_scores(bins: tuple[int, int], number: int) -> tuple[float, float]:
    """The least score of a bin, and the least of the next one."""
    least, shift = bins
    ends = [least + (number << shift), least + ((number + 1) << shift)]
    low, high = (float(np.array(min(key, _INFINITE)).view(np.float64)) for key in ends)
    return low if number else 0.0, high if number + 1 < BINS else np.inf


@compiled
def bin_of(key: int, bins: tuple[int, int]) -> int:
    """The bin of a score whose bits are *key*; the last one takes what is larger."""
    return min(max(key - bins[0], 0) >> bins[1], BINS - 1)


@compiled
def weight_of(cost: int, exponent: int) -> float:
    """w, with |g| / w the score: 1, sqrt(c) or c for an exponent of 0, 1, 2."""
    wide = np.float64(cost)
    if exponent == 0:
        return 1.0
    return np.sqrt(wide) if exponent == 1 else wide  # type: ignore[no-any-return]
