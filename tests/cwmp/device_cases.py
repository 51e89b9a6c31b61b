"""Updates, costs and comparisons that the tests of selection on a device share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from cwmp.kernels import cuda
from cwmp.selection import Selection
from cwmp.selectors import CostWeighted, TopK
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.kernel_rule import KernelRule
from profiler.errors import BudgetError, UpdateError

TINY = np.float32(1e-45)
DISTRIBUTIONS = {
    "normal": lambda r, n: r.standard_normal(n),
    "heavy tailed": lambda r, n: r.standard_normal(n) ** 9,
    "mostly zero": lambda r, n: np.where(r.random(n) < 0.02, r.standard_normal(n), 0.0),
    "all zero": lambda r, n: np.zeros(n),
    "negative zeros": lambda r, n: np.where(r.random(n) < 0.5, -0.0, r.standard_normal(n)),
    "equal but for the sign": lambda r, n: r.choice([-1.5, 1.5], n),
    "three values": lambda r, n: r.integers(0, 3, n),
    "a grid": lambda r, n: np.round(20 * r.standard_normal(n)),
    "one outlier": lambda r, n: np.where(np.arange(n) == n // 2, 1e6, 1.0),
    "subnormal": lambda r, n: r.integers(-4, 5, n) * TINY,
    "huge": lambda r, n: np.clip(1e37 * r.standard_normal(n), -3e38, 3e38),
    "rising": lambda r, n: np.arange(n),
    "clustered": lambda r, n: (
        r.standard_normal(n) * np.repeat(np.exp(r.normal(0, 2, n // 64 + 1)), 64)[:n]
    ),
}


@pytest.fixture(name="_one_thread", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def on_device(rule: KernelRule) -> KernelRule:
    """*rule*, treating tensors on any device as it treats a GPU's, however small."""
    rule._device_kind, rule._small = None, 0
    return rule


@contextmanager
def copies_to_host() -> Iterator[list[int]]:
    """The number of tensors in each copy to the host."""
    copies: list[int] = []
    honest = cuda.to_host

    def counted(parts):
        copies.append(len(parts))
        return honest(parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "to_host", counted)
        yield copies


def kept_bytes(selection: Selection) -> list[tuple]:
    return [
        (x.name, x.form, x.indices.astype(np.int64).tobytes(), x.values.dtype, x.values.tobytes())
        for x in selection.layers
    ]


def same_as_host(rule: KernelRule, update: dict[str, torch.Tensor], budget_j: float) -> None:
    device = on_device(copy_of(rule))
    try:
        expected = rule.select(update, budget_j)
    except (BudgetError, UpdateError) as error:
        with pytest.raises(type(error)) as raised:
            device.select(update, budget_j)
        assert str(raised.value) == str(error)
        return
    for _ in range(2):  # the second time with room as the first has needed it
        selection = device.select(update, budget_j)
        assert kept_bytes(selection) == kept_bytes(expected)
        assert selection.energy_j == expected.energy_j <= budget_j
        assert selection.captured == pytest.approx(expected.captured, rel=1e-12)
        assert selection.total == pytest.approx(expected.total, rel=1e-12)
        assert (selection.bound or 0) == pytest.approx(expected.bound or 0, rel=1e-12)


def copy_of(rule: KernelRule) -> KernelRule:
    if isinstance(rule, CostWeighted):
        return CostWeighted(rule.costs, rule.p, rule.q)
    return TopK(rule.costs)


def update_of(costs: SelectionCosts, numbers, distribution: str, kind=torch.float32):
    draw = DISTRIBUTIONS[distribution]
    return {
        x.name: torch.from_numpy(np.asarray(draw(numbers, x.parameters), dtype=np.float32))
        .to(kind)
        .reshape(x.shape)
        for x in costs.layers
    }


def linear_costs(sizes: list[int], numbers: np.random.Generator, message_j: float = 0.0):
    names = [f"layer{number}" for number in range(len(sizes))]
    return SelectionCosts.linear(
        {name: (size,) for name, size in zip(names, sizes, strict=True)},
        {name: float(numbers.choice([1.0, 1.0, 0.3, 7.0])) for name in names},
        message_j=message_j,
    )


def charged_costs(sizes: list[int], numbers: np.random.Generator) -> SelectionCosts:
    """Costs as a cost file has them: a jump, a dense form, and bytes by the real index code."""
    layers = tuple(
        LayerPrice(
            f"layer{number}",
            (size,),
            (1, 50),
            (fixed, 2 * fixed),
            (3e-9, 4e-9),
            dense_j=2e-9 * size + fixed,
            byte_j=float(numbers.choice([0.0, 1e-9, 5e-9])),
        )
        for number, (size, fixed) in enumerate(
            zip(sizes, numbers.choice([1e-8, 1e-6], len(sizes)), strict=True)
        )
    )
    return SelectionCosts(layers, 1e-7)


def large(fixed: bool = False):
    numbers = np.random.default_rng(8)
    sizes = [300_001, 64, 5, 100_000]
    costs = charged_costs(sizes, numbers) if fixed else linear_costs(sizes, numbers)
    return costs, update_of(costs, numbers, "heavy tailed")
