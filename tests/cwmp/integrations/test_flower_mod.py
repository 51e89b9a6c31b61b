"""The Flower mod on a client, with Flower's own messages and contexts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
pytest.importorskip("flwr", reason="needs the extra cwmp[flower]")

from flwr.app import Context, Error, Message, RecordDict
from stand_ins.flower import (
    BUDGET,
    COSTS,
    SHAPES,
    Arrays,
    app_returning,
    arrays_of,
    client_context,
    flower_model,
    payload_layout,
    record_of,
    sent_message,
    training_message,
    training_step,
)

from cwmp import CostWeighted, RandomK, encode
from cwmp.integrations.flower import CwmpMod, decode_reply, layout_of
from profiler.errors import BudgetError, InputError, PayloadError


def test_the_reply_is_one_payload_of_what_the_selector_keeps() -> None:
    reply = CwmpMod(COSTS, BUDGET)(
        training_message(flower_model()), client_context(), app_returning(training_step(1))
    )
    expected = CostWeighted(COSTS).select(
        {n: (flower_model()[n] + flower_model(1)[n]) - flower_model()[n] for n in SHAPES},
        0.2 * COSTS.dense_j,
    )
    decoded = decode_reply(reply, payload_layout())
    assert [layer.name for layer in decoded.layers] == [layer.name for layer in expected.layers]
    for got, kept in zip(decoded.layers, expected.layers, strict=True):
        assert np.array_equal(got.indices, kept.indices)
        assert np.array_equal(got.values, kept.values)
    assert np.array_equal(decoded.buffers["mean"], flower_model(1)["mean"])
    metrics = dict(reply.content["metrics"])
    payload = encode(expected.layers, payload_layout(), {"mean": flower_model(1)["mean"]})
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
    plain = app_returning(training_step(1))(training_message(flower_model()), client_context())
    reply = CwmpMod(COSTS, BUDGET)(
        training_message(flower_model()), client_context(), app_returning(training_step(1))
    )
    arrays = reply.content["arrays"]
    assert list(arrays) == ["cwmp.payload"]
    sent = arrays.count_bytes()
    assert sent < 300 + reply.content["metrics"]["cwmp-payload-bytes"]
    assert sent < 0.5 * plain.content["arrays"].count_bytes()


@pytest.mark.parametrize("value_type", ["float32", "float16"])
def test_what_is_not_sent_waits_in_the_clients_own_context(value_type: str) -> None:
    mod = CwmpMod(COSTS, BUDGET, value_type=value_type)
    layout = layout_of(record_of(flower_model()), COSTS, value_type)
    contexts = [client_context(1), client_context(2)]
    for context in contexts:
        update = {n: np.zeros(s) for n, s in SHAPES.items()}
        for number in range(5):
            step = training_step(10 * context.node_id + number)
            reply = mod(training_message(flower_model()), context, app_returning(step))
            trained = step(flower_model())
            for name in SHAPES:
                update[name] += trained[name] - flower_model()[name]
            for layer in decode_reply(reply, layout).layers:
                update[layer.name].reshape(-1)[layer.indices] -= layer.values
        waiting = arrays_of(context.state["cwmp.residual"])
        for name in SHAPES:
            assert np.abs(update[name] - waiting[name]).max() < 1e-5
            assert waiting[name].any()
        assert context.state["cwmp.round"]["round"] == 5
    one, other = (arrays_of(context.state["cwmp.residual"]) for context in contexts)
    assert not np.array_equal(one["head"], other["head"])


def test_without_feedback_nothing_waits() -> None:
    context = client_context()
    mod = CwmpMod(COSTS, BUDGET, feedback=False)
    replies = [
        mod(training_message(flower_model()), context, app_returning(training_step(1)))
        for _ in range(2)
    ]
    first, second = (decode_reply(reply, payload_layout()).layers for reply in replies)
    assert all(np.array_equal(a.values, b.values) for a, b in zip(first, second, strict=True))
    assert "cwmp.residual" not in context.state


def test_a_rule_that_draws_draws_anew_each_round_and_for_each_client() -> None:
    mod = CwmpMod(COSTS, BUDGET, RandomK, feedback=False)
    context = client_context(1)
    drawn = []
    for ctxt in (context, context, client_context(2), client_context(1)):
        reply = mod(training_message(flower_model()), ctxt, app_returning(training_step(1)))
        assert "cwmp-bound" not in reply.content["metrics"]
        layers = decode_reply(reply, payload_layout()).layers
        drawn.append([(x.name, *x.indices.tolist()) for x in layers])
    assert drawn[0] == drawn[3]
    assert drawn[0] != drawn[1] and drawn[0] != drawn[2]


@pytest.mark.parametrize("kind", ["evaluate", "query", "train"])
def test_other_messages_and_errors_pass(kind: str) -> None:
    def app(msg: Message, ctxt: Context) -> Message:
        if kind == "train":
            return Message(Error(2, "no data here"), reply_to=msg)
        return Message(RecordDict({"arrays": record_of(flower_model(1))}), reply_to=msg)

    context = client_context()
    reply = CwmpMod(COSTS, BUDGET)(training_message(flower_model(), kind), context, app)
    if kind == "train":
        assert reply.error.reason == "no data here"
    else:
        assert np.array_equal(reply.content["arrays"]["head"].numpy(), flower_model(1)["head"])
    assert not context.state


def test_a_reply_without_metrics_gets_a_record_of_its_own() -> None:
    def app(msg: Message, ctxt: Context) -> Message:
        return Message(
            RecordDict({"arrays": record_of(training_step(1)(flower_model()))}), reply_to=msg
        )

    reply = CwmpMod(COSTS, BUDGET)(training_message(flower_model()), client_context(), app)
    assert reply.content["cwmp"]["cwmp-payload-bytes"] > 0


def _nan(arrays: Arrays) -> Arrays:
    return arrays | {"head": np.full(SHAPES["head"], np.nan, "f4")}


BAD_TRAINING: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "diverged": (_nan, "NaN or inf"),
    "infinite twice": (lambda a: a | {"conv": np.full(SHAPES["conv"], np.inf, "f4")}, "inf"),
    "a buffer diverged": (
        lambda a: training_step(1)(a) | {"mean": np.full(4, np.nan, "f4")},
        "'mean'",
    ),
    "an array less": (lambda a: {n: x for n, x in a.items() if n != "mean"}, "other arrays"),
    "another shape": (lambda a: a | {"head": np.zeros((10, 4), "f4")}, "other arrays or shapes"),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_what_cannot_be_sent_is_an_error_reply_and_nothing_is_forgotten(case: str) -> None:
    trained, says = BAD_TRAINING[case]
    mod, context = CwmpMod(COSTS, BUDGET), client_context()
    mod(training_message(flower_model()), context, app_returning(training_step(1)))
    before = arrays_of(context.state["cwmp.residual"])
    reply = mod(training_message(flower_model()), context, app_returning(trained))
    assert reply.has_error()
    assert reply.error.reason.startswith("CwmpMod: ") and says in reply.error.reason
    after = arrays_of(context.state["cwmp.residual"])
    assert all(np.array_equal(before[name], after[name]) for name in SHAPES)
    with pytest.raises(PayloadError, match="is an error: CwmpMod"):
        decode_reply(reply, payload_layout())


def test_costs_of_another_model_are_told_before_training() -> None:
    def never(msg: Message, ctxt: Context) -> Message:
        raise AssertionError("trained for nothing")

    for arrays in ({"conv": np.zeros(SHAPES["conv"])}, flower_model() | {"head": np.zeros((2, 2))}):
        reply = CwmpMod(COSTS, BUDGET)(training_message(arrays), client_context(), never)
        assert "costs price array 'head'" in reply.error.reason
    reply = CwmpMod(COSTS, BUDGET)(sent_message(RecordDict()), client_context(), never)
    assert "0 array records" in reply.error.reason


@pytest.mark.parametrize("budget", ["8 nJ", 8e-9, np.float32(8e-9)])
def test_a_budget_in_joules_is_text_or_a_number(budget: Any) -> None:
    mod = CwmpMod(COSTS, budget)
    reply = mod(training_message(flower_model()), client_context(), app_returning(training_step(1)))
    assert 0 < reply.content["metrics"]["cwmp-energy-j"] <= 8e-9 * (1 + 1e-6)


@pytest.mark.parametrize("rule", ["topk", CostWeighted(COSTS), None])
def test_what_makes_no_selectors_is_refused_when_the_mod_is_made(rule: Any) -> None:
    with pytest.raises(InputError, match=r"class cwmp\.TopK"):
        CwmpMod(COSTS, BUDGET, rule)


def test_budgets_are_read_when_the_mod_is_made() -> None:
    with pytest.raises(BudgetError):
        CwmpMod(COSTS, "a lot")
    reply = CwmpMod(COSTS, "1 nJ")(
        training_message(flower_model()), client_context(), app_returning(training_step(1))
    )
    assert reply.has_error() is False
    reply = CwmpMod(COSTS, "0.1 nJ")(
        training_message(flower_model()), client_context(), app_returning(training_step(1))
    )
    assert "opens no layer" in reply.error.reason
    assert "budget='20%'" in repr(CwmpMod(COSTS, BUDGET))
