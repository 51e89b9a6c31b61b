"""What a round costs, by a cost file: round records in, ledger entries out.

phase       who     joules
train       client  sum over steps of E_train(examples in the step), module ``*``
select      client  E_select(entries kept), or of entries considered where that is the unit, of
                    the rule that ran; a rule that was not profiled is charged as the one that
                    does the same work, or else as Top-K, ``assumed``; nothing for dense
encode      client  E_encode(entries, or bytes) of the upload; the server once for the download
uplink      client  E_send(bytes of the upload)
downlink    client  E_send(bytes of the download), always ``assumed``: only sending is profiled,
                    and receiving a byte is taken to cost what sending one does
update      both    sum over touched layers of E_l(k_l), or of the dense add: the server for each
                    upload, each client for the download

Bytes are lengths of real payloads. What the cost file lacks is charged as ``None``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from costmodels.costfile import CostFile, LayerCost, OperationCost
from cwmp.fl.algorithms.base import Touch
from cwmp.fl.ledger import Entry, Joules, joules
from cwmp.fl.rounds import ClientRecord, RoundRecord

WHOLE_MODEL = "*"
PATTERN = "random"


@dataclass(frozen=True)
class Rates:
    """The prices of a cost file, looked up once.

    Attributes:
        layers: update costs by layer name.
        train, encode, encode_dense, send: ``None`` where the file has none.
        select: by rule.
        parameters: of the whole model.
    """

    layers: dict[str, LayerCost]
    train: OperationCost | None
    select: dict[str, OperationCost]
    encode: OperationCost | None
    encode_dense: OperationCost | None
    send: OperationCost | None
    parameters: int

    @classmethod
    def of(cls, costs: CostFile) -> Rates:
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
        )

    def charge(self, record: RoundRecord, rule: str) -> tuple[Entry, ...]:
        """The ledger entries of one round run with the method *rule*."""
        number = record.round
        entries = [Entry(number, None, "server", "encode", self._encoded_download(record))]
        applied = self._update(record.touched)
        received = self._sent(record.downlink_bytes)
        for done in record.clients:
            client = done.client
            entries.extend(self._client(number, client, done, rule))
            entries.append(
                Entry(
                    number,
                    client,
                    "client",
                    "downlink",
                    received.as_assumed() if received else None,
                )
            )
            entries.append(Entry(number, client, "client", "update", applied))
        return tuple(entries)

    def _client(self, number: int, client: int, done: ClientRecord, rule: str) -> Iterator[Entry]:
        yield Entry(number, client, "client", "train", self._trained(done.batches))
        if done.selection is not None and done.selection.considered is not None:
            chosen = self._selected(done.selection.entries, done.selection.considered, rule)
            yield Entry(number, client, "client", "select", chosen)
        encoded = self._encoded(done.touched, done.payload_bytes)
        yield Entry(number, client, "client", "encode", encoded)
        yield Entry(number, client, "client", "uplink", self._sent(done.payload_bytes))
        yield Entry(number, client, "server", "update", self._update(done.touched))

    def _selected(self, kept: int, considered: int, rule: str) -> Joules | None:
        price = self.select.get(_search_of(rule)) or self.select.get("topk")
        if price is None:
            return None
        cost = joules(price, considered if price.unit == "parameter" else kept)
        return cost if price.pattern == rule else cost.as_assumed()

    def _trained(self, batches: Sequence[int]) -> Joules | None:
        if self.train is None:
            return None
        return _sum([joules(self.train, examples) for examples in batches])

    def _sent(self, payload_bytes: int) -> Joules | None:
        return joules(self.send, payload_bytes) if self.send else None

    def _encoded_download(self, record: RoundRecord) -> Joules | None:
        return self._encoded(record.touched, record.downlink_bytes)

    def _encoded(self, touched: Sequence[Touch], payload_bytes: int) -> Joules | None:
        dense = all(touch.form == "dense" for touch in touched)
        cost = self.encode_dense if dense else self.encode
        if cost is None:
            return None
        entries = sum(touch.k for touch in touched)
        amount = {"byte": payload_bytes, "parameter": self.parameters}.get(cost.unit, entries)
        return joules(cost, amount)

    def _update(self, touched: Sequence[Touch]) -> Joules | None:
        parts = []
        for touch in touched:
            layer = self.layers[touch.layer]
            cost = layer.find("update", "dense" if touch.form == "dense" else PATTERN)
            if cost is None:
                return None
            parts.append(joules(cost, touch.k))
        return _sum(parts)


def _search_of(rule: str) -> str:
    """The profiled rule that does the work of *rule*.

    ``cwmp:p,q`` looks for a price of energy where p = 2 q; elsewhere it is a prefix of an
    order, which is what Top-K does.
    """
    name, _, exponents = rule.partition(":")
    if name != "cwmp" or not exponents:
        return name
    p, q = (float(part) for part in exponents.split(","))
    return "cwmp" if p == 2 * q else "topk"


def _message(costs: CostFile, operation: str, pattern: str) -> OperationCost | None:
    """A message's cost under *pattern*, or under whichever pattern the file has."""
    found = costs.message_cost(operation, pattern)
    if found is not None:
        return found
    return next((cost for cost in costs.message if cost.operation == operation), None)


def _sum(parts: Sequence[Joules]) -> Joules:
    total = Joules(0.0, 0.0, 0.0, "measured")
    for part in parts:
        total += part
    return total
