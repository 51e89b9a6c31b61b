"""The one aggregation rule of sparse updates: theta <- theta + sum_j w_j d_j.

w_j = n_j / sum_i n_i, with n_j the examples of client j, and d_j the update as decoded from
its payload; an entry that a client did not send counts as zero, so the weights of an entry
need not add up to 1. Buffers are sent whole and averaged with the same weights. McMahan et
al. 2017 (FedAvg) where every d_j is dense.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.training import ModelState
from cwmp.payload import DecodedPayload, PayloadLayout
from cwmp.selection import Form, LayerSelection
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError


@dataclass(frozen=True, slots=True)
class Average:
    """The weighted sum of what arrived.

    Attributes:
        layers: the union of the supports, each layer in its cheaper form, or dense where a
            client sent it so.
        buffers: the weighted mean of the buffers.
    """

    layers: tuple[LayerSelection, ...]
    buffers: Mapping[str, NDArray[np.float32]]


def average(
    received: Iterable[tuple[DecodedPayload, int]], layout: PayloadLayout, costs: SelectionCosts
) -> Average:
    """Sum the updates with weights n_j / sum n, one at a time: memory of one model, in float64.

    Args:
        received: decoded payloads, each with its client's number of examples.
        layout: the model's layers and buffers.
        costs: prices that decide a layer's form on the way back.

    Raises:
        InputError: nothing was received, or a client claims fewer than one example.
    """
    sums = {name: np.zeros(int(np.prod(shape))) for name, shape in layout.layers.items()}
    seen = {name: np.zeros(total.size, dtype=np.bool_) for name, total in sums.items()}
    dense: set[str] = set()
    buffers = {name: np.zeros(shape) for name, shape in layout.buffers.items()}
    examples = 0
    for payload, count in received:
        if count < 1:
            raise InputError(f"a client claims {count} examples; it must have at least 1")
        examples += count
        for layer in payload.layers:
            share = count * layer.values.astype(np.float64)
            if layer.form == "dense":  # a dense layer holds all entries in their order
                sums[layer.name] += share
                seen[layer.name][:] = True
                dense.add(layer.name)
            else:
                sums[layer.name][layer.indices] += share
                seen[layer.name][layer.indices] = True
        for name, values in payload.buffers.items():
            buffers[name] += count * values.astype(np.float64)
    if examples == 0:
        raise InputError("no update arrived: there is nothing to average")
    layers = []
    for price in costs.layers:
        indices = np.flatnonzero(seen[price.name])
        if indices.size == 0:
            continue
        form: Form = "dense" if price.name in dense else price.form(indices.size)
        if form == "dense":
            indices = np.arange(price.parameters, dtype=np.int64)
        values = (sums[price.name][indices] / examples).astype(np.float32)
        layers.append(LayerSelection(price.name, price.shape, indices, values, form))
    means = {name: (total / examples).astype(np.float32) for name, total in buffers.items()}
    return Average(tuple(layers), means)


def apply_update(
    state: ModelState,
    layers: Sequence[LayerSelection],
    buffers: Mapping[str, NDArray[np.float32]],
) -> ModelState:
    """*state* with the entries of *layers* added and its buffers replaced; *state* is kept."""
    parameters = dict(state.parameters)
    for layer in layers:
        changed = parameters[layer.name].copy()
        changed.reshape(-1)[layer.indices] += layer.values.astype(np.float32)
        parameters[layer.name] = changed
    return ModelState(parameters, {**state.buffers, **buffers}, state.counters)
