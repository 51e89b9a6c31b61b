"""CA-HFP: each device prunes its own channels, by what the curvature says of them.

"Curvature-Aware Heterogeneous Federated Pruning with Model Reconstruction", arXiv 2603.12591.
A client's round, with m the mask of the channels it keeps::

    score    | sum over a channel's entries of  1/2 w^2 H - w g |,  the lowest are pruned
    train    local SGD from m w with gradients m g: the sub-model
    upload   the change of the kept channels' entries, and the channel masks
    server   puts each change back where it belongs in the full model: the rule of
             `cwmp.fl.aggregate`, in which what a client did not send counts as zero

Known: the score, structured pruning by device, reconstruction in the full space. Chosen here:

* g is the mean gradient of one batch of the client's own examples, at the price of one more step
  of training, which is counted.
* H = g^2, the square of that mean: a crude stand-in for the diagonal of the empirical Fisher
  information, which averages squares over examples and is larger.
* The **magnitude** of the score ranks, as in Taylor criteria (Molchanov et al. 2017, arXiv
  1611.06440). The score is the predicted change of the loss; a large negative one says that the
  channel matters as much as a large positive one, and what a client prunes is still in the full
  model, for which its prediction does not speak. Whether the authors rank by the sign is not in
  the abstract. Ranking by it was tried once, on digits, and got worse with every round: this
  choice was made in sight of that.
* Each module loses the same share of its channels (`cwmp.fl.algorithms.channels` says what a
  channel is); the change sent is that against the received weights m w.

Where no ratio is given, the device's own prices decide: the smallest of 0, 1, ..., 99 % whose
declared joules (uplink and one update) fit the budget.

The sub-model is trained masked, in the full network: its computation is not reduced here, and
the joules of training are those of the full model. What a device with a network rebuilt
smaller would save is not in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cwmp.codec import decode, encode
from cwmp.fl.aggregate import apply_update, average
from cwmp.fl.algorithms.base import (
    ClientTask,
    Download,
    Reading,
    SelectionReport,
    ServerTask,
    Touch,
    Track,
    Upload,
)
from cwmp.fl.algorithms.channels import Channels, Kept
from cwmp.fl.algorithms.envelope import (
    FRAME_BYTES,
    Kind,
    bits_of,
    buffers_of,
    counted,
    numbers,
    pack,
    unpack,
    values_of,
)
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import norm_of, touches
from cwmp.fl.training import Arrays, ModelState, Trainer
from cwmp.payload import HEADER_BYTES, DecodedPayload, PayloadLayout, buffer_bytes, layer_bytes
from cwmp.selection import Form, LayerSelection
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from profiler.errors import BudgetError, InputError, PayloadError


@dataclass(frozen=True)
class CurvaturePruning:
    """Averaging of sub-models.

    Attributes:
        costs: the device's prices.
        channels: of the model.
        ratio: the share of each module's channels that this device prunes.
    """

    costs: SelectionCosts
    channels: Channels
    ratio: float

    @property
    def track(self) -> Track:
        return "shared"

    @property
    def layout(self) -> PayloadLayout:
        return self.channels.layout

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        kept, scored = self._chosen(trainer, task)
        mask = self.channels.spread(kept)
        start = task.state
        if self.ratio:
            parts = {name: values * mask[name] for name, values in start.parameters.items()}
            start = replace(start, parameters=parts)
        local = trainer.train(
            start,
            task.x,
            task.y,
            task.order,
            lr_factor=task.lr_factor,
            mask=mask if self.ratio else None,
        )
        return Upload(
            payload=self.written(kept, local.delta, local.buffers),
            examples=len(task.y),
            batches=scored + local.batches,
            loss=local.loss,
            selection=self._report(kept, local.delta),
            client=task.client,
        )

    def _chosen(self, trainer: Trainer, task: ClientTask) -> tuple[Kept, tuple[int, ...]]:
        """The channels to keep, and the examples it took to find out."""
        if not self.ratio:
            whole = {m: np.ones(n, dtype=np.bool_) for m, n in self.channels.counts.items()}
            return whole, ()
        count = min(trainer.plan.batch_size, len(task.y))
        picked = task.draws.permutation(len(task.y))[:count]
        gradient = trainer.gradient(task.state, task.x[picked], task.y[picked])
        scores = self.channels.scores(task.state.parameters, gradient)
        return self.channels.keep(scores, self.ratio), (count,)

    def written(self, kept: Kept, change: Arrays, buffers: Arrays) -> bytes:
        """For each module u8 (1: all channels, 0: a bitmap follows), then each layer's kept
        entries in float32, in the layout's order, then buffers."""
        parts = []
        for mask in kept.values():
            parts.append(b"\x01" if mask.all() else b"\x00" + bits_of(mask))
        for name, mask in self.channels.spread(kept).items():
            parts.append(values_of(change[name][mask], "<f4", f"the values of layer {name!r}"))
        body = b"".join([*parts, buffers_of(self.layout, buffers)])
        return pack(Kind.CHANNELS, self.layout, body)

    def read(self, upload: Upload) -> Reading:
        body = unpack(Kind.CHANNELS, self.layout, upload.payload)
        kept = {}
        for module, count in self.channels.counts.items():
            flag = body.take(1)[0]
            mask = np.ones(count, dtype=np.bool_) if flag == 1 else body.bits(count)
            if flag > 1 or not mask.any() or (flag == 0 and mask.all()):
                raise PayloadError(f"the channel mask of module {module!r} cannot be one")
            kept[module] = mask
        layers = []
        for name, mask in self.channels.spread(kept).items():
            indices = np.flatnonzero(mask)
            values = body.values(indices.size, "<f4", f"the values of layer {name!r}")
            form = "dense" if indices.size == mask.size else "sparse"
            shape = tuple(self.layout.layers[name])
            layers.append(LayerSelection(name, shape, indices, values, form))  # type: ignore[arg-type]
        decoded = DecodedPayload(tuple(layers), body.buffers())
        touched = tuple(
            Touch(price.name, *applied(price, layer.indices.size)[1:])
            for price, layer in zip(self.costs.layers, layers, strict=True)
        )
        examples = counted(upload.examples)
        norm = norm_of(layers)
        return Reading(upload.client, examples, touched, decoded, norm, decoded.buffers)

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        received = ((reading.content, reading.examples) for reading in readings)
        mean = average(received, self.layout, self.costs)
        return Download(encode(mean.layers, self.layout, mean.buffers), touches(mean.layers))

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        decoded = decode(payload, self.layout)
        return apply_update(state, decoded.layers, decoded.buffers)

    def _report(self, kept: Kept, change: Arrays) -> SelectionReport:
        squares = sum(float(np.square(d, dtype=np.float64).sum()) for d in change.values())
        return SelectionReport(
            entries=sum(int(mask.sum()) for mask in self.channels.spread(kept).values()),
            considered=sum(self.layout.sizes) if self.ratio else None,
            energy_j=declared_j(self.costs, self.channels, self.ratio),
            captured=squares,
            total=squares,
            bound=None,
        )


def make(name: MethodName, setting: Setting) -> CurvaturePruning:
    """``cahfp[:RATIO]``; without a ratio the budget decides.

    Raises:
        InputError: arguments it does not take.
        BudgetError: no ratio fits the budget.
    """
    channels = Channels(setting.layout)
    (ratio,) = numbers(name, "cahfp or cahfp:RATIO", (-1.0,))
    if not name.arguments:
        ratio = _affordable(channels, setting)
    if not 0 <= ratio < 1:
        raise InputError(f"cahfp prunes a share of channels from 0 to below 1: {name}")
    return CurvaturePruning(setting.costs, channels, ratio)


def applied(price: LayerPrice, k: int) -> tuple[float, int, Form]:
    """Joules of adding *k* entries of a layer, and how: entry by entry, or as n of them."""
    sent = int(layer_bytes(price.parameters, k, "sparse", price.value_bytes))
    sparse_j = float(price.form_j(k, "sparse")) - price.byte_j * sent
    if price.dense_j is not None and price.dense_j <= sparse_j:
        return price.dense_j, price.parameters, "dense"
    return sparse_j, k, "sparse"


def declared_j(costs: SelectionCosts, channels: Channels, ratio: float) -> float:
    """Joules of sending one sub-model in its real bytes and of applying it once."""
    counts, layout = channels.entries(ratio), channels.layout
    masks = sum(
        1 + ((channels.counts[module] + 7) // 8 if gone else 0)
        for module, gone in channels.pruned(ratio).items()
    )
    sent = FRAME_BYTES + masks + 4 * (sum(counts) + layout.buffer_entries)
    counted_already = HEADER_BYTES + buffer_bytes(layout.buffer_entries)
    sending_j = costs.message_j + costs.layers[0].byte_j * (sent - counted_already)
    return sending_j + sum(
        applied(price, k)[0] for price, k in zip(costs.layers, counts, strict=True)
    )


def _affordable(channels: Channels, setting: Setting) -> float:
    spent: Mapping[float, float] = {
        ratio: declared_j(setting.costs, channels, ratio)
        for ratio in (percent / 100 for percent in range(100))
    }
    for ratio, energy_j in spent.items():
        if energy_j <= setting.budget_j * (1 + 1e-12):
            return ratio
    raise BudgetError(
        f"infeasible: the budget of {setting.budget_j:.4g} J is below the "
        f"{min(spent.values()):.4g} J of a sub-model with 1 % of the channels"
    )
