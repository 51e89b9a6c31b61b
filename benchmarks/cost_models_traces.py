"""Traces of a simulated device whose a and c are known: how often the 95 % intervals hold them.

    python benchmarks/cost_models_traces.py [--runs 400]

Each run draws a device: six layers of 16 to a million entries, every one with an a of 0.5 to 10 uJ
a call and a c of 0.5 to 20 nJ an entry of its own, power noise of 2 to 10 % a block, blocks of
20 ms, a counter in steps of 61 uJ, six pilot blocks and up to ten more a cell, random and clustered
entries at four densities. Small layers tell nothing of c and large ones little of a, as on a board.
The pooled prices are judged on devices whose layers do follow common prices.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from costmodels import costs_from_trace
from costmodels.cells import cell_means
from costmodels.evaluation.scores import korn_graubard
from costmodels.features import FEATURES, feature_matrix
from costmodels.regression import fit_regression, price_intervals
from profiler.layers import LayerInfo
from profiler.trace import LayerRecord, Trace, TraceMetadata

SHAPES = (
    ("conv1.weight", "conv2d.weight", (64, 32, 3, 3)),
    ("conv1.bias", "conv2d.bias", (64,)),
    ("bn.weight", "batchnorm2d.weight", (16,)),
    ("fc1.weight", "linear.weight", (1000, 1000)),
    ("fc1.bias", "linear.bias", (1000,)),
    ("fc2.weight", "linear.weight", (10, 2048)),
)
LAYERS = tuple(LayerInfo(name, kind, shape, "float32") for name, kind, shape in SHAPES)
DENSITIES = (0.01, 0.05, 0.2, 1.0)
PRICES = (2e-6, 3e-9, 4e-10, 6e-9)
DRAW_W, IDLE_W, BLOCK_S, QUANTUM_J, PILOT = 5.0, 3.0, 0.02, 6.1e-5, 6
Cost = Callable[[str, LayerInfo, int], float]
"""(pattern, layer, k) -> joules a call."""


@dataclass(frozen=True)
class Hits:
    """How often intervals held the truth, by what they are of.

    Attributes:
        name: ``a``, ``c``, or a price.
        inside, trials: by run, shape (runs,).
    """

    name: str
    inside: tuple[int, ...]
    trials: tuple[int, ...]

    @property
    def share(self) -> tuple[float, float, float]:
        """The share and its 95 % interval; runs are the clusters."""
        used = [(x, n) for x, n in zip(self.inside, self.trials, strict=True) if n]
        if not used:
            return float("nan"), 0.0, 1.0
        return korn_graubard([x for x, _ in used], [n for _, n in used])


def simulate(cost: Cost, seed: int, layers: Sequence[LayerInfo] = LAYERS) -> Trace:
    """A session of updates; power that wanders from block to block, and a counter that steps."""
    generator = np.random.default_rng([seed, 1])
    noise = generator.uniform(0.02, 0.10)
    cells = [
        (pattern, layer, k)
        for layer in layers
        for pattern in ("random", "clustered")
        for k in sorted({max(1, round(d * layer.parameters)) for d in DENSITIES})
    ]
    tables = [
        _blocks(*cell, cost(*cell), noise, int(blocks), generator)
        for cell, blocks in zip(cells, PILOT + generator.integers(0, 11, len(cells)), strict=True)
    ]
    frame = pd.concat(tables, ignore_index=True)
    frame["block"] = np.arange(len(frame))
    frame["start_s"] = 2.5 * BLOCK_S * np.arange(len(frame))
    return Trace(_metadata(layers, seed), frame)


def _blocks(
    pattern: str,
    layer: LayerInfo,
    k: int,
    cost_j: float,
    noise: float,
    blocks: int,
    generator: np.random.Generator,
) -> pd.DataFrame:
    repetitions = max(1, round(BLOCK_S * DRAW_W / cost_j))
    duration_s = repetitions * cost_j / DRAW_W
    # what the block draws, and what a mean over it misses of power faster than blocks
    power_j = noise * DRAW_W * np.sqrt(duration_s * BLOCK_S) * generator.normal(size=blocks)
    steps_j = QUANTUM_J * (generator.random(blocks) - generator.random(blocks))
    energy_j = repetitions * cost_j + power_j + steps_j + IDLE_W * duration_s
    reference_j = np.full(blocks, IDLE_W * duration_s)
    measured = (energy_j - reference_j) / repetitions
    return pd.DataFrame(
        {
            "block": 0,
            "stage": ["pilot" if number < PILOT else "main" for number in range(blocks)],
            "device": "simulated device",
            "meter": "simulated",
            "rail": "cpu",
            "origin": "measured",
            "model": "small",
            "layer": layer.name,
            "kind": layer.kind,
            "shape": "x".join(map(str, layer.shape)),
            "dtype": layer.dtype,
            "parameters": layer.parameters,
            "operation": "update",
            "density": k / layer.parameters,
            "k": k,
            "pattern": pattern,
            "payload_bytes": None,
            "macs": None,
            "repetitions": repetitions,
            "start_s": 0.0,
            "duration_s": duration_s,
            "energy_j": energy_j,
            "reference_duration_s": duration_s,
            "reference_energy_j": reference_j,
            "sleep_duration_s": duration_s,
            "sleep_energy_j": 0.5 * reference_j,
            "cost_j_per_call": measured,
            "gross_j_per_call": energy_j / repetitions,
            "standard_error_j_per_call": QUANTUM_J / np.sqrt(6) / repetitions,
            "period_s": 1e-3,
            "flags": "",
        }
    )


def _metadata(layers: Sequence[LayerInfo], seed: int) -> TraceMetadata:
    records = tuple(
        LayerRecord(
            name=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            dtype=layer.dtype,
            measured_as=layer.name,
        )
        for layer in layers
    )
    fields: dict[str, Any] = {
        "created_utc": "2026-01-02T03:04:05Z",
        "model": "small",
        "layers": records,
        "device": "simulated device",
        "meter": "simulated",
        "origin": "measured",
        "scope": (),
        "implementations": {"update": "simulated"},
        "host": {"governor": "performance"},
        "software": {"simulation": "1"},
        "seed": seed,
    }
    return TraceMetadata.model_validate(fields)


def own_lines(seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    """(pattern, layer) -> a and c of a device, log-uniform."""
    generator = np.random.default_rng([seed, 0])
    found = {}
    for layer in LAYERS:
        for pattern in ("random", "clustered"):
            a = 10 ** generator.uniform(np.log10(0.5e-6), np.log10(10e-6))
            c = 10 ** generator.uniform(np.log10(0.5e-9), np.log10(20e-9))
            found[pattern, layer.name] = float(a), float(c)
    return found


def common_prices(pattern: str, layer: LayerInfo, k: int) -> float:
    """Joules of a device whose layers share the prices of the features of ``update``."""
    row = feature_matrix(
        "update", pattern, np.array([float(k)]), parameters=layer.parameters, dtype=layer.dtype
    )
    return float(row[0] @ PRICES)


def simulate_model_trace(seed: int) -> Trace:
    """A session of a device of `common_prices`."""
    return simulate(common_prices, seed)


def run(seed: int) -> dict[str, tuple[int, int]]:
    """What is said of -> (intervals that hold the truth, intervals) in one run."""
    lines = own_lines(seed)

    def cost(pattern: str, layer: LayerInfo, k: int) -> float:
        a, c = lines[pattern, layer.name]
        return a + c * k

    file = costs_from_trace(simulate(cost, seed))
    found: dict[str, list[bool]] = {}
    for layer in file.layers:
        for operation in layer.operations:
            truth = dict(zip("ac", lines[operation.pattern, layer.name], strict=True))
            first = operation.pieces[0]
            found.setdefault("a knee where there is none", []).append(len(operation.pieces) > 1)
            for name, estimate in (("a", first.a_j), ("c", first.c_j)):
                if estimate is None:
                    continue
                held = estimate.low <= truth[name] <= estimate.high
                seen = "undetected" if estimate.below_detection else "detected"
                found.setdefault(name, []).append(held)
                found.setdefault(f"{name}, {seen}", []).append(held)
    return {name: (sum(held), len(held)) for name, held in found.items()}


def run_prices(seed: int) -> dict[str, tuple[int, int]]:
    """The same of the pooled prices of ``update``, redrawn and resampled."""
    cells = cell_means(simulate_model_trace(seed))
    fitted = fit_regression("update", cells)
    low, high, _ = price_intervals(fitted, seed)
    return {
        f"price of {feature.name}": (int(lowest <= price <= highest), 1)
        for feature, price, lowest, highest in zip(
            FEATURES["update"], PRICES, low, high, strict=True
        )
    }


def recovery(runs: int, jobs: int, priced: int = 0) -> dict[str, Hits]:
    """`run` of *runs* devices, and `run_prices` of *priced*."""
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        found = list(pool.map(run, range(runs), chunksize=8))
        found += list(pool.map(run_prices, range(priced), chunksize=8))
    names = sorted({name for one in found for name in one})
    return {
        name: Hits(
            name,
            tuple(one.get(name, (0, 0))[0] for one in found),
            tuple(one.get(name, (0, 0))[1] for one in found),
        )
        for name in names
    }


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--priced", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    for name, hits in recovery(given.runs, given.jobs, given.priced).items():
        share, low, high = hits.share
        print(f"{name:28s} {share:7.1%} [{low:.1%}, {high:.1%}] of {sum(hits.trials)}")


if __name__ == "__main__":
    main()
