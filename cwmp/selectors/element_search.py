"""The search for the prefix of entries with costs of their own: sample, one pass, exact end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cwmp.kernels.costed_crossing import Crossing, collect, crossing
from cwmp.kernels.costed_draw import by_position
from cwmp.kernels.costed_places import Place
from cwmp.kernels.costed_reading import CostSources
from cwmp.kernels.costed_refine import refined
from cwmp.kernels.costed_sample import Bracket, costed_bracket
from cwmp.kernels.costed_scan import CostedScratch, scan_costed
from cwmp.kernels.keep import Kept
from cwmp.kernels.sample import lines_of
from cwmp.kernels.scan import chunks_of
from cwmp.kernels.simd import INFINITY_BITS
from cwmp.kernels.threads import threads_for
from cwmp.selectors.element_costs import ElementCosts
from cwmp.selectors.reading import Reading
from profiler.errors import UpdateError

_MOST_COST = 2**32 - 1


@dataclass(frozen=True)
class Prefix:
    """The longest prefix within a budget.

    Attributes:
        kept: its entries.
        spent: their quanta.
        following: the first entry left out; ``None`` where there is none.
        total: sum of g^2 over the update.
    """

    kept: Kept
    spent: int
    following: Place | None
    total: float


class ElementSearch:
    """Costs laid out for the kernels, once; scratch memory that rounds share.

    Args:
        costs: what each entry charges.
        exponent: 0, 1 or 2 for weights 1, sqrt(c) and c.
        threads: of a pass; ``None`` for as many as pay.
    """

    def __init__(self, costs: ElementCosts, exponent: int, threads: int | None = None) -> None:
        arrays = list(costs.quanta.values())
        self.names = list(costs.quanta)
        self.shapes = [array.shape for array in arrays]
        self.exponent = exponent
        sizes = [array.size for array in arrays]
        self._arrays = arrays  # the addresses below point into them
        self._costs = CostSources(
            np.array([array.ctypes.data for array in arrays], dtype=np.int64),
            np.array([array.dtype.itemsize for array in arrays], dtype=np.int8),
        )
        self._sizes = np.array(sizes, dtype=np.int64)
        self._chunks = chunks_of(sizes)
        self._lines = lines_of(sizes)
        self._position = by_position(self._lines)
        self._scratch = CostedScratch()
        self.threads = threads_for(sum(sizes), threads)

    def prefix(self, reading: Reading, budget: int) -> Prefix:
        """The longest prefix of falling |g| / w within *budget* quanta: one pass, seldom more.

        Raises:
            UpdateError: the update holds NaN or inf, or was written to meanwhile.
        """
        most = min(budget, _MOST_COST)
        where = (reading.sources, self._costs, self._chunks)
        guess = self._guess(reading, most, budget)
        prefix = self._within(reading, guess, most, budget)
        if prefix is None:
            high, low, between = refined(*where, self.exponent, most, budget, self.threads)
            guess = Bracket(high, low, guess.expected + between, between)
            prefix = self._within(reading, guess, most, budget)
        if prefix is None:
            raise UpdateError("the update changed while it was read: select from a copy of it")
        return prefix

    def _within(self, reading: Reading, guess: Bracket, most: int, budget: int) -> Prefix | None:
        """The prefix, by one pass; ``None`` where the budget does not end within *guess*."""
        found = scan_costed(
            reading.sources,
            self._costs,
            self._chunks,
            (guess.high, guess.low),
            self.exponent,
            most,
            self._scratch,
            expected=(guess.expected, guess.doubtful),
            threads=self.threads,
        )
        try:
            if found.largest.max() >= INFINITY_BITS:
                reading.check_finite(self.names)
            end = crossing(found, budget)
            if not holds(end, guess, budget):
                return None
            kept = collect(found, end, self.threads)
            return Prefix(kept, end.spent, end.next, float(found.squares.sum()))
        finally:
            self._scratch.give_back(found)

    def _guess(self, reading: Reading, most: int, budget: int) -> Bracket:
        return costed_bracket(
            reading.sources,
            self._costs,
            self._lines,
            self._position,
            self._sizes,
            self.exponent,
            most,
            budget,
            self.threads,
        )


def holds(end: Crossing, guess: Bracket, budget: int) -> bool:
    """Whether the budget ends where the pass has looked.

    What the pass keeps or splits off beyond the places of *guess* does not count: there it may have
    missed entries.
    """
    if end.next is None:
        return end.spent <= budget and guess.low.score == 0
    return not _before(end.next, guess.high) and not _before(guess.low, end.next)


def _before(one: Place, two: Place) -> bool:
    """Whether *one* comes before *two* in the order of entries."""
    return _rank(one) < _rank(two)


def _rank(place: Place) -> tuple[Any, ...]:
    return (-place.score, -place.bits, place.chunk)
