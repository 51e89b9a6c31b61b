"""Where a budget ends, guessed on a GPU from a sample of an update, without waiting for it.

As `cwmp.kernels.sample`, in operations on whole tensors: prefixes of the sample's falling scores,
of lengths on a fixed grid, are priced all at once; the first that is too dear is where the
budget ends, give or take what lines of entries deviate. Nothing that is selected depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cwmp.kernels.cuda import Layout, magnitude_bits
from cwmp.kernels.energy import EnergyTable
from cwmp.kernels.sample import Lines, scale_of
from cwmp.kernels.scan import Integers
from cwmp.kernels.simd import INFINITY_BITS, LANES

if TYPE_CHECKING:
    from torch import Tensor, device

_MOST_LINES = 2**13
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
    """Which entries of a layout are sampled, and the grid of prefixes; on the device."""

    def __init__(self, lines: Lines, layout: Layout, table: EnergyTable) -> None:
        import torch

        count = min(_MOST_LINES, lines.layer.size)
        layer = lines.layer[:count]
        place = (layout.starts[layer] + lines.start[:count]) // LANES
        grid = _grid(count * LANES)
        bucket = np.searchsorted(grid, np.arange(count * LANES), side="right")
        scale = scale_of(lines, count, table.parameters)

        def there(numbers: np.ndarray) -> Tensor:  # type: ignore[type-arg]
            return torch.from_numpy(numbers).to(layout.device)

        self.place, self.layer = there(place), there(layer)
        self.grid, self.bucket = there(grid), there(bucket)
        self.scale = there(scale)

    def guess(self, rows: Tensor, charges: Charges, weights: Tensor, budget_j: float) -> Guess:
        """The interval of falling |g| / w_l in which *budget_j* is spent.

        Args:
            rows: what `Layout.lay_out` made.
            weights: w_l, infinite for closed layers; float64; shape (L,).
        """
        import torch

        sample = rows.view(-1, LANES)[self.place].abs().double()
        score = torch.nan_to_num(sample / weights[self.layer, None], nan=0.0, posinf=0.0)
        falling, order = torch.sort(score.view(-1), descending=True)
        hits = self._hits(order, falling)
        here = self._end(charges, hits, budget_j)
        middle = falling[(self.grid[here] - 1).clamp(min=0)]
        spread = 1 + _DEVIATIONS * self._deviation(score, middle, weights)
        inner = self.grid[self._end(charges, hits * spread, budget_j)] - _SLACK
        outer = self._end(charges, hits / spread, budget_j) + 1
        last = self.grid.numel() - 1
        after = (self.grid[outer.clamp(max=last)] + _SLACK).clamp(max=falling.numel() - 1)
        low = torch.where(outer > last, 0.0, falling[after])
        infinity = torch.full_like(low, torch.inf)
        high = torch.nextafter(falling[(inner - 1).clamp(min=0)], infinity)
        high = torch.where((inner > 0) & (high > low), high, infinity)
        return Guess(torch.cat((low, high)), thresholds(low, weights), thresholds(high, weights))

    def _hits(self, order: Tensor, falling: Tensor) -> Tensor:
        """Entries of each layer that each prefix of the grid stands for; shape (T, L)."""
        import torch

        prefixes, layers = self.grid.numel(), self.scale.numel()
        cell = self.bucket * layers + self.layer[order // LANES]
        hits = torch.zeros(prefixes * layers, dtype=torch.float64, device=order.device)
        hits.index_add_(0, cell, (falling > 0).double())  # whole numbers: exact in any order
        return hits.view(prefixes, layers).cumsum(0) * self.scale

    def _end(self, charges: Charges, hits: Tensor, budget_j: float) -> Tensor:
        """The number of the last prefix that can be paid; shape (1,), since an index of shape ()
        would be read by the host."""
        import torch

        counts = torch.minimum(torch.floor(hits), charges.entries)
        return ((charges.energy(counts) <= budget_j).sum() - 1).clamp(min=0).view(1)

    def _deviation(self, score: Tensor, middle: Tensor, weights: Tensor) -> Tensor:
        """Relative standard deviation of the joules of what scores *middle*, line by line."""
        import torch

        joules = torch.where(torch.isfinite(weights), weights.square() * self.scale, 0.0)
        load = ((score >= middle) & (score > 0)).sum(1) * joules[self.layer]
        drawn = torch.where(self.scale > 1, 1.0, 0.0)[self.layer]
        return (load * drawn).square().sum().sqrt() / load.sum().clamp(min=1e-300)


def thresholds(score: Tensor, weights: Tensor) -> Tensor:
    """`cwmp.kernels.magnitudes.threshold_bits` on a device: int32; shape (L,).

    Of the five float32 around score * w_l the least whose quotient reaches *score*, which has
    shape (1,).
    """
    import torch

    target = (score * weights).clamp(max=float(np.finfo(np.float32).max)).float()
    near = torch.arange(-2, 3, dtype=torch.int32, device=weights.device)
    bits = (magnitude_bits(target)[:, None] + near).clamp(1, INFINITY_BITS)
    reaches = bits.view(torch.float32).double() / weights[:, None] >= score
    least = torch.where(reaches, bits, INFINITY_BITS).amin(1)
    return torch.where(torch.isfinite(weights), least, _CLOSED)


def _grid(entries: int) -> Integers:
    """Lengths of prefixes: each up to 64, then 2 % apart, to *entries*."""
    steps = int(np.log(max(entries / _EVERY, 1)) / np.log(_RATIO)) + 1
    spaced = (_EVERY * _RATIO ** np.arange(steps + 1)).astype(np.int64)
    grid = np.concatenate((np.arange(_EVERY), spaced))
    return np.unique(np.append(np.minimum(grid, entries), entries))
