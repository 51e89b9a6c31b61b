"""A model of one device corrected for another by 20 rows: simulated families, and two real CPUs.

Beside the correction stand what one would do without it: A's model as it is, A's model times one
scale (the median ratio), and prices fitted to B's 20 rows alone. The simulated part needs nothing;
the real one reads 1,000 convolutions and 1,000 linear layers, forward and backward, on two CPUs by
RAPL (github.com/willowec/characterizing-pytorch-power, MIT) from --data.

    python benchmarks/transfer.py [--data DIR] [--seeds 100]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from costmodels.estimators.relative import RelativeNNLS
from costmodels.transfer.core import DeviceFamilyWarning
from costmodels.transfer.estimator import DeviceTransfer, own_scatter

ROWS = 20
CPUS = {"Broadwell": "broadwell-ep-*", "Raptor Lake": "raptorlake-*"}
WRAP_UJ = 262143328850 / 100  # one counter wrap in a mean of 100 batches
PRICES = np.array([2e-6, 5e-9, 1e-11])

Table = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features (m, p), joules (m,), groups to leave out (m,)."""


def simulated(seed: int, rows: int, prices: np.ndarray, layer_sd: float, noise: float) -> Table:
    """Layers of 1 to 10^6 entries: a + c k + bytes, each layer a little off, and noise."""
    generator = np.random.default_rng(seed)
    k = 10.0 ** generator.uniform(0, 6, rows)
    X = np.column_stack([np.ones(rows), k, k * 10.0 ** generator.uniform(0, 3, rows)])
    y = X @ prices * np.exp(layer_sd * generator.normal(size=rows))
    return X, y * np.maximum(1 + noise * generator.normal(size=rows), 0.05), np.arange(rows) % 20


def measured(folder: Path, cpu: str, layer: str, way: str) -> Table:
    """Batch joules of a real CPU; wraps repaired, zero windows dropped."""
    path = next(iter(sorted(folder.glob(f"**/out/{CPUS[cpu]}/{layer}.csv"))))
    frame = pd.read_csv(path)
    energy = frame[f"{way}_energy"].to_numpy(dtype=np.float64)
    energy = np.where((energy < 0) & (cpu == "Broadwell"), energy + WRAP_UJ, energy)
    batch = frame["batch_size"].to_numpy(dtype=np.float64)
    ones = np.ones_like(batch)
    if layer == "conv":
        side = (frame["side_len"] - frame["k_size"]) // frame["stride"] + 1
        patch = frame["in_chan"] * frame["k_size"] ** 2
        out = batch * side**2
        columns = [
            out * patch * frame["out_chan"],
            4 * out * patch,
            4 * batch * frame["in_chan"] * frame["side_len"] ** 2,
            4 * out * frame["out_chan"],
            ones,
        ]
        groups = frame["k_size"].to_numpy()
    else:
        macs = batch * frame["in_size"] * frame["out_size"]
        columns = [
            macs,
            4 * batch * (frame["in_size"] + frame["out_size"]),
            4 * frame["in_size"] * frame["out_size"],
            ones,
        ]
        groups = np.digitize(macs, np.quantile(macs, np.arange(0.1, 1.0, 0.1)))
    X = np.column_stack(columns).astype(np.float64)
    kept = energy > 0
    return X[kept], energy[kept] * 1e-6, groups[kept]


def mape(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute percentage error."""
    return float(100 * np.mean(np.abs(predicted / truth - 1)))


def compare(
    first: Table, second: Callable[[int], tuple[Table, Table, float]], seeds: int
) -> dict[str, float]:
    """Mean figures over *seeds* draws of 20 rows of B, scored on its other rows."""
    X, y, groups = first
    base = RelativeNNLS(refits=4).fit(X, y)
    scatter = own_scatter(base, X, y, groups)
    rows: list[dict[str, float]] = []
    for seed in range(seeds):
        (Xc, yc, _), (Xt, yt, _), noise = second(seed)
        plain = base.predict(Xt)
        began = time.perf_counter()
        moved = DeviceTransfer(base, scatter).fit(Xc, yc, variance=(noise * yc) ** 2)
        took = time.perf_counter() - began
        low, high = moved.predict_interval(Xt, 0.90)
        alone = RelativeNNLS(refits=4).fit(Xc, yc).predict(Xt)
        corrected = moved.predict(Xt)
        rows.append(
            {
                "as it is": mape(plain, yt),
                "one scale": mape(plain * np.median(yc / base.predict(Xc)), yt),
                "20 rows alone": mape(alone, yt),
                "corrected": mape(corrected, yt),
                "median": float(100 * np.median(np.abs(corrected / yt - 1))),
                "held": float(100 * np.mean((low <= yt) & (yt <= high))),
                "factor": float(np.median(np.sqrt(high / low))),
                "warned": 100.0 * (moved.same_family_ is False),
                "ms": 1e3 * took,
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def show(name: str, found: dict[str, float]) -> None:
    """One line of the table."""
    print(
        f"{name:44s}{found['as it is']:9.1f}{found['one scale']:11.1f}"
        f"{found['20 rows alone']:12.1f}"
        f"{found['corrected']:11.1f}{found['median']:8.1f}{found['held']:8.1f}"
        f"{found['factor']:8.2f}{found['warned']:8.0f}{found['ms']:7.0f}",
        flush=True,
    )


def heading(seeds: int) -> None:
    """The lines above the table."""
    print(f"mean absolute percentage error on B's other rows, {ROWS} rows of B, {seeds} seeds")
    print(
        f"{'':44s}{'as it is':>9s}{'one scale':>11s}{'B alone':>12s}{'corrected':>11s}"
        f"{'median':>8s}"
        f"{'90% in':>8s}{'factor':>8s}{'warned':>8s}{'ms':>7s}"
    )


def families(seeds: int) -> dict[str, dict[str, float]]:
    """Simulated devices: one family with its own scales of a and c; then other families."""
    figures: dict[str, dict[str, float]] = {}

    def shown(name: str, found: dict[str, float]) -> None:
        figures[name] = found
        show(name, found)

    for layer_sd, noise in ((0.05, 0.02), (0.05, 0.05), (0.05, 0.15)):
        first = simulated(10_000, 300, PRICES, layer_sd, noise)

        def relative(
            seed: int, sd: float = layer_sd, noise: float = noise
        ) -> tuple[Table, Table, float]:
            prices = PRICES * np.exp(np.random.default_rng(seed).uniform(-1.5, 1.5, 3))
            known = simulated(20_000 + seed, ROWS, prices, sd, noise)
            return known, simulated(30_000 + seed, 300, prices, sd, 0.0), 0.0

        shown(f"one family, {noise:.0%} noise (target: under 10)", compare(first, relative, seeds))
    first = simulated(10_000, 300, PRICES, 0.05, 0.05)

    def scattered(seed: int) -> tuple[Table, Table, float]:
        known = simulated(20_000 + seed, ROWS, PRICES, 0.4, 0.05)
        return known, simulated(30_000 + seed, 300, PRICES, 0.4, 0.0), 0.0

    def cliff(seed: int) -> tuple[Table, Table, float]:
        known, new = (
            (X, np.where(X[:, 1] > 3e3, 4.0, 1.0) * y, groups)
            for X, y, groups in (
                simulated(20_000 + seed, ROWS, PRICES, 0.05, 0.05),
                simulated(30_000 + seed, 300, PRICES, 0.05, 0.0),
            )
        )
        return known, new, 0.0

    shown("another family: each layer its own c", compare(first, scattered, seeds))
    shown("another family: a cache cliff", compare(first, cliff, seeds))
    return figures


def real(folder: Path, seeds: int) -> dict[str, dict[str, float]]:
    """Both directions between the two CPUs, and each CPU to itself, halves apart."""
    figures: dict[str, dict[str, float]] = {}
    for layer in ("conv", "linear"):
        for way in ("for", "back"):
            tables = {cpu: measured(folder, cpu, layer, way) for cpu in CPUS}
            for a, b in (
                ("Broadwell", "Raptor Lake"),
                ("Raptor Lake", "Broadwell"),
                ("Broadwell", "Broadwell"),
                ("Raptor Lake", "Raptor Lake"),
            ):
                halves = a == b
                first = tuple(column[::2] if halves else column for column in tables[a])
                other = tuple(column[1::2] if halves else column for column in tables[b])

                def draw(seed: int, other: Table = other) -> tuple[Table, Table, float]:  # type: ignore[assignment]
                    order = np.random.default_rng(seed).permutation(len(other[1]))
                    known, new = order[:ROWS], order[ROWS:]
                    return (
                        tuple(column[known] for column in other),  # type: ignore[return-value]
                        tuple(column[new] for column in other),
                        0.02,
                    )

                name = f"{layer} {way}ward: {a} -> {b}"
                figures[name] = compare(first, draw, seeds)  # type: ignore[arg-type]
                show(name, figures[name])
    return figures


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with src/out/<cpu>/{conv,linear}.csv")
    parser.add_argument("--seeds", type=int, default=100, help="draws of 20 rows a line")
    given = parser.parse_args()
    warnings.simplefilter("ignore", DeviceFamilyWarning)
    heading(given.seeds)
    families(given.seeds)
    if given.data is None or not any(given.data.glob(f"**/out/{CPUS['Broadwell']}/conv.csv")):
        print("two real CPUs: skipped, --data names no folder that holds them")
        return
    real(given.data, given.seeds)


if __name__ == "__main__":
    main()
