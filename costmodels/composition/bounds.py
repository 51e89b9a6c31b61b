"""Sums of estimates: what composing cost files does to values, intervals and origins.

Limits are added like values, low to low and high to high. That is exact where all errors move
together, as the parts of one device, meter or link do, and too wide where they do not: never too
narrow for that reason. It is what the ledger of a run does as well.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from costmodels.costfile import Estimate, OperationCost, Origin, Piece

_STRONGEST_FIRST: tuple[Origin, ...] = ("measured", "modelled", "assumed")


def weakest(origins: Iterable[Origin]) -> Origin:
    """The origin of what is made of parts of these origins."""
    return max(origins, key=_STRONGEST_FIRST.index)


def weighted_sum(parts: Sequence[tuple[float, Estimate | None]]) -> Estimate | None:
    """``sum w e`` over estimates; ``None`` (no cost of this sort) adds nothing.

    It is below detection only where every part is: then the limits add up too.

    Returns:
        The sum, or ``None`` where every part is ``None``.
    """
    found = [(weight, estimate) for weight, estimate in parts if estimate is not None]
    if not found:
        return None
    low, value, high = (
        sum(weight * number for weight, number in numbers)
        for numbers in (
            [(w, e.low) for w, e in found],
            [(w, e.value) for w, e in found],
            [(w, e.high) for w, e in found],
        )
    )
    below = all(estimate.below_detection for _, estimate in found)
    limit = sum(weight * (e.upper_limit or e.high) for weight, e in found) if below else None
    return Estimate(value=value, low=low, high=high, below_detection=below, upper_limit=limit)


def piece_at(cost: OperationCost, k: int) -> Piece:
    """The piece of *cost* that holds at *k*."""
    return cost.pieces[bisect_right(cost.pieces, k, key=lambda piece: piece.from_k) - 1]


def energy_at(cost: OperationCost, k: int) -> Estimate:
    """E(k) with the interval that its a and c allow; k is at least 1."""
    piece = piece_at(cost, k)
    whole = weighted_sum([(1.0, piece.a_j), (float(k), piece.c_j)])
    if whole is None:  # a piece always has a slope
        raise ValueError("a piece without a slope")
    return whole


def mean_pieces(parts: Sequence[tuple[float, OperationCost]]) -> tuple[Piece, ...]:
    """The pieces of ``sum w E(k)``: exact, since each break point of a part becomes one."""
    starts = sorted({piece.from_k for _, cost in parts for piece in cost.pieces})
    pieces = []
    for start in starts:
        active = [(weight, piece_at(cost, start)) for weight, cost in parts]
        slope = weighted_sum([(weight, piece.c_j) for weight, piece in active])
        fixed = weighted_sum([(weight, piece.a_j) for weight, piece in active])
        pieces.append(Piece.model_validate({"from_k": start, "a_j": fixed, "c_j": slope}))
    return tuple(pieces)
