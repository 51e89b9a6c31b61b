"""What structure in the costs is worth: bursts, blocks, value types, and the bytes really sent.

    python benchmarks/structured.py [--quick] [--json FILE]

Updates are synthetic: Laplace entries, either all of one scale (scattered) or times a log-normal
factor for each row and each burst of 16 entries (clustered). Costs are assumed and stated beside
each table, but for value types, whose costs are of a recorded trace. At equal joules always.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import device_traces
from costmodels import costs_from_trace
from cwmp.payload import PayloadLayout
from cwmp.selectors.block_shapes import Blocks, Channels, Groups, NofM, Tiles
from cwmp.selectors.blocks import BlockWeighted
from cwmp.selectors.burst_costs import BurstCosts, linear_bursts
from cwmp.selectors.bursts import BurstWeighted
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.refined import Refined
from cwmp.selectors.value_types import best_value_type

TRACE = "amd-epyc-2core-vm/resnet8-modelled"
ROW, BURST = 1024, 16
LEAST_RATIO, MOST_SHORTFALL = 1.0, 0.01


def update_of(numbers: np.random.Generator, entries: int, clustered: bool) -> np.ndarray:
    """Laplace entries as a matrix of rows; see the module's docstring."""
    values = numbers.laplace(size=(entries // ROW, ROW // BURST, BURST))
    if clustered:
        values *= np.exp(numbers.normal(0, 0.7, size=(entries // ROW, 1, 1)))
        values *= np.exp(numbers.normal(0, 0.7, size=(entries // ROW, ROW // BURST, 1)))
    return values.reshape(-1, ROW).astype(np.float32)


def fastest(work: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """What *work* returns, and its best time in milliseconds."""
    taken = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - start_s)
    return result, 1e3 * min(taken)


def by_size_alone(update: dict[str, np.ndarray], costs: BurstCosts, budget_j: float) -> float:
    """What the largest |g|, as many as the burst costs allow, capture: blind to bursts."""
    flat = {layer.name: np.abs(update[layer.name].reshape(-1)) for layer in costs.layers}
    low, high = 0.0, max(float(one.max()) for one in flat.values())
    for _ in range(40):
        middle = (low + high) / 2
        kept = [np.flatnonzero(flat[layer.name] > middle) for layer in costs.layers]
        bursts = [
            np.unique(k // x.burst_entries).size for k, x in zip(kept, costs.layers, strict=True)
        ]
        if costs.energy_j(bursts, [k.size for k in kept]) <= budget_j:
            high = middle
        else:
            low = middle
    return sum(float((one[one > high].astype(np.float64) ** 2).sum()) for one in flat.values())


def bursts(numbers: np.random.Generator, entries: int, repeats: int) -> list[dict[str, Any]]:
    """Captured over that of the largest entries, and the time beside `torch.topk`'s."""
    rows = []
    for clustered in (False, True):
        update = {name: update_of(numbers, entries // 2, clustered) for name in ("a", "b")}
        shapes = {name: array.shape for name, array in update.items()}
        whole = torch.from_numpy(np.concatenate([x.reshape(-1) for x in update.values()])).abs()
        for burst_j in (1.0, 16.0):
            price = dict.fromkeys(shapes, burst_j)
            opening = dict.fromkeys(shapes, 1000.0)
            costs = linear_bursts(shapes, dict.fromkeys(shapes, 1.0), price, opening)
            rule = BurstWeighted(costs)
            budget_j = 0.05 * costs.dense_j
            rule.select(update, budget_j)
            found, took_ms = fastest(lambda r=rule, u=update, b=budget_j: r.select(u, b), repeats)
            k = found.entries
            _, topk_ms = fastest(lambda k=k, w=whole: torch.topk(w, k), repeats)
            rows.append(
                {
                    "update": "clustered" if clustered else "scattered",
                    "burst_over_entry": burst_j,
                    "ratio": found.captured / by_size_alone(update, costs, budget_j),
                    "gap": 1 - found.certificate,
                    "ms": took_ms,
                    "over_topk": topk_ms / took_ms,
                }
            )
    return rows


def blocks(numbers: np.random.Generator, entries: int, repeats: int) -> list[dict[str, Any]]:
    """Whole blocks beside single entries, declared joules and those of the bytes sent."""
    array = update_of(numbers, entries, True)
    update, shape = {"a": array}, array.shape
    price = LayerPrice("a", shape, (1,), (0.0,), (1e-9,), byte_j=1e-7)
    costs, layout = SelectionCosts((price,), 24e-7), PayloadLayout({"a": shape})
    budget_j = 0.05 * costs.dense_j
    kinds: dict[str, Blocks] = {
        "entries": Groups(1),
        "2 of 4": NofM(2, 4),
        "groups of 16": Groups(16),
        "tiles 4 x 16": Tiles(4, 16),
        "rows": Channels(0),
    }
    rows = []
    for name, kind in kinds.items():
        rule = BlockWeighted(costs, kind)
        rule.select(update, budget_j)
        plain, took_ms = fastest(lambda r=rule: r.select(update, budget_j), repeats)
        refining = Refined(rule, layout)
        refined = refining.refine(update, budget_j)
        rows.append(
            {
                "blocks": name,
                "captured": plain.captured / plain.total,
                "gap": 1 - plain.certificate,
                "refined": refined.selection.captured / plain.total,
                "true_over_declared": refining.true_j(plain) / plain.energy_j,
                "entries_gained": refined.selection.entries / plain.entries - 1,
                "rounds": len(refined.rounds),
                "ms": took_ms,
            }
        )
    return rows


def value_types(numbers: np.random.Generator) -> list[dict[str, Any]]:
    """Value types on a recorded device, at 1 and 10 % of the way from one entry to all."""
    file = costs_from_trace(device_traces.load(TRACE))
    update = {x.name: numbers.laplace(size=x.shape).astype(np.float32) for x in file.layers}
    costs = SelectionCosts.from_cost_file(file)
    rows = []
    for share in (0.01, 0.1):
        choice = best_value_type(
            update, file, costs.cheapest_j + share * (costs.dense_j - costs.cheapest_j)
        )
        for trial in choice.trials:
            rows.append(
                {
                    "share": share,
                    "value_type": trial.value_type,
                    "entries": trial.selection.entries,
                    "captured": trial.captured / trial.selection.total,
                    "error": trial.error / trial.selection.total,
                    "net": trial.net / trial.selection.total,
                }
            )
    return rows


def main() -> None:
    """Run the tables and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller updates, fewer repeats")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    numbers = np.random.default_rng(8)
    entries, repeats = (2**20, 3) if options.quick else (2**23, 7)
    tables = {
        "bursts": bursts(numbers, entries, repeats),
        "blocks": blocks(numbers, 2**20, repeats),
        "value_types": value_types(numbers),
    }
    print(f"bursts of 16: {entries:,} entries, an entry 1 J, opening a layer 1,000 J, 5 % budget")
    print(f"{'update':12}{'burst J':>8}{'captured over largest':>23}{'target':>8}", end="")
    print(f"{'gap':>10}{'target':>8}{'ms':>9}{'torch.topk over it':>20}")
    for row in tables["bursts"]:
        print(f"{row['update']:12}{row['burst_over_entry']:8.0f}{row['ratio']:22.3f}x", end="")
        print(f"{LEAST_RATIO:8.1f}{row['gap']:10.1e}{MOST_SHORTFALL:8.2f}", end="")
        print(f"{row['ms']:9.1f}{row['over_topk']:19.1f}x")
    print("\nblocks: 2^20 clustered entries, 0.1 uJ a byte, 1 nJ an entry, 5 % of the dense cost")
    print(f"{'blocks':14}{'captured':>9}{'gap':>9}{'by bytes':>10}{'entries':>9}", end="")
    print(f"{'joules/declared':>16}{'rounds':>8}{'ms':>8}")
    for row in tables["blocks"]:
        print(f"{row['blocks']:14}{row['captured']:9.4f}{row['gap']:9.1e}", end="")
        print(f"{row['refined']:10.4f}{row['entries_gained']:+9.1%}", end="")
        print(f"{row['true_over_declared']:16.3f}{row['rounds']:8}{row['ms']:8.1f}")
    print(f"\nvalue types: costs of {TRACE}, Laplace update, shares of |g|^2;")
    print("budget: of the joules between a single entry and the dense float32 message")
    print(f"{'budget':>7}{'type':>10}{'entries':>9}{'captured':>10}{'error':>10}{'net':>8}")
    for row in tables["value_types"]:
        print(f"{row['share']:7.0%}{row['value_type']:>10}{row['entries']:9,}", end="")
        print(f"{row['captured']:10.4f}{row['error']:10.1e}{row['net']:8.4f}")
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
