"""The two passes over an update on a GPU as Triton kernels: count, then write.

A program reads one row. The first pass counts a row's candidates, adds up its squares and finds
its largest magnitude; with the running count known, the second writes each candidate where it
belongs, so that they come out in order whatever runs first. Importing this needs Triton.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from torch import Tensor


def measure(rows: Tensor, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row: candidates (int64), sum of g^2 (float64), largest |g| bits (int32); (R,).

    Args:
        rows: float32; shape (R, a power of two).
        low: each row's least |g| bits; int32; shape (R,).
    """
    import torch

    number, width = rows.shape
    counts = torch.empty(number, dtype=torch.int64, device=rows.device)
    squares = torch.empty(number, dtype=torch.float64, device=rows.device)
    largest = torch.empty(number, dtype=torch.int32, device=rows.device)
    _measure[(number,)](rows, low, counts, squares, largest, WIDTH=width)
    return counts, squares, largest


def compact(rows: Tensor, low: Tensor, starts: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    """The first *capacity* candidates: positions (int64; R * width past the last) and values.

    Args:
        starts: where each row's candidates go; int64; shape (R,).
    """
    import torch

    number, width = rows.shape
    position = torch.full((capacity,), number * width, dtype=torch.int64, device=rows.device)
    value = torch.zeros(capacity, dtype=torch.float32, device=rows.device)
    _compact[(number,)](rows, low, starts, position, value, capacity, WIDTH=width)
    return position, value


@triton.jit  # type: ignore[untyped-decorator]
def _measure(rows: Any, low: Any, counts: Any, squares: Any, largest: Any, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    value = tl.load(rows + row * WIDTH + tl.arange(0, WIDTH))
    bits = value.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    least = tl.load(low + row)
    wide = value.to(tl.float64)
    tl.store(counts + row, tl.sum((bits >= least).to(tl.int32), 0).to(tl.int64))
    tl.store(squares + row, tl.sum(wide * wide, 0))
    tl.store(largest + row, tl.max(bits, 0))


@triton.jit  # type: ignore[untyped-decorator]
def _compact(  # type: ignore[no-untyped-def]
    rows: Any,
    low: Any,
    starts: Any,
    position: Any,
    value: Any,
    capacity: Any,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, WIDTH)
    entry = tl.load(rows + row * WIDTH + lane)
    bits = entry.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    wanted = bits >= tl.load(low + row)
    slot = tl.load(starts + row) + tl.cumsum(wanted.to(tl.int32), 0) - 1
    wanted = wanted & (slot < capacity)
    tl.store(position + slot, row * WIDTH + lane, mask=wanted)
    tl.store(value + slot, entry, mask=wanted)
