"""Entries and their costs where they lie, of each type: a chunk, or a line of sixteen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import simd_costed
from cwmp.kernels.jit import compiled
from cwmp.kernels.scan import FLOAT16, FLOAT32, Integers, Sources


class CostSources(NamedTuple):
    """Where the entries' costs lie.

    Attributes:
        address: of each layer's first cost; shape (L,).
        width: bytes of a cost, 2 or 4; shape (L,).
    """

    address: Integers
    width: NDArray[np.int8]


@compiled
def scan_entries(
    kind: int,
    width: int,
    address: int,
    costs: int,
    start: int,
    size: int,
    point: int,
    index: int,
    value: int,
    cost: int,
    stats: int,
) -> int:
    """Run `cwmp.kernels.simd_costed.scan_*` over *size* entries of a layer from *start* on."""
    first = np.int32(start)
    source = address + (4 if kind == FLOAT32 else 2) * start
    charge = costs + width * start
    if width == 2:
        if kind == FLOAT32:
            return simd_costed.scan_float32_uint16(
                source, charge, size, point, first, index, value, cost, stats
            )
        if kind == FLOAT16:
            return simd_costed.scan_float16_uint16(
                source, charge, size, point, first, index, value, cost, stats
            )
        return simd_costed.scan_bfloat16_uint16(
            source, charge, size, point, first, index, value, cost, stats
        )
    if kind == FLOAT32:
        return simd_costed.scan_float32_uint32(
            source, charge, size, point, first, index, value, cost, stats
        )
    if kind == FLOAT16:
        return simd_costed.scan_float16_uint32(
            source, charge, size, point, first, index, value, cost, stats
        )
    return simd_costed.scan_bfloat16_uint32(
        source, charge, size, point, first, index, value, cost, stats
    )


@compiled
def read_line(
    sources: Sources,
    costs: CostSources,
    layer: int,
    start: int,
    size: int,
    test: int,
    value: int,
    cost: int,
) -> int:
    """At most 16 entries and their costs to *value* and *cost*; which *test* keeps, as bits."""
    source, charge, kind = sources.address[layer], costs.address[layer], sources.kind[layer]
    if costs.width[layer] == 2:
        if kind == FLOAT32:
            return simd_costed.gather_float32_uint16(source, charge, start, size, test, value, cost)
        if kind == FLOAT16:
            return simd_costed.gather_float16_uint16(source, charge, start, size, test, value, cost)
        return simd_costed.gather_bfloat16_uint16(source, charge, start, size, test, value, cost)
    if kind == FLOAT32:
        return simd_costed.gather_float32_uint32(source, charge, start, size, test, value, cost)
    if kind == FLOAT16:
        return simd_costed.gather_float16_uint32(source, charge, start, size, test, value, cost)
    return simd_costed.gather_bfloat16_uint32(source, charge, start, size, test, value, cost)
