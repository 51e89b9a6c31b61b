"""E_l(k) for compiled kernels: every layer's charges in flat arrays.

`layer_energy` is `SelectionCosts.layers[l].energy_j(k)`, the same number bit for bit, and
`message_energy` adds up as `SelectionCosts.energy_j` does. What an index code takes is here
once, in `index_bytes`; `cwmp.payload.layer_bytes` is the reference that it must agree with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.jit import compiled
from cwmp.kernels.reference import Floats, Integers
from cwmp.payload import LAYER_HEADER_BYTES, SCALE_BYTES, VALUE_BYTES

if TYPE_CHECKING:
    from cwmp.selectors.costs import SelectionCosts

INDEX_LINES = 33
"""How many lines `index_line` knows."""


class EnergyTable(NamedTuple):
    """The charges of L layers, whose sparse updates have P pieces between them.

    Attributes:
        piece_offsets: layer l's pieces are ``piece_offsets[l]:piece_offsets[l + 1]``; (L + 1,).
        starts, fixed_j, slope_j: the pieces, E(k) = fixed + slope k from each start on; (P,).
        dense_j: applying a whole layer; infinite where there is no dense form; (L,).
        byte_j: joules a byte sent; (L,).
        header_bytes: bytes of a layer that do not depend on k; (L,).
        value_bytes: bytes a value takes on the wire; (L,).
        parameters: n_l; (L,).
    """

    piece_offsets: Integers
    starts: Integers
    fixed_j: Floats
    slope_j: Floats
    dense_j: Floats
    byte_j: Floats
    header_bytes: Integers
    value_bytes: Integers
    parameters: Integers


def energy_table(costs: SelectionCosts) -> EnergyTable:
    """*costs* in flat arrays."""
    layers = costs.layers
    scaled = VALUE_BYTES["int8"]
    headers = [LAYER_HEADER_BYTES + SCALE_BYTES * (x.value_bytes == scaled) for x in layers]
    return EnergyTable(
        np.cumsum([0, *(len(layer.starts) for layer in layers)], dtype=np.int64),
        np.concatenate([np.asarray(layer.starts, dtype=np.int64) for layer in layers]),
        np.concatenate([np.asarray(layer.fixed_j, dtype=np.float64) for layer in layers]),
        np.concatenate([np.asarray(layer.slope_j, dtype=np.float64) for layer in layers]),
        np.array([np.inf if x.dense_j is None else x.dense_j for x in layers], dtype=np.float64),
        np.array([layer.byte_j for layer in layers], dtype=np.float64),
        np.array(headers, dtype=np.int64),
        np.array([layer.value_bytes for layer in layers], dtype=np.int64),
        np.array([layer.parameters for layer in layers], dtype=np.int64),
    )


@compiled
def index_bytes(parameters: int, k: int) -> int:
    """Bytes declared for the positions of *k* > 0 kept entries, as `cwmp.payload.index_bytes`."""
    left, b = parameters - k, 0
    while (2 * k + 1) << b <= left:
        b += 1
    return (min(k * (b + 1) + (left >> b), parameters) + 7) >> 3


@compiled
def index_line(parameters: int, number: int) -> tuple[float, float]:
    """(bytes at k = 0, bytes an entry) of one of the lines that `index_bytes` follows.

    Line 32 is the bitmap, line b the Rice code of parameter b, without rounding up. The lowest
    of them is never above `index_bytes`, and less than one byte below it.
    """
    if number == INDEX_LINES - 1:
        return float((parameters + 7) >> 3), 0.0
    share = 1.0 / (1 << number)
    return ((parameters + 1) * share - 1.0) / 8, (number + 1 - share) / 8


@compiled
def sparse_energy(table: EnergyTable, layer: int, k: int) -> float:
    """Joules of *k* entries of a layer sent and applied entry by entry; 0 at k = 0."""
    if k == 0:
        return 0.0
    piece = table.piece_offsets[layer]
    end = table.piece_offsets[layer + 1]
    while piece + 1 < end and table.starts[piece + 1] <= k:
        piece += 1
    indices = index_bytes(table.parameters[layer], k)
    sent = table.header_bytes[layer] + table.value_bytes[layer] * k + indices
    apply_j = table.fixed_j[piece] + table.slope_j[piece] * k
    return apply_j + table.byte_j[layer] * sent  # type: ignore[no-any-return]


@compiled
def dense_energy(table: EnergyTable, layer: int) -> float:
    """Joules of a layer sent and applied whole; infinite where it has no dense form."""
    sent = table.header_bytes[layer] + table.value_bytes[layer] * table.parameters[layer]
    return table.dense_j[layer] + table.byte_j[layer] * sent  # type: ignore[no-any-return]


@compiled
def layer_energy(table: EnergyTable, layer: int, k: int) -> float:
    """E_l(k): joules of *k* entries of a layer in the cheaper form; 0 at k = 0."""
    if k == 0:
        return 0.0
    return min(sparse_energy(table, layer, k), dense_energy(table, layer))


@compiled
def message_energy(table: EnergyTable, message_j: float, counts: Integers) -> float:
    """Joules of a message of ``counts[l]`` entries of layer l; 0 for nothing at all."""
    spent = 0.0
    some = False
    for layer in range(counts.size):
        if counts[layer] > 0:
            some = True
            spent += layer_energy(table, layer, counts[layer])
    return message_j + spent if some else 0.0


@compiled
def dense_forms(table: EnergyTable, counts: Integers) -> NDArray[np.bool_]:
    """Which layers are cheaper whole than as *counts* entries; shape (L,)."""
    dense = np.zeros(counts.size, dtype=np.bool_)
    for layer in range(counts.size):
        k = counts[layer]
        dense[layer] = k > 0 and dense_energy(table, layer) < sparse_energy(table, layer, k)
    return dense


@compiled
def opening_energies(table: EnergyTable) -> Floats:
    """E_l(1): joules of a single entry of each layer; shape (L,)."""
    energies = np.empty(table.parameters.size, dtype=np.float64)
    for layer in range(energies.size):
        energies[layer] = layer_energy(table, layer, 1)
    return energies
