"""Updates and costs that the tests of costs by the entry share."""

from __future__ import annotations

import numpy as np
import pytest
from stand_ins.distributions import DISTRIBUTIONS, Draw

from cwmp import ElementCosts, ElementWeighted
from cwmp.selection import Selection
from cwmp.selectors.element_reference import ReferenceElementWeighted
from profiler.errors import BudgetError

Arrays = dict[str, np.ndarray]

VALUES = DISTRIBUTIONS
COSTS: dict[str, Draw] = {
    "any": lambda r, n: r.integers(1, 2**16, n),
    "near each other": lambda r, n: r.integers(60_000, 61_000, n),
    "few": lambda r, n: r.choice([1, 4, 9, 16], n),
    "equal": lambda r, n: np.full(n, 7),
    "one entry is dear": lambda r, n: np.where(np.arange(n) == n // 3, 2**16 - 1, 1),
    "squares": lambda r, n: r.integers(1, 256, n) ** 2,
}
SIZES = [1, 2, 15, 16, 17, 33, 1000, 4097, 40_000, 70_001]


def kept(selection: Selection) -> list[tuple[str, bytes, bytes]]:
    """What is kept, as bytes that can be compared."""
    return [
        (x.name, x.indices.astype(np.int64).tobytes(), x.values.tobytes()) for x in selection.layers
    ]


def costs_of(
    numbers: np.random.Generator,
    sizes: list[int],
    kind: str,
    wide: bool = False,
    message_j: float = 0.0,
) -> ElementCosts:
    """Costs of layers of *sizes* entries; *wide* ones take up to 2^32 - 1 quanta."""
    quanta = {}
    for number, size in enumerate(sizes):
        drawn = COSTS[kind](numbers, size).astype(np.uint32)
        quanta[f"layer{number}"] = drawn * np.uint32(65_537) if wide else drawn.astype(np.uint16)
    return ElementCosts(quanta, 1e-9, message_j)


def update_of(numbers: np.random.Generator, costs: ElementCosts, values: str) -> Arrays:
    """A float32 update of the layers that *costs* prices."""
    draw = VALUES[values]
    return {name: draw(numbers, x.size).astype(np.float32) for name, x in costs.quanta.items()}


def check_same(
    costs: ElementCosts,
    update: Arrays,
    budget_j: float,
    p: float = 2,
    q: float = 1,
    threads: int | None = None,
) -> Selection | None:
    """The kernels' selection, which must be the reference's, or refuse what it refuses."""
    slow = ReferenceElementWeighted(costs, p, q)
    fast = ElementWeighted(costs, p, q, threads=threads)
    try:
        expected = slow.select(update, budget_j)
    except BudgetError as error:
        with pytest.raises(BudgetError) as raised:
            fast.select(update, budget_j)
        assert str(raised.value) == str(error)
        return None
    selection = fast.select(update, budget_j)
    assert kept(selection) == kept(expected)
    assert selection.energy_j == expected.energy_j <= budget_j
    for number in ("captured", "total", "bound", "price", "reached"):
        mine, theirs = getattr(selection, number), getattr(expected, number)
        assert mine == (None if theirs is None else pytest.approx(theirs, rel=1e-12))
    return selection
