"""The charging of one run: round records in, in order, ledger entries out.

What a round costs a client depends on the rounds before: on the downloads it missed, and on what
its battery has left. Both follow from the records alone, so a run that is taken up again is
charged by feeding the records of its first part.

A client that was not asked, or dropped out, since its last round must first catch up: it receives
the downloads that it missed, or the whole model where that is the shorter message, and applies
them. Before the first round all have the initial weights: they follow from the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cwmp.fl.batteries import Batteries
from cwmp.fl.charges import Message, Missed, charge_round
from cwmp.fl.ledger import Entry, Joules, Phase, add_up
from cwmp.fl.rounds import ClientRecord, RoundRecord
from cwmp.fl.waiting import Seconds, waits
from profiler.errors import InputError

if TYPE_CHECKING:
    from cwmp.fl.fleet import Fleet

OUT = "battery"
"""Why a client whose battery is empty does not take part."""
_WHOLE = 0
"""The number, among the downloads, of the whole model."""


class Charging:
    """Charges the rounds of one run.

    Args:
        fleet: the devices.
        batches: examples in each training step of a client's round, by client, where they are
            known beforehand: for first rounds that nothing comes of, and for batteries.
    """

    def __init__(self, fleet: Fleet, batches: Mapping[int, Sequence[int]] | None = None) -> None:
        self._fleet = fleet
        self._batches = {client: tuple(sizes) for client, sizes in (batches or {}).items()}
        self._downloads: list[Message] = []
        self._updates: dict[tuple[int, int], Joules | None] = {}
        self._has: dict[int, int] = {}
        self._last: dict[int, ClientRecord] = {}
        self.batteries = Batteries(*_capacities(fleet, self._batches))

    def available(self, round_number: int, client: int) -> str:
        """Why *client* cannot take part in the round; empty if it can.

        It speaks of the round after the last one charged, which *round_number* should be.
        """
        return "" if self.batteries.covers_round(client) else OUT

    def charge(self, record: RoundRecord, rule: str) -> tuple[Entry, ...]:
        """The ledger entries of *record*, run with the method *rule*.

        Raises:
            InputError: the record is not of the round after the last one.
        """
        expected = len(self._downloads) + 1
        if record.round != expected:
            raise InputError(
                f"round {record.round} cannot be charged: the next one is round {expected}; "
                "charge all rounds of a run in their order"
            )
        fleet = self._fleet
        took_part = [*record.clients, *(a.did for a in record.absent if a.did is not None)]
        missed = {done.client: self._missed(done.client) for done in took_part}
        entries = charge_round(
            record,
            rule,
            fleet.server_rates,
            lambda client: fleet.device(client).rates,
            lambda client: missed.get(client, Missed()),
            self._lost(record),
        )
        if fleet.counts_idle:
            caught_up = {client: earlier.payload_bytes for client, earlier in missed.items()}
            entries = (*entries, *idle_entries(fleet, record.round, took_part, caught_up, entries))
        self._downloads.append(Message(record.downlink_bytes, record.touched))
        for done in took_part:
            self._has[done.client] = record.round
        self._last.update((done.client, done) for done in record.clients)
        self.batteries.take(entries)
        return entries

    def _missed(self, client: int) -> Missed:
        """What *client* receives before it can start: the shorter way to the present model."""
        has, size = self._has.get(client, 0), 0
        for message in reversed(self._downloads[has:]):
            size += message.payload_bytes
            if size > self._fleet.whole.payload_bytes:
                return Missed(self._fleet.whole.payload_bytes, self._applied(client, _WHOLE))
        if size == 0:
            return Missed()
        rounds = range(has + 1, len(self._downloads) + 1)
        return Missed(size, add_up([self._applied(client, number) for number in rounds]))

    def _applied(self, client: int, number: int) -> Joules | None:
        """Joules of applying the download of round *number* at *client*, worked out once."""
        kind = self._fleet.device_of[client]
        if (kind, number) not in self._updates:
            message = self._fleet.whole if number == _WHOLE else self._downloads[number - 1]
            price = self._fleet.devices[kind].rates.updated(message.touched)
            self._updates[kind, number] = price
        return self._updates[kind, number]

    def _lost(self, record: RoundRecord) -> list[ClientRecord]:
        """What the clients that died or came late would have done, as far as that is known.

        What it did the last time; before its first time what the round's longest upload took,
        with its own batches where these are known.
        """
        found = []
        for absence in record.absent:
            if absence.did is not None or absence.reason == OUT:
                continue
            client = absence.client
            done = self._last.get(client)
            if done is None:
                alike = max(record.clients, key=lambda other: other.payload_bytes)
                batches = self._batches.get(client, alike.batches)
                done = replace(alike, client=client, batches=batches)
            found.append(done)
        return found


def idle_entries(
    fleet: Fleet,
    number: int,
    took_part: Sequence[ClientRecord],
    caught_up: Mapping[int, int],
    entries: Sequence[Entry],
) -> list[Entry]:
    """What waiting for the slowest took: idle_w times each client's wait.

    ``None`` for a client whose device does not say what it draws, and for all where the time of
    one is not known. Clients from which nothing came are not waited for.

    Args:
        fleet: the devices.
        number: the round.
        took_part: what clients did.
        caught_up: bytes that a client had to receive first.
        entries: of the round, for the joules that times follow from.
    """
    spent: dict[int, dict[Phase, Joules | None]] = {}
    for entry in entries:
        if entry.client is not None and entry.party == "client":
            spent.setdefault(entry.client, {})[entry.phase] = entry.energy
    busy: list[Seconds] = []
    for done in took_part:
        cells = spent[done.client]
        work = [cells[phase] for phase in ("select", "encode") if phase in cells]
        one = fleet.device(done.client).pace.busy(
            cells["train"],
            add_up(work),
            examples=sum(done.batches) + sum(done.forwards) / 3,
            up_bytes=done.payload_bytes,
            down_bytes=caught_up.get(done.client, 0),
        )
        if one is not None:
            busy.append(one)
    known = waits(busy) if len(busy) == len(took_part) else None
    found = []
    for place, done in enumerate(took_part):
        idle_w = fleet.device(done.client).idle_w
        energy = None
        if known is not None and idle_w is not None:
            wait = known[place]
            energy = Joules(idle_w * wait.value, idle_w * wait.low, idle_w * wait.high, wait.origin)
        found.append(Entry(number, done.client, "client", "idle", energy))
    return found


def _capacities(
    fleet: Fleet, batches: Mapping[int, Sequence[int]]
) -> tuple[dict[int, float], dict[int, float]]:
    """Joules in each battery, and what training of a first round is expected to take."""
    capacity_j, expected_j = {}, {}
    for client in range(len(fleet.device_of)):
        device = fleet.device(client)
        if device.battery_j is None:
            continue
        capacity_j[client] = device.battery_j
        trained = device.rates.trained(batches[client]) if client in batches else None
        if trained is not None:
            expected_j[client] = trained.value
    return capacity_j, expected_j
