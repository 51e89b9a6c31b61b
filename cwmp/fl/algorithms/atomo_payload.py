"""Averaging of sampled atoms: what is sent, what it costs, and how it is read.

On the wire an update is a payload of `cwmp.codec`, so that size, damage, version, model and
finite numbers are checked where they are for every method, over a layout of its own: for each
layer the whole of it, ``whole:NAME``, and its atoms, ``BASIS:NAME``, of which a message holds one
or neither. Rebuilt at the server the layers are dense, and so are the average and the way back.

Declared joules, k_l atoms of w numbers in layer l (or the whole layer where that is cheaper)::

    J = A + sum over layers of dense_l + s * most bytes of k_l w numbers

The joules of finding atoms and of adding them up are not in cost files and not charged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray

from cwmp.codec import decode, encode
from cwmp.fl.algorithms.atomo_bases import Basis
from cwmp.fl.algorithms.atomo_sampling import draw, probabilities
from cwmp.fl.algorithms.base import (
    ClientTask,
    Download,
    Reading,
    SelectionReport,
    ServerTask,
    Track,
    Upload,
)
from cwmp.fl.algorithms.shares import counts_at, largest_share
from cwmp.fl.algorithms.sparse import SparseAveraging, norm_of, touches
from cwmp.fl.training import ModelState, Trainer
from cwmp.payload import DecodedPayload, PayloadLayout, layer_bytes
from cwmp.selection import LayerSelection
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.dense import Dense
from cwmp.selectors.updates import read_update, sum_of_squares
from profiler.errors import PayloadError

_WHOLE = "whole:"


@dataclass(frozen=True)
class AtomAveraging:
    """FedAvg of sampled atoms.

    Attributes:
        basis: what an atom is.
        budget_j: joules a client may declare a round.
        costs, layout: as of `SparseAveraging`.
    """

    basis: Basis
    budget_j: float
    costs: SelectionCosts
    layout: PayloadLayout
    track: Track = field(default="shared", init=False)

    @cached_property
    def wire(self) -> PayloadLayout:
        """The layout of uploads."""
        layers: dict[str, tuple[int, ...]] = {}
        for name, shape in self.layout.layers.items():
            layers[_WHOLE + name] = tuple(shape)
            atoms, width = self.basis.size(tuple(shape))
            if atoms:
                layers[f"{self.basis.name}:{name}"] = (atoms * width,)
        return PayloadLayout(layers, self.layout.buffers)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Atoms to send of each layer, in the costs' order; 0 sends the layer whole.

        Raises:
            BudgetError: the budget cannot be spent, or not on an atom of each layer.
        """
        self.costs.check_budget(self.budget_j)
        share = largest_share(self._energy_at, self.budget_j)
        return tuple(self._priced(layer, share)[0] for layer in self.costs.layers)

    @cached_property
    def energy_j(self) -> float:
        """What every upload declares: what `counts` can take at most."""
        spent_j = self.costs.message_j
        for layer, k in zip(self.costs.layers, self.counts, strict=True):
            spent_j += self._atoms_j(layer, k) if k else _whole_j(layer)
        return spent_j

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        counts = self.counts
        local = trainer.train(task.state, task.x, task.y, task.order, lr_factor=task.lr_factor)
        flat = read_update(local.delta, self.costs)
        layers, captured = [], 0.0
        for price, k in zip(self.costs.layers, counts, strict=True):
            layer, squares = self._sampled(price, local.delta[price.name], k, task.draws)
            captured += squares
            layers.append(layer)
        return Upload(
            payload=encode(layers, self.wire, local.buffers),
            examples=len(task.y),
            batches=local.batches,
            loss=local.loss,
            selection=SelectionReport(
                entries=sum(layer.indices.size for layer in layers),
                considered=flat.magnitudes.size,
                energy_j=self.energy_j,
                captured=captured,
                total=flat.total,
                bound=None,
            ),
            client=task.client,
        )

    def read(self, upload: Upload) -> Reading:
        decoded = decode(upload.payload, self.wire)
        if upload.examples < 1:
            raise PayloadError(f"it claims {upload.examples} examples; at least 1 is needed")
        layers: dict[str, LayerSelection] = {}
        for part in decoded.layers:
            kind, _, name = part.name.partition(":")
            if name in layers:
                raise PayloadError(f"payload holds layer {name!r} both whole and as atoms")
            layers[name] = self._rebuilt(part, kind + ":" == _WHOLE, name)
        ordered = tuple(layers[name] for name in self.layout.layers if name in layers)
        norm = norm_of(ordered)
        content = DecodedPayload(ordered, decoded.buffers)
        touched = touches(ordered)
        return Reading(upload.client, upload.examples, touched, content, norm, decoded.buffers)

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        return self._averaging.server(readings, task)

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        return self._averaging.apply(state, payload)

    @cached_property
    def _averaging(self) -> SparseAveraging:
        return SparseAveraging(Dense(self.costs), self.budget_j, self.costs, self.layout)

    def _sampled(
        self, price: LayerPrice, update: NDArray[np.float32], k: int, draws: np.random.Generator
    ) -> tuple[LayerSelection, float]:
        """What is sent of a layer, and the sum of s^2 of its atoms that are in it."""
        if not k:
            values = update.reshape(-1)
            whole = _WHOLE + price.name, price.shape, np.arange(values.size), values
            return LayerSelection(*whole, "dense"), sum_of_squares(values)
        atoms = self.basis.analyse(update)
        p = probabilities(atoms.coefficients, k)
        kept = draw(p, draws)
        places, numbers = self.basis.rows(atoms, kept, 1 / p[kept])
        size = prod(self.basis.size(price.shape))
        name = f"{self.basis.name}:{price.name}"
        sent = LayerSelection(name, (size,), places, numbers.astype(np.float32))
        return sent, sum_of_squares(atoms.coefficients[kept])

    def _rebuilt(self, part: LayerSelection, whole: bool, name: str) -> LayerSelection:
        shape = tuple(self.layout.layers[name])
        if whole:
            values = np.zeros(prod(shape), dtype=np.float32)
            values[part.indices] = part.values
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                layer = self.basis.layer(
                    part.indices.astype(np.int64), part.values.astype(np.float64), shape
                )
                values = layer.reshape(-1).astype(np.float32)
            if not np.isfinite(values).all():
                raise PayloadError(f"payload holds atoms of layer {name!r} beyond float32")
        return LayerSelection(name, shape, np.arange(values.size), values, "dense")

    def _energy_at(self, share: float) -> float:
        return self.costs.message_j + sum(self._priced(x, share)[1] for x in self.costs.layers)

    def _priced(self, layer: LayerPrice, share: float) -> tuple[int, float]:
        """Atoms of a layer at a share, and their joules; 0 where the whole layer is cheaper."""
        whole_j = _whole_j(layer)
        atoms, _ = self.basis.size(layer.shape)
        if not atoms:
            return 0, whole_j
        k = int(counts_at(share, np.array([atoms]))[0])
        energy_j = self._atoms_j(layer, k)
        return (k, energy_j) if energy_j < whole_j and isfinite(energy_j) else (0, whole_j)

    def _atoms_j(self, layer: LayerPrice, k: int) -> float:
        atoms, width = self.basis.size(layer.shape)
        n = layer.parameters
        sent = layer_bytes(n, n, layer.whole_form, layer.value_bytes)
        apply_j = _whole_j(layer) - layer.byte_j * float(sent)
        numbers = layer_bytes(atoms * width, k * width, "sparse", layer.value_bytes)
        return apply_j + layer.byte_j * float(numbers)


def _whole_j(layer: LayerPrice) -> float:
    return float(layer.form_j(layer.parameters, layer.whole_form))
