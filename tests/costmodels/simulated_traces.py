"""Traces of a simulated device whose a and c are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import pandas as pd

from profiler.layers import LayerInfo
from profiler.trace import LayerRecord, Trace, TraceMetadata

TRUE_A_J, TRUE_C_J = 2e-6, 5e-9
LAYERS = (
    LayerInfo("conv1.weight", "conv2d.weight", (16, 3, 3, 3), "float32"),
    LayerInfo("conv1.bias", "conv2d.bias", (16,), "float32"),
    LayerInfo("conv2.weight", "conv2d.weight", (32, 16, 3, 3), "float32"),
    LayerInfo("conv2.bias", "conv2d.bias", (32,), "float32"),
    LayerInfo("fc.weight", "linear.weight", (10, 2048), "float32"),
    LayerInfo("fc.bias", "linear.bias", (10,), "float32"),
)
TOTAL = sum(layer.parameters for layer in LAYERS)

Truth = Callable[[str, str, LayerInfo, int], float]
"""(operation, pattern, layer, k) -> joules a call."""


def linear_truth(
    slopes: Mapping[str, float] | None = None, a_j: float = TRUE_A_J, c_j: float = TRUE_C_J
) -> Truth:
    """a + c k for each layer, a tenth of c for a dense entry, messages by their own lines."""

    def energy_j(operation: str, pattern: str, layer: LayerInfo, k: int) -> float:
        c = (slopes or {}).get(layer.name, c_j)
        if operation == "update":
            return a_j + (0.1 * c if pattern == "dense" else c) * k
        fixed, by_unit = {
            "encode": (4e-6, 2e-9),
            "send": (3e-5, 1e-9),
            "select": (1e-5, 4e-9),
            "train": (1e-3, 2e-4),
        }[operation]
        return fixed + by_unit * k

    return energy_j


def simulate(
    truth: Truth | None = None,
    *,
    layers: Sequence[LayerInfo] = LAYERS,
    noise: float = 0.02,
    tick_j: float = 1e-4,
    pilot: int = 6,
    blocks: int = 10,
    seed: int = 0,
    densities: Sequence[float] = (0.01, 0.05, 0.2, 1.0),
    operations: Sequence[str] = ("update", "encode", "send", "select", "train"),
    **metadata: object,
) -> Trace:
    """A valid trace: relative noise and counter ticks on the truth, blocks of 10 ms at 1 W."""
    generator = np.random.default_rng(seed)
    truth = truth or linear_truth()
    first: dict[tuple[object, ...], str] = {}
    records = [
        LayerRecord(
            name=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            dtype=layer.dtype,
            measured_as=first.setdefault(layer.signature, layer.name),
        )
        for layer in layers
    ]
    rows: list[dict[str, object]] = []
    for operation, pattern, layer, k, macs in _cells(layers, densities, operations):
        cost_j = truth(operation, pattern, layer, k)
        repetitions = max(1, round(1e-2 / max(cost_j, 1e-9)))
        for number in range(max(pilot, blocks)):
            spread_j = float(
                np.hypot(noise * cost_j, tick_j * 0.57735 / repetitions) * generator.normal()
            )
            reference_j = 5e-3 + abs(min(repetitions * (cost_j + spread_j), 0.0))
            rows.append(
                {
                    "block": len(rows),
                    "stage": "pilot" if number < pilot else "main",
                    "device": "simulated board",
                    "meter": "fake",
                    "rail": "cpu",
                    "origin": "measured",
                    "model": "small",
                    "layer": layer.name,
                    "kind": layer.kind,
                    "shape": "x".join(map(str, layer.shape)),
                    "dtype": layer.dtype,
                    "parameters": layer.parameters,
                    "operation": operation,
                    "density": None if operation == "train" else k / max(layer.parameters, k),
                    "k": k,
                    "pattern": pattern,
                    "payload_bytes": k if operation == "send" else None,
                    "macs": macs,
                    "repetitions": repetitions,
                    "start_s": 0.02 * len(rows),
                    "duration_s": 1e-2,
                    "energy_j": reference_j + repetitions * (cost_j + spread_j),
                    "reference_duration_s": 5e-3,
                    "reference_energy_j": reference_j,
                    "sleep_duration_s": 5e-3,
                    "sleep_energy_j": 1e-3,
                    "cost_j_per_call": cost_j + spread_j,
                    "gross_j_per_call": cost_j + spread_j,
                    "standard_error_j_per_call": 0.5 * tick_j * 0.57735 / repetitions,
                    "period_s": 1e-3,
                    "flags": "",
                }
            )
    fields = {
        "created_utc": "2026-01-02T03:04:05Z",
        "model": "small",
        "layers": tuple(records),
        "device": "simulated board",
        "meter": "fake",
        "origin": "measured",
        "scope": ("loopback counts both ends",),
        "implementations": {"update": "torch.Tensor.index_add_", "send": "TCP loopback"},
        "host": {"governor": "performance"},
        "software": {"torch": "2.6.0", "numpy": "2.1.0"},
        "seed": seed,
        **metadata,
    }
    return Trace(TraceMetadata.model_validate(fields), pd.DataFrame(rows))


def _cells(
    layers: Sequence[LayerInfo], densities: Sequence[float], operations: Sequence[str]
) -> list[tuple[str, str, LayerInfo, int, float | None]]:
    """(operation, pattern, layer, k, macs of the call)."""
    cells: list[tuple[str, str, LayerInfo, int, float | None]] = []
    measured = {layer.signature: layer for layer in reversed(layers)}
    total = sum(prod(layer.shape) for layer in layers)
    whole = LayerInfo("*", "payload", (total,), "float32")
    for layer in reversed(measured.values()):
        counts = sorted({max(1, round(d * layer.parameters)) for d in densities})
        for pattern in ("random", "clustered"):
            cells += [("update", pattern, layer, k, None) for k in counts]
        cells.append(("update", "dense", layer, layer.parameters, None))
    counts = sorted({max(1, round(d * total)) for d in densities})
    cells += [("encode", "random", whole, k, None) for k in counts]
    cells += [("select", rule, whole, k, None) for rule in ("topk", "cwmp") for k in counts]
    line = LayerInfo("*", "payload", (4 * total,), "float32")
    cells += [("send", "random", line, size, None) for size in (256, 4096, 65536)]
    for name, macs in (("conv1", 4.4e5), ("conv2", 1.2e6), ("*", 1.7e6)):
        module = LayerInfo(name, "model" if name == "*" else "conv2d", (16, 3), "float32")
        cells += [("train", "batch", module, batch, macs * batch) for batch in (8, 32)]
    return [cell for cell in cells if cell[0] in operations]
