"""Bursts of neighbouring entries: which of them open at a price, and what each then offers.

A burst is s consecutive entries of a layer (its last one may be shorter). Touching it costs t
joules, each kept entry c more. Its best j entries are its j largest; at a price lambda it is worth
v = sum of (g^2 - lambda c)+ - lambda t, and stays closed where that is not positive. So no sort is
needed to know what opens: one pass over the entries does it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.jit import compiled
from cwmp.kernels.reference import Floats, Integers

_CHUNK = 4096


class Items(NamedTuple):
    """What bursts offer, each burst's by falling density: first a lump, then single entries.

    The lump is its j largest entries with the largest (g^2 sum) / (t + c j), of equals the
    fewest; that ratio is the price below which the burst opens.

    Attributes:
        burst: number among the bursts given; shape (I,).
        entries: how many entries the item adds.
        gain: the g^2 they add.
        density: gain a joule, not rising within a burst.
    """

    burst: Integers
    entries: Integers
    gain: Floats
    density: Floats


@compiled
def open_bursts(
    values: NDArray[np.floating],
    bits: NDArray[Any],
    burst: int,
    price: tuple[float, float],
    least_bits: int,
    opened: Integers,
) -> tuple[int, float, int]:
    """Which bursts of a layer's part are worth more than nothing.

    Args:
        values: float32 or float64, from the start of a burst on.
        bits: the same memory as signed integers.
        burst: s.
        price: lambda c and lambda t.
        least_bits: |g| as bits that the largest entry of any open burst reaches; at least 1.
        opened: room for the numbers of the open bursts; filled.

    Returns:
        How many opened, the sum of g^2 of all *values*, and the largest |g| as bits.
    """
    entry, lump = price
    size, total, largest = 0, 0.0, np.int64(0)
    mask = np.int64(0x7FFFFFFFFFFFFFFF) if bits.itemsize == 8 else np.int64(0x7FFFFFFF)
    magnitude = bits.dtype.type(mask)
    for start in range(0, values.size, burst):
        stop = min(start + burst, values.size)
        most = bits[start] & magnitude
        for place in range(start, stop):
            most = max(most, bits[place] & magnitude)
        largest = max(largest, np.int64(most))
        if most >= least_bits:
            worth = 0.0
            for place in range(start, stop):
                square = np.float64(values[place]) * np.float64(values[place])
                worth += max(square - entry, 0.0)
            if worth > lump:
                opened[size] = start // burst
                size += 1
    for start in range(0, values.size, _CHUNK):
        total += _sum_of_squares(values[start : start + _CHUNK])
    return size, total, largest


@compiled
def _sum_of_squares(values: NDArray[np.floating]) -> float:
    """In eight partial sums, which the CPU adds side by side."""
    sums = np.zeros(8)
    whole = values.size // 8 * 8
    for start in range(0, whole, 8):
        for lane in range(8):
            number = np.float64(values[start + lane])
            sums[lane] += number * number
    for place in range(whole, values.size):
        sums[0] += np.float64(values[place]) * np.float64(values[place])
    return sums.sum()


@compiled
def ranked_bursts(
    values: NDArray[np.floating], bursts: Integers, burst: int, order: Integers, squares: Floats
) -> None:
    """The entries of each of *bursts* by falling |g|, then position, and their g^2.

    Args:
        order, squares: shape (len(bursts), s); filled with positions in the layer and g^2;
            -1 and 0 past a burst's end.
    """
    for row in range(bursts.size):
        start = bursts[row] * burst
        count = min(burst, values.size - start)
        order[row, :] = -1
        squares[row, :] = 0.0
        for place in range(count):
            square = np.float64(values[start + place]) * np.float64(values[start + place])
            at = place
            while at > 0 and squares[row, at - 1] < square:
                squares[row, at] = squares[row, at - 1]
                order[row, at] = order[row, at - 1]
                at -= 1
            squares[row, at] = square
            order[row, at] = start + place


@compiled
def items_of(squares: Floats, burst_j: float, entry_j: float, least: float, most: int) -> Items:
    """The items of bursts whose g^2 are *squares*, (N, s), falling; those of density > *least*.

    Lumps are of *most* entries at most.
    """
    bursts, width = squares.shape
    room = bursts * width
    burst, entries = np.empty(room, np.int64), np.empty(room, np.int64)
    gain, density = np.empty(room), np.empty(room)
    total = 0
    for row in range(bursts):
        best, lump, count, running = 0.0, 0.0, 0, 0.0
        for place in range(width):
            if squares[row, place] == 0.0:
                break
            running += squares[row, place]
            ratio = running / (burst_j + entry_j * (place + 1))
            if ratio > best and place < most:
                best, lump, count = ratio, running, place + 1
        if not best > least:
            continue
        burst[total], entries[total], gain[total], density[total] = row, count, lump, best
        total += 1
        for place in range(count, width):
            ratio = min(squares[row, place] / entry_j, best)
            if squares[row, place] == 0.0 or not ratio > least:
                break
            burst[total], entries[total] = row, 1
            gain[total], density[total] = squares[row, place], ratio
            total += 1
    return Items(burst[:total], entries[:total], gain[:total], density[:total])


@compiled
def kept_entries(order: Integers, kept: Integers) -> Integers:
    """The positions of the first ``kept[b]`` entries of each burst, ascending."""
    indices, size = np.empty(kept.sum(), np.int64), 0
    for row in range(kept.size):
        if kept[row]:
            indices[size : size + kept[row]] = np.sort(order[row, : kept[row]])
            size += kept[row]
    return indices


@compiled
def best_step(
    squares: Floats, kept: Integers, left_j: float, burst_j: float, entry_j: float
) -> tuple[float, int, int]:
    """The burst whose next largest entries, as many as *left_j* pays, gain most.

    Returns:
        The gain (0 where nothing can be bought), the burst, and how many entries it then keeps.
    """
    most, where, count = 0.0, -1, 0
    for row in range(kept.size):
        have = kept[row]
        affordable = left_j - burst_j if have == 0 else left_j
        if affordable < entry_j:
            continue
        stop = have + int(min(float(squares.shape[1] - have), affordable / entry_j))
        gain, reach = 0.0, have
        while reach < stop and squares[row, reach] > 0.0:
            gain += squares[row, reach]
            reach += 1
        if gain > most:
            most, where, count = gain, row, reach
    return most, where, count
