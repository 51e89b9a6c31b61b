"""An update on a GPU: laid out in rows, reduced to its candidates, and to what a cut keeps.

All of it is queued without waiting for the device; `to_host` is the one function that waits.
The code is torch's own operations and runs on any device of torch's, the CPU among them; on a
GPU with Triton the two passes over the update are `cwmp.kernels.cuda_rows`'s.

Magnitudes are compared as `cwmp.kernels.simd` does, as the bits of float32 with the sign
cleared, in int32. Positions are of entries in the buffer that `Layout.lay_out` fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cwmp.kernels.magnitudes import Floats
from cwmp.kernels.scan import Floats32, Integers

if TYPE_CHECKING:
    from torch import Tensor, device

ROW = 4096
"""Entries of a row; every layer starts one and the last is filled up with zeros."""
BLOCK = 1024
"""Kept entries of which a sum of g^2 is one number."""

_SLAB = 2**11
_MAGNITUDE = 0x7FFFFFFF


class Layout:
    """Where L layers lie in one buffer of R rows on a device.

    Attributes:
        starts: a layer's first position; on the host; shape (L,).
        row_starts: a layer's first row, and R; on the host; shape (L + 1,).
        entries: positions in all, R * ROW.
        first, last_row, row_layer: each layer's first position and last row (L,), each row's
            layer (R,); on the device.
    """

    def __init__(self, sizes: Sequence[int], where: device) -> None:
        import torch

        rows = [-(-size // ROW) for size in sizes]
        self.sizes = tuple(sizes)
        self.device = where
        self.row_starts = np.concatenate(([0], np.cumsum(rows, dtype=np.int64)))
        self.starts = self.row_starts[:-1] * ROW
        self.entries = int(self.row_starts[-1]) * ROW
        self.first = torch.from_numpy(self.starts).to(where)
        layers = np.repeat(np.arange(len(rows), dtype=np.int64), rows)
        self.row_layer = torch.from_numpy(layers).to(where)
        self.last_row = torch.from_numpy(self.row_starts[1:] - 1).to(where)

    def lay_out(self, layers: Sequence[Tensor]) -> Tensor:
        """*layers* as float32, one after another; shape (R, ROW). A copy, but of a single layer
        of float32 and whole rows."""
        import torch

        kinds = {layer.dtype for layer in layers}
        kind = kinds.pop() if len(kinds) == 1 else torch.float32
        zeros = torch.zeros(ROW, dtype=kind, device=self.device)
        parts = []
        for layer, size in zip(layers, self.sizes, strict=True):
            parts.append(layer.reshape(-1).to(kind))
            if size % ROW:
                parts.append(zeros[: ROW - size % ROW])
        flat = parts[0] if len(parts) == 1 else torch.cat(parts)
        return flat.float().view(-1, ROW)


class Gathered(NamedTuple):
    """Candidates on the device, in order; what lies past their number has no meaning.

    Attributes:
        position: in the buffer; shape (capacity,).
        value: float32; shape (capacity,).
        ends: where each layer's end; shape (L,); right only where they all found room.
        number: how many there are, room or not; shape (1,).
    """

    position: Tensor
    value: Tensor
    ends: Tensor
    number: Tensor


class RowSums(NamedTuple):
    """Of each row the sum of g^2 in float64, and the bits of the largest magnitude; (R,)."""

    squares: Tensor
    largest: Tensor


class Pairs(NamedTuple):
    """Kept entries on the device.

    Attributes:
        index: positions in their layers, ascending within each; int32; shape (K,).
        value: float32; shape (K,).
        squares: sum of g^2 of each `BLOCK` of them; float64; shape (ceil(K / BLOCK),).
    """

    index: Tensor
    value: Tensor
    squares: Tensor


def to_host(parts: Sequence[Tensor]) -> list[Tensor]:
    """*parts*, flat, on the CPU: one copy, and the only wait for the device.

    What comes from a GPU shares one pinned buffer.
    """
    import torch

    order = sorted(range(len(parts)), key=lambda number: -parts[number].element_size())
    together = torch.cat([parts[number].reshape(-1).view(torch.uint8) for number in order])
    if together.is_cuda:
        pinned = torch.empty(together.shape, dtype=torch.uint8, pin_memory=True)
        pinned.copy_(together, non_blocking=True)
        torch.cuda.current_stream(together.device).synchronize()
        together = pinned
    here: dict[int, Tensor] = {}
    place = 0
    for number in order:  # the widest first, so that each is aligned
        size = parts[number].numel() * parts[number].element_size()
        here[number] = together[place : place + size].view(parts[number].dtype)
        place += size
    return [here[number] for number in range(len(parts))]


def on_device(numbers: np.ndarray, like: Tensor) -> Tensor:  # type: ignore[type-arg]
    """A small array beside *like*, without waiting."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(numbers)).to(like.device, non_blocking=True)


def first_true(mask: Tensor, size: int, fill: int) -> Tensor:
    """Positions of the first *size* true ones, then *fill*; shape (size,); never waits."""
    import torch

    try:
        return torch.nonzero_static(mask, size=size, fill_value=fill).view(-1)
    except NotImplementedError:  # CUDA before torch 2.7
        return _searched(mask, size, fill)


def _searched(mask: Tensor, size: int, fill: int) -> Tensor:
    """`first_true` by a running count, four bytes an entry."""
    import torch

    count = torch.cumsum(mask, 0, dtype=torch.int32)
    rank = torch.arange(1, size + 1, dtype=torch.int32, device=mask.device)
    place = torch.searchsorted(count, rank)
    return place.masked_fill_(place == mask.numel(), fill)


def collect(rows: Tensor, layout: Layout, low: Tensor, capacity: int) -> tuple[Gathered, RowSums]:
    """Read everything; keep what reaches its layer's *low*, as far as there is room.

    Args:
        rows: what `Layout.lay_out` made; shape (R, ROW).
        low: |g| bits as int32, 1 or more; shape (L,).
        capacity: how many candidates there is room for, 1 or more.
    """
    import torch

    row_low = low[layout.row_layer]
    kernels = row_kernels(rows.device.type)
    if kernels is not None:
        counts, squares, largest = kernels.measure(rows, row_low)
        ends = torch.cumsum(counts, 0)
        position, value = kernels.compact(rows, row_low, ends - counts, capacity)
        ends = ends[layout.last_row]
        return Gathered(position, value, ends, ends[-1:]), RowSums(squares, largest)
    mask = torch.empty(rows.shape, dtype=torch.bool, device=rows.device)
    largest = torch.empty(rows.shape[0], dtype=torch.int32, device=rows.device)
    for first in range(0, rows.shape[0], _SLAB):  # slabs, so that bits take little memory
        slab = slice(first, first + _SLAB)
        bits = rows[slab].view(torch.int32) & _MAGNITUDE
        torch.ge(bits, row_low[slab, None], out=mask[slab])
        torch.amax(bits, 1, out=largest[slab])
    squares = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()
    position = first_true(mask.view(-1), capacity, layout.entries)
    value = rows.view(-1)[position.clamp(max=layout.entries - 1)]
    number = mask.sum().view(1)
    ends = torch.cat((torch.searchsorted(position, layout.first[1:]), number))
    return Gathered(position, value, ends, number), RowSums(squares, largest)


def below(found: Gathered, layout: Layout, high: Tensor, capacity: int) -> Gathered:
    """Those of *found* with |g| bits under their layer's *high*, as far as there is room."""
    import torch

    room = found.position.numel()
    layer = _layers(found, layout)
    wanted = (found.position < layout.entries) & (magnitude_bits(found.value) < high[layer])
    slot = first_true(wanted, capacity, room)
    ends = torch.searchsorted(slot, found.ends)
    slot = slot.clamp(max=room - 1)
    return Gathered(found.position[slot], found.value[slot], ends, wanted.sum().view(1))


def keep(found: Gathered, layout: Layout, low: Tensor, limit: Tensor, kept: int) -> Pairs:
    """Those of *found* that a cut keeps, which are *kept* > 0 entries.

    Args:
        low, limit: `cwmp.kernels.crossing.Cut.low` as int32, and its `tie_limit`; shape (L,).
    """
    import torch

    layer = _layers(found, layout)
    bits, least = magnitude_bits(found.value), low[layer]
    index = found.position - layout.first[layer]
    tied = (bits + 1 == least) & (index < limit[layer])
    wanted = ((bits >= least) | tied) & (found.position < layout.entries)
    slot = first_true(wanted, kept, 0)
    value = found.value[slot]
    blocks = torch.nn.functional.pad(value, (0, -kept % BLOCK)).view(-1, BLOCK)
    squares = torch.linalg.vector_norm(blocks, dim=1, dtype=torch.float64).square()
    return Pairs(index[slot].to(torch.int32), value, squares)


def pairs(found: Gathered, layout: Layout) -> tuple[Tensor, Tensor]:
    """Positions in their layers (int32) and values of *found*."""
    import torch

    index = found.position - layout.first[_layers(found, layout)]
    return index.to(torch.int32), found.value


def magnitude_bits(value: Tensor) -> Tensor:
    """|g| of float32 as int32."""
    import torch

    return value.view(torch.int32) & _MAGNITUDE


def layer_squares(blocks: Floats, value: Floats32, ends: Integers) -> Floats:
    """Sum of g^2 of each layer's kept entries from sums of blocks; shape (L,).

    Args:
        blocks: `Pairs.squares`, on the host.
        value: `Pairs.value`, on the host, for the blocks that layers share.
        ends: where each layer's entries end, and 0 before; shape (L + 1,).
    """
    sums = np.zeros(ends.size - 1)
    for layer, (begin, end) in enumerate(pairwise(ends.tolist())):
        first, last = -(-begin // BLOCK), end // BLOCK
        if first >= last:
            sums[layer] = _sum_of_squares(value[begin:end])
            continue
        edges = value[begin : first * BLOCK], value[last * BLOCK : end]
        sums[layer] = blocks[first:last].sum() + sum(map(_sum_of_squares, edges))
    return sums


def _sum_of_squares(value: Floats32) -> float:
    return float(np.square(value, dtype=np.float64).sum())


def _layers(found: Gathered, layout: Layout) -> Tensor:
    """The layer of each candidate; some layer where there is none."""
    rows = layout.row_layer.numel()
    return layout.row_layer[(found.position // ROW).clamp(max=rows - 1)]


@cache
def row_kernels(kind: str) -> Any:
    """`cwmp.kernels.cuda_rows`; ``None`` where a device of this *kind* or Triton is missing."""
    if kind != "cuda":
        return None
    try:
        from cwmp.kernels import cuda_rows
    except ImportError:
        return None
    return cuda_rows
