"""Scores and magnitudes: the least |g| of each layer that reaches a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import simd
from cwmp.kernels.jit import compiled

ALL_BITS = 2**32 - 1
"""A threshold that no magnitude reaches: closes a layer."""
NO_BITS = 2**31
"""Above the bits of every magnitude, NaN's among them: no upper limit."""

Bits = NDArray[np.uint32]
Floats = NDArray[np.float64]

_LARGEST = float(np.finfo(np.float32).max)


@compiled
def threshold_bits(score: float, weights: Floats) -> Bits:
    """The least |g| bits, at least 1, whose score |g| / w_l reaches *score*; shape (L,).

    Scores are compared as they are made, in float64. An infinite weight closes its layer.
    """
    bits = np.empty(weights.size, dtype=np.uint32)
    value = np.empty(1, dtype=np.float32)
    view = value.view(np.uint32)
    for layer in range(weights.size):
        weight = weights[layer]
        if not np.isfinite(weight) or np.isnan(score):
            bits[layer] = ALL_BITS
            continue
        target = score * weight
        if not target <= _LARGEST:
            view[0] = simd.INFINITY_BITS
        else:
            value[0] = np.float32(target)
        view[0] = max(view[0], 1)
        while view[0] > 1:
            view[0] -= 1
            if np.float64(value[0]) / weight < score:
                view[0] += 1
                break
        while view[0] < simd.INFINITY_BITS and np.float64(value[0]) / weight < score:
            view[0] += 1
        bits[layer] = view[0]
    return bits
