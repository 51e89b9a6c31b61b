"""Flower: a client mod that replies with one encoded payload, and the server's decoder.

The mod stands between the server and a `ClientApp` that returns its trained arrays. Of layer l
it sends what the budget affords of e_l + (trained_l - received_l); e waits in the client's own
context. Other floating-point arrays (BatchNorm statistics) are sent whole, as they are after
training; integers (counters) are not sent. Needs the extra ``cwmp[flower]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodels.costfile import CostFile
from cwmp.codec import encode
from cwmp.feedback import ErrorFeedback, as_received
from cwmp.integrations.arguments import AnyBudget, Rule, budget_of, rule_of
from cwmp.integrations.flower_replies import (
    PAYLOAD,
    decode_reply,
    layout_of,
    only_record,
    restore_reply,
)
from cwmp.integrations.prices import prices_of
from cwmp.payload import PayloadLayout, ValueType
from cwmp.selection import Selection
from cwmp.selectors import CostWeighted
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import prepared
from profiler.errors import CwmpError, LayerMismatchError, MissingExtraError

try:
    from flwr.app import (
        Array,
        ArrayRecord,
        ConfigRecord,
        Context,
        Error,
        Message,
        MessageType,
        MetricRecord,
        RecordDict,
    )
    from flwr.common.constant import ErrorCode
except ImportError as error:
    raise MissingExtraError("Flower is not installed: pip install 'cwmp[flower]'") from error

__all__ = ["CwmpMod", "decode_reply", "layout_of", "restore_reply"]

RESIDUAL = "cwmp.residual"
ROUND = "cwmp.round"

_Arrays = dict[str, NDArray[Any]]


class CwmpMod:
    """Reply with what a joule budget affords: ``ClientApp(mods=[CwmpMod(costs, "10%")])``.

    It acts on training messages and passes others on. Message and reply hold one `ArrayRecord`
    each, with the same arrays; that of the reply becomes one uint8 array, the payload, and its
    `MetricRecord` gains ``cwmp-payload-bytes``, ``cwmp-energy-j`` (declared joules),
    ``cwmp-captured``, ``cwmp-total`` and, for rules that have one, ``cwmp-bound``. What cannot
    be sent becomes an error reply of one line, and the residual stays as it was.

    One mod serves all the clients of a process: everything that a client keeps is in its
    context's state. What the server refuses or never gets is lost to the residual.

    Args:
        costs: prices of the model's layers, by the names of the arrays. A cost file charges the
            arrays that are sent whole as well; prepared costs must have them in ``message_j``.
        budget: of one reply: a share of the dense cost (``"10%"``) or joules (``"2 mJ"`` or
            ``0.002``).
        rule: makes the selector from the prices, e.g. the class `TopK`.
        feedback: whether what is not sent waits for the next round.
        value_type: the type of values on the wire, as in the server's `layout_of`.
        seed: of rules that draw; each client and round draws its own numbers.

    Raises:
        BudgetError: a budget that cannot be read.
        InputError: a cost file without costs of updating or sending, or a rule that makes no
            selectors.
    """

    def __init__(
        self,
        costs: CostFile | SelectionCosts,
        budget: AnyBudget,
        rule: Rule = CostWeighted,
        *,
        feedback: bool = True,
        value_type: ValueType = "float32",
        seed: int = 0,
    ) -> None:
        prepared(costs)
        self.costs = costs
        self.budget = budget_of(budget)
        self.rule = rule_of(rule)
        self.feedback = feedback
        self.value_type: ValueType = value_type
        self.seed = seed

    def __repr__(self) -> str:
        return (
            f"CwmpMod(budget={str(self.budget)!r}, rule={self.rule!r}, feedback={self.feedback}, "
            f"value_type={self.value_type!r}, seed={self.seed})"
        )

    def __call__(
        self, msg: Message, ctxt: Context, call_next: Callable[[Message, Context], Message]
    ) -> Message:
        if msg.metadata.message_type.split(".")[0] != MessageType.TRAIN:
            return call_next(msg, ctxt)
        try:
            _, record = only_record(msg.content, "message")
            received = dict(record)  # the app may empty the record
            layout = layout_of(record, self.costs, self.value_type)
            reply = call_next(msg, ctxt)
            if not reply.has_error():
                self._compress(reply, received, layout, ctxt)
        except CwmpError as error:
            said = Error(ErrorCode.MOD_FAILED_PRECONDITION, f"CwmpMod: {error}")
            return Message(said, reply_to=msg)
        return reply

    def _compress(
        self, reply: Message, received: dict[str, Array], layout: PayloadLayout, ctxt: Context
    ) -> None:
        key, record = only_record(reply.content, "reply")
        trained = {name: array.numpy() for name, array in record.items()}
        before = {name: array.numpy() for name, array in received.items()}
        _check_same(trained, before)
        with np.errstate(invalid="ignore", over="ignore"):  # selectors refuse what is not finite
            update = {n: _float32(trained[n]) - _float32(before[n]) for n in layout.layers}
        feedback, selection = self._select(update, layout, ctxt)
        payload = encode(selection.layers, layout, {n: trained[n] for n in layout.buffers})
        if self.feedback:
            residual = feedback.state_dict()
            ctxt.state[RESIDUAL] = ArrayRecord({n: Array(e) for n, e in residual.items()})
        ctxt.state[ROUND] = ConfigRecord({"round": _round(ctxt) + 1})
        reply.content[key] = ArrayRecord({PAYLOAD: Array(np.frombuffer(payload, np.uint8))})
        _metrics(reply.content).update(_report(selection, payload))

    def _select(
        self, update: _Arrays, layout: PayloadLayout, ctxt: Context
    ) -> tuple[ErrorFeedback, Selection]:
        costs = prices_of(layout, _charged(self.costs, layout))
        feedback = ErrorFeedback(self.rule(costs), as_received(self.value_type))
        if self.feedback and RESIDUAL in ctxt.state:
            kept = ctxt.state[RESIDUAL]
            feedback.load_state_dict({name: array.numpy() for name, array in kept.items()})
        draws = np.random.default_rng([self.seed, abs(ctxt.node_id), _round(ctxt)])
        budget_j = self.budget.joules(costs.dense_j)
        return feedback, feedback.select(update, budget_j, generator=draws)


def _check_same(trained: _Arrays, received: _Arrays) -> None:
    shapes = [{name: array.shape for name, array in x.items()} for x in (trained, received)]
    if shapes[0] != shapes[1]:
        raise LayerMismatchError("the reply holds other arrays or shapes than the message did")


def _charged(costs: CostFile | SelectionCosts, layout: PayloadLayout) -> SelectionCosts:
    if isinstance(costs, CostFile):
        return SelectionCosts.from_cost_file(costs, buffer_entries=layout.buffer_entries)
    return costs


def _round(ctxt: Context) -> int:
    return int(ctxt.state[ROUND]["round"]) if ROUND in ctxt.state else 0


def _metrics(content: RecordDict) -> MetricRecord:
    """The reply's own metrics, since strategies take one record; else a new one."""
    records = list(content.metric_records.values())
    if len(records) != 1:
        content["cwmp"] = MetricRecord()
        return content["cwmp"]
    return records[0]


def _report(selection: Selection, payload: bytes) -> dict[str, float]:
    report = {
        "cwmp-payload-bytes": len(payload),
        "cwmp-energy-j": selection.energy_j,
        "cwmp-captured": selection.captured,
        "cwmp-total": selection.total,
    }
    return report if selection.bound is None else report | {"cwmp-bound": selection.bound}


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.astype(np.float32, copy=False)
