"""Costs by memory burst: an entry is cheaper when its neighbour is kept.

Memory is read and written in bursts of s neighbouring entries: a cache line of 64 bytes is 16
entries of float32, a burst of DRAM is as long or longer. Touching a burst costs the same
whatever is kept of it::

    J = A + sum over touched layers of [ a_l + t_l * bursts touched + c_l * entries kept ]

Positions count from the start of a layer, as an allocator aligns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod

from costmodels.costfile import CostFile, LayerCost
from cwmp.kernels.energy import INDEX_LINES, index_line
from cwmp.payload import LAYER_HEADER_BYTES, SCALE_BYTES, VALUE_BYTES, ValueType
from cwmp.selectors.costs import SelectionCosts, check_budget
from cwmp.selectors.upper_line import upper_line
from profiler.errors import InputError
from profiler.operations import RUN

_ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True, slots=True)
class BurstPrice:
    """What one layer charges.

    Attributes:
        name, shape: the layer.
        opening_j: a, for touching the layer at all.
        burst_j: t, for each touched burst.
        entry_j: c, for each kept entry.
        burst_entries: s, the entries of a burst; the layer's last one may have fewer.

    Raises:
        InputError: an entry that costs nothing, another cost that is negative, or an empty burst.

    >>> price = BurstPrice("w", (40,), opening_j=5.0, burst_j=2.0, entry_j=0.5)
    >>> price.parameters, price.bursts
    (40, 3)
    >>> price.energy_j(bursts=2, entries=4)
    11.0
    """

    name: str
    shape: tuple[int, ...]
    opening_j: float
    burst_j: float
    entry_j: float
    burst_entries: int = 16

    def __post_init__(self) -> None:
        costs = (self.opening_j, self.burst_j, self.entry_j)
        if not (all(isfinite(cost) and cost >= 0 for cost in costs) and self.entry_j > 0):
            raise InputError(
                f"layer {self.name!r} costs {costs} J to open, a burst and an entry: an entry "
                "must cost more than nothing, the others no less"
            )
        if self.burst_entries < 1:
            raise InputError(f"layer {self.name!r} has bursts of {self.burst_entries} entries")

    @property
    def parameters(self) -> int:
        """How many entries the layer has."""
        return prod(self.shape)

    @property
    def bursts(self) -> int:
        """How many bursts the layer has."""
        return -(-self.parameters // self.burst_entries)

    def energy_j(self, bursts: int, entries: int) -> float:
        """Joules of *entries* kept in *bursts*; 0 for nothing."""
        if not entries:
            return 0.0
        return self.opening_j + self.burst_j * bursts + self.entry_j * entries


@dataclass(frozen=True)
class BurstCosts:
    """The prices of a model's layers by burst, and the charge A of a message.

    >>> costs = BurstCosts((BurstPrice("w", (64,), 5.0, 2.0, 0.5),), message_j=1.0)
    >>> costs.energy_j(bursts=[1], entries=[4]), costs.energy_j(bursts=[4], entries=[4])
    (10.0, 16.0)
    """

    layers: tuple[BurstPrice, ...]
    message_j: float = 0.0

    @classmethod
    def from_cost_file(
        cls,
        costs: CostFile,
        *,
        burst_bytes: int = 64,
        density: float = 0.01,
        value_type: ValueType = "float32",
        buffer_entries: int = 0,
    ) -> BurstCosts:
        """From what updates at random positions and in runs of 64 entries were measured to cost.

        Of random entries each touches a burst of its own, of a run each burst is shared by s::

            c_random = t + c,  c_runs = t / s + c  =>  t = (c_random - c_runs) s / (s - 1)

        Where runs were measured to cost no less, t is 0. Bytes are charged by the line of the
        index code (`cwmp.kernels.energy.index_line`) that is lowest at *density*; every line is
        an upper bound at every density, so that what is sent never takes more.

        Args:
            costs: with update costs of random and clustered indices.
            burst_bytes: of a burst; the tensors' dtype says how many entries that is.
            density: share of a layer's entries that is expected to be kept.
            value_type: the type of values on the wire.
            buffer_entries: entries of the model's buffers, sent whole with every message.

        Raises:
            InputError: the file lacks one of the costs, or a density that is not in 0 to 1.
        """
        if not 0 < density <= 1:
            raise InputError(f"the density is {density}; it must be above 0 and at most 1")
        sent = SelectionCosts.from_cost_file(
            costs, value_type=value_type, buffer_entries=buffer_entries
        )
        prices = tuple(
            _price(layer, price.byte_j, burst_bytes, density, value_type)
            for layer, price in zip(costs.layers, sent.layers, strict=True)
        )
        return cls(prices, sent.message_j)

    @cached_property
    def dense_j(self) -> float:
        """Joules of keeping every entry: what a budget of 100 % means."""
        return self.energy_j([x.bursts for x in self.layers], [x.parameters for x in self.layers])

    @cached_property
    def cheapest_j(self) -> float:
        """Joules of the cheapest selection that is not empty."""
        return self.message_j + min(layer.energy_j(1, 1) for layer in self.layers)

    def energy_j(self, bursts: Sequence[int], entries: Sequence[int]) -> float:
        """Declared joules of ``entries[l]`` kept in ``bursts[l]`` of layer l; 0 for nothing."""
        spent_j = 0.0
        for layer, touched, kept in zip(self.layers, bursts, entries, strict=True):
            spent_j += layer.energy_j(touched, kept)
        return self.message_j + spent_j if any(entries) else 0.0

    def check_budget(self, budget_j: float) -> None:
        """Raise unless *budget_j* can be spent.

        Raises:
            BudgetError: not a positive number, above the dense cost, or too small for one entry.
        """
        check_budget(budget_j, self.cheapest_j, self.dense_j)


def _price(
    layer: LayerCost, byte_j: float, burst_bytes: int, density: float, value_type: ValueType
) -> BurstPrice:
    n = layer.parameters
    fixed_j, slope_j = _lines(layer, "random"), _lines(layer, "clustered")
    burst = max(1, burst_bytes // _ITEM_BYTES.get(layer.dtype, 4))
    apart_j, together_j = fixed_j[1], slope_j[1]
    burst_j = 0.0
    if burst > 1 and apart_j > together_j:
        shared = min(burst, RUN)
        burst_j = (apart_j - together_j) * shared / (shared - 1)
        burst_j = min(burst_j, apart_j - together_j / shared)
    lines = [index_line(n, number) for number in range(INDEX_LINES)]
    opening, an_entry = min(lines, key=lambda line: line[0] + line[1] * density * n)
    scale = SCALE_BYTES if value_type == "int8" else 0
    header = LAYER_HEADER_BYTES + scale + opening + 1  # the code is rounded up to a whole byte
    return BurstPrice(
        name=layer.name,
        shape=layer.shape,
        opening_j=max(fixed_j[0], slope_j[0]) + byte_j * header,
        burst_j=burst_j,
        entry_j=apart_j - burst_j + byte_j * (VALUE_BYTES[value_type] + an_entry),
        burst_entries=burst,
    )


def _lines(layer: LayerCost, pattern: str) -> tuple[float, float]:
    """(a, c) of the line that is nowhere below the layer's update cost of *pattern*."""
    update = layer.find("update", pattern)
    if update is None:
        raise InputError(
            f"layer {layer.name!r} has no update cost for {pattern} indices: profile with "
            "--operations update"
        )
    return upper_line(update, 1, max(layer.parameters, 2))


def linear_bursts(
    shapes: Mapping[str, tuple[int, ...]],
    entry_j: Mapping[str, float],
    burst_j: Mapping[str, float],
    opening_j: Mapping[str, float] | None = None,
    *,
    burst_entries: int = 16,
    message_j: float = 0.0,
) -> BurstCosts:
    """Costs from plain numbers: for theory, controls and tests."""
    fixed = opening_j or {}
    return BurstCosts(
        tuple(
            BurstPrice(
                name,
                tuple(shape),
                fixed.get(name, 0.0),
                burst_j[name],
                entry_j[name],
                burst_entries,
            )
            for name, shape in shapes.items()
        ),
        message_j,
    )
