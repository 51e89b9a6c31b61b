"""Batteries that run empty: what a client has taken from its own, and whether a round fits.

A client is out, for good, in the first round that its battery does not cover: one that costs what
its last one did, or before its first one what its training alone is expected to. Values count, not
their intervals; what is not priced takes nothing, so a ledger that lacks phases drains too slowly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cwmp.fl.ledger import Entry

_ROUNDING = 1e-9


@dataclass
class Batteries:
    """The batteries of some clients.

    Attributes:
        capacity_j: joules at the start, by client; a client that is not in it has mains.
        expected_j: joules of a client's first round, as far as known beforehand.
    """

    capacity_j: Mapping[int, float]
    expected_j: Mapping[int, float] = field(default_factory=dict)
    _spent_j: dict[int, float] = field(default_factory=dict)
    _last_j: dict[int, float] = field(default_factory=dict)

    def take(self, entries: Iterable[Entry]) -> None:
        """Take a round's joules, each client's own, from the batteries."""
        round_j: dict[int, float] = {}
        for entry in entries:
            if entry.client is None or entry.party != "client" or entry.energy is None:
                continue
            if entry.client in self.capacity_j:
                round_j[entry.client] = round_j.get(entry.client, 0.0) + entry.energy.value
        for client, energy_j in round_j.items():
            self._spent_j[client] = self._spent_j.get(client, 0.0) + energy_j
            self._last_j[client] = energy_j

    def remaining_j(self, client: int) -> float | None:
        """What is left, 0 where more was taken than there was; ``None`` on mains."""
        capacity_j = self.capacity_j.get(client)
        if capacity_j is None:
            return None
        return max(0.0, capacity_j - self._spent_j.get(client, 0.0))

    def covers_round(self, client: int) -> bool:
        """Whether *client* can take part once more."""
        remaining_j = self.remaining_j(client)
        if remaining_j is None:
            return True
        needed_j = self._last_j.get(client, self.expected_j.get(client, 0.0))
        return remaining_j > 0 and remaining_j >= needed_j * (1 - _ROUNDING)
