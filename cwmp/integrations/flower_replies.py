"""What a server reads from replies that carry an encoded payload, trusting nothing in them."""

from __future__ import annotations

import io

import numpy as np

from costmodels.costfile import CostFile
from cwmp.codec import decode
from cwmp.payload import DecodedPayload, PayloadLayout, ValueType
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError, LayerMismatchError, MissingExtraError, PayloadError

try:
    from flwr.app import Array, ArrayRecord, Message, RecordDict
except ImportError as error:
    raise MissingExtraError("Flower is not installed: pip install 'cwmp[flower]'") from error

PAYLOAD = "cwmp.payload"
_NPY_HEADER_BYTES = 128


def layout_of(
    arrays: ArrayRecord, costs: CostFile | SelectionCosts, value_type: ValueType = "float32"
) -> PayloadLayout:
    """What payloads for a model of these *arrays* hold; the same on server and clients.

    Priced arrays are the layers, in the costs' order; other floating-point arrays are buffers.

    Raises:
        LayerMismatchError: the costs price an array that is not there, or of another shape.
    """
    prices = {price.name: tuple(price.shape) for price in costs.layers}
    for name, shape in prices.items():
        if name not in arrays or tuple(arrays[name].shape) != shape:
            there = f"of shape {tuple(arrays[name].shape)}" if name in arrays else "missing"
            raise LayerMismatchError(
                f"the costs price array {name!r} of shape {shape}, which is {there} in the "
                "message: use costs of this model"
            )
    buffers = {
        name: tuple(array.shape)
        for name, array in arrays.items()
        if name not in prices and array.dtype.startswith("float")
    }
    return PayloadLayout(prices, buffers, value_type)


def decode_reply(reply: Message, layout: PayloadLayout) -> DecodedPayload:
    """What a client's reply holds, trusting nothing in it.

    Raises:
        PayloadError: the reply is an error or holds anything but one valid payload of *layout*.
    """
    sender = f"reply of node {reply.metadata.src_node_id}"
    if reply.has_error():
        raise PayloadError(f"{sender} is an error: {reply.error.reason}")
    records = list(reply.content.array_records.values())
    if len(records) != 1 or list(records[0]) != [PAYLOAD]:
        raise PayloadError(f"{sender} does not hold one {PAYLOAD!r}: give its app the CwmpMod")
    try:
        return decode(unwrapped(records[0][PAYLOAD], layout.max_bytes), layout)
    except PayloadError as error:
        raise PayloadError(f"{sender} is refused: {error}") from error


def restore_reply(reply: Message, layout: PayloadLayout, sent: ArrayRecord) -> None:
    """Put the client's arrays, ``sent + update``, in place of the payload, as strategies expect.

    Args:
        reply: changed in place, if it is valid.
        layout: `layout_of` the arrays that were sent.
        sent: what the server sent out in this round.

    Raises:
        PayloadError: as `decode_reply`'s, or the sum overflows.
    """
    decoded = decode_reply(reply, layout)
    arrays = {name: array.numpy() for name, array in sent.items()}
    for layer in decoded.layers:
        whole = arrays[layer.name].astype(np.float64)
        whole.reshape(-1)[layer.indices] += layer.values
        with np.errstate(over="ignore"):
            arrays[layer.name] = whole.astype(arrays[layer.name].dtype)
        if not np.isfinite(arrays[layer.name]).all():
            raise PayloadError(
                f"reply of node {reply.metadata.src_node_id} is refused: it takes layer "
                f"{layer.name!r} beyond {arrays[layer.name].dtype}"
            )
    for name, values in decoded.buffers.items():
        arrays[name] = values.astype(arrays[name].dtype)
    key, _ = only_record(reply.content, "reply")
    reply.content[key] = ArrayRecord({name: Array(array) for name, array in arrays.items()})


def unwrapped(array: Array, max_bytes: int) -> bytes:
    """The bytes in a one-dimensional uint8 array, without parsing what a stranger wrote."""
    data: bytes = array.data
    size = len(data) - _NPY_HEADER_BYTES
    if size > max_bytes:
        raise PayloadError(
            f"payload of {size} bytes exceeds the {max_bytes} of this model's largest"
        )
    expected = io.BytesIO()
    of_bytes = {"descr": "|u1", "fortran_order": False, "shape": (max(size, 0),)}
    np.lib.format.write_array_header_1_0(expected, of_bytes)
    if not data.startswith(expected.getvalue()):
        raise PayloadError("it is not a one-dimensional uint8 array")
    return data[_NPY_HEADER_BYTES:]


def only_record(content: RecordDict, where: str) -> tuple[str, ArrayRecord]:
    """The one array record of a message or reply, and its key."""
    records = list(content.array_records.items())
    if len(records) != 1:
        raise InputError(f"the {where} holds {len(records)} array records instead of one")
    key, record = records[0]
    return key, record
