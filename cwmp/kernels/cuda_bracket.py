"""Where a budget ends, guessed on a GPU from a sample of an update, without waiting for it.

As `cwmp.kernels.sample`, in operations on whole tensors: prefixes of the sample's falling scores,
of lengths on a fixed grid, are priced all at once; the first that is too dear is where the
budget ends, give or take what a sample deviates. Nothing that is selected depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cwmp.kernels.cuda import Layout, magnitude_bits
from cwmp.kernels.energy import EnergyTable
from cwmp.kernels.scan import Integers
from cwmp.kernels.simd import INFINITY_BITS

if TYPE_CHECKING:
    from torch import Tensor, device

_MOST_ENTRIES = 2**17
_LEAST_ENTRIES = 32
_SEED = 20260322
_DEVIATIONS = 4.5
_SLACK = 24
_EVERY, _RATIO = 64, 1.02
_CLOSED = 0x7FFFFFFF


class Guess(NamedTuple):
    """Scores between which the budget ends, most probably; all on the device.

    Attributes:
        scores: low and high; float64; shape (2,).
        low, high: their thresholds as |g| bits; int32; shape (L,).
    """

    scores: Tensor
    low: Tensor
    high: Tensor


class Charges:
    """E_l(k) on a device, near enough for a guess: many counts at a time."""

    def __init__(self, table: EnergyTable, message_j: float, where: device) -> None:
        import torch

        pieces = np.diff(table.piece_offsets)
        column = np.minimum(np.arange(pieces.max()), pieces[:, None] - 1)
        chosen = table.piece_offsets[:-1, None] + column

        def there(numbers: np.ndarray) -> Tensor:  # type: ignore[type-arg]
            return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float64)).to(where)

        self.message_j = message_j
        starts = np.where(column == np.arange(pieces.max()), table.starts[chosen], np.inf)
        self.starts, self.fixed_j = there(starts), there(table.fixed_j[chosen])
        self.slope_j = there(table.slope_j[chosen])
        self.entries, self.byte_j = there(table.parameters), there(table.byte_j)
        self.header_bytes, self.value_bytes = there(table.header_bytes), there(table.value_bytes)
        whole = table.header_bytes + table.value_bytes * table.parameters
        self.dense_j = there(table.dense_j + table.byte_j * whole)
        free = not table.byte_j.any() and not table.fixed_j.any()
        self.is_linear = bool(free and pieces.max() == 1 and np.isinf(table.dense_j).all())

    def energy(self, counts: Tensor) -> Tensor:
        """Joules of messages of *counts* entries; (..., L) -> (...)."""
        import torch

        if self.is_linear:
            return counts @ self.slope_j[:, 0] + self.message_j * (counts > 0).any(-1)
        apply_j = self.fixed_j[:, 0] + self.slope_j[:, 0] * counts
        for piece in range(1, self.starts.shape[1]):
            later = self.fixed_j[:, piece] + self.slope_j[:, piece] * counts
            apply_j = torch.where(counts >= self.starts[:, piece], later, apply_j)
        left = self.entries - counts
        bits = torch.floor(torch.log2(left.clamp(min=0.5) / (2 * counts + 1))).clamp(min=-1) + 1
        coded = counts * (bits + 1) + torch.floor(left / torch.exp2(bits))
        index = torch.floor((torch.minimum(coded, self.entries) + 7) / 8)
        sent = self.header_bytes + self.value_bytes * counts + index
        layer_j = torch.minimum(apply_j + self.byte_j * sent, self.dense_j)
        some = counts > 0
        return torch.where(some, layer_j, 0.0).sum(-1) + self.message_j * some.any(-1)


class Sampler:
    """Which entries of a layout are sampled, and the grid of prefixes; on the device.

    Single entries, drawn evenly over each layer with a random place in each stretch: on a GPU
    they cost little more than lines would, and neighbours that are alike do no harm.
    """

    def __init__(self, layout: Layout) -> None:
        import torch

        layer, place = _drawn(layout)
        sizes = np.array(layout.sizes, dtype=np.float64)
        grid = _grid(place.size)
        bucket = np.searchsorted(grid, np.arange(place.size), side="right")
        scale = sizes / np.bincount(layer, minlength=sizes.size)

        def there(numbers: np.ndarray) -> Tensor:  # type: ignore[type-arg]
            return torch.from_numpy(numbers).to(layout.device)

        self.place, self.layer, self.scale = there(place), there(layer), there(scale)
        self.grid, self.bucket = there(grid), there(bucket)
        self.after = there(np.array([1, 0]))
        self.slack = there(np.array([_SLACK, -_SLACK - 1]))

    def guess(self, rows: Tensor, charges: Charges, weights: Tensor, budget_j: float) -> Guess:
        """The interval of falling |g| / w_l in which *budget_j* is spent.

        Args:
            rows: what `Layout.lay_out` made.
            weights: w_l, infinite for closed layers; float64; shape (L,).
        """
        import torch

        score = rows.view(-1)[self.place].abs().double() / weights[self.layer]
        falling, order = torch.sort(torch.nan_to_num(score, 0.0, 0.0), descending=True)
        hits = self._hits(order, falling)
        here = self._ends(charges, hits * self.scale, budget_j)
        spread = 1 + _DEVIATIONS * self._deviation(hits[here], weights)
        scaled = hits * self.scale
        ends = self._ends(charges, torch.stack((scaled / spread, scaled * spread)), budget_j)
        last = self.grid.numel() - 1
        ranks = self.grid[(ends + self.after).clamp(max=last)] + self.slack
        scores = falling[ranks.clamp(0, falling.numel() - 1)]
        low = torch.where(ends[0] == last, 0.0, scores[0])
        infinity = torch.full_like(low, torch.inf)
        high = torch.where(ranks[1] >= 0, torch.nextafter(scores[1], infinity), infinity)
        scores = torch.stack((low, torch.where(high > low, high, infinity)))
        return Guess(scores, *thresholds(scores, weights))

    def _hits(self, order: Tensor, falling: Tensor) -> Tensor:
        """Sampled entries of each layer in each prefix of the grid; shape (T, L)."""
        import torch

        prefixes, layers = self.grid.numel(), self.scale.numel()
        cell = self.bucket * layers + self.layer[order]
        hits = torch.zeros(prefixes * layers, dtype=torch.float64, device=order.device)
        hits.index_add_(0, cell, (falling > 0).double())  # whole numbers: exact in any order
        return hits.view(prefixes, layers).cumsum(0)

    def _ends(self, charges: Charges, hits: Tensor, budget_j: float) -> Tensor:
        """The number of the last prefix that can be paid; (..., T, L) -> (...), 1 at least.

        Never of shape (): such an index would be read by the host.
        """
        import torch

        counts = torch.minimum(torch.floor(hits), charges.entries)
        fits = (charges.energy(counts) <= budget_j).sum(-1) - 1
        return fits.clamp(min=0).view(-1)

    def _deviation(self, hits: Tensor, weights: Tensor) -> Tensor:
        """Relative standard deviation of the joules that *hits*, shape (1, L), stand for.

        An entry's joules are in proportion to the square of its layer's weight, which is exact
        for score g^2 / c. Layers that were read whole deviate by nothing.
        """
        import torch

        joules = torch.nan_to_num(weights.square() * self.scale, posinf=0.0)
        drawn = torch.where(self.scale > 1, joules, 0.0)
        return (hits @ drawn.square()).sqrt() / (hits @ joules).clamp(min=1e-300)


def thresholds(scores: Tensor, weights: Tensor) -> Tensor:
    """`cwmp.kernels.magnitudes.threshold_bits` of S scores on a device: int32; shape (S, L).

    Of the five float32 around score * w_l the least whose quotient reaches the score.
    """
    import torch

    score = scores.view(-1, 1, 1)
    target = (score * weights[:, None]).clamp(max=float(np.finfo(np.float32).max)).float()
    near = torch.arange(-2, 3, dtype=torch.int32, device=weights.device)
    bits = (magnitude_bits(target) + near).clamp(1, INFINITY_BITS)
    reaches = bits.view(torch.float32).double() / weights[:, None] >= score
    least = torch.where(reaches, bits, INFINITY_BITS).amin(-1)
    return torch.where(torch.isfinite(weights), least, _CLOSED)


def _drawn(layout: Layout) -> tuple[Integers, Integers]:
    """Layer and place in the buffer of each sampled entry."""
    generator = np.random.default_rng(_SEED)
    total = sum(layout.sizes)
    layers, places = [], []
    for layer, (size, start) in enumerate(zip(layout.sizes, layout.starts, strict=True)):
        count = min(size, max(_LEAST_ENTRIES, round(_MOST_ENTRIES * size / total)))
        phase = 0.0 if count == size else generator.random(count)
        place = ((np.arange(count) + phase) * (size / count)).astype(np.int64)
        layers.append(np.full(count, layer, dtype=np.int64))
        places.append(start + np.minimum(place, size - 1))
    return np.concatenate(layers), np.concatenate(places)


def _grid(entries: int) -> Integers:
    """Lengths of prefixes: each up to 64, then 2 % apart, to *entries*."""
    steps = int(np.log(max(entries / _EVERY, 1)) / np.log(_RATIO)) + 1
    spaced = (_EVERY * _RATIO ** np.arange(steps + 1)).astype(np.int64)
    grid = np.concatenate((np.arange(_EVERY), spaced))
    return np.unique(np.append(np.minimum(grid, entries), entries))
