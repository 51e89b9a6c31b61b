"""What the server reads from replies, and from hostile ones."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
pytest.importorskip("flwr", reason="needs the extra cwmp[flower]")

from flwr.app import Array, Message, RecordDict
from stand_ins.flower import (
    COSTS,
    SHAPES,
    bytes_array,
    encoded_payload,
    flower_model,
    forged_array,
    payload_layout,
    record_of,
    reply_of,
    training_message,
)

from cwmp import CostWeighted, PayloadLayout, encode
from cwmp.integrations.flower import decode_reply, layout_of, restore_reply
from profiler.errors import LayerMismatchError, PayloadError

GOOD = bytes_array(encoded_payload()).data
HOSTILE: dict[str, tuple[Message, str]] = {
    "dense arrays": (
        reply_of(**{n: Array(a) for n, a in flower_model().items()}),
        "does not hold one",
    ),
    "nothing": (reply_of(), "does not hold one"),
    "a payload and more": (
        reply_of(bytes_array(encoded_payload()), x=Array(np.zeros(2))),
        "does not hold",
    ),
    "no record": (
        Message(RecordDict(), reply_to=training_message(flower_model())),
        "does not hold",
    ),
    "empty": (reply_of(bytes_array(b"")), "ends 24 bytes short|its header"),
    "noise": (reply_of(bytes_array(bytes(200))), "not a payload"),
    "a bit flipped": (reply_of(bytes_array(encoded_payload()[:-1] + b"\x99")), "checksum"),
    "cut short": (reply_of(bytes_array(encoded_payload()[:-3])), "refused"),
    "larger than the model": (reply_of(bytes_array(encoded_payload() + bytes(10_000))), "exceeds"),
    "no npy at all": (reply_of(forged_array((3,), b"abc")), "uint8 array"),
    "floats": (reply_of(Array(np.zeros(50))), "uint8 array"),
    "two dimensions": (reply_of(Array(np.zeros((5, 5), np.uint8))), "uint8 array"),
    "a header of 10^12 bytes": (
        reply_of(
            forged_array(
                (10**12,), GOOD.replace(b"(%d,)" % len(encoded_payload()), b"(1000000000000,)")
            )
        ),
        "uint8 array",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_reply_is_one_error_and_changes_nothing(case: str) -> None:
    reply, says = HOSTILE[case]
    before = [dict(record) for record in reply.content.array_records.values()]
    for read in (decode_reply, lambda r, lay: restore_reply(r, lay, record_of(flower_model()))):
        with pytest.raises(PayloadError, match=says) as caught:
            read(reply, payload_layout())
        assert "\n" not in str(caught.value)
    assert [dict(record) for record in reply.content.array_records.values()] == before


def test_any_mutation_of_a_reply_is_refused_or_decodes() -> None:
    numbers = np.random.default_rng(5)
    refused = 0
    for _ in range(2000):
        data = bytearray(GOOD)
        for _ in range(int(numbers.integers(1, 4))):
            data[int(numbers.integers(len(data)))] = int(numbers.integers(256))
        if numbers.integers(3) == 0:
            del data[int(numbers.integers(len(data))) :]
        try:
            decode_reply(reply_of(forged_array((len(data),), bytes(data))), payload_layout())
        except PayloadError:
            refused += 1
    assert refused > 1900


def test_a_payload_of_another_model_or_value_type_is_refused() -> None:
    for layout in (
        layout_of(record_of(flower_model()), COSTS, "float16"),
        PayloadLayout({"x": (9,)}),
    ):
        with pytest.raises(PayloadError):
            decode_reply(reply_of(bytes_array(encoded_payload())), layout)


def test_an_update_that_overflows_the_model_is_refused() -> None:
    sent = flower_model() | {"head": np.full(SHAPES["head"], 60_000, np.float16)}
    step = {"head": np.full(SHAPES["head"], 60_000, np.float32)}
    zeros = {"conv": np.zeros(SHAPES["conv"], np.float32)}
    kept = CostWeighted(COSTS).select(step | zeros, 1e-7)
    payload = encode(kept.layers, payload_layout(), {"mean": flower_model()["mean"]})
    with pytest.raises(PayloadError, match="beyond float16"):
        restore_reply(reply_of(bytes_array(payload)), payload_layout(), record_of(sent))


def test_a_layout_needs_every_priced_array() -> None:
    with pytest.raises(LayerMismatchError, match="'head'"):
        layout_of(record_of({"conv": np.zeros(SHAPES["conv"])}), COSTS)
    assert dict(payload_layout().buffers) == {"mean": (4,)}
