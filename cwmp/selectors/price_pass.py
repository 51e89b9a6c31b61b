"""Price mode on the kernels: with the price known there is nothing to search, one pass will do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cwmp.kernels.crossing import Cut
from cwmp.kernels.curves import Ranked, best_counts, cut_of, ranked
from cwmp.kernels.energy import dense_forms, message_energy
from cwmp.kernels.keep import per_layer
from cwmp.kernels.magnitudes import ALL_BITS, Bits, Floats
from cwmp.kernels.scan import Integers
from cwmp.selection import Selection
from cwmp.selectors.reading import Reading
from cwmp.selectors.search import Pass, Search

_FIRST_SHARE = 32
_LARGEST = float(np.finfo(np.float32).max)


def unweighted(price: float, weight: float) -> float:
    """lambda / w^2: the price in g^2 of this client; infinite where that overflows."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.square(np.sqrt(price) / np.float64(weight)))


class PricePass:
    """What is worth a price, of an update that stays where it is.

    Only the first pass has to guess how much room it needs; later ones take what the last took.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        table = search.table
        least = np.minimum.reduceat(table.slope_j, table.piece_offsets[:-1])
        self._entry_j = least + table.byte_j * table.value_bytes
        self._expected = int(table.parameters.sum()) // _FIRST_SHARE

    def keep(self, reading: Reading, price: float, weight: float) -> Selection:
        """The entries that are worth *price* to a client of this *weight*, A apart.

        Raises:
            UpdateError: the update holds NaN or inf.
        """
        layers = len(self.search.names)
        done = self._pass(reading, price, weight)
        try:
            if self._is_a_comparison(price):
                every = per_layer(done.found, done.found.count, layers)
                low = np.ones(layers, dtype=np.uint32)
                nothing = np.zeros(layers, dtype=np.int64)
                cut = Cut(low, nothing, every.astype(np.int64), done.found.count)
            else:
                order = ranked(done.found, layers)
                counts = self._best(order, done, unweighted(price, weight))
                cut = cut_of(done.found, order, counts, dense_forms(self.search.table, counts))
            return self.search.selection(done, cut, 0.0, price=price)
        finally:
            self.search.release(done)

    def spent(
        self, reading: Reading, prices: Sequence[float], weight: float
    ) -> list[tuple[float, float]]:
        """(captured, joules) of what is worth each of *prices*; the update is read once.

        Raises:
            UpdateError: the update holds NaN or inf.
        """
        done = self._pass(reading, min(prices), weight)
        try:
            order = ranked(done.found, done.total.size)
            return [self._spent_at(order, done, price, weight) for price in prices]
        finally:
            self.search.release(done)

    def _pass(self, reading: Reading, price: float, weight: float) -> Pass:
        done = self.search.scan(reading, self._thresholds(price, weight), self._expected)
        self._expected = done.found.kept
        return done

    def _is_a_comparison(self, price: float) -> bool:
        """Whether an entry is judged alone: costs are linear, or everything is wanted."""
        return price == 0 or self.search.costs.is_linear

    def _thresholds(self, price: float, weight: float) -> Bits:
        """The least |g| above sqrt(price c) / w; no entry of a layer costs less than c."""
        with np.errstate(over="ignore", under="ignore"):
            limit = np.sqrt(price * self._entry_j) / weight
        value = np.minimum(limit, _LARGEST).astype(np.float32)
        value = np.where(value > limit, value, np.nextafter(value, np.float32(np.inf)))
        bits = np.maximum(value.astype(np.float32).view(np.uint32), 1)
        return np.where(limit < _LARGEST, bits, ALL_BITS).astype(np.uint32)

    def _best(self, order: Ranked, done: Pass, own_price: float) -> Integers:
        if not np.isfinite(own_price):
            return np.zeros(done.total.size, dtype=np.int64)
        return best_counts(order.gains, order.offsets, done.total, self.search.table, own_price)

    def _spent_at(
        self, order: Ranked, done: Pass, price: float, weight: float
    ) -> tuple[float, float]:
        if self._is_a_comparison(price):
            low = self._thresholds(price, weight)
            parts = [slice(a, b) for a, b in zip(order.starts, order.starts[1:], strict=False)]
            counts = np.array(
                [
                    part.stop - part.start - np.searchsorted(order.bits[part][::-1], least)
                    for part, least in zip(parts, low, strict=True)
                ]
            )
        else:
            counts = self._best(order, done, unweighted(price, weight))
        listed = np.minimum(counts, np.diff(order.starts))
        gains: Floats = order.gains[order.offsets[:-1] + listed]
        captured = np.where(counts > listed, done.total, gains).sum()
        energy_j = message_energy(self.search.table, self.search.costs.message_j, counts)
        return float(captured), energy_j
