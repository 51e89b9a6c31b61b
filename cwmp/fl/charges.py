"""What a round costs, by a cost file: round records in, ledger entries out.

phase       who     joules
train       client  sum over steps of E_train(examples in the step), module ``*``; a batch that
                    only goes forward is a third of a step, ``assumed``
select      client  E_select(entries kept), or of entries considered where that is the unit, of
                    the rule that ran; a rule that was not profiled is charged as the one that
                    does the same work, or else as Top-K, ``assumed``; nothing for dense
encode      both    E_encode(entries, or bytes): the client for its upload; the server once for
                    the download, and for each message to one client alone
uplink      client  E_send(bytes of the upload)
downlink    client  E_receive(bytes of the download and of what was missed): the downlink's where
                    the device names one, else E_send, ``assumed``: only sending is profiled, and
                    receiving a byte is then taken to cost what sending one does
update      both    sum over touched layers of E_l(k_l), or of the dense add: the server for each
                    upload, each client for the download and for what it missed

Bytes are lengths of real payloads. What the cost file lacks is charged as ``None``.

A client whose upload was refused trained, sent and received like the others. One from which
nothing came is charged as if it had done all that it does in a round but receive, ``assumed``,
with 0 as the low end: how far it got is not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from costmodels.costfile import CostFile, LayerCost, OperationCost
from cwmp.fl.algorithms.base import Touch
from cwmp.fl.ledger import NOTHING, Entry, Joules, add_up, joules
from cwmp.fl.rounds import ClientRecord, RoundRecord
from cwmp.payload import VALUE_BYTES

WHOLE_MODEL = "*"
PATTERN = "random"
FORWARD_SHARE = (1 / 3, 1 / 5, 1 / 2)
"""A forward pass of a training step, and between what: by operations a backward pass is two
forward passes (Kaplan et al., arXiv 2001.08361, section 2.1); memory traffic shifts that."""


class Message(NamedTuple):
    """A download: its bytes, and what applying it touches."""

    payload_bytes: int
    touched: tuple[Touch, ...]


class Missed(NamedTuple):
    """What a client must receive before it can start, in one transfer, and joules of applying it.

    Attributes:
        payload_bytes: 0 where it missed nothing.
        update: ``None`` where it is not priced.
    """

    payload_bytes: int = 0
    update: Joules | None = NOTHING


@dataclass(frozen=True)
class Rates:
    """The prices of a cost file, looked up once.

    Attributes:
        layers: update costs by layer name.
        train, encode, encode_dense, send: ``None`` where the file has none.
        select: by rule.
        parameters: of the whole model.
        receive: of a downlink that has its own price; ``None`` takes ``send``'s, assumed.
    """

    layers: dict[str, LayerCost]
    train: OperationCost | None
    select: dict[str, OperationCost]
    encode: OperationCost | None
    encode_dense: OperationCost | None
    send: OperationCost | None
    parameters: int
    receive: OperationCost | None = None

    @classmethod
    def of(cls, costs: CostFile, receive: OperationCost | None = None) -> Rates:
        whole = next((module for module in costs.modules if module.name == WHOLE_MODEL), None)
        encode = _message(costs, "encode", PATTERN)
        return cls(
            layers={layer.name: layer for layer in costs.layers},
            train=whole.find("train", "batch") if whole else None,
            select={c.pattern: c for c in costs.message if c.operation == "select"},
            encode=encode,
            encode_dense=costs.message_cost("encode", "dense") or encode,
            send=_message(costs, "send", PATTERN),
            parameters=sum(layer.parameters for layer in costs.layers),
            receive=receive,
        )

    def charge(self, record: RoundRecord, rule: str) -> tuple[Entry, ...]:
        """The entries of one round run with the method *rule*, everybody being this device."""
        return charge_round(record, rule, self, lambda _: self)

    def trained(self, batches: Sequence[int], forwards: Sequence[int] = ()) -> Joules | None:
        """Joules of training steps, and of batches that only go forward."""
        if self.train is None:
            return None
        steps = _stepped(self.train, batches)
        return steps + _stepped(self.train, forwards).scaled(*FORWARD_SHARE) if forwards else steps

    def selected(self, done: ClientRecord, rule: str) -> Joules | None:
        """Joules of choosing what *done* chose."""
        report = done.selection
        rule = rule.partition("+")[0]
        price = self.select.get(_search_of(rule)) or self.select.get("topk")
        if report is None or price is None:
            return None
        looked_at = report.considered if price.unit == "parameter" else report.entries
        cost = joules(price, looked_at or 0)
        return cost if price.pattern == rule else cost.as_assumed()

    def sent(self, payload_bytes: int) -> Joules | None:
        """Joules of sending one message."""
        return joules(self.send, payload_bytes) if self.send else None

    def received(self, payload_bytes: int) -> Joules | None:
        """Joules of receiving one message."""
        if self.receive is not None:
            return joules(self.receive, payload_bytes)
        sent = self.sent(payload_bytes)
        return sent.as_assumed() if sent else None

    def encoded(self, touched: Sequence[Touch], payload_bytes: int) -> Joules | None:
        """Joules of encoding a message of *payload_bytes* that holds *touched*."""
        dense = all(touch.form == "dense" for touch in touched)
        entries = sum(touch.k for touch in touched)
        return self._encoding(entries, payload_bytes, dense=dense)

    def encoded_unread(self, done: ClientRecord) -> Joules | None:
        """Joules of encoding an upload of which only the length is known for certain."""
        kept = done.selection.entries if done.selection else self.parameters
        cost = self._encoding(kept, done.payload_bytes, dense=kept == self.parameters)
        return cost.as_assumed() if cost else None

    def encoded_personal(self, payload_bytes: int) -> Joules | None:
        """Joules of encoding a message to one client, taken to be whole float32 values."""
        entries = payload_bytes // VALUE_BYTES["float32"]
        cost = self._encoding(entries, payload_bytes, dense=True)
        return cost.as_assumed() if cost else None

    def updated(self, touched: Sequence[Touch]) -> Joules | None:
        """Joules of applying *touched*."""
        parts: list[Joules | None] = []
        for touch in touched:
            layer = self.layers.get(touch.layer)
            form = "dense" if touch.form == "dense" else PATTERN
            cost = layer.find("update", form) if layer else None
            parts.append(joules(cost, touch.k) if cost else None)
        return add_up(parts)

    def _encoding(self, entries: int, payload_bytes: int, *, dense: bool) -> Joules | None:
        cost = self.encode_dense if dense else self.encode
        if cost is None:
            return None
        amount = {"byte": payload_bytes, "parameter": self.parameters}.get(cost.unit, entries)
        return joules(cost, amount)


def charge_round(
    record: RoundRecord,
    rule: str,
    server: Rates,
    rates_of: Callable[[int], Rates],
    missed: Callable[[int], Missed] = lambda _: Missed(),
    lost: Sequence[ClientRecord] = (),
) -> tuple[Entry, ...]:
    """The ledger entries of one round.

    Args:
        record: what was done.
        rule: the method that ran.
        server: the server's prices.
        rates_of: a client's prices.
        missed: what a client had to catch up on.
        lost: what clients from which nothing came would have done, each its own.
    """
    number = record.round
    encoded = server.encoded(record.touched, record.downlink_bytes)
    entries = [Entry(number, None, "server", "encode", encoded)]
    applied: dict[int, Joules | None] = {}
    accepted = ((done, True) for done in record.clients)
    refused = ((absence.did, False) for absence in record.absent if absence.did is not None)
    for done, read in (*accepted, *refused):
        client, rates = done.client, rates_of(done.client)
        entries.extend(_worked(number, done, rates, rule, read=read))
        if read:
            update = server.updated(done.touched)
            entries.append(Entry(number, client, "server", "update", update))
        if done.personal_bytes:
            encoded = server.encoded_personal(done.personal_bytes)
            entries.append(Entry(number, client, "server", "encode", encoded))
        if id(rates) not in applied:  # devices are few and clients many
            applied[id(rates)] = rates.updated(record.touched)
        received = rates.received(record.downlink_bytes + done.personal_bytes)
        update = applied[id(rates)]
        earlier = missed(client)
        if earlier.payload_bytes:
            received = add_up([rates.received(earlier.payload_bytes), received])
            update = add_up([earlier.update, update])
        entries.append(Entry(number, client, "client", "downlink", received))
        entries.append(Entry(number, client, "client", "update", update))
    for done in lost:
        for cell in _worked(number, done, rates_of(done.client), rule, read=True):
            most = cell.energy.as_most() if cell.energy else None
            entries.append(Entry(number, done.client, "client", cell.phase, most))
    return tuple(entries)


def _worked(
    number: int, done: ClientRecord, rates: Rates, rule: str, *, read: bool
) -> Iterator[Entry]:
    """What a client did itself, up to its upload."""
    client = done.client
    trained = rates.trained(done.batches, done.forwards)
    yield Entry(number, client, "client", "train", trained)
    if done.selection is not None and done.selection.considered is not None:
        yield Entry(number, client, "client", "select", rates.selected(done, rule))
    if read:
        encoded = rates.encoded(done.touched, done.payload_bytes)
    else:
        encoded = rates.encoded_unread(done)
    yield Entry(number, client, "client", "encode", encoded)
    yield Entry(number, client, "client", "uplink", rates.sent(done.payload_bytes))


def _search_of(rule: str) -> str:
    """The profiled rule that does the work of *rule*.

    ``cwmp:p,q`` looks for a price of energy where p = 2 q; elsewhere it is a prefix of an
    order, which is what Top-K does.
    """
    name, _, exponents = rule.partition(":")
    if name != "cwmp" or not exponents:
        return name
    try:
        p, q = (float(part) for part in exponents.split(","))
    except ValueError:
        return "topk"
    return "cwmp" if p == 2 * q else "topk"


def _stepped(cost: OperationCost, batches: Sequence[int]) -> Joules:
    """Joules of steps; most are of one size."""
    total = NOTHING
    for examples, count in Counter(batches).items():
        total += joules(cost, examples).times(count)
    return total


def _message(costs: CostFile, operation: str, pattern: str) -> OperationCost | None:
    """A message's cost under *pattern*, or under whichever pattern the file has."""
    found = costs.message_cost(operation, pattern)
    if found is not None:
        return found
    return next((cost for cost in costs.message if cost.operation == operation), None)
