"""A million rows and a model of 25 million parameters: seconds and memory, each in a fresh process.

    python benchmarks/cost_models_scale.py PART [--rows 1000000]

PART is ``fit`` (a table of four kinds and 60 models, in memory), ``csv`` (reading the same from a
file) or ``predict`` (a ResNet-50's layers priced by a cost model read from its file). Each prints
one line of JSON. Everything runs on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

UNITS = {"calls": "J/call", "macs": "J/MAC", "input_bytes": "J/byte", "output_bytes": "J/byte"}
PRICES = {
    "conv2d": (2e-5, 6e-12, 4e-11, 6e-11),
    "linear": (1e-5, 9e-12, 6e-11, 6e-11),
    "attention": (4e-5, 8e-12, 9e-11, 5e-11),
    "norm": (8e-6, 0.0, 1.2e-10, 1e-10),
}
MODELS = 60
TRACE = "amd-epyc-2core-vm/resnet8-modelled"


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Rows of layers of 60 models: shapes over decades, prices by kind, and what prices miss.

    A layer with few MACs a byte uses the machine up to three times worse, models differ by 5 %
    and blocks by 4 %.
    """
    generator = np.random.default_rng(seed)
    names = np.array(list(PRICES))
    kind = names[generator.integers(0, len(names), rows)]
    model = generator.integers(0, MODELS, rows)
    channels = 2.0 ** generator.integers(3, 11, rows)
    out_channels = 2.0 ** generator.integers(3, 11, rows)
    tokens = np.round(10.0 ** generator.uniform(0.5, 4.0, rows))
    window = np.where(kind == "conv2d", generator.choice([1.0, 9.0, 25.0], rows), 1.0)
    width = np.where(kind == "norm", channels, out_channels)
    macs = np.where(kind == "norm", 0.0, tokens * channels * width * window)
    input_bytes, output_bytes = 4 * tokens * channels, 4 * tokens * width
    X = np.column_stack([np.ones(rows), macs, input_bytes, output_bytes])
    joules = np.einsum("ij,ij->i", X, np.array([PRICES[name] for name in names])[_at(kind, names)])
    reuse = macs / (input_bytes + output_bytes)
    joules *= 1 + 2 / (1 + (reuse / 20) ** 2)
    joules *= np.exp(0.05 * generator.normal(size=MODELS)[model])
    joules *= np.exp(0.04 * generator.normal(size=rows))
    return pd.DataFrame(
        {
            "model": np.char.add("model", model.astype(str)),
            "kind": kind,
            "calls": np.ones(rows),
            "macs": macs,
            "input_bytes": input_bytes,
            "output_bytes": output_bytes,
            "tokens": tokens,
            "channels": channels,
            "out_channels": width,
            "energy_j": joules,
        }
    )


def _at(kind: np.ndarray, names: np.ndarray) -> np.ndarray:
    order = np.argsort(names)
    return order[np.searchsorted(names, kind, sorter=order)]


def fit(rows: int) -> dict[str, Any]:
    """Seconds of `fit_samples`, of predicting as many rows, and the most memory held."""
    from costmodels.samples import Samples
    from costmodels.tablefit import fit_samples

    frame = table(rows)
    samples = Samples(
        features=frame[list(UNITS)],
        units=UNITS,
        energy_j=frame["energy_j"].to_numpy(),
        kind=frame["kind"].to_numpy().astype(str),
        groupings={"model": frame["model"].to_numpy().astype(str)},
        shape=frame[["tokens", "channels", "out_channels"]],
        source="simulated",
    )
    before = _peak_gib()
    began = time.perf_counter()
    steps: list[tuple[str, float]] = []
    model = fit_samples(
        samples, progress=lambda said: steps.append((said, time.perf_counter() - began))
    )
    took = time.perf_counter() - began
    peak = _peak_gib()
    began = time.perf_counter()
    kinds = frame["kind"].tolist()
    model.predict(frame, kinds)
    scores = model.tests[0].scores
    return {
        "rows": rows,
        "fit_s": took,
        "peak_gib": peak,
        "peak_before_gib": before,
        "predict_rows_s": time.perf_counter() - began,
        "mape": None if scores is None else scores.mape.value,
        "corrected": [one.kind for one in model.kinds if one.correction is not None],
        "steps": steps,
    }


def csv(rows: int) -> dict[str, Any]:
    """Seconds of reading the table from a file, with everything that is checked on the way."""
    from costmodels.tables import TableSpec, read_samples

    spec = TableSpec.from_dict(
        {
            "version": 1,
            "kind": {"column": "kind"},
            "energy": {"column": "energy_j", "unit": "J"},
            "features": {name: {"unit": unit} for name, unit in UNITS.items() if name != "calls"},
            "groupings": {"model": "model"},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        table(rows).to_csv(path, index=False)
        size = path.stat().st_size
        began = time.perf_counter()
        samples = read_samples(path, spec)
        took = time.perf_counter() - began
    return {"rows": len(samples), "bytes": size, "read_s": took, "peak_gib": _peak_gib()}


def predict() -> dict[str, Any]:
    """Seconds of pricing 25 million parameters, the first time and the best of ten."""
    import costmodels
    import costmodels.prediction
    import device_traces

    model = costmodels.fit_cost_model(device_traces.load(TRACE))
    layers = resnet50()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.json")
        began = time.perf_counter()
        read = costmodels.CostModel.load(Path(folder) / "model.json")
        load_s = time.perf_counter() - began
    times = []
    for _ in range(10):
        began = time.perf_counter()
        read.predict(layers, "resnet50")
        times.append(time.perf_counter() - began)
    return {
        "parameters": sum(layer.parameters for layer in layers),
        "layers": len(layers),
        "load_s": load_s,
        "first_s": times[0],
        "best_s": min(times),
    }


def resnet50() -> tuple[Any, ...]:
    """The 161 trainable tensors of a ResNet-50 (He et al. 2016, table 1), 25.6 million entries."""
    from profiler.layers import LayerInfo

    found: list[LayerInfo] = []

    def conv(name: str, out: int, into: int, side: int) -> None:
        found.append(
            LayerInfo(f"{name}.weight", "conv2d.weight", (out, into, side, side), "float32")
        )
        for role in ("weight", "bias"):
            found.append(LayerInfo(f"{name}.bn.{role}", f"batchnorm2d.{role}", (out,), "float32"))

    conv("conv1", 64, 3, 7)
    into = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", width, into, 1)
            conv(f"{name}.conv2", width, width, 3)
            conv(f"{name}.conv3", 4 * width, width, 1)
            if block == 0:
                conv(f"{name}.downsample", 4 * width, into, 1)
            into = 4 * width
    found.append(LayerInfo("fc.weight", "linear.weight", (1000, 2048), "float32"))
    found.append(LayerInfo("fc.bias", "linear.bias", (1000,), "float32"))
    return tuple(found)


def measure(part: str, rows: int = 1_000_000) -> dict[str, Any]:
    """Run *part* in a fresh process on two cores.

    Raises:
        RuntimeError: it failed; the message is its last line.
    """
    command = [sys.executable, __file__, part, "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"{part}: {last[0]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Run one part and print its JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("fit", "csv", "predict"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:2]))
    if given.part == "predict":
        print(json.dumps(predict()))
    else:
        print(json.dumps({"fit": fit, "csv": csv}[given.part](given.rows)))


if __name__ == "__main__":
    main()
