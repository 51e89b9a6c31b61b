"""Where very many entries share the score at which the budget ends: counted, not collected."""

from __future__ import annotations

import numpy as np

from cwmp.kernels.crossing import Cut
from cwmp.kernels.energy import EnergyTable, message_energy
from cwmp.kernels.magnitudes import Bits, Floats
from cwmp.kernels.scan import (
    Candidates,
    Integers,
    Scratch,
    Sources,
    Wanted,
    chunk_of,
    scan,
)


def cut_among_ties(
    sources: Sources,
    found: Candidates,
    above: Bits,
    tied: Bits,
    weights: Floats,
    table: EnergyTable,
    message_j: float,
    budget_j: float,
) -> Cut | None:
    """The prefix that ends among entries of magnitude ``tied[l]``, or just before or after them.

    Args:
        found: the entries above the ties, which fit, with the ties counted.
        above: least magnitudes that score more than the ties, as bits; shape (L,).
        tied: one magnitude a layer, as bits; 0 where the layer has none. Their scores differ at
            most in the last digits; they are taken by falling score, |g|, then by layer.

    Returns:
        ``None`` where all ties fit, so that the budget may end below them.
    """
    layers = weights.size
    counts = _per_layer(found, found.count, layers)
    ties = _per_layer(found, found.ties, layers)
    low = above.copy()
    limit = np.zeros(layers, dtype=np.int64)
    values = tied.view(np.float32).astype(np.float64)
    for layer in np.lexsort((-values, -values / weights)):
        if ties[layer] == 0:
            continue
        whole = counts.copy()
        whole[layer] += ties[layer]
        if message_energy(table, message_j, whole) <= budget_j:
            counts, low[layer] = whole, tied[layer]
            continue
        some = _most(counts, layer, int(ties[layer]), table, message_j, budget_j)
        counts[layer] += some
        if some:
            limit[layer] = _position(sources, found, int(layer), tied[layer], some)
        return Cut(low, limit, counts, None, int(layer), int(tied[layer]))
    return None


def _per_layer(found: Candidates, amounts: Integers, layers: int) -> Integers:
    return np.bincount(found.chunks.layer, weights=amounts, minlength=layers).astype(np.int64)


def _most(
    counts: Integers, layer: int, ties: int, table: EnergyTable, message_j: float, budget_j: float
) -> int:
    """How many more entries of *layer* the budget pays for, less than *ties*."""
    fits, too_many = 0, ties
    while too_many - fits > 1:
        trial = counts.copy()
        trial[layer] += (fits + too_many) // 2
        if message_energy(table, message_j, trial) <= budget_j:
            fits = (fits + too_many) // 2
        else:
            too_many = (fits + too_many) // 2
    return fits


def _position(sources: Sources, found: Candidates, layer: int, bits: int, ties: int) -> int:
    """The position after the layer's tie number *ties*."""
    own = np.flatnonzero(found.chunks.layer == layer)
    ends = np.cumsum(found.ties[own])
    place = int(np.searchsorted(ends, ties))
    number = ties - int(ends[place] - found.ties[own][place])
    chunk = chunk_of(found.chunks, int(own[place]))
    exact = Wanted(*(np.array([x], dtype=np.uint32) for x in (bits, 0, 0)))
    kept = scan(sources, chunk, exact, Scratch(), expected=0)
    room = kept.memory[0]
    tied = np.abs(room.value[: kept.kept]).view(np.uint32) == bits
    return int(room.index[: kept.kept][tied][number - 1]) + 1
