"""How two cost files differ, layer by layer: ratios, and whether their intervals allow equality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, hypot, inf, log, sqrt

from costmodels.composition.bounds import energy_at, piece_at
from costmodels.costfile import CostFile, Estimate, OperationCost


@dataclass(frozen=True, slots=True)
class Ratio:
    """B over A, with its 95 % interval; ``high`` is ``None`` where A may be zero."""

    value: float
    low: float
    high: float | None

    @property
    def allows_equal(self) -> bool:
        """Whether the interval contains 1."""
        return self.low <= 1 and (self.high is None or self.high >= 1)


@dataclass(frozen=True, slots=True)
class Change:
    """One operation in both files.

    Attributes:
        owner: the layer, module or ``message``.
        operation, pattern: which.
        k: where E is compared: the middle, on the log scale, of what both measured.
        energy: of E(k).
        slope: of c at k.
    """

    owner: str
    operation: str
    pattern: str
    k: int
    energy: Ratio
    slope: Ratio

    @property
    def allows_equal(self) -> bool:
        """Whether both intervals do."""
        return self.energy.allows_equal and self.slope.allows_equal


@dataclass(frozen=True)
class Differences:
    """What two cost files have in common, and what only one of them prices."""

    changes: tuple[Change, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def differing(self) -> tuple[Change, ...]:
        """The changes that the intervals do not allow to be none."""
        return tuple(change for change in self.changes if not change.allows_equal)


def diff(a: CostFile, b: CostFile) -> Differences:
    """B over A for each layer and operation that both price in the same unit.

    Intervals combine on the log scale in quadrature: two files come of two sessions, whose errors
    are independent, and each limit is at 95 %. What moves both (a meter's gain) cancels in truth
    and not here, so that equality is rather allowed than denied.
    """
    ours, theirs = dict(_prices(a)), dict(_prices(b))
    shared = [key for key in ours if key in theirs and ours[key].unit == theirs[key].unit]
    changes = tuple(_change(key, ours[key], theirs[key]) for key in shared)
    return Differences(
        changes,
        only_a=tuple(_name(key) for key in ours if key not in shared),
        only_b=tuple(_name(key) for key in theirs if key not in shared),
    )


def ratio(a: Estimate, b: Estimate) -> Ratio:
    """b / a; distances on the log scale add in quadrature.

    >>> one = Estimate(value=1.0, low=0.8, high=1.25)
    >>> found = ratio(one, Estimate(value=2.0, low=1.6, high=2.5))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (2.0, 1.459, 2.742)
    """
    value = b.value / a.value
    below = hypot(_down(b), log(a.high / a.value))
    above = hypot(log(b.high / b.value), _down(a))
    return Ratio(value, value * exp(-below), None if above == inf else value * exp(above))


def _change(key: tuple[str, str, str], a: OperationCost, b: OperationCost) -> Change:
    low, high = max(a.k_min, b.k_min), min(a.k_max, b.k_max)
    k = max(1, round(sqrt(low * high))) if low <= high else low
    return Change(
        *key,
        k=k,
        energy=ratio(energy_at(a, k), energy_at(b, k)),
        slope=ratio(piece_at(a, k).c_j, piece_at(b, k).c_j),
    )


def _prices(costs: CostFile) -> Iterator[tuple[tuple[str, str, str], OperationCost]]:
    owned: Sequence[tuple[str, Sequence[OperationCost]]] = (
        *((layer.name, layer.operations) for layer in costs.layers),
        *((module.name, module.operations) for module in costs.modules),
        ("message", costs.message),
    )
    for owner, operations in owned:
        for cost in operations:
            yield (owner, cost.operation, cost.pattern), cost


def _name(key: tuple[str, str, str]) -> str:
    owner, operation, pattern = key
    return f"{owner}: {operation}, {pattern}"


def _down(estimate: Estimate) -> float:
    return inf if estimate.low <= 0 else log(estimate.value / estimate.low)
