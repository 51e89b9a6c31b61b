"""The compiled E_l(k) against the declared joules, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.kernels.energy import (
    INDEX_LINES,
    energy_table,
    index_bytes,
    index_line,
    layer_energy,
    message_energy,
)
from cwmp.payload import LAYER_HEADER_BYTES, layer_bytes
from cwmp.selectors.costs import LayerPrice, SelectionCosts

joules = st.floats(1e-9, 10)


@st.composite
def prices(draw: st.DrawFn, number: int) -> LayerPrice:
    later = draw(st.lists(st.integers(2, 90), max_size=2, unique=True))
    pieces = 1 + len(later)
    return LayerPrice(
        f"layer{number}",
        (draw(st.integers(1, 100)),),
        (1, *sorted(later)),
        tuple(draw(st.just(0.0) | joules) for _ in range(pieces)),
        tuple(draw(joules) for _ in range(pieces)),
        dense_j=draw(st.none() | joules),
        byte_j=draw(st.just(0.0) | joules),
        value_bytes=draw(st.sampled_from([1, 2, 4, 8])),
    )


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_count_costs_what_is_declared(data: st.DataObject) -> None:
    layers = tuple(data.draw(prices(number)) for number in range(data.draw(st.integers(1, 3))))
    costs = SelectionCosts(layers, data.draw(joules))
    table = energy_table(costs)
    for number, declared in enumerate(costs.tables):
        counted = [layer_energy(table, number, k) for k in range(declared.size)]
        assert counted == declared.tolist()
    counts = np.array([data.draw(st.integers(0, layer.parameters)) for layer in layers])
    assert message_energy(table, costs.message_j, counts) == pytest.approx(
        costs.energy_j(counts), rel=1e-15
    )


@pytest.mark.parametrize("parameters", [1, 7, 8, 9, 31, 32, 33, 64, 1000, 4097, 10**6, 2**31])
def test_index_bytes_are_the_payloads(parameters: int) -> None:
    edges = [k for power in range(32) for k in (2**power - 1, 2**power, 2**power + 1)]
    spaced = np.geomspace(1, parameters, 200).astype(int)
    counts = np.unique([k for k in (*edges, *spaced, parameters) if 1 <= k <= parameters])
    declared = layer_bytes(parameters, counts, "sparse", 4) - LAYER_HEADER_BYTES - 4 * counts
    for k, size in zip(counts.tolist(), declared.tolist(), strict=True):
        assert index_bytes(parameters, k) == size
        lowest = min(
            fixed + slope * k
            for fixed, slope in (index_line(parameters, line) for line in range(INDEX_LINES))
        )
        assert size - 1 < lowest <= size
