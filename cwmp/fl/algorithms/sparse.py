"""Federated averaging of updates that a selector has reduced to a joule budget.

Client, with what waits e (zero without feedback) and alpha in [0, 1]::

    w~  = w + alpha e                      where local training starts
    u   = (w~_T - w) + (1 - alpha) e = (w~_T - w~) + e
    e   <- u - S(u)                        S(u) is what the selector keeps and sends

alpha = 0 is error feedback (Seide et al. 2014; Stich et al. 2018, arXiv 1809.07599), alpha = 1
step-ahead error feedback, between them SA-PEF (Redie, Arablouei and Werner); without feedback
e is forgotten. Server: the rule of `cwmp.fl.aggregate`. With the dense selector this is FedAvg
(McMahan et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cwmp.codec import decode, encode
from cwmp.feedback import ErrorFeedback, as_received
from cwmp.fl.aggregate import apply_update, average
from cwmp.fl.algorithms.base import (
    ClientTask,
    Download,
    Memory,
    Reading,
    SelectionReport,
    ServerTask,
    Touch,
    Track,
    Upload,
)
from cwmp.fl.algorithms.setting import Feedback, MethodName, Setting
from cwmp.fl.training import LocalResult, ModelState, Trainer
from cwmp.payload import DecodedPayload, PayloadLayout
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors import make_selector
from cwmp.selectors.base import Selector
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError, PayloadError


@dataclass(frozen=True)
class SparseAveraging:
    """FedAvg of selected entries.

    Attributes:
        selector: chooses the entries.
        budget_j: joules a client may declare a round, for uplink and one update.
        costs: the prices.
        layout: the model's layers and buffers.
        considers_all: whether the selector looks at entries to choose them; dense does not.
        feedback: what becomes of what is not sent.
    """

    selector: Selector
    budget_j: float
    costs: SelectionCosts
    layout: PayloadLayout
    considers_all: bool = field(default=True)
    feedback: Feedback = field(default=Feedback())

    @property
    def track(self) -> Track:
        return "shared"

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        start = _ahead(task.state, task.memory, self.feedback.alpha)
        local = trainer.train(start, task.x, task.y, task.order, lr_factor=task.lr_factor)
        selection, memory = self._select(local, task)
        return Upload(
            payload=encode(selection.layers, self.layout, local.buffers),
            examples=len(task.y),
            batches=local.batches,
            loss=local.loss,
            selection=self._report(selection),
            client=task.client,
            memory=memory,
        )

    def _select(self, local: LocalResult, task: ClientTask) -> tuple[Selection, Memory]:
        if not self.feedback.remembers:
            chosen = self.selector.select(local.delta, self.budget_j, generator=task.draws)
            return chosen, {}
        waiting = ErrorFeedback(self.selector, as_received(self.layout.value_type))
        waiting.load_state_dict(task.memory)
        chosen = waiting.select(local.delta, self.budget_j, generator=task.draws)
        return chosen, waiting.state_dict()

    def read(self, upload: Upload) -> Reading:
        decoded = decode(upload.payload, self.layout)
        if upload.examples < 1:
            raise PayloadError(f"it claims {upload.examples} examples; at least 1 is needed")
        touched, norm = touches(decoded.layers), norm_of(decoded.layers)
        return Reading(upload.client, upload.examples, touched, decoded, norm, decoded.buffers)

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        decoded: Iterable[tuple[DecodedPayload, int]] = (
            (reading.content, reading.examples) for reading in readings
        )
        mean = average(decoded, self.layout, self.costs)
        return Download(encode(mean.layers, self.layout, mean.buffers), touches(mean.layers))

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        decoded = decode(payload, self.layout)
        return apply_update(state, decoded.layers, decoded.buffers)

    def _report(self, selection: Selection) -> SelectionReport:
        considered = sum(price.parameters for price in self.costs.layers)
        return SelectionReport(
            entries=selection.entries,
            considered=considered if self.considers_all else None,
            energy_j=selection.energy_j,
            captured=selection.captured,
            total=selection.total,
            bound=selection.bound,
        )


def make(name: MethodName, setting: Setting) -> SparseAveraging:
    """``dense``, or a selector of `cwmp.selectors.make_selector` at the setting's budget.

    Raises:
        InputError: no such selector, or arguments it does not take.
    """
    if name.name == "dense" and (name.arguments or name.feedback.remembers):
        raise InputError(f"dense sends everything and takes neither arguments nor feedback: {name}")
    selector = make_selector(str(replace(name, feedback=Feedback())), setting.costs)
    return SparseAveraging(
        selector,
        setting.budget_j,
        setting.costs,
        setting.layout,
        considers_all=name.name != "dense",
        feedback=name.feedback,
    )


def touches(layers: Sequence[LayerSelection]) -> tuple[Touch, ...]:
    """What applying *layers* touches."""
    return tuple(Touch(layer.name, layer.indices.size, layer.form) for layer in layers)


def norm_of(layers: Sequence[LayerSelection]) -> float:
    """sqrt of the sum of squares of the kept values; inf where that overflows."""
    return math.sqrt(sum(float(np.square(x.values, dtype=np.float64).sum()) for x in layers))


def _ahead(state: ModelState, memory: Memory, alpha: float) -> ModelState:
    """*state* a step alpha along what waits; *state* itself where nothing does."""
    if not alpha or not memory:
        return state
    step = np.float32(alpha)
    moved = {
        name: (values + step * memory[name]).astype(np.float32, copy=False)
        for name, values in state.parameters.items()
    }
    return replace(state, parameters=moved)
