"""What the bursts of a layer offer, item by item, and what that bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.bursts import items_of, ranked_bursts
from cwmp.kernels.menus import Menus, edges_of, relaxed
from cwmp.kernels.reference import Floats, Integers
from cwmp.selectors.burst_costs import BurstPrice


@dataclass(frozen=True)
class Offer:
    """What a layer's candidate bursts offer.

    Attributes:
        order, squares: entries by falling |g| and their g^2; shape (N, s).
        burst, entries: the burst and the number of entries of each item, in the order bought.
        joules, gains: of the first o items, o = 0, 1, ...
    """

    price: BurstPrice
    order: Integers
    squares: Floats
    burst: Integers
    entries: Integers
    joules: Floats
    gains: Floats

    def with_lumps_of(self, most: int) -> Offer:
        """The same bursts, with *most* entries at most in the first item of each."""
        return _bought(self.price, self.order, self.squares, 0.0, 1.0, most)

    def kept(self, items: int) -> Integers:
        """Entries kept of each burst when the first *items* are bought."""
        counts = np.zeros(self.squares.shape[0], dtype=np.int64)
        np.add.at(counts, self.burst[:items], self.entries[:items])
        return counts

    def spent_j(self, kept: Integers) -> float:
        """Joules of the first ``kept[b]`` entries of each burst, the layer's opening included."""
        return self.price.energy_j(int(np.count_nonzero(kept)), int(kept.sum()))

    def captured(self, kept: Integers) -> float:
        """Their g^2."""
        first = np.arange(self.squares.shape[1]) < kept[:, None]
        return float(self.squares[first].sum())


def offer_of(
    values: NDArray[Any], price: BurstPrice, bursts: Integers, least: float, weight: float = 1.0
) -> Offer:
    """The items of *bursts* worth more than *least*, each standing for *weight* like it."""
    order = np.empty((bursts.size, price.burst_entries), dtype=np.int64)
    squares = np.empty(order.shape)
    ranked_bursts(values, bursts, price.burst_entries, order, squares)
    return _bought(price, order, squares, least, weight, price.burst_entries)


def _bought(
    price: BurstPrice, order: Integers, squares: Floats, least: float, weight: float, most: int
) -> Offer:
    """The items in the order in which they are bought."""
    items = items_of(squares, price.burst_j, price.entry_j, least, most)
    by_density = np.argsort(-items.density, kind="stable")
    burst, entries = items.burst[by_density], items.entries[by_density]
    lumps = (np.diff(items.burst, prepend=-1) != 0)[by_density]
    bought = np.cumsum(lumps) * weight, np.cumsum(entries) * weight
    joules = price.opening_j + price.burst_j * bought[0] + price.entry_j * bought[1]
    gains = np.cumsum(items.gain[by_density]) * weight
    zero = np.zeros(1)
    return Offer(
        price,
        order,
        squares,
        burst,
        entries,
        np.concatenate((zero, joules)),
        np.concatenate((zero, gains)),
    )


def relaxed_bound(offers: list[Offer], spendable_j: float) -> tuple[float, float]:
    """The linear relaxation: what any selection captures at most, and the price of energy."""
    parts = []
    for offer in offers:
        stop = int(np.searchsorted(offer.joules, spendable_j, side="right"))
        joules, gains = offer.joules[:stop], offer.gains[:stop]
        start_j = max(offer.price.opening_j, float(joules[-1]))
        if stop < offer.joules.size and start_j < spendable_j:  # a part of the next item
            share = (spendable_j - start_j) / (offer.joules[stop] - start_j)
            gain = gains[-1] + share * (offer.gains[stop] - gains[-1])
            joules, gains = np.append(joules, spendable_j), np.append(gains, gain)
        parts.append((joules, gains))
    edges = edges_of(menus_of(parts), spendable_j, False)
    bound, price, _ = relaxed(edges, spendable_j)
    entries = sum(offer.squares.size for offer in offers)
    return bound * (1 + entries * float(np.finfo(np.float64).eps)), price


def menus_of(parts: list[tuple[Floats, Floats]]) -> Menus:
    """Joules and gains of each layer, one after another."""
    sizes = [joules.size for joules, _ in parts]
    return Menus(
        np.concatenate([joules for joules, _ in parts]),
        np.concatenate([gains for _, gains in parts]),
        np.cumsum([0, *sizes], dtype=np.int64),
    )
