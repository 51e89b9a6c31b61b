"""The values of a payload: whether they are finite, and float32 to the short types."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.jit import compiled


@compiled
def all_finite(values: NDArray[np.floating]) -> bool:
    """Whether none of *values* is NaN or infinite; float32 or float64."""
    wrong = 0
    for i in range(values.size):
        wrong |= values[i] - values[i] != 0
    return wrong == 0


@compiled
def round_to_bfloat16(bits: NDArray[np.uint32], out: NDArray[np.uint16]) -> None:
    """The upper half of finite float32 *bits*, to nearest, ties to even; may round to infinity."""
    sixteen, one, half = np.uint32(16), np.uint32(1), np.uint32(0x7FFF)
    for i in range(bits.size):
        number = bits[i]
        odd = np.uint32(np.uint32(number >> sixteen) & one)
        out[i] = np.uint16(np.uint32(np.uint32(number + half) + odd) >> sixteen)


@compiled
def quantise(values: NDArray[np.float32], scale: float, out: NDArray[np.int8]) -> None:
    """value / scale to the nearest integer, ties to even; within -127 to 127 by the caller."""
    for i in range(values.size):
        out[i] = np.int8(np.rint(np.float64(values[i]) / scale))
