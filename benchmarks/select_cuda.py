"""Selection of an update that lives on a GPU, beside `torch.topk` of the same k there.

    python benchmarks/select_cuda.py [--sizes 25e6] [--quick] [--rehearse] [--json FILE]

Medians over buffers that rotate, the device idle before and after each run. Four figures a case:
what is kept left on the device; the whole `TopK.select`, whose selection is on the host; the copy
of k positions and values that is part of it; and `CostWeighted.select` with costs that differ.
Beside them the copies to the host, which are all the waits there are, and the most memory taken
over the update's own. Without a CUDA device it says so and claims nothing; `--rehearse` runs the
same code on tensors of the CPU, whose figures say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cwmp.kernels import cuda
from cwmp.selectors import CostWeighted, TopK
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.device import DeviceSearch, prefix_on_device

TARGET = 5.0
BUFFERS = 4
LAYERS = 60
PEER = "torch.topk of |g|"
COPY = "of it, copy of what is kept"
Update = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Figure:
    """One median beside `torch.topk`'s."""

    what: str
    entries: int
    layers: int
    share: float
    ms: float
    times_topk: float | None
    copies: int
    memory_share: float | None

    def line(self) -> str:
        case = f"{self.entries / 1e6:5.1f}e6 {100 * self.share:3.0f} % {self.layers:3d} layers"
        text = f"{case}  {self.what:<28}{self.ms:9.3f} ms"
        if self.times_topk is not None:
            text += f" {self.times_topk:6.2f} x torch.topk (target {TARGET:g})"
        text += f", copies {self.copies}"
        if self.memory_share is not None:
            text += f", memory {100 * self.memory_share:.0f} %"
        return text


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description="Measure selection on a GPU.")
    parser.add_argument("--sizes", default="25e6", help="entries, comma-separated")
    parser.add_argument("--quick", action="store_true", help="1e6 entries, few runs")
    parser.add_argument("--rehearse", action="store_true", help="run on the CPU's tensors")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.rehearse:
        print("no CUDA device: nothing measured, nothing claimed")
        return
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if where.type == "cuda" else "rehearsal on the CPU"
    kernels = "Triton" if cuda.row_kernels(where.type) else "torch"
    print(f"{name}, torch {torch.__version__}, passes by {kernels}")
    sizes = [1_000_000] if arguments.quick else [int(float(x)) for x in arguments.sizes.split(",")]
    runs = 5 if arguments.quick else 50
    figures = []
    for entries in sizes:
        for layers in (1, LAYERS):
            for share in (0.01, 0.1):
                for figure in measure(entries, layers, share, where, runs):
                    print(figure.line(), flush=True)
                    figures.append(asdict(figure))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(
    entries: int, layers: int, share: float, where: torch.device, runs: int
) -> list[Figure]:
    """The figures of one case."""
    updates = [laplace(entries, layers, seed, where) for seed in range(BUFFERS)]
    shapes = {name: tuple(value.shape) for name, value in updates[0].items()}
    equal = SelectionCosts.linear(shapes, dict.fromkeys(shapes, 1.0))
    spread = SelectionCosts.linear(
        shapes, {name: 1.0 + 2.0 * (number % 3) for number, name in enumerate(shapes)}
    )
    budget_j, k = share * equal.dense_j, int(share * entries)
    flat = [torch.cat([value.view(-1) for value in update.values()]) for update in updates]
    listed = [list(update.values()) for update in updates]
    rule, weighted = TopK(equal), CostWeighted(spread)
    for selector in (rule, weighted):
        selector._device_kind, selector._small = None, 0
    search = DeviceSearch(equal, where)
    ones = np.ones(layers)
    pair = (torch.empty(k, dtype=torch.int32, device=where), torch.empty(k, device=where))
    cases: dict[str, Callable[[int], object]] = {
        PEER: lambda i: torch.topk(flat[i].abs(), k, sorted=False),
        "kept, left on the device": lambda i: prefix_on_device(search, listed[i], ones, budget_j),
        "TopK.select": lambda i: rule.select(updates[i], budget_j),
        COPY: lambda i: cuda.to_host(pair),
        "CostWeighted.select": lambda i: weighted.select(updates[i], share * spread.dense_j),
    }
    figures: list[Figure] = []
    for what, run in cases.items():
        ms, copies, memory = timed(run, runs, where)
        peer_ms = figures[0].ms if figures else ms
        part = None if memory is None else memory / (4 * entries)
        ratio = None if what in (PEER, COPY) else peer_ms / ms
        figures.append(Figure(what, entries, layers, share, ms, ratio, copies, part))
    return figures


def laplace(entries: int, layers: int, seed: int, where: torch.device) -> Update:
    """A heavy-tailed update, its layers of falling size."""
    generator = torch.Generator(where).manual_seed(seed)
    parts = np.geomspace(1, 0.01, layers)
    ends = np.round(np.cumsum(parts) / parts.sum() * entries).astype(int)
    sizes = np.diff(ends, prepend=0)
    update = {}
    for number, size in enumerate(sizes.tolist()):
        uniform = torch.rand(size, generator=generator, device=where) - 0.5
        values = -uniform.sign() * torch.log1p(-2 * uniform.abs().clamp(max=0.4999999))
        update[f"layer{number}"] = values
    return update


def timed(
    run: Callable[[int], object], runs: int, where: torch.device
) -> tuple[float, int, int | None]:
    """Median milliseconds, copies to the host of one run, most bytes over what was there."""
    gpu = where.type == "cuda"
    for warm in range(BUFFERS):
        run(warm)
    copies, memory = watched(run, gpu)
    spent = []
    for number in range(runs):
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        kept = run(number % BUFFERS)
        if gpu:
            torch.cuda.synchronize()
        spent.append(1e3 * (time.perf_counter() - start))
        del kept
    return statistics.median(spent), copies, memory


def watched(run: Callable[[int], object], gpu: bool) -> tuple[int, int | None]:
    """Copies to the host of one run, and the most bytes on the device over those before it."""
    honest, copies = cuda.to_host, 0

    def counted(parts):  # type: ignore[no-untyped-def]
        nonlocal copies
        copies += 1
        return honest(parts)

    before = 0
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    cuda.to_host = counted
    try:
        run(0)
    finally:
        cuda.to_host = honest
    return copies, torch.cuda.max_memory_allocated() - before if gpu else None


if __name__ == "__main__":
    main()
