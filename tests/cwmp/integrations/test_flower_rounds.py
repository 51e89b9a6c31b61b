"""Federated rounds with Flower's own app and strategy, as the page on integrations shows."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
pytest.importorskip("flwr", reason="needs the extra cwmp[flower]")

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from stand_ins.flower import (
    Arrays,
    arrays_of,
    bytes_array,
    client_context,
    encoded_payload,
    record_of,
    reply_of,
    training_message,
)

from cwmp import SelectionCosts
from cwmp.integrations.flower import CwmpMod, layout_of, restore_reply
from profiler.errors import PayloadError


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
        trained = _softmax_step(arrays_of(msg.content["arrays"]), x[rows], y[rows])
        metrics = MetricRecord({"num-examples": len(y[rows])})
        content = RecordDict({"arrays": record_of(trained), "metrics": metrics})
        return Message(content, reply_to=msg)

    strategy = (_documented_strategy(costs) if budget else FedAvg)()
    arrays = record_of({name: np.zeros(shape, "f4") for name, shape in shapes.items()})
    contexts = [client_context(node) for node in range(3)]
    for number in range(12):
        replies = [app(training_message(arrays_of(arrays)), context) for context in contexts]
        if budget:
            strategy.sent = arrays  # as configure_train does, which needs a server
            replies.append(reply_of(bytes_array(encoded_payload())))  # of another model: left out
        arrays, metrics = strategy.aggregate_train(number, replies)
        if budget:
            assert 0 < metrics["cwmp-energy-j"] <= 0.1 * costs.dense_j
            assert metrics["cwmp-payload-bytes"] < 0.35 * 4 * 650
    final = arrays_of(arrays)
    assert (np.argmax(x @ final["w"] + final["b"], axis=1) == y).mean() > 0.93
