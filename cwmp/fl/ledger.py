"""Joules by client, round and phase, each with its origin and an interval.

How intervals are combined: all joules of a run follow from one cost file, so an error in one
of its numbers is in every cell that uses it, and errors do not average out over rounds or
clients. The limits are therefore added like the values, low to low and high to high: exact
when all errors are fully correlated, too wide otherwise, never too narrow for that reason.
The origin of a sum is the weakest of its parts: assumed before modelled before measured.

A phase whose cost the cost file lacks is ``None``, never 0, and a total says what it lacks.
Parts add up to the whole over the phases that the whole knows: `Ledger.of_phases`.

``idle`` is a phase of fleets that say what waiting draws. Where none does, waiting is not in the
ledger at all: it has no cells, and no total lacks it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from costmodels.costfile import OperationCost, Origin
from profiler.errors import InputError

Phase = Literal["train", "select", "encode", "uplink", "downlink", "update", "idle"]
Party = Literal["client", "server"]
PHASES: tuple[Phase, ...] = ("train", "select", "encode", "uplink", "downlink", "update")
"""What every ledger has; ``idle`` comes last where it has cells."""
ALL_PHASES: tuple[Phase, ...] = (*PHASES, "idle")
_WEAKER: dict[Origin, int] = {"measured": 0, "modelled": 1, "assumed": 2}


@dataclass(frozen=True, slots=True)
class Joules:
    """An energy with its interval and origin. Sums as the module describes."""

    value: float
    low: float
    high: float
    origin: Origin

    def __post_init__(self) -> None:
        slack = 1e-9 * abs(self.value)
        ordered = 0 <= self.low <= self.value + slack and self.value <= self.high + slack
        if not (isfinite(self.high) and ordered):
            raise InputError(f"{self.value} J does not lie within {self.low} to {self.high} J")

    def __add__(self, other: Joules) -> Joules:
        return Joules(
            self.value + other.value,
            self.low + other.low,
            self.high + other.high,
            weakest((self.origin, other.origin)),
        )

    def as_assumed(self) -> Joules:
        """The same number where it stands in for another that nobody measured."""
        return Joules(self.value, self.low, self.high, "assumed")

    def as_most(self) -> Joules:
        """The same number where at most so much was spent, and perhaps nothing."""
        return Joules(self.value, 0.0, self.high, "assumed")

    def times(self, count: int) -> Joules:
        """*count* of the same."""
        return Joules(count * self.value, count * self.low, count * self.high, self.origin)

    def scaled(self, share: float, low: float, high: float) -> Joules:
        """*share* of it, where the share is a guess between *low* and *high*."""
        return Joules(share * self.value, low * self.low, high * self.high, "assumed")


def weakest(origins: Iterable[Origin]) -> Origin:
    """The origin that a combination of these has."""
    return max(origins, key=_WEAKER.__getitem__)


def joules(cost: OperationCost, k: int) -> Joules:
    """E(k) of *cost* with the interval that its a and c allow; k = 0 costs nothing."""
    if k == 0:
        return Joules(0.0, 0.0, 0.0, cost.origin)
    piece = cost.pieces[bisect_right(cost.pieces, k, key=lambda piece: piece.from_k) - 1]
    a, c = piece.a_j, piece.c_j
    return Joules(
        value=(a.value if a else 0.0) + c.value * k,
        low=(a.low if a else 0.0) + c.low * k,
        high=(a.high if a else 0.0) + c.high * k,
        origin=cost.origin,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of the ledger.

    Attributes:
        round: from 1.
        client: whose update it is about; ``None`` for what is done once for all.
        party: who spends it.
        phase: what it is spent on.
        energy: ``None`` when the cost file does not say.
    """

    round: int
    client: int | None
    party: Party
    phase: Phase
    energy: Joules | None


@dataclass(frozen=True, slots=True)
class Total:
    """A sum over cells.

    Attributes:
        energy: of the phases that are known; ``None`` when none is.
        lacks: the phases that are not in it, because the cost file does not price them.
    """

    energy: Joules | None
    lacks: tuple[Phase, ...] = ()


@dataclass(frozen=True)
class Ledger:
    """The joules of a run, cell by cell."""

    entries: tuple[Entry, ...]

    def phase(self, phase: Phase) -> Joules | None:
        """The sum of one phase; ``None`` when it, or part of it, is not known.

        A phase in which nothing was done (dense selects nothing) is `NOTHING`; ``idle`` without
        a cell is not known.
        """
        return self.by_phase().get(phase)

    def total(self) -> Total:
        """The sum over the phases that are known."""
        return sum_phases(self.by_phase())

    def rounds(self) -> Iterator[tuple[int, Ledger]]:
        """The ledger of each round, in order."""
        split: dict[int, list[Entry]] = {}
        for entry in self.entries:
            split.setdefault(entry.round, []).append(entry)
        for number in sorted(split):
            yield number, Ledger(tuple(split[number]))

    def of_client(self, client: int | None) -> Ledger:
        """The cells about one client's update, or (``None``) those done once for all."""
        return Ledger(tuple(entry for entry in self.entries if entry.client == client))

    def of_party(self, party: Party) -> Ledger:
        """The cells that the clients, or the server, pay."""
        return Ledger(tuple(entry for entry in self.entries if entry.party == party))

    def of_phases(self, phases: Collection[Phase]) -> Ledger:
        """The cells of *phases* alone: rounds, clients and parties of it add up to its total."""
        return Ledger(tuple(entry for entry in self.entries if entry.phase in phases))

    def by_phase(self) -> dict[Phase, Joules | None]:
        """Every phase and its sum, as `phase` gives it; ``idle`` only where it has cells."""
        parts: dict[Phase, list[Joules | None]] = {phase: [] for phase in PHASES}
        for entry in self.entries:
            parts.setdefault(entry.phase, []).append(entry.energy)
        return {phase: add_up(found) for phase, found in parts.items()}


def sum_phases(phases: dict[Phase, Joules | None]) -> Total:
    """A total that says which phases it lacks."""
    known = [energy for energy in phases.values() if energy is not None]
    lacks = tuple(phase for phase, energy in phases.items() if energy is None)
    return Total(add_up(known) if known else None, lacks)


def add_up(parts: Sequence[Joules | None]) -> Joules | None:
    """The sum, or ``None`` if a part is unknown; nothing done is 0 J."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if not known:
        return NOTHING
    return Joules(
        value=float(sum(part.value for part in known)),
        low=float(sum(part.low for part in known)),
        high=float(sum(part.high for part in known)),
        origin=weakest(part.origin for part in known),
    )


NOTHING = Joules(0.0, 0.0, 0.0, "measured")
"""What a phase costs in which nothing was done: no energy, and nothing to doubt about it."""
