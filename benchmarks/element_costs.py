"""Costs by the entry beside costs by the layer: milliseconds of an exact selection.

    python benchmarks/element_costs.py [--quick] [--json FILE]

Both rules select from the same float32 buffers, which rotate so that no figure is of a warm one,
and take turns, so that whatever else the machine does meets both. Medians; a budget of 1 % is 1 %
of the joules of everything, for either rule. Costs take two bytes. Tied inputs stand beside the
random one: there the order is decided by |g| and position.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cwmp import CostWeighted, ElementCosts, ElementWeighted, SelectionCosts
from cwmp.selection import Selection

BUFFERS = 4
SHARES = (0.01, 0.1)
TARGET_LAYER, TARGET_TIED = 2.0, 3.0
Update = dict[str, np.ndarray]
Round = Callable[[int], Selection]


@dataclass(frozen=True)
class Figure:
    """The medians of two rules that took turns, and their ratio beside its target."""

    what: str
    entries: int
    share: float
    kept: int
    ms: float
    beside: str
    beside_ms: float
    ratio: float
    target: float

    def line(self) -> str:
        size = f"{self.entries / 1e6:3.0f}e6 {100 * self.share:3.0f} %"
        against = f"{self.ratio:5.2f} x {self.beside} ({self.beside_ms:.2f} ms)"
        return f"{size}  {self.what:<34}{self.ms:8.2f} ms  {against}, target {self.target:g}"


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description="Measure selection with a cost an entry.")
    parser.add_argument("--quick", action="store_true", help="2e6 entries, few runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    entries, runs = (2_000_000, 7) if arguments.quick else (25_000_000, 25)
    figures = []
    for figure in measure(entries, runs):
        print(figure.line(), flush=True)
        figures.append(asdict(figure))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(entries: int, runs: int) -> Iterator[Figure]:
    """Random costs of a narrow and of a wide spread, then the inputs whose scores are tied."""
    updates = [normal(entries, seed) for seed in range(BUFFERS)]
    layer = SelectionCosts.linear({"w": (entries,)}, {"w": 1.0})
    numbers = np.random.default_rng(0)
    for share in SHARES:
        by_layer = rule(CostWeighted(layer), updates, share * layer.dense_j)
        for what, least in (("costs within a factor of 10", 6_000), ("of 600", 100)):
            quanta = numbers.integers(least, 60_000, entries).astype(np.uint16)
            costs = ElementCosts({"w": quanta}, quantum_j=1e-5)
            random = rule(ElementWeighted(costs), updates, share * costs.dense_j)
            yield turns(what, random, "a cost a layer", by_layer, TARGET_LAYER, runs, share)
        for what, update, quanta in tied(entries, numbers):
            costs = ElementCosts({"w": quanta}, quantum_j=1e-5)
            equal = rule(ElementWeighted(costs), [update], share * costs.dense_j)
            yield turns(what, equal, "random costs", random, TARGET_TIED, runs, share)


def normal(entries: int, seed: int) -> Update:
    """A standard normal update."""
    numbers = np.random.default_rng(seed)
    return {"w": numbers.standard_normal(entries, dtype=np.float32)}


def tied(entries: int, numbers: np.random.Generator) -> Iterator[tuple[str, Update, np.ndarray]]:
    """Updates and costs in which very many entries, or all, have one score."""
    root = numbers.integers(1, 240, entries)
    few = numbers.integers(1, 4, entries)
    yield "all equal", {"w": np.full(entries, 0.5, "f4")}, np.full(entries, 7, "u2")
    yield "one score of many pairs", {"w": root.astype("f4")}, (root * root).astype("u2")
    yield (
        "values and costs of 1, 2, 3",
        {"w": few.astype("f4")},
        numbers.permutation(few).astype("u2"),
    )


def rule(selector: CostWeighted | ElementWeighted, updates: list[Update], budget_j: float) -> Round:
    """One round of *selector* on the buffer whose turn it is."""
    return lambda turn: selector.select(updates[turn % len(updates)], budget_j)


def turns(
    what: str, own: Round, beside: str, other: Round, target: float, runs: int, share: float
) -> Figure:
    """Both once for warmth, then *runs* times in turn."""
    kept = own(0).entries
    entries = sum(int(np.prod(layer.shape)) for layer in own(1).layers)
    other(2)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(runs):
        for number, select in enumerate((own, other)):
            begin = time.perf_counter()
            select(3 + 2 * turn + number)
            times[number].append(1e3 * (time.perf_counter() - begin))
    ms, beside_ms = (statistics.median(x) for x in times)
    return Figure(what, entries, share, kept, ms, beside, beside_ms, ms / beside_ms, target)


if __name__ == "__main__":
    main()
