"""Positions to bits and back: the gaps between them in a Rice code of parameter b.

Positions p_0 < p_1 < ... of k entries among n; gap g_i = p_i - p_(i-1) - 1, with p_(-1) = -1.
The bits, least first, are k fields of b bits, g_i mod 2^b, and then for each i as many zeros as
g_i / 2^b rounded down, and a one. (Rice and Plaunt 1971; the two streams apart as in Elias-Fano,
so that no field's place depends on the one before.) Nothing follows the last one, so that b = 0
is a bitmap up to the last position.

Every function is safe on any input within the stated ranges of its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.bits import trailing_zeros
from cwmp.kernels.jit import compiled

Positions = NDArray[np.signedinteger[Any]]
Words = NDArray[np.uint64]

MAX_PARAMETER = 31
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@compiled
def ascends(positions: Positions, n: int) -> bool:
    """Whether *positions*, at least one, ascend strictly within 0 to n - 1."""
    before, after = positions[:-1], positions[1:]
    wrong = 0
    for i in range(after.size):
        wrong |= after[i] <= before[i]
    return wrong == 0 and positions[0] >= 0 and positions[-1] < n


@compiled
def parameter_of(positions: Positions, n: int) -> tuple[int, int]:
    """(b, bits): the smallest b of those that need the fewest bits, and how many it needs.

    With S_b the sum of g_i / 2^b rounded down, the bits are k (b + 1) + S_b, convex in b: the
    best b is the first at which S_b - S_(b+1) <= k. *positions* ascend strictly below n.
    """
    k = positions.size
    if k == 0:
        return 0, 0
    b = 0
    while b < MAX_PARAMETER and (7 * k) << b < 5 * (n - k):  # 2^b nearest to ln 2 x the mean gap
        b += 1
    while True:
        below, here, above = _quotients(positions, max(b - 1, 0))
        if b == 0:
            below, here, above = below, below, here
        if here - above > k and b < MAX_PARAMETER:
            b += 1
        elif b > 0 and below - here <= k:
            b -= 1
        else:
            return b, int(k * (b + 1) + here)


@compiled
def survey(positions: Positions, n: int) -> tuple[int, int, int]:
    """(b, bits, runs) of *positions*, at least one; bits is -1 if they do not `ascends`.

    Runs are maximal: p_i + 1 = p_(i+1) within one.
    """
    if not ascends(positions, n):
        return 0, -1, 0
    before, after = positions[:-1], positions[1:]
    runs = 1
    for i in range(after.size):
        runs += after[i] != before[i] + 1
    b, bits = parameter_of(positions, n)
    return b, bits, runs


@compiled
def _quotients(positions: Positions, b: int) -> tuple[np.int64, np.int64, np.int64]:
    """S_b, S_(b+1), S_(b+2); the gaps add up to less than 2^31."""
    first = np.uint32(positions[0])
    at = np.uint32(b)
    one = np.uint32(1)
    two = np.uint32(2)
    low = np.uint32(first >> at)
    middle = np.uint32(low >> one)
    high = np.uint32(low >> two)
    before, after = positions[:-1], positions[1:]
    for i in range(after.size):
        quotient = np.uint32(np.uint32(after[i] - before[i] - 1) >> at)
        low = np.uint32(low + quotient)
        middle = np.uint32(middle + np.uint32(quotient >> one))
        high = np.uint32(high + np.uint32(quotient >> two))
    return np.int64(low), np.int64(middle), np.int64(high)


@compiled
def pack(positions: Positions, b: int, words: Words) -> None:
    """Write the code of *positions* into *words*, zero and long enough."""
    k = positions.size
    if k == 0:
        return
    if b > 0:
        _pack_fields(positions, b, words)
    shift, six, low_six = np.uint64(b), np.uint64(6), np.uint64(63)
    after = np.uint64(k * b)  # the place after the last one written
    at = after >> six
    word = words[at]
    previous = np.int64(-1)
    for i in range(k):
        position = np.int64(positions[i])
        place = after + (np.uint64(position - previous - 1) >> shift)
        previous = position
        after = place + _ONE
        if place >> six != at:
            words[at] = word
            word = _ZERO
            at = place >> six
        word |= _ONE << (place & low_six)
    words[at] = word


@compiled
def _pack_fields(positions: Positions, b: int, words: Words) -> None:
    mask = (_ONE << np.uint64(b)) - _ONE
    word, filled, at = _ZERO, np.uint64(0), np.uint64(0)
    width = np.uint64(b)
    previous = np.int64(-1)
    for i in range(positions.size):
        position = np.int64(positions[i])
        field = np.uint64(position - previous - 1) & mask
        previous = position
        word |= field << filled
        filled += width
        if filled >= np.uint64(64):
            words[at] = word
            at += _ONE
            filled -= np.uint64(64)
            word = field >> (width - filled)
    if filled > _ZERO:
        words[at] = word


@compiled
def unpack(words: Words, bits: int, b: int, n: int, positions: Positions) -> int:
    """Read ``positions.size`` positions from *words*, of which *bits* may be looked at.

    Returns the bits that the code took; -1 if it does not end within *bits* or a position is
    not below n. *bits* is at most n, at most 2^31, and *words* holds a word more than they need.
    """
    k = positions.size
    start = k * b
    if start + k > bits:
        return -1
    shift, six, low_six = np.uint64(b), np.uint64(6), np.uint64(63)
    last_word = np.uint64(bits - 1) >> six
    mask = (_ONE << shift) - _ONE
    at = np.uint64(start) >> six
    skipped = np.uint64(start) & low_six
    word = words[at] >> skipped << skipped
    word_start = np.int64(at << six) - start
    field_at = _ZERO
    place, fields, position = np.int64(0), np.int64(0), np.int64(0)
    for i in range(k):
        if word == _ZERO:
            while word == _ZERO:
                at += _ONE
                if at > last_word:
                    return -1
                word = words[at]
            word_start = np.int64(at << six) - start
        place = word_start + np.int64(trailing_zeros(word))
        word &= word - _ONE
        if b > 0:
            field_word, offset = field_at >> six, field_at & low_six
            higher = words[field_word + _ONE] << _ONE << (low_six - offset)
            fields += np.int64((words[field_word] >> offset | higher) & mask)
            field_at += shift
        position = np.int64((place - i) << b) + fields + i
        positions[i] = position
    if start + place >= bits or position >= n:
        return -1
    return int(start + place) + 1
