"""Virtual clients of mixed devices, for `price_controller.py`: what they would spend and capture.

A client has three layers whose entries follow a Laplace or a heavy-tailed (Lomax, a = 5)
distribution of its own, drifting scale. How many entries lie between two prices is drawn from a
Poisson distribution; what they capture is counted by the mean g^2 between those prices. Device
classes and their joules an entry are assumed, as orders of magnitude of links and memories.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwmp.kernels.jit import compiled

CLASSES = ("wired server", "desktop, Wi-Fi", "phone, cellular", "wearable, BLE", "sensor, LPWAN")
SHARES = (0.02, 0.18, 0.50, 0.20, 0.10)
ENTRY_J = ((2e-9, 2e-8), (2e-8, 2e-7), (3e-7, 1e-5), (1e-6, 1e-5), (1e-4, 1e-3))
BATTERIES = (0.0, 0.0, 0.5, 1.0, 1.0)
"""The share of a class that runs on a battery."""
METER_BIAS = (1.0, 1.05, 1.15, 1.1, 0.9)
"""Joules that a class's meter sees over the declared ones."""

LAYER_ENTRIES = np.array([60_000.0, 30_000.0, 10_000.0])
LAYER_COST = np.array([1.0, 2.0, 8.0])
LAYER_SCALE = np.array([1.0, 1.5, 0.7])
DENSE = float(LAYER_ENTRIES @ LAYER_COST)


@dataclass
class Fleet:
    """One row a client.

    Attributes:
        kind: number of the device class.
        entry_j, scale, weight: joules an entry, scale of its update, weight in the average.
        heavy: whether its entries are heavy-tailed.
        battery_j, used_j: what the run may take from it, and what it took.
    """

    kind: np.ndarray
    entry_j: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    heavy: np.ndarray
    battery_j: np.ndarray
    used_j: np.ndarray

    @classmethod
    def draw(cls, size: int, rounds_each: float, numbers: np.random.Generator) -> Fleet:
        kind = numbers.choice(len(CLASSES), size, p=SHARES)
        low, high = np.log(np.array(ENTRY_J)).T
        entry_j = np.exp(numbers.uniform(low[kind], high[kind]))
        on_battery = numbers.random(size) < np.array(BATTERIES)[kind]
        paid_entries = np.exp(numbers.uniform(np.log(20), np.log(20_000), size)) * rounds_each
        return cls(
            kind=kind,
            entry_j=entry_j,
            scale=np.exp(numbers.normal(0, 1, size)),
            weight=np.exp(numbers.normal(-0.125, 0.5, size)),
            heavy=numbers.random(size) < 0.5,
            battery_j=np.where(on_battery, paid_entries * entry_j, np.inf),
            used_j=np.zeros(size),
        )

    def drift(self, numbers: np.random.Generator) -> None:
        """Updates shrink by 3 % a round, each client's by a little more or less."""
        self.scale *= 0.97 * np.exp(numbers.normal(0, 0.05, self.scale.size))


@dataclass
class Cohort:
    """Who takes part in a round: rows as in `Fleet`, and each one's cap."""

    kind: np.ndarray
    entry_j: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    heavy: np.ndarray
    cap_j: np.ndarray

    @classmethod
    def of(cls, fleet: Fleet, rows: np.ndarray, rounds_to_come: float) -> Cohort:
        left_j = np.maximum(fleet.battery_j[rows] - fleet.used_j[rows], 0)
        return cls(
            *(x[rows] for x in (fleet.kind, fleet.entry_j, fleet.scale, fleet.weight, fleet.heavy)),
            cap_j=left_j / max(rounds_to_come, 1.0),
        )

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.entry_j, self.scale, self.weight, self.heavy


@compiled
def _share_above(u: float, heavy: bool) -> float:
    return (1 + u) ** -5.0 if heavy else np.exp(-u)


@compiled
def _square_above(u: float, heavy: bool) -> float:
    """E[x^2; x > u] for |x| Lomax(5) or exponential."""
    if heavy:
        y = 1 / (1 + u)
        return y**3 * (5 / 3 - 2.5 * y + y * y)
    return np.exp(-u) * (u * u + 2 * u + 2)


@compiled
def _expected(price: float, entry_j: float, scale: float, weight: float, heavy: bool):
    """Joules and weighted g^2 that one client keeps at *price*, in expectation."""
    joules, captured = 0.0, 0.0
    for layer in range(LAYER_ENTRIES.size):
        c, s = entry_j * LAYER_COST[layer], scale * LAYER_SCALE[layer]
        u = np.sqrt(price * c) / (weight * s)
        joules += LAYER_ENTRIES[layer] * c * _share_above(u, heavy)
        captured += LAYER_ENTRIES[layer] * (weight * s) ** 2 * _square_above(u, heavy)
    return joules, captured


@compiled
def _own_price(budget_j: float, entry_j: float, scale: float, weight: float, heavy: bool) -> float:
    """The price at which one client alone spends *budget_j*: bisection in log."""
    if budget_j >= DENSE * entry_j:
        return 0.0
    unit = (weight * scale) ** 2 / entry_j
    low, high = np.log(1e-10), np.log(1e12)
    for _ in range(44):
        middle = 0.5 * (low + high)
        joules, _ = _expected(unit * np.exp(middle), entry_j, scale, weight, heavy)
        if joules > budget_j:
            low = middle
        else:
            high = middle
    return unit * np.exp(high)


@compiled
def under_price(price: float, entry_j, scale, weight, heavy, cap_j):
    """Joules and weighted g^2 of a cohort at one price with caps, in expectation."""
    spent_j, captured = 0.0, 0.0
    for j in range(entry_j.size):
        joules, gain = _expected(price, entry_j[j], scale[j], weight[j], heavy[j])
        if joules > cap_j[j]:
            own = _own_price(cap_j[j], entry_j[j], scale[j], weight[j], heavy[j])
            joules, gain = _expected(own, entry_j[j], scale[j], weight[j], heavy[j])
        spent_j += joules
        captured += gain
    return spent_j, captured


@compiled
def under_budgets(budgets_j, entry_j, scale, weight, heavy):
    """Joules and weighted g^2 of a cohort where each client has a budget of its own."""
    spent_j, captured = 0.0, 0.0
    for j in range(entry_j.size):
        own = _own_price(budgets_j[j], entry_j[j], scale[j], weight[j], heavy[j])
        joules, gain = _expected(own, entry_j[j], scale[j], weight[j], heavy[j])
        spent_j += joules
        captured += gain
    return spent_j, captured


@compiled
def play_round(prices, centre: int, entry_j, scale, weight, heavy, cap_j, numbers):
    """A round as it happens: each client's declared joules, and the sum of the spend curves.

    Entries between two neighbouring prices are drawn; those above both are added up.
    """
    bins = prices.size
    spent_j = np.zeros(entry_j.size)
    total_j, own_j = np.zeros(bins), np.zeros(bins)
    for j in range(entry_j.size):
        own_j[:] = 0.0
        for layer in range(LAYER_ENTRIES.size):
            c, s = entry_j[j] * LAYER_COST[layer], scale[j] * LAYER_SCALE[layer]
            above, kept = 0.0, 0.0
            for b in range(bins - 1, -1, -1):
                share = _share_above(np.sqrt(prices[b] * c) / (weight[j] * s), heavy[j])
                mean = LAYER_ENTRIES[layer] * (share - above)
                above = share
                if mean > 50.0:
                    kept += max(0.0, np.rint(mean + np.sqrt(mean) * numbers.standard_normal()))
                elif mean > 1e-12:
                    kept += numbers.poisson(mean)
                own_j[b] += c * min(kept, LAYER_ENTRIES[layer])
        usable_j = cap_j[j] if cap_j[j] >= entry_j[j] else 0.0
        for b in range(bins):
            total_j[b] += min(own_j[b], usable_j)
        spent_j[j] = min(own_j[centre], usable_j)
    return spent_j, total_j
