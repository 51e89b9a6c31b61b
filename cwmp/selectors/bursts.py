"""Selection where an entry is cheaper when its neighbour is kept: costs by memory burst."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.bursts import kept_entries, open_bursts
from cwmp.kernels.reference import Integers
from cwmp.kernels.threads import in_parallel, threads_for
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.burst_costs import BurstCosts, BurstPrice
from cwmp.selectors.burst_offers import Offer, offer_of, relaxed_bound
from cwmp.selectors.burst_rounding import kept_within, spendable
from cwmp.selectors.prefix import unaffordable
from cwmp.selectors.updates import AnyUpdate, as_array, check_names, check_shape, check_values

_SMALL = 2**17
_SAMPLE = 2**11
_LEAST_SAMPLE = 64
_LOWER, _HALF = 0.85, 0.5
_CLEAR = 1 + 1e-9  # of rounding, where a burst just opens
_PART = 2**20


class BurstWeighted:
    """Keep what captures most g^2 where touching a burst has a price; zeros are not sent.

    Of a burst the best j entries are its j largest, so it offers a lump, the j* entries of the
    largest gain a joule (burst included), and then single entries. A layer offers the first o of
    all its bursts' items by falling gain a joule, o = 0, 1, ..., and pays for being opened; one of
    those options is chosen for each layer (`cwmp.kernels.choice`). What is left then buys whatever
    gains most.

    *Bound.* For any price lambda >= 0 a selection that keeps k_b entries of burst b within B has::

        captured <= captured + lambda (B - J)
                 <= lambda (B - A) + sum_l ( sum_b v_b(lambda) - lambda a_l )+
        v_b(lambda) = ( sum_i (g_i^2 - lambda c_l)+ - lambda t_l )+

    since within a touched burst g_i^2 - lambda c_l adds to the sum only where it is positive, an
    untouched one adds nothing, and the same holds for layers one level up. v_b is convex and
    piecewise linear in lambda, and 0 from the break-even price max_j G_b(j) / (t_l + c_l j) on; its
    slopes are the joules of the items bought, so that the sum over bursts is the conjugate of the
    items taken in order. Minimised over lambda this is the linear relaxation over the layers'
    options, which is `Selection.bound`; a layer's options beyond the whole budget are cut off
    there, which only lowers it. Without opening costs the greedy order alone is short of it by
    less than one item's gain.

    A pass over the entries, a second where a sample misled it, finds the bursts that open just
    below the price of energy; only those are ranked.

    Args:
        costs: the prices, by burst.
        threads: of a pass; ``None`` for as many as pay. The selection does not depend on it.

    >>> import numpy as np
    >>> from cwmp.selectors.burst_costs import BurstPrice
    >>> costs = BurstCosts((BurstPrice("w", (8,), 0.0, 2.0, 0.5, burst_entries=4),))
    >>> update = {"w": np.array([2, 2, 2, 2, 3, 0, 0, 0], dtype=np.float32)}
    >>> selection = BurstWeighted(costs).select(update, budget_j=4.0)
    >>> selection.layers[0].indices.tolist(), selection.captured, round(selection.certificate, 9)
    ([0, 1, 2, 3], 16.0, 1.0)
    """

    name = "bursts"

    def __init__(self, costs: BurstCosts, *, threads: int | None = None) -> None:
        self.costs = costs
        self.threads = threads

    def __repr__(self) -> str:
        return f"BurstWeighted(threads={self.threads})"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used.

        g^2 is taken in float64, where that of a float64 entry below 1e-154 counts as zero.
        """
        originals = _arrays(update, self.costs)
        self.costs.check_budget(budget_j)
        spendable_j = spendable(budget_j, self.costs)
        values = [_readable(array) for array in originals]
        guess = self._guess(values, spendable_j)
        for least in (guess, _HALF * guess, 0.0):
            found, totals = self._open(values, least)
            offers = [
                offer_of(one, price, bursts, least)
                for one, price, bursts in zip(values, self.costs.layers, found, strict=True)
            ]
            bound, price = relaxed_bound(offers, spendable_j)
            if price >= least * _CLEAR:
                break
        kept = kept_within(offers, self.costs, budget_j)
        return self._selection(originals, offers, kept, budget_j, bound, price, sum(totals))

    def _guess(self, values: list[NDArray[Any]], spendable_j: float) -> float:
        """A price somewhat below the one sought, from a sample of bursts; 0 for small updates."""
        entries = sum(one.size for one in values)
        if entries <= _SMALL:
            return 0.0
        numbers = np.random.default_rng(0)
        offers = []
        for one, price in zip(values, self.costs.layers, strict=True):
            count = min(price.bursts, max(_LEAST_SAMPLE, _SAMPLE * one.size // entries))
            places = (np.arange(count) + numbers.random(count)) * (price.bursts / count)
            bursts = np.minimum(places.astype(np.int64), price.bursts - 1)
            offers.append(offer_of(one, price, bursts, 0.0, price.bursts / count))
        return _LOWER * relaxed_bound(offers, spendable_j)[1]

    def _open(self, values: list[NDArray[Any]], price: float) -> tuple[list[Integers], list[float]]:
        """The bursts of each layer that open at *price*, and each layer's sum of g^2."""
        parts = []
        for number, layer in enumerate(self.costs.layers):
            step = max(1, _PART // layer.burst_entries) * layer.burst_entries
            parts += [(number, start, step) for start in range(0, values[number].size, step)]
        threads = threads_for(sum(one.size for one in values), self.threads)

        def work(thread: int) -> list[tuple[Integers, float]]:
            return [
                _open_part(values[number][start : start + step], self.costs.layers[number], price)
                for number, start, step in parts[thread::threads]
            ]

        done = in_parallel([partial(work, thread) for thread in range(threads)])
        opened: list[list[Integers]] = [[] for _ in values]
        totals = [0.0] * len(values)
        for place, (number, start, _) in enumerate(parts):
            bursts, total = done[place % threads][place // threads]
            opened[number].append(bursts + start // self.costs.layers[number].burst_entries)
            totals[number] += total
        for layer, one, total in zip(self.costs.layers, values, totals, strict=True):
            if not np.isfinite(total):
                check_values(layer.name, one)
        return [np.concatenate(one) for one in opened], totals

    def _selection(
        self,
        originals: list[NDArray[Any]],
        offers: list[Offer],
        kept: list[Integers],
        budget_j: float,
        bound: float,
        price: float,
        total: float,
    ) -> Selection:
        layers, captured, entries = [], 0.0, []
        for layer, original, offer, counts in zip(
            self.costs.layers, originals, offers, kept, strict=True
        ):
            indices = kept_entries(offer.order, counts)
            entries.append(indices.size)
            if indices.size:
                captured += offer.captured(counts)
                chosen = original.reshape(-1)[indices]
                layers.append(
                    LayerSelection(layer.name, layer.shape, indices.astype(np.int32), chosen)
                )
        if not layers and total > 0:
            raise unaffordable(budget_j)
        bursts = [int(np.count_nonzero(counts)) for counts in kept]
        return Selection(
            layers=tuple(layers),
            energy_j=self.costs.energy_j(bursts, entries),
            budget_j=budget_j,
            captured=captured,
            total=total,
            bound=max(bound, captured),
            price=price,
        )


def _open_part(values: NDArray[Any], layer: BurstPrice, price: float) -> tuple[Integers, float]:
    """The bursts that open in a part of a layer, and its sum of g^2."""
    kind = values.dtype.type
    entry, lump = price * layer.entry_j, price * layer.burst_j
    # The largest entry of an open burst of s has g^2 > lambda (c + t / s); rounding given away.
    least = np.sqrt(entry + lump / layer.burst_entries) * (1 - 1e-6)
    bits = values.view(np.int32 if kind is np.float32 else np.int64)
    least_bits = max(1, int(np.array(least, dtype=kind).view(bits.dtype)))
    opened = np.empty(-(-values.size // layer.burst_entries), dtype=np.int64)
    count, total, largest = open_bursts(
        values, bits, layer.burst_entries, (entry, lump), least_bits, opened
    )
    infinite = int(np.array(np.inf, dtype=kind).view(bits.dtype))
    return opened[:count].copy(), np.inf if largest >= infinite else total


def _arrays(update: AnyUpdate, costs: BurstCosts) -> list[NDArray[Any]]:
    """The layers of *update*, checked but for what they hold."""
    check_names(update, [layer.name for layer in costs.layers])
    arrays = []
    for layer in costs.layers:
        array = as_array(layer.name, update[layer.name])
        check_shape(layer.name, array.shape, layer.shape)
        if not array.size:
            check_values(layer.name, array)
        arrays.append(array)
    return arrays


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    """*array* flat, contiguous, and float32 unless it is float64."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.astype(np.float32) if flat.dtype == np.float16 else flat
