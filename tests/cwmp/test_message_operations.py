"""encode, send and select as they are profiled: what k means, and that the work is done."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from cwmp.codec import decode
from cwmp.operations import (
    LOOPBACK_SCOPE,
    EncodeOperation,
    SelectOperation,
    SendOperation,
    draw_selection,
    message_operations,
    payload_sizes,
)
from cwmp.transport import Receiver
from profiler.errors import InputError
from profiler.layers import LayerInfo, layers_of
from profiler.workloads import place_of_work

LAYERS = (
    LayerInfo("conv.weight", "conv2d.weight", (16, 8, 3, 3), "float32"),
    LayerInfo("conv.bias", "conv2d.bias", (16,), "float32"),
    LayerInfo("fc.weight", "linear.weight", (10, 200), "float32"),
)
TOTAL = 1152 + 16 + 2000
DENSITIES = (0.01, 0.2)


def test_encode_cells_count_kept_entries_and_real_bytes():
    operation = EncodeOperation(LAYERS, DENSITIES, {"bn.mean": (16,)})
    cells = operation.cells()
    assert [(cell.k, cell.pattern) for cell in cells] == [
        (12 + 1 + 20, "random"),
        (230 + 3 + 400, "random"),
        (33, "clustered"),
        (633, "clustered"),
        (TOTAL, "dense"),
    ]
    generator = np.random.default_rng(9)
    for cell in cells:
        density = 1.0 if cell.pattern == "dense" else operation._density(cell.k)
        payload = operation.payload(density, cell.pattern, generator)
        assert abs(len(payload) - cell.payload_bytes) <= 0.03 * cell.payload_bytes
        decoded = decode(payload, operation.layout)
        assert sum(layer.indices.size for layer in decoded.layers) == cell.k
        assert set(decoded.buffers) == {"bn.mean"}
    assert {cell.layer for cell in cells} == {"*"}
    assert {cell.parameters for cell in cells} == {TOTAL}


def test_encode_really_encodes_each_input_in_turn(monkeypatch):
    import cwmp.operations

    seen = []
    real = cwmp.operations.encode
    monkeypatch.setattr(
        cwmp.operations, "encode", lambda *args: seen.append(real(*args)) or seen[-1]
    )
    operation = EncodeOperation(LAYERS, DENSITIES)
    cell = operation.cells()[0]
    seen.clear()
    workload = operation.prepare(cell, seed=1)
    workload.reference(5)
    assert not seen
    workload.run(8)
    assert len(seen) == 8 and len(set(seen)) == 4
    assert all(abs(len(payload) - cell.payload_bytes) <= 3 for payload in seen)
    workload.close()


def test_a_dense_selection_holds_every_entry_in_dense_form():
    layers = draw_selection(LAYERS, 1.0, "dense", np.random.default_rng(0))
    assert all(layer.form == "dense" for layer in layers)
    assert [layer.indices.size for layer in layers] == [1152, 16, 2000]


def test_send_counts_bytes_up_to_the_largest_payload():
    sizes = payload_sizes(EncodeOperation(LAYERS, DENSITIES))
    operation = SendOperation(sizes)
    cells = operation.cells()
    assert tuple(cell.k for cell in cells) == sizes == tuple(sorted(sizes))
    assert all(cell.payload_bytes == cell.k for cell in cells)
    assert {cell.parameters for cell in cells} == {sizes[-1]}
    assert cells[-1].density == 1.0
    assert operation.scope == (LOOPBACK_SCOPE,)


def test_send_over_loopback_and_to_a_peer_moves_the_bytes():
    with Receiver().start() as receiver:
        host, port = receiver.address
        for operation in (SendOperation([100, 5000], f"{host}:{port}"), SendOperation([100, 5000])):
            for cell in operation.cells():
                workload = operation.prepare(cell, seed=1)
                inner = getattr(workload, "_receiver", None)
                workload.reference(5)
                workload.run(3)
                workload.close()
                if inner is not None:
                    assert (inner.received.frames, inner.received.payload_bytes) == (3, 3 * cell.k)
        assert receiver.received.payload_bytes == 3 * 5100
        assert "this same host" in SendOperation([1], f"{host}:{port}").scope[0]


def test_a_peer_that_is_not_there_is_refused_at_once():
    with Receiver() as receiver:
        host, port = receiver.address
    with pytest.raises(InputError, match="cannot reach the receiver"):
        SendOperation([100], f"{host}:{port}")


def test_select_keeps_exactly_k_of_the_models_entries():
    operation = SelectOperation(LAYERS, (0.01, 0.5, 1.0))
    cells = operation.cells()
    points = [(rule, k) for rule in ("topk", "cwmp") for k in (32, 1584, TOTAL)]
    assert [(cell.pattern, cell.k) for cell in cells] == points
    for cell in cells:
        workload = operation.prepare(cell, seed=2)
        selection = workload._function(workload._pool[0])
        assert selection.entries == cell.k
        magnitudes = np.concatenate([np.abs(g).ravel() for g in workload._pool[0].values()])
        kept = np.concatenate([np.abs(layer.values) for layer in selection.layers])
        assert np.sort(kept).tolist() == np.sort(magnitudes)[-cell.k :].tolist()
        workload.run(1)
        workload.reference(3)
        workload.close()


def test_a_models_message_operations_count_its_buffers():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    layers = layers_of(model)
    operations = message_operations(model, layers, DENSITIES)
    assert [operation.name for operation in operations] == ["encode", "send", "select"]
    assert operations[0].layout.buffers == {"1.running_mean": (4,), "1.running_var": (4,)}
    assert {place_of_work(operation) for operation in operations} == {"cpu"}
    assert operations[1].sizes == payload_sizes(operations[0])
    only = message_operations(model, layers, DENSITIES, names=["update", "select"])
    assert [operation.name for operation in only] == ["select"]


@pytest.mark.parametrize("operation", [EncodeOperation, SelectOperation])
def test_bad_densities_are_refused(operation):
    with pytest.raises(InputError, match="density 2"):
        operation(LAYERS, (2.0,))
