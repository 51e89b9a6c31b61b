"""Simulated devices of one family, and of another, with a short trace to calibrate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2

import numpy as np
from simulated_traces import simulate

from costmodels.features import feature_matrix
from profiler.layers import LayerInfo
from profiler.trace import Trace

PRICES_J = np.array([2e-6, 4e-9, 1e-9, 2e-9])
"""A's truth for update: J/call, J/entry, J/far line, J/line."""
DENSE_J = np.array([1e-6, 2e-11, 1e-10])


@dataclass(frozen=True)
class Device:
    """Known joules: a and c of a device, each layer's own c off by a factor.

    Attributes:
        a_scale, c_scale: s_a and s_c, over the family's first device.
        layer_sd: standard deviation of the log of each layer's own factor of c.
        own: seed of those factors; devices of one family share it.
        cliff_bytes: tensors above it pay ``cliff`` times as much for an entry.
        noise: relative noise of a block, beside the counter's tick.
    """

    a_scale: float = 1.0
    c_scale: float = 1.0
    layer_sd: float = 0.05
    own: int = 0
    cliff_bytes: float = np.inf
    cliff: float = 1.0
    noise: float = 0.05

    def energy_j(self, operation: str, pattern: str, layer: LayerInfo, k: int) -> float:
        """The truth, as `simulated_traces.simulate` asks for it."""
        if operation != "update":
            fixed, by_unit = {"encode": (4e-6, 2e-9), "send": (3e-5, 1e-9)}[operation]
            return self.a_scale * fixed + self.c_scale * by_unit * k
        prices = DENSE_J if pattern == "dense" else PRICES_J
        parts = (
            prices
            * feature_matrix(operation, pattern, k, parameters=layer.parameters, dtype=layer.dtype)[
                0
            ]
        )
        factor = float(np.exp(self.layer_sd * self._luck(layer)))
        if 4 * layer.parameters > self.cliff_bytes:
            factor *= self.cliff
        return float(self.a_scale * parts[0] + self.c_scale * factor * parts[1:].sum())

    def _luck(self, layer: LayerInfo) -> float:
        return float(np.random.default_rng([self.own, *layer.shape]).normal())


def layers_of(count: int, seed: int) -> tuple[LayerInfo, ...]:
    """Convolutions and linear layers of 500 to 2,000,000 parameters, all shapes unlike."""
    generator = np.random.default_rng(seed)
    found: dict[tuple[int, ...], LayerInfo] = {}
    while len(found) < count:
        parameters = 2.0 ** generator.uniform(9, 21)
        if len(found) % 2:
            side = max(2, round(2 ** (log2(parameters) / 2)))
            shape: tuple[int, ...] = (side, side + int(generator.integers(0, 9)))
            kind = "linear.weight"
        else:
            channels = max(1, round((parameters / 9) ** 0.5))
            shape, kind = (
                (channels + int(generator.integers(0, 5)), channels, 3, 3),
                "conv2d.weight",
            )
        found[shape] = LayerInfo(f"layer{len(found)}", kind, shape, "float32")
    return tuple(found.values())


def trace_of(
    truth: Device,
    layers: Sequence[LayerInfo],
    *,
    seed: int,
    blocks: int = 6,
    densities: Sequence[float] = (0.01, 0.1, 1.0),
    operations: Sequence[str] = ("update",),
    **metadata: object,
) -> Trace:
    """A session on the device *truth* of so many blocks a cell."""
    return simulate(
        truth.energy_j,
        layers=layers,
        noise=truth.noise,
        pilot=blocks,
        blocks=blocks,
        seed=seed,
        densities=densities,
        operations=operations,
        **metadata,
    )


def calibration_of(trace: Trace, *, seed: int, blocks: int = 20, each: int = 2) -> Trace:
    """*blocks* of a trace in cells chosen by chance, *each* a cell."""
    table = trace.blocks
    keys = ["layer", "operation", "pattern", "k"]
    cells = table[keys].drop_duplicates()
    chosen = cells.sample(blocks // each, random_state=seed)
    kept = table.merge(chosen, on=keys).groupby(keys, sort=False).head(each)
    return replace(trace, blocks=kept.sort_values("block").reset_index(drop=True))
