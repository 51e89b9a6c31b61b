"""Models, messages, apps and replies for the tests of the Flower mod, which need Flower."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
)

from cwmp import CostWeighted, ErrorFeedback, PayloadLayout, SelectionCosts, encode
from cwmp.integrations.flower import layout_of

SHAPES = {"conv": (4, 3, 3), "head": (10, 40)}
COSTS = SelectionCosts.linear(SHAPES, {"conv": 1e-9, "head": 3e-9}, {"head": 5e-9})
BUDGET = "20%"
Arrays = dict[str, np.ndarray]


def flower_model(seed: int = 0) -> Arrays:
    """Two priced layers, batch-norm statistics and a counter, as a state dict has them."""
    numbers = np.random.default_rng(seed)
    layers = {name: numbers.normal(size=shape).astype("f4") for name, shape in SHAPES.items()}
    return layers | {"mean": numbers.normal(size=4).astype("f4"), "count": np.array(3 + seed)}


def record_of(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def arrays_of(record: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


def client_context(node: int = 1) -> Context:
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def training_message(arrays: Arrays, kind: str = "train") -> Message:
    return sent_message(
        RecordDict({"arrays": record_of(arrays), "config": ConfigRecord({"lr": 0.1})}), kind
    )


def sent_message(content: RecordDict, kind: str = "train") -> Message:
    """A message as a client gets it: stamped by a server, which sets more than an app may."""
    metadata = Metadata(
        run_id=1,
        message_id="m",
        src_node_id=1,
        dst_node_id=7,
        reply_to_message_id="",
        group_id="1",
        created_at=time.time(),
        ttl=60.0,
        message_type=kind,
    )
    return Message(content, metadata=metadata)


def app_returning(trained: Callable[[Arrays], Arrays]) -> Callable[[Message, Context], Message]:
    """An app that trains as told, emptying the message as apps may, and reports its examples."""

    def app(msg: Message, ctxt: Context) -> Message:
        received = msg.content["arrays"]
        arrays = {name: received.pop(name).numpy() for name in list(received)}
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        content = RecordDict({"arrays": record_of(trained(arrays)), "metrics": metrics})
        return Message(content, reply_to=msg)

    return app


def training_step(seed: int) -> Callable[[Arrays], Arrays]:
    """A training that moves each layer by what *seed* says, and buffers too."""
    moved = flower_model(seed)

    def trained(arrays: Arrays) -> Arrays:
        layers = {name: arrays[name] + moved[name] for name in SHAPES}
        return layers | {"mean": moved["mean"], "count": np.array(arrays["count"] + 1)}

    return trained


def payload_layout() -> PayloadLayout:
    return layout_of(record_of(flower_model()), COSTS)


def reply_of(array: Array | None = None, **others: Array) -> Message:
    record = ArrayRecord(({"cwmp.payload": array} if array else {}) | others)
    return Message(RecordDict({"arrays": record}), reply_to=training_message(flower_model()))


def encoded_payload() -> bytes:
    layer = ErrorFeedback(CostWeighted(COSTS)).select({n: flower_model()[n] for n in SHAPES}, 1e-7)
    return encode(layer.layers, payload_layout(), {"mean": flower_model()["mean"]})


def bytes_array(content: bytes) -> Array:
    return Array(np.frombuffer(content, np.uint8))


def forged_array(shape: tuple[int, ...], data: bytes) -> Array:
    return Array(dtype="uint8", shape=shape, stype="numpy.ndarray", data=data)
