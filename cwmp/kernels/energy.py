"""E_l(k) for compiled kernels: every layer's charges in flat arrays.

`layer_energy` is `SelectionCosts.layers[l].energy_j(k)`, the same number bit for bit, and
`message_energy` adds up as `SelectionCosts.energy_j` does. What an index code takes is here
once, in `index_bytes`; `cwmp.payload.layer_bytes` is the reference that it must agree with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cwmp.kernels.jit import compiled
from cwmp.kernels.reference import Floats, Integers
from cwmp.payload import LAYER_HEADER_BYTES

if TYPE_CHECKING:
    from cwmp.selectors.costs import SelectionCosts

INDEX_LINES = 2
"""How many lines `index_line` knows."""


class EnergyTable(NamedTuple):
    """The charges of L layers, whose sparse updates have P pieces between them.

    Attributes:
        piece_offsets: layer l's pieces are ``piece_offsets[l]:piece_offsets[l + 1]``; (L + 1,).
        starts, fixed_j, slope_j: the pieces, E(k) = fixed + slope k from each start on; (P,).
        dense_j: applying a whole layer; infinite where there is no dense form; (L,).
        byte_j: joules a byte sent; (L,).
        value_bytes: bytes a value takes on the wire; (L,).
        parameters: n_l; (L,).
    """

    piece_offsets: Integers
    starts: Integers
    fixed_j: Floats
    slope_j: Floats
    dense_j: Floats
    byte_j: Floats
    value_bytes: Integers
    parameters: Integers


def energy_table(costs: SelectionCosts) -> EnergyTable:
    """*costs* in flat arrays."""
    layers = costs.layers
    return EnergyTable(
        np.cumsum([0, *(len(layer.starts) for layer in layers)], dtype=np.int64),
        np.concatenate([np.asarray(layer.starts, dtype=np.int64) for layer in layers]),
        np.concatenate([np.asarray(layer.fixed_j, dtype=np.float64) for layer in layers]),
        np.concatenate([np.asarray(layer.slope_j, dtype=np.float64) for layer in layers]),
        np.array([np.inf if x.dense_j is None else x.dense_j for x in layers], dtype=np.float64),
        np.array([layer.byte_j for layer in layers], dtype=np.float64),
        np.array([layer.value_bytes for layer in layers], dtype=np.int64),
        np.array([layer.parameters for layer in layers], dtype=np.int64),
    )


@compiled
def index_bytes(parameters: int, k: int) -> int:
    """Bytes of the positions of *k* > 0 kept entries among *parameters*."""
    return min(4 * k, -(-parameters // 8))


@compiled
def index_line(parameters: int, number: int) -> tuple[float, float]:
    """(bytes at k = 0, bytes an entry) of one of the lines that `index_bytes` follows.

    No line's value is above what its code takes, and the lowest of them is less than one byte
    below `index_bytes`.
    """
    if number == 0:
        return float(-(-parameters // 8)), 0.0
    return 0.0, 4.0


@compiled
def sparse_energy(table: EnergyTable, layer: int, k: int) -> float:
    """Joules of *k* entries of a layer sent and applied entry by entry; 0 at k = 0."""
    if k == 0:
        return 0.0
    piece = table.piece_offsets[layer]
    end = table.piece_offsets[layer + 1]
    while piece + 1 < end and table.starts[piece + 1] <= k:
        piece += 1
    sent = LAYER_HEADER_BYTES + (
        table.value_bytes[layer] * k + index_bytes(table.parameters[layer], k)
    )
    apply_j = table.fixed_j[piece] + table.slope_j[piece] * k
    return apply_j + table.byte_j[layer] * sent  # type: ignore[no-any-return]


@compiled
def dense_energy(table: EnergyTable, layer: int) -> float:
    """Joules of a layer sent and applied whole; infinite where it has no dense form."""
    sent = LAYER_HEADER_BYTES + table.value_bytes[layer] * table.parameters[layer]
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
