"""Compile every kernel now: ``python -m cwmp.compile_kernels``.

Kernels are compiled when they are first called, once a machine, which takes about a minute in
all. Done beforehand, no measurement and no first round waits for it.
"""

from __future__ import annotations

import time

import numpy as np

from cwmp.codec import decode, encode
from cwmp.feedback import ErrorFeedback
from cwmp.payload import VALUE_BYTES, PayloadLayout
from cwmp.selection import LayerSelection
from cwmp.selectors.block_shapes import Groups
from cwmp.selectors.blocks import BlockWeighted
from cwmp.selectors.burst_costs import BurstCosts, BurstPrice
from cwmp.selectors.bursts import BurstWeighted
from cwmp.selectors.cost_weighted import CostWeighted
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.element_costs import ElementCosts
from cwmp.selectors.element_weighted import ElementWeighted
from cwmp.selectors.priced import PriceSelector
from cwmp.selectors.top_k import TopK
from profiler.console import say

_SHAPES = {"small": (5,), "large": (300, 500), "tied": (200, 300)}


def main() -> None:
    """Call each kernel once, on small inputs of every kind."""
    begin_s = time.perf_counter()
    select()
    send()
    say(f"kernels ready after {time.perf_counter() - begin_s:.0f} s")


def select() -> None:
    """Every way through the selectors."""
    numbers = np.random.default_rng(0)
    update = {n: numbers.standard_normal(s).astype(np.float32) for n, s in _SHAPES.items()}
    equal = {name: np.ones(shape, dtype=np.float32) for name, shape in _SHAPES.items()}
    cost_j = dict.fromkeys(_SHAPES, 1.0)
    for fixed_j in (0.0, 50.0):
        costs = SelectionCosts.linear(_SHAPES, cost_j, dict.fromkeys(_SHAPES, fixed_j))
        for rule in (TopK(costs), CostWeighted(costs), CostWeighted(costs, 1, 1)):
            rule.select(update, 0.05 * costs.dense_j)
            rule.select(equal, 0.05 * costs.dense_j)
        feedback = ErrorFeedback(CostWeighted(costs))
        for _ in range(2):
            feedback.select(update, 0.05 * costs.dense_j)
        BlockWeighted(costs, Groups(16)).select(update, 0.5 * costs.dense_j)
        PriceSelector(costs).keep(update, 1.0)
        PriceSelector(costs).spend_j(update, (1.0, 2.0))
    bursts = BurstCosts(tuple(BurstPrice(n, s, 1.0, 16.0, 1.0) for n, s in _SHAPES.items()))
    BurstWeighted(bursts).select(update, 0.1 * bursts.dense_j)
    quanta = {n: numbers.integers(1, 9, s).astype(np.uint16) for n, s in _SHAPES.items()}
    elements = ElementCosts(quanta, quantum_j=1.0)
    for values in (update, equal):
        ElementWeighted(elements).select(values, 0.05 * elements.dense_j)


def send() -> None:
    """Every value type and index code, there and back."""
    numbers = np.random.default_rng(0)
    entries = 20_000
    spread = np.sort(numbers.choice(entries, 900, replace=False)).astype(np.int32)
    runs = np.flatnonzero(np.arange(entries) % 1000 < 90).astype(np.int32)
    most = np.flatnonzero(np.arange(entries) % 50).astype(np.int32)
    for value_type in VALUE_BYTES:
        layout = PayloadLayout({"layer": (entries,)}, value_type=value_type)
        for kept in (spread, runs, most):
            exact = numbers.standard_normal(kept.size)
            for indices in (kept, kept.astype(np.int64)):
                for values in (exact, exact.astype(np.float32)):
                    layer = LayerSelection("layer", (entries,), indices, values)
                    decode(encode([layer], layout), layout)


if __name__ == "__main__":
    main()
