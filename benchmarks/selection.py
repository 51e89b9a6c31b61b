"""Selection under a joule budget: milliseconds beside a read pass and what people use instead.

    python benchmarks/selection.py [--sizes 1e6,25e6,1e8] [--quick] [--json FILE]

Everything runs in one process and on the same float32 buffers, which rotate so that no figure is
of a warm one (at 1e6 entries they stay in the last cache, as a small model's would). Medians. Each
ratio stands beside its target. (Not called select.py: a script's folder is searched for modules
first, and `select` is one of Python's own.)
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cwmp import CostWeighted, ErrorFeedback, SelectionCosts
from cwmp.selectors.element_costs import ElementCosts
from cwmp.selectors.element_weighted import ElementWeighted
from cwmp.selectors.priced import PriceSelector

BUFFERS = 4
LAYERS = 60
THREADS = torch.get_num_threads()
Update = dict[str, np.ndarray]


@dataclass(frozen=True)
class Figure:
    """One median, and what it is held against."""

    what: str
    entries: int
    share: float
    ms: float
    beside: str = ""
    ratio: float | None = None
    target: str = ""

    def line(self) -> str:
        size = f"{self.entries / 1e6:5.0f}e6 {100 * self.share:3.0f} %"
        against = ""
        if self.ratio is not None:
            against = f"{self.ratio:8.2f} x {self.beside}   (target {self.target})"
        return f"{size}  {self.what:<44}{self.ms:10.3f} ms {against}"


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description="Measure selection against its peers.")
    parser.add_argument("--sizes", default="1e6,25e6,1e8", help="entries, comma-separated")
    parser.add_argument("--quick", action="store_true", help="1e6 and 4e6 entries, few runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    sizes = [int(float(x)) for x in arguments.sizes.split(",")]
    if arguments.quick:
        sizes = [1_000_000, 4_000_000]
    print(f"{platform.machine()}, {THREADS} threads, torch {torch.__version__}")
    figures = []
    for entries in sizes:
        for figure in measure(entries, quick=arguments.quick):
            print(figure.line(), flush=True)
            figures.append(asdict(figure))
        gc.collect()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(entries: int, *, quick: bool) -> Iterator[Figure]:
    """All figures for one size."""
    plain = [normal(entries, seed) for seed in range(BUFFERS)]
    runs = 5 if quick else 400 if entries <= 1e6 else 15
    slow = 1 if quick or entries > 5e7 else 3
    tensors = [torch.from_numpy(x["w"]) for x in plain]
    read = timed(lambda i: torch.sum(tensors[i]), runs)
    yield Figure("one read pass: torch.sum", entries, 0, read)
    for share in (0.01, 0.1):
        k = int(share * entries)
        topk = timed(largest(tensors, k), slow)
        yield Figure("torch.topk of |g|", entries, share, topk)
        yield Figure("numpy.partition of |g|", entries, share, timed(partition(plain, k), slow))
        yield Figure(
            "torch: sample, compare, nonzero", entries, share, timed(sampled(tensors, k), slow)
        )
        sort = timed(sorted_scores(tensors, k), slow)
        yield Figure("score, sort, cumsum", entries, share, sort)
        yield from ours(plain, tensors, share, read, topk, sort, runs)
    yield from other_inputs(plain, read, runs)
    yield memory(plain)


def ours(
    plain: list[Update],
    tensors: list[torch.Tensor],
    share: float,
    read: float,
    topk: float,
    sort: float,
    runs: int,
) -> Iterator[Figure]:
    """Budget, price, error feedback and per-entry costs at one budget."""
    entries = plain[0]["w"].size
    costs = SelectionCosts.linear({"w": (entries,)}, {"w": 1.0})
    budget_j = share * entries
    tight = share < 0.05
    exact = CostWeighted(costs)
    ms = timed(lambda i: exact.select(plain[i], budget_j), runs)
    name = "exact budget, a cost a layer"

    def against(
        beside: str, ratio: float, target: str, what: str = name, took: float = ms
    ) -> Figure:
        return Figure(what, entries, share, took, beside, ratio, target)

    if entries <= 1e6:
        yield Figure(name, entries, share, ms, "0.3 ms", ms / 0.3, "at most 1" if tight else "-")
    yield against("a read pass", ms / read, "at most 1.5" if tight else "-")
    yield against("faster than torch.topk", topk / ms, "100" if tight else "60")
    yield against("faster than the sort", sort / ms, "800" if tight else "-")
    layered, unequal = heavy_tailed_layers(entries)
    rule = CostWeighted(unequal)
    spent = share * unequal.dense_j
    took = timed(lambda i: rule.select(layered[i], spent), runs)
    what = f"the same, heavy-tailed, {LAYERS} unequal layers"
    yield against("the plain case", took / ms, "at most 1.3", what, took)
    priced = PriceSelector(costs)
    price = exact.select(plain[0], budget_j).price or 0.0
    took = timed(lambda i: priced.keep(plain[i], price), runs)
    yield against("a read pass", took / read, "at most 1.2", "price mode", took)
    yield from feedback(plain, tensors, share, ms, runs)
    quanta = np.random.default_rng(0).integers(100, 60_000, entries).astype(np.uint16)
    elements = ElementCosts({"w": quanta}, quantum_j=1e-5)
    weighted = ElementWeighted(elements)
    took = timed(lambda i: weighted.select(plain[i], share * elements.dense_j), runs)
    yield against("a cost a layer", took / ms, "at most 2", "exact budget, a cost an entry", took)


def feedback(
    plain: list[Update], tensors: list[torch.Tensor], share: float, alone: float, runs: int
) -> Iterator[Figure]:
    """Error feedback in one pass, beside torch's four steps."""
    entries = plain[0]["w"].size
    k = int(share * entries)
    costs = SelectionCosts.linear({"w": (entries,)}, {"w": 1.0})
    residual = torch.zeros(entries)

    def in_torch(i: int) -> None:
        residual.add_(tensors[i])
        _, index = torch.topk(residual.abs(), k, sorted=False)
        residual[index].clone()
        residual[index] = 0.0

    torch_ms = timed(in_torch, 1 if entries > 5e7 else 3)
    yield Figure("torch: add, topk, gather, zero", entries, share, torch_ms)
    held = np.zeros(entries, dtype=np.float32)
    add = timed(lambda i: torch.add(residual, tensors[i], out=residual), runs)
    for check in (False, True):
        rule = ErrorFeedback(CostWeighted(costs), check=check)
        rule.load_state_dict({"w": held})
        took = timed(lambda i, rule=rule: rule.select(plain[i], float(k)), runs)
        what = "error feedback, " + ("the update checked first" if check else "one pass")
        target = "-" if check else "60"
        yield Figure(what, entries, share, took, "faster than torch's", torch_ms / took, target)
        if not check:
            ratio = (add + alone) / took
            yield Figure(what, entries, share, took, "faster than add, then select", ratio, "1")


def other_inputs(plain: list[Update], read: float, runs: int) -> Iterator[Figure]:
    """Shorter types, ties and fixed charges at 1 %."""
    entries = plain[0]["w"].size
    costs = SelectionCosts.linear({"w": (entries,)}, {"w": 1.0})
    rule, budget_j = CostWeighted(costs), 0.01 * entries
    usual = timed(lambda i: rule.select(plain[i], budget_j), runs)
    for kind in (torch.float16, torch.bfloat16):
        short = [{"w": torch.from_numpy(x["w"]).to(kind)} for x in plain]
        took = timed(lambda i, short=short: rule.select(short[i], budget_j), runs)
        yield Figure(str(kind), entries, 0.01, took, "float32", took / usual, "at most 1")
    numbers = np.random.default_rng(1)
    tied = {
        "all entries equal": np.ones(entries, dtype=np.float32),
        "three values": numbers.integers(0, 3, entries).astype(np.float32),
        "a grid of some 200 values": np.round(20 * plain[0]["w"]),
    }
    for name, values in tied.items():
        copies = [{"w": values.copy()} for _ in range(2)]
        took = timed(lambda i, copies=copies: rule.select(copies[i % 2], budget_j), runs)
        yield Figure(name, entries, 0.01, took, "the random case", took / usual, "at most 3")
    layered, unequal = heavy_tailed_layers(entries, fixed_entries=600)
    charged = CostWeighted(unequal)
    spent = 0.01 * unequal.dense_j
    took = timed(lambda i: charged.select(layered[i], spent), max(3, runs // 4))
    what = f"a fixed charge a layer, {LAYERS} layers"
    yield Figure(what, entries, 0.01, took, "a read pass", took / read, "-")


def memory(plain: list[Update]) -> Figure:
    """What a selection of 1 % allocates at most, result and scratch, as a share of the update."""
    entries = plain[0]["w"].size
    rule = CostWeighted(SelectionCosts.linear({"w": (entries,)}, {"w": 1.0}))
    tracemalloc.start()
    rule.select(plain[0], 0.01 * entries)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    share = peak / plain[0]["w"].nbytes
    return Figure("memory at 1 %", entries, 0.01, 0.0, "of the update", share, "under 0.15")


def timed(function: Callable[[int], object], runs: int) -> float:
    """The median of *runs* calls in milliseconds, buffers rotating, after two to warm up."""
    took = []
    for run in range(runs + 2):
        begin = time.perf_counter()
        function(run % BUFFERS)
        took.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(took[2:])


def normal(entries: int, seed: int) -> Update:
    """One layer of standard normal entries."""
    return {"w": np.random.default_rng(seed).standard_normal(entries, dtype=np.float32)}


def heavy_tailed_layers(
    entries: int, fixed_entries: float = 0.0
) -> tuple[list[Update], SelectionCosts]:
    """Ratios of normals, with tails far heavier, in layers of very unequal size and cost."""
    numbers = np.random.default_rng(7)
    shares = numbers.dirichlet(np.full(LAYERS, 0.3))
    sizes = np.maximum((shares * entries).astype(int), 10)
    names = [f"layer{number}" for number in range(LAYERS)]
    cost_j = np.exp(numbers.normal(0, 1, LAYERS))
    costs = SelectionCosts.linear(
        {name: (int(size),) for name, size in zip(names, sizes, strict=True)},
        dict(zip(names, cost_j.tolist(), strict=True)),
        dict(zip(names, (fixed_entries * cost_j).tolist(), strict=True)),
    )
    updates = []
    for seed in range(BUFFERS):
        draws = torch.Generator().manual_seed(seed)
        whole = torch.randn(int(sizes.sum()), generator=draws)
        for _ in range(2):
            whole /= torch.randn(whole.shape, generator=draws).abs_().add_(0.5)
        parts = np.split(whole.numpy(), np.cumsum(sizes)[:-1])
        updates.append(dict(zip(names, parts, strict=True)))
    return updates, costs


def largest(tensors: list[torch.Tensor], k: int) -> Callable[[int], object]:
    """torch.topk."""
    return lambda i: torch.topk(tensors[i].abs(), k, sorted=False)


def partition(plain: list[Update], k: int) -> Callable[[int], object]:
    """numpy.partition for the threshold, then a comparison."""

    def run(i: int) -> object:
        magnitudes = np.abs(plain[i]["w"])
        threshold = np.partition(magnitudes, magnitudes.size - k)[magnitudes.size - k]
        return np.flatnonzero(magnitudes >= threshold)

    return run


def sampled(tensors: list[torch.Tensor], k: int) -> Callable[[int], object]:
    """A threshold from a sample, so that k is met only about."""

    def run(i: int) -> object:
        magnitudes = tensors[i].abs()
        some = magnitudes[:: max(1, magnitudes.numel() // 100_000)]
        threshold = torch.quantile(some[:1_000_000], 1 - k / magnitudes.numel())
        return torch.nonzero(magnitudes > threshold)

    return run


def sorted_scores(tensors: list[torch.Tensor], k: int) -> Callable[[int], object]:
    """All scores sorted, their costs added up, the budget looked for: what people write."""

    def run(i: int) -> object:
        cost = torch.ones_like(tensors[i])
        order = torch.argsort(tensors[i].square() / cost, descending=True)
        spent = torch.cumsum(cost[order], 0, dtype=torch.float64)
        return order[: int(torch.searchsorted(spent, float(k), right=True))]

    return run


if __name__ == "__main__":
    main()
