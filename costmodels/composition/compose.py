"""Cost files with a link's joules in them: sending modelled, or sent and applied as one price.

Both return a new `CostFile`; its origin is that of the weakest part, and its assumptions name the
source of every number that was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from costmodels.composition.bounds import weakest, weighted_sum
from costmodels.composition.links import Bounds, Link
from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
from costmodels.sources import utc_now
from profiler.errors import InputError
from profiler.units import format_si

SPARSE_ENTRY_BYTES = 5.0
"""A float32 value and the byte that its index takes near a density of 1 %."""
DENSE_ENTRY_BYTES = 4.0
_MARK = "link: "
_HELD = "update holds the joules of sending"
_LONGEST_ENTRY_BYTES = 8


def with_link(
    costs: CostFile,
    link: Link,
    *,
    rate_bps: float | None = None,
    receivers: int = 1,
    include_base: bool | None = None,
) -> CostFile:
    """*costs* with ``send`` priced by *link* in the place of what it said of sending.

    ``E_send(bytes) = receivers (a + 8 (slope + base / R) bytes)``, modelled.

    Args:
        costs: a cost file; an earlier link's ``send`` and sentences are replaced.
        link: of `costmodels.composition.link_table.LINKS`, or one of your own.
        rate_bps: R of the payload; ``None`` takes the link's round, assumed one.
        receivers: how many get the message, one transfer each.
        include_base: count the base power; ``None`` counts it where it is the radio's own.

    Raises:
        InputError: a rate or number of receivers that cannot be, a link with nothing to count, or
            costs that hold sending already (`update_and_transmission`).
    """
    if any(_HELD in sentence for sentence in costs.assumptions):
        raise InputError(
            "update holds the joules of sending already and would count them twice: give the cost "
            "file that it was made of"
        )
    if receivers < 1:
        raise InputError(f"a message for {receivers} receivers; it needs one or more")
    byte_j = link.byte_j(rate_bps, include_base=include_base).scaled(receivers)
    transfer_j = link.transfer_j()
    fixed = None if transfer_j is None else _estimate(transfer_j.scaled(receivers))
    send = OperationCost(
        operation="send",
        pattern="random",
        unit="byte",
        payer="client",
        origin=link.origin,
        implementation=f"link {link.name}",
        pieces=(Piece(a_j=fixed, c_j=_estimate(byte_j)),),
        k_min=1,
        k_max=_LONGEST_ENTRY_BYTES * sum(layer.parameters for layer in costs.layers),
    )
    others = [cost for cost in costs.message if cost.operation != "send"]
    said = [sentence for sentence in costs.assumptions if not _of_a_link(sentence)]
    sentences = _sentences(link, rate_bps, receivers, include_base)
    return _changed(
        costs,
        meter=f"{_without_link(costs.meter)}; send: {link.name}",
        origin=weakest([costs.origin, link.origin]),
        message=(*others, send),
        assumptions=(*said, *(_MARK + sentence for sentence in sentences)),
        provenance={
            **costs.provenance,
            "link": {
                **asdict(link),
                "used_rate_bps": rate_bps or link.rate_bps,
                "counts_base": link.counts_base(include_base),
                "receivers": receivers,
            },
        },
    )


def update_and_transmission(
    costs: CostFile,
    *,
    bytes_per_entry: float = SPARSE_ENTRY_BYTES,
    dense_bytes_per_entry: float = DENSE_ENTRY_BYTES,
) -> CostFile:
    """One price an entry: each layer's ``update`` with the joules of sending in it.

    ``c' = c + s bytes_per_entry`` with s the dearest slope of ``send``, and a as it was. The
    result has no ``send``, which would count it twice: a selector, which adds the real bytes
    itself, refuses it. It is for reading and for rules of one's own.

    Args:
        costs: a cost file with ``send``.
        bytes_per_entry: on the wire, index included.
        dense_bytes_per_entry: where all entries are sent and no index is.

    Raises:
        InputError: no ``send``, or bytes that are not a positive number.
    """
    send = costs.message_cost("send")
    if send is None:
        raise InputError("the cost file has no 'send' cost: profile it, or take a link's")
    for size in (bytes_per_entry, dense_bytes_per_entry):
        if not (isfinite(size) and size > 0):
            raise InputError(f"an entry takes {size} bytes; it must be a positive number")
    dearest = max((piece.c_j for piece in send.pieces), key=lambda slope: slope.value)
    byte_j = _estimate(
        Bounds(
            dearest.value,
            min(piece.c_j.low for piece in send.pieces),
            max(piece.c_j.high for piece in send.pieces),
        )
    )
    sizes = {"dense": dense_bytes_per_entry}
    layers = tuple(
        _layer_with(layer, byte_j, send, sizes, bytes_per_entry) for layer in costs.layers
    )
    first = send.pieces[0].a_j
    message_j = format_si(first.value, "J") if first else "nothing"
    return _changed(
        costs,
        origin=weakest([costs.origin, send.origin]),
        layers=layers,
        message=tuple(cost for cost in costs.message if cost.operation != "send"),
        assumptions=(
            *costs.assumptions,
            f"{_HELD} {bytes_per_entry:g} bytes an entry "
            f"({dense_bytes_per_entry:g} dense) at {format_si(byte_j.value, 'J')} a byte; what a "
            f"message costs before its first byte, {message_j}, is in no layer",
        ),
    )


def _layer_with(
    layer: LayerCost,
    byte_j: Estimate,
    send: OperationCost,
    sizes: dict[str, float],
    bytes_per_entry: float,
) -> LayerCost:
    operations = []
    for cost in layer.operations:
        if cost.operation != "update":
            operations.append(cost)
            continue
        size = sizes.get(cost.pattern, bytes_per_entry)
        changes = {
            "pieces": tuple(
                Piece.model_validate(
                    {
                        "from_k": piece.from_k,
                        "a_j": piece.a_j,
                        "c_j": weighted_sum([(1.0, piece.c_j), (size, byte_j)]),
                    }
                )
                for piece in cost.pieces
            ),
            "origin": weakest([cost.origin, send.origin]),
            "implementation": f"{cost.implementation} + {send.implementation}",
        }
        operations.append(OperationCost.model_validate({**dict(cost), **changes}))
    return LayerCost.model_validate({**dict(layer), "operations": tuple(operations)})


def _sentences(
    link: Link, rate_bps: float | None, receivers: int, include_base: bool | None
) -> Sequence[str]:
    """What sending was made of, one sentence each."""
    sentences = [
        f"send is modelled as {link.name} ({link.technology}, {link.device}); "
        f"{link.citation} [{link.verified}]"
    ]
    slope = link.slope_j_per_bit
    if link.factor == 1 and slope is not None and slope.has_range:
        sentences.append("the interval is the source's range over devices")
    else:
        ranged = slope is not None and slope.has_range
        around = "around the range of the source's estimates" if ranged else "around its figures"
        sentences.append(
            f"the interval is assumed, a factor of {link.factor:g} up and down {around}: another "
            "device and network may differ by more"
        )
    if link.counts_base(include_base):
        whole = ", though not the transfer's alone" if link.whole_device else ""
        sentences.append(f"base power of {link.base_w:.3g} W is counted while sending{whole}")
        if rate_bps is None and link.frame is None:
            sentences.append(f"a rate of {link.rate_bps / 1e6:g} Mbit/s is assumed")
    elif link.base_w is not None:
        at = "" if rate_bps is None else ", and the rate then changes nothing"
        sentences.append(
            f"base power of {link.base_w:.3g} W is not counted: not the transfer's alone{at}"
        )
    elif rate_bps is not None:
        sentences.append(f"the rate of {rate_bps / 1e6:g} Mbit/s changes nothing: no base power")
    if link.fixed_j is not None or (link.tail_s and link.tail_w):
        sentences.append(
            "each message pays for waking the radio and its whole tail; messages closer together "
            "than the tail share one and cost less"
        )
    if link.frame is not None:
        sentences.append(
            f"frames carry {link.frame.payload_bytes} bytes; the last one, half full on average, "
            "is the fixed cost"
        )
    if link.left_out:
        sentences.append(f"left out: {link.left_out}")
    if receivers > 1:
        sentences.append(f"each message is sent to {receivers} receivers, one transfer each")
    return sentences


def _of_a_link(sentence: str) -> bool:
    """Whether an earlier link said it, in this file or in one that it was mixed from."""
    return sentence.startswith(_MARK) or f": {_MARK}" in sentence


def _without_link(meter: str) -> str:
    """The meters alone; a mix of files has ``A; send: x | B; send: y``."""
    meters = (part.partition("; send: ")[0] for part in meter.split(" | "))
    return " | ".join(dict.fromkeys(meters))


def _estimate(bounds: Bounds) -> Estimate:
    return Estimate(value=bounds.value, low=bounds.low, high=bounds.high)


def _changed(costs: CostFile, **changes: Any) -> CostFile:
    return CostFile.model_validate({**dict(costs), "created_utc": utc_now(), **changes})
