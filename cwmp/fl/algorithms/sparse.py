"""Federated averaging of updates that a selector has reduced to a joule budget.

Client: d = local - received; send the entries that the selector keeps. Server: the rule of
`cwmp.fl.aggregate`. With the dense selector this is FedAvg (McMahan et al. 2017); with the
others, sparsified FedAvg without error feedback: what is not sent is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cwmp.codec import decode, encode
from cwmp.fl.aggregate import apply_update, average
from cwmp.fl.algorithms.base import ClientTask, Download, SelectionReport, Touch, Upload
from cwmp.fl.training import ModelState, Trainer
from cwmp.payload import DecodedPayload, PayloadLayout
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.base import Selector
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import PayloadError


@dataclass(frozen=True)
class SparseAveraging:
    """FedAvg of selected entries.

    Attributes:
        selector: chooses the entries.
        budget_j: joules a client may declare a round, for uplink and one update.
        costs: the prices.
        layout: the model's layers and buffers.
        considers_all: whether the selector looks at entries to choose them; dense does not.
    """

    selector: Selector
    budget_j: float
    costs: SelectionCosts
    layout: PayloadLayout
    considers_all: bool = field(default=True)

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        local = trainer.train(task.state, task.x, task.y, task.order)
        selection = self.selector.select(local.delta, self.budget_j, generator=task.draws)
        return Upload(
            payload=encode(selection.layers, self.layout, local.buffers),
            examples=len(task.y),
            batches=local.batches,
            loss=local.loss,
            selection=self._report(selection),
        )

    def server(self, uploads: Iterable[Upload]) -> Download:
        touched: list[tuple[Touch, ...]] = []

        def received() -> Iterator[tuple[DecodedPayload, int]]:
            for number, upload in enumerate(uploads):
                try:
                    payload = decode(upload.payload, self.layout)
                except PayloadError as error:
                    raise PayloadError(f"upload {number} is refused: {error}") from error
                touched.append(_touches(payload.layers))
                yield payload, upload.examples

        mean = average(received(), self.layout, self.costs)
        payload = encode(mean.layers, self.layout, mean.buffers)
        return Download(payload, _touches(mean.layers), tuple(touched))

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


def _touches(layers: Sequence[LayerSelection]) -> tuple[Touch, ...]:
    return tuple(Touch(layer.name, layer.indices.size, layer.form) for layer in layers)
