"""Selection by whole blocks: rows, channels, tiles, groups, and N of every M entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from costmodels.costfile import CostFile
from cwmp.kernels.choice import choose
from cwmp.kernels.menus import edges_of, relaxed
from cwmp.kernels.reference import Floats, Integers
from cwmp.selection import Selection
from cwmp.selectors.block_shapes import OUTSIDE, Blocks, Groups
from cwmp.selectors.burst_offers import menus_of
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.fit import prepared, selection_of
from cwmp.selectors.prefix import unaffordable
from cwmp.selectors.updates import AnyUpdate, FlatUpdate, read_update

Booleans = NDArray[np.bool_]

_ULPS = 4 * float(np.finfo(np.float64).eps)
_TRIES = 256


class BlockWeighted:
    """Keep the blocks that capture most g^2 for their joules; all of a block or nothing.

    Declared joules are those of the kept entries, E_l(k) as for every selector, zeros within
    kept blocks included. The index code of the payload names runs, so that whole blocks take fewer
    bytes than declared, never more: `cwmp.selectors.refined.Refined` spends what is left.

    A layer offers its blocks by falling gain an entry: with k entries in the first j of them it
    captures G_j for E_l(k). One of those options is chosen for each layer, nearly the best
    (`cwmp.kernels.choice`), and smaller blocks that still fit are added.

    *Bound.* Blocks of one size (N:M included): what j blocks cost does not depend on which, so the
    j of largest gain are the best j, every selection is dominated by a choice of one option a
    layer, and the linear relaxation of that choice bounds it. Blocks of several sizes: k entries
    in whole blocks capture at most the fractional knapsack of the blocks filled to k, which is G
    interpolated between the options; with one option for each whole k the relaxation bounds again.

    Args:
        costs: a cost file or prepared costs.
        blocks: of all layers, or layer name -> blocks; layers that are not named keep single
            entries.

    >>> from cwmp.selectors.block_shapes import Channels
    >>> costs = SelectionCosts.linear({"a": (3, 2)}, {"a": 1.0})
    >>> update = {"a": np.array([[3.0, 0.1], [2.0, 2.5], [0.5, 0.5]])}
    >>> BlockWeighted(costs, Channels(0)).select(update, budget_j=3.0).layers[0].indices.tolist()
    [2, 3]
    """

    name = "blocks"

    def __init__(
        self, costs: CostFile | SelectionCosts, blocks: Blocks | Mapping[str, Blocks]
    ) -> None:
        self.blocks = blocks
        self.costs = prepared(costs)
        prices = [
            layer if self._blocks_of(layer.name).allows_dense else replace(layer, dense_j=None)
            for layer in self.costs.layers
        ]
        self._priced = replace(self.costs, layers=tuple(prices))

    def __repr__(self) -> str:
        return f"BlockWeighted(blocks={self.blocks!r})"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used.

        Raises:
            BudgetError: no block fits, on top of what every selector raises.
            InputError: a layer has no blocks of the kind asked for.
        """
        flat = read_update(update, self.costs)
        self.costs.check_budget(budget_j)
        layers = []
        for number, price in enumerate(self._priced.layers):
            own = slice(int(flat.starts[number]), int(flat.starts[number + 1]))
            labels = self._blocks_of(price.name).labels(price.shape, flat.magnitudes[own])
            layers.append(_blocked(price, labels, np.square(flat.magnitudes[own])))
        spendable_j = budget_j - self.costs.message_j
        bound, price_of = _bound(layers, spendable_j + _ULPS * budget_j)
        kept = self._kept(layers, budget_j)
        self._fill(layers, kept, budget_j)
        return self._selection(flat, layers, kept, budget_j, bound, price_of)

    def _kept(self, layers: list[_Blocked], budget_j: float) -> list[Booleans]:
        """Which of each layer's blocks are kept, of their order."""
        spendable_j = budget_j - self.costs.message_j
        menus = menus_of([(layer.joules, layer.gains) for layer in layers])
        for limit_j in (spendable_j + _ULPS * budget_j, spendable_j * (1 - _ULPS)):
            chosen = choose(menus, limit_j) - menus.offsets[:-1]
            kept = [np.arange(x.order.size) < k for x, k in zip(layers, chosen, strict=True)]
            if self._priced.energy_j(_counts(layers, kept)) <= budget_j:
                return kept
        return [np.zeros(layer.order.size, dtype=bool) for layer in layers]

    def _blocks_of(self, name: str) -> Blocks:
        if isinstance(self.blocks, Mapping):
            return self.blocks.get(name, Groups(1))
        return self.blocks

    def _fill(self, layers: list[_Blocked], kept: list[Booleans], budget_j: float) -> None:
        """Add blocks that still fit, those of the most g^2 an entry first; changes *kept*."""
        counts = _counts(layers, kept)
        for number, (layer, own) in enumerate(zip(layers, kept, strict=True)):
            price = self._priced.layers[number]
            while price.form(counts[number]) == "sparse":
                left_j = budget_j - (self._priced.energy_j(counts) or self.costs.message_j)
                rest = np.flatnonzero(~own)[:_TRIES]
                more_j = price.energy_j(counts[number] + layer.sizes[rest])
                fits = rest[more_j - price.energy_j(counts[number]) <= left_j]
                if not fits.size:
                    break
                own[fits[0]] = True
                counts = _counts(layers, kept)
                if self._priced.energy_j(counts) > budget_j:  # by a rounding
                    own[fits[0]] = False
                    counts = _counts(layers, kept)
                    break

    def _selection(
        self,
        flat: FlatUpdate,
        layers: list[_Blocked],
        kept: list[Booleans],
        budget_j: float,
        bound: float,
        price: float,
    ) -> Selection:
        entries = []
        for start, layer, own in zip(flat.starts, layers, kept, strict=False):
            chosen = np.zeros(layer.blocks + 1, dtype=bool)  # the last is OUTSIDE
            chosen[layer.order[own]] = True
            entries.append(start + np.flatnonzero(chosen[layer.labels]))
        every = np.concatenate(entries)
        if not every.size and flat.total > 0:
            raise unaffordable(budget_j)
        return selection_of(every, flat, self._priced, budget_j, bound=bound, price=price)


@dataclass(frozen=True)
class _Blocked:
    """A layer's blocks that hold anything, by falling gain an entry.

    Attributes:
        labels: each entry's block; shape (n,).
        blocks: how many there are.
        order, sizes: their labels and entries; shape (J,).
        joules, gains: of the first j of them, j = 0..J; all of the layer where dense is cheaper.
        bound: joules and gains of a relaxation.
    """

    labels: Integers
    blocks: int
    order: Integers
    sizes: Integers
    joules: Floats
    gains: Floats
    bound: tuple[Floats, Floats]


def _blocked(price: LayerPrice, labels: Integers, squares: Floats) -> _Blocked:
    blocks = int(labels.max(initial=OUTSIDE)) + 1
    inside = labels != OUTSIDE
    gain = np.bincount(labels[inside], weights=squares[inside], minlength=blocks)
    size = np.bincount(labels[inside], minlength=blocks)
    rank = np.argsort(-gain / np.maximum(size, 1), kind="stable")
    order = rank[gain[rank] > 0]
    counts = np.concatenate(([0], np.cumsum(size[order])))
    gains = np.concatenate(([0.0], np.cumsum(gain[order])))
    total = float(gain.sum())
    options = _options(price, counts, gains, total)
    bound = options
    if np.unique(size[order]).size > 1:
        every = np.arange(counts[-1] + 1)
        bound = _options(price, every, np.interp(every, counts, gains), total)
    return _Blocked(labels, blocks, order, size[order], *options, bound)


def _options(
    price: LayerPrice, counts: Integers, gains: Floats, total: float
) -> tuple[Floats, Floats]:
    sparse_j, dense_j = price.form_j(counts, "sparse"), price.form_j(counts, "dense")
    return np.minimum(sparse_j, dense_j), np.where(dense_j < sparse_j, total, gains)


def _bound(layers: list[_Blocked], spendable_j: float) -> tuple[float, float]:
    edges = edges_of(menus_of([layer.bound for layer in layers]), spendable_j, False)
    bound, price, _ = relaxed(edges, spendable_j)
    entries = sum(layer.labels.size for layer in layers)
    return bound * (1 + entries * float(np.finfo(np.float64).eps)), price


def _counts(layers: list[_Blocked], kept: list[Booleans]) -> list[int]:
    return [int(layer.sizes[own].sum()) for layer, own in zip(layers, kept, strict=True)]
