"""The Flower mod and the server's decoder, with Flower's own messages, contexts and strategy."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
pytest.importorskip("flwr", reason="needs the extra cwmp[flower]")

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from cwmp import CostWeighted, ErrorFeedback, PayloadLayout, RandomK, SelectionCosts, encode
from cwmp.integrations.flower import CwmpMod, decode_reply, layout_of, restore_reply
from profiler.errors import BudgetError, LayerMismatchError, PayloadError

SHAPES = {"conv": (4, 3, 3), "head": (10, 40)}
COSTS = SelectionCosts.linear(SHAPES, {"conv": 1e-9, "head": 3e-9}, {"head": 5e-9})
BUDGET = "20%"
Arrays = dict[str, np.ndarray]


def _model(seed: int = 0) -> Arrays:
    """Two priced layers, batch-norm statistics and a counter, as a state dict has them."""
    numbers = np.random.default_rng(seed)
    layers = {name: numbers.normal(size=shape).astype("f4") for name, shape in SHAPES.items()}
    return layers | {"mean": numbers.normal(size=4).astype("f4"), "count": np.array(3 + seed)}


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def _arrays(record: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


def _context(node: int = 1) -> Context:
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def _message(arrays: Arrays, kind: str = "train") -> Message:
    return _sent(RecordDict({"arrays": _record(arrays), "config": ConfigRecord({"lr": 0.1})}), kind)


def _sent(content: RecordDict, kind: str = "train") -> Message:
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


def _returning(trained: Callable[[Arrays], Arrays]) -> Callable[[Message, Context], Message]:
    """An app that trains as told, emptying the message as apps may, and reports its examples."""

    def app(msg: Message, ctxt: Context) -> Message:
        received = msg.content["arrays"]
        arrays = {name: received.pop(name).numpy() for name in list(received)}
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        content = RecordDict({"arrays": _record(trained(arrays)), "metrics": metrics})
        return Message(content, reply_to=msg)

    return app


def _step(seed: int) -> Callable[[Arrays], Arrays]:
    """A training that moves each layer by what *seed* says, and buffers too."""
    moved = _model(seed)

    def trained(arrays: Arrays) -> Arrays:
        layers = {name: arrays[name] + moved[name] for name in SHAPES}
        return layers | {"mean": moved["mean"], "count": np.array(arrays["count"] + 1)}

    return trained


def _layout() -> PayloadLayout:
    return layout_of(_record(_model()), COSTS)


def test_the_reply_is_one_payload_of_what_the_selector_keeps() -> None:
    reply = CwmpMod(COSTS, BUDGET)(_message(_model()), _context(), _returning(_step(1)))
    expected = CostWeighted(COSTS).select(
        {n: (_model()[n] + _model(1)[n]) - _model()[n] for n in SHAPES}, 0.2 * COSTS.dense_j
    )
    decoded = decode_reply(reply, _layout())
    assert [layer.name for layer in decoded.layers] == [layer.name for layer in expected.layers]
    for got, kept in zip(decoded.layers, expected.layers, strict=True):
        assert np.array_equal(got.indices, kept.indices)
        assert np.array_equal(got.values, kept.values)
    assert np.array_equal(decoded.buffers["mean"], _model(1)["mean"])
    metrics = dict(reply.content["metrics"])
    payload = encode(expected.layers, _layout(), {"mean": _model(1)["mean"]})
    assert metrics == {
        "num-examples": 10,
        "loss": 0.5,
        "cwmp-payload-bytes": len(payload),
        "cwmp-energy-j": expected.energy_j,
        "cwmp-captured": expected.captured,
        "cwmp-total": expected.total,
        "cwmp-bound": expected.bound,
    }


def test_the_reply_is_smaller_by_what_was_not_sent() -> None:
    plain = _returning(_step(1))(_message(_model()), _context())
    reply = CwmpMod(COSTS, BUDGET)(_message(_model()), _context(), _returning(_step(1)))
    arrays = reply.content["arrays"]
    assert list(arrays) == ["cwmp.payload"]
    sent = arrays.count_bytes()
    assert sent < 300 + reply.content["metrics"]["cwmp-payload-bytes"]
    assert sent < 0.5 * plain.content["arrays"].count_bytes()


@pytest.mark.parametrize("value_type", ["float32", "float16"])
def test_what_is_not_sent_waits_in_the_clients_own_context(value_type: str) -> None:
    mod = CwmpMod(COSTS, BUDGET, value_type=value_type)
    layout = layout_of(_record(_model()), COSTS, value_type)
    contexts = [_context(1), _context(2)]
    for context in contexts:
        update = {n: np.zeros(s) for n, s in SHAPES.items()}
        for number in range(5):
            step = _step(10 * context.node_id + number)
            reply = mod(_message(_model()), context, _returning(step))
            trained = step(_model())
            for name in SHAPES:
                update[name] += trained[name] - _model()[name]
            for layer in decode_reply(reply, layout).layers:
                update[layer.name].reshape(-1)[layer.indices] -= layer.values
        waiting = _arrays(context.state["cwmp.residual"])
        for name in SHAPES:
            assert np.abs(update[name] - waiting[name]).max() < 1e-5
            assert waiting[name].any()
        assert context.state["cwmp.round"]["round"] == 5
    one, other = (_arrays(context.state["cwmp.residual"]) for context in contexts)
    assert not np.array_equal(one["head"], other["head"])


def test_without_feedback_nothing_waits() -> None:
    context = _context()
    mod = CwmpMod(COSTS, BUDGET, feedback=False)
    replies = [mod(_message(_model()), context, _returning(_step(1))) for _ in range(2)]
    first, second = (decode_reply(reply, _layout()).layers for reply in replies)
    assert all(np.array_equal(a.values, b.values) for a, b in zip(first, second, strict=True))
    assert "cwmp.residual" not in context.state


def test_a_rule_that_draws_draws_anew_each_round_and_for_each_client() -> None:
    mod = CwmpMod(COSTS, BUDGET, RandomK, feedback=False)
    context = _context(1)
    drawn = []
    for ctxt in (context, context, _context(2), _context(1)):
        reply = mod(_message(_model()), ctxt, _returning(_step(1)))
        assert "cwmp-bound" not in reply.content["metrics"]
        layers = decode_reply(reply, _layout()).layers
        drawn.append([(x.name, *x.indices.tolist()) for x in layers])
    assert drawn[0] == drawn[3]
    assert drawn[0] != drawn[1] and drawn[0] != drawn[2]


@pytest.mark.parametrize("kind", ["evaluate", "query", "train"])
def test_other_messages_and_errors_pass(kind: str) -> None:
    def app(msg: Message, ctxt: Context) -> Message:
        if kind == "train":
            return Message(Error(2, "no data here"), reply_to=msg)
        return Message(RecordDict({"arrays": _record(_model(1))}), reply_to=msg)

    context = _context()
    reply = CwmpMod(COSTS, BUDGET)(_message(_model(), kind), context, app)
    if kind == "train":
        assert reply.error.reason == "no data here"
    else:
        assert np.array_equal(reply.content["arrays"]["head"].numpy(), _model(1)["head"])
    assert not context.state


def test_a_reply_without_metrics_gets_a_record_of_its_own() -> None:
    def app(msg: Message, ctxt: Context) -> Message:
        return Message(RecordDict({"arrays": _record(_step(1)(_model()))}), reply_to=msg)

    reply = CwmpMod(COSTS, BUDGET)(_message(_model()), _context(), app)
    assert reply.content["cwmp"]["cwmp-payload-bytes"] > 0


def _nan(arrays: Arrays) -> Arrays:
    return arrays | {"head": np.full(SHAPES["head"], np.nan, "f4")}


BAD_TRAINING: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "diverged": (_nan, "NaN or inf"),
    "infinite twice": (lambda a: a | {"conv": np.full(SHAPES["conv"], np.inf, "f4")}, "inf"),
    "a buffer diverged": (lambda a: _step(1)(a) | {"mean": np.full(4, np.nan, "f4")}, "'mean'"),
    "an array less": (lambda a: {n: x for n, x in a.items() if n != "mean"}, "other arrays"),
    "another shape": (lambda a: a | {"head": np.zeros((10, 4), "f4")}, "other arrays or shapes"),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_what_cannot_be_sent_is_an_error_reply_and_nothing_is_forgotten(case: str) -> None:
    trained, says = BAD_TRAINING[case]
    mod, context = CwmpMod(COSTS, BUDGET), _context()
    mod(_message(_model()), context, _returning(_step(1)))
    before = _arrays(context.state["cwmp.residual"])
    reply = mod(_message(_model()), context, _returning(trained))
    assert reply.has_error()
    assert reply.error.reason.startswith("CwmpMod: ") and says in reply.error.reason
    after = _arrays(context.state["cwmp.residual"])
    assert all(np.array_equal(before[name], after[name]) for name in SHAPES)
    with pytest.raises(PayloadError, match="is an error: CwmpMod"):
        decode_reply(reply, _layout())


def test_costs_of_another_model_are_told_before_training() -> None:
    def never(msg: Message, ctxt: Context) -> Message:
        raise AssertionError("trained for nothing")

    for arrays in ({"conv": np.zeros(SHAPES["conv"])}, _model() | {"head": np.zeros((2, 2))}):
        reply = CwmpMod(COSTS, BUDGET)(_message(arrays), _context(), never)
        assert "costs price array 'head'" in reply.error.reason
    reply = CwmpMod(COSTS, BUDGET)(_sent(RecordDict()), _context(), never)
    assert "0 array records" in reply.error.reason


def test_budgets_are_read_when_the_mod_is_made() -> None:
    with pytest.raises(BudgetError):
        CwmpMod(COSTS, "a lot")
    reply = CwmpMod(COSTS, "1 nJ")(_message(_model()), _context(), _returning(_step(1)))
    assert reply.has_error() is False
    reply = CwmpMod(COSTS, "0.1 nJ")(_message(_model()), _context(), _returning(_step(1)))
    assert "opens no layer" in reply.error.reason
    assert "budget='20%'" in repr(CwmpMod(COSTS, BUDGET))


def _reply(array: Array | None = None, **others: Array) -> Message:
    record = ArrayRecord(({"cwmp.payload": array} if array else {}) | others)
    return Message(RecordDict({"arrays": record}), reply_to=_message(_model()))


def _payload() -> bytes:
    layer = ErrorFeedback(CostWeighted(COSTS)).select({n: _model()[n] for n in SHAPES}, 1e-7)
    return encode(layer.layers, _layout(), {"mean": _model()["mean"]})


def _as_array(content: bytes) -> Array:
    return Array(np.frombuffer(content, np.uint8))


def _forged(shape: tuple[int, ...], data: bytes) -> Array:
    return Array(dtype="uint8", shape=shape, stype="numpy.ndarray", data=data)


GOOD = _as_array(_payload()).data
HOSTILE: dict[str, tuple[Message, str]] = {
    "dense arrays": (_reply(**{n: Array(a) for n, a in _model().items()}), "does not hold one"),
    "nothing": (_reply(), "does not hold one"),
    "a payload and more": (_reply(_as_array(_payload()), x=Array(np.zeros(2))), "does not hold"),
    "no record": (Message(RecordDict(), reply_to=_message(_model())), "does not hold"),
    "empty": (_reply(_as_array(b"")), "ends 24 bytes short|its header"),
    "noise": (_reply(_as_array(bytes(200))), "not a payload"),
    "a bit flipped": (_reply(_as_array(_payload()[:-1] + b"\x99")), "checksum"),
    "cut short": (_reply(_as_array(_payload()[:-3])), "refused"),
    "larger than the model": (_reply(_as_array(_payload() + bytes(10_000))), "exceeds"),
    "no npy at all": (_reply(_forged((3,), b"abc")), "uint8 array"),
    "floats": (_reply(Array(np.zeros(50))), "uint8 array"),
    "two dimensions": (_reply(Array(np.zeros((5, 5), np.uint8))), "uint8 array"),
    "a header of 10^12 bytes": (
        _reply(_forged((10**12,), GOOD.replace(b"(%d,)" % len(_payload()), b"(1000000000000,)"))),
        "uint8 array",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_reply_is_one_error_and_changes_nothing(case: str) -> None:
    reply, says = HOSTILE[case]
    before = [dict(record) for record in reply.content.array_records.values()]
    for read in (decode_reply, lambda r, lay: restore_reply(r, lay, _record(_model()))):
        with pytest.raises(PayloadError, match=says) as caught:
            read(reply, _layout())
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
            decode_reply(_reply(_forged((len(data),), bytes(data))), _layout())
        except PayloadError:
            refused += 1
    assert refused > 1900


def test_a_payload_of_another_model_or_value_type_is_refused() -> None:
    for layout in (layout_of(_record(_model()), COSTS, "float16"), PayloadLayout({"x": (9,)})):
        with pytest.raises(PayloadError):
            decode_reply(_reply(_as_array(_payload())), layout)


def test_an_update_that_overflows_the_model_is_refused() -> None:
    sent = _model() | {"head": np.full(SHAPES["head"], 60_000, np.float16)}
    step = {"head": np.full(SHAPES["head"], 60_000, np.float32)}
    zeros = {"conv": np.zeros(SHAPES["conv"], np.float32)}
    kept = CostWeighted(COSTS).select(step | zeros, 1e-7)
    payload = encode(kept.layers, _layout(), {"mean": _model()["mean"]})
    with pytest.raises(PayloadError, match="beyond float16"):
        restore_reply(_reply(_as_array(payload)), _layout(), _record(sent))


def test_a_layout_needs_every_priced_array() -> None:
    with pytest.raises(LayerMismatchError, match="'head'"):
        layout_of(_record({"conv": np.zeros(SHAPES["conv"])}), COSTS)
    assert dict(_layout().buffers) == {"mean": (4,)}


def _softmax_step(arrays: Arrays, x: np.ndarray, y: np.ndarray) -> Arrays:
    """Gradient descent on the cross-entropy of a linear model, in place of a framework."""
    w, b = arrays["w"].astype("f8"), arrays["b"].astype("f8")
    for rows in np.array_split(np.arange(len(y)), 12):
        scores = x[rows] @ w + b
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(rows)), y[rows]] -= 1
        w -= 0.5 * x[rows].T @ p / len(rows)
        b -= 0.5 * p.mean(axis=0)
    return {"w": w.astype("f4"), "b": b.astype("f4")}


def _documented_strategy(costs: SelectionCosts) -> type[FedAvg]:
    """The strategy that the page on integrations shows, with *costs* in place of a file's."""
    page = Path(__file__).parents[3] / "docs" / "integrations.md"
    (block,) = [b for b in re.findall(r"```py\n(.*?)```", page.read_text(), re.S) if "FedAvg" in b]
    names = {
        "FedAvg": FedAvg,
        "layout_of": layout_of,
        "restore_reply": restore_reply,
        "PayloadError": PayloadError,
        "CostFile": SimpleNamespace(load=lambda path: costs),
        "log": logging.log,
        "WARNING": logging.WARNING,
    }
    exec(block, names)
    strategy: type[FedAvg] = names["Decoding"]
    return strategy


@pytest.mark.parametrize("budget", [None, "10%"])
def test_federated_rounds_with_flowers_own_app_and_strategy_learn(budget: str | None) -> None:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    x, y = bunch.data / 16.0, bunch.target
    shapes = {"w": (64, 10), "b": (10,)}
    costs = SelectionCosts.linear(shapes, {"w": 1e-9, "b": 2e-9})
    app = ClientApp(mods=[CwmpMod(costs, budget)] if budget else [])

    @app.train()
    def train(msg: Message, ctxt: Context) -> Message:
        rows = slice(int(ctxt.node_id), None, 3)
        trained = _softmax_step(_arrays(msg.content["arrays"]), x[rows], y[rows])
        metrics = MetricRecord({"num-examples": len(y[rows])})
        content = RecordDict({"arrays": _record(trained), "metrics": metrics})
        return Message(content, reply_to=msg)

    strategy = (_documented_strategy(costs) if budget else FedAvg)()
    arrays = _record({name: np.zeros(shape, "f4") for name, shape in shapes.items()})
    contexts = [_context(node) for node in range(3)]
    for number in range(12):
        replies = [app(_message(_arrays(arrays)), context) for context in contexts]
        if budget:
            strategy.sent = arrays  # as configure_train does, which needs a server
            replies.append(_reply(_as_array(_payload())))  # of another model: left out
        arrays, metrics = strategy.aggregate_train(number, replies)
        if budget:
            assert 0 < metrics["cwmp-energy-j"] <= 0.1 * costs.dense_j
            assert metrics["cwmp-payload-bytes"] < 0.35 * 4 * 650
    final = _arrays(arrays)
    assert (np.argmax(x @ final["w"] + final["b"], axis=1) == y).mean() > 0.93
