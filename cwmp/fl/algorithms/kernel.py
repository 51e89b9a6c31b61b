"""A gradient-free baseline: frozen embeddings, sums of them, one closed form.

After the operator-theoretic framework of arXiv 2512.01025. Known from its abstract: the
L2-optimal solution is mapped into a reproducing kernel Hilbert space, approximated there from
data, and mapped back, without gradients; embeddings come from a fixed encoder; clients send
scalar summaries of kernel affine hull machines in one step. Its machines decide each query by
comparing every client's scalar folding measure at that query, which no model state can hold.
Here the same problem is solved in the space of the frozen features alone, phi(x) of d + 1
entries: the inputs of the model's last linear layer at the initial weights, and 1. ::

    client   G_j = sum phi phi',  B_j = sum phi onehot(y)',  n_jc = examples by label
    kernel   ridge: (sum_j G_j + lambda tr(sum_j G_j) / (d + 1) I)^-1 sum_j B_j
    mean     nearest class mean: column c is mu_c, bias - ||mu_c||^2 / 2, mu_c = sum_j B_jc / n_c

Both are exactly what one machine with all the examples would find, whatever the partition.
The result becomes the last layer, so the model evaluates as any other; ridge scores are
estimates of 0 and 1, so judge it by accuracy and not by cross-entropy. ``mean`` sends B_j
alone: a client's summary is then C (d + 2) numbers, and prediction compares scalars, nearer to
the paper's; ``kernel``, the better of the two here, sends (d + 1)(d + 2) / 2 more.

Each client computes its sums once: the state's features never change, and in later rounds
it sends an empty message. No training step is taken; the sums are one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cwmp.codec import decode, encode
from cwmp.fl.algorithms.base import (
    ClientTask,
    Download,
    Memory,
    Reading,
    ServerTask,
    Track,
    Upload,
)
from cwmp.fl.algorithms.envelope import (
    Body,
    Kind,
    batches_of,
    counted,
    numbers,
    pack,
    unpack,
    values_of,
)
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import touches
from cwmp.fl.training import ModelState, Trainer
from cwmp.payload import PayloadLayout
from cwmp.selection import LayerSelection
from profiler.errors import InputError, PayloadError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
_SENT = {"sent": np.ones(1, dtype=np.uint8)}
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Head:
    """The model's last linear layer.

    Attributes:
        weight, bias: names of its layers; there may be no bias.
        classes, width: C and d.
    """

    weight: str
    bias: str | None
    classes: int
    width: int

    @classmethod
    def of(cls, layout: PayloadLayout, classes: int) -> Head:
        """Find it.

        Raises:
            InputError: the last module of the model is not a linear layer of the classes.
        """
        module = layout.names[-1].rpartition(".")[0]
        weight, bias = f"{module}.weight", f"{module}.bias"
        shape = layout.layers.get(weight, ())
        if len(shape) != 2 or shape[0] != classes:
            raise InputError(
                f"kernel needs a model that ends in a linear layer of {classes} outputs; its last "
                f"layer is {layout.names[-1]!r} of shape {layout.layers[layout.names[-1]]}"
            )
        return cls(weight, bias if bias in layout.layers else None, classes, shape[1])

    def features(self, trainer: Trainer, state: ModelState, x: Tensor) -> tuple[Tensor, Tensor]:
        """What enters it, shape (n, d), and the model's scores."""
        import torch

        seen: list[Tensor] = []
        module = trainer.model.get_submodule(self.weight.rpartition(".")[0])
        handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            scores = trainer.scores(state, x)
        finally:
            handle.remove()
        features = torch.cat(seen).detach()
        if features.shape != (len(x), self.width):
            raise InputError(
                f"the last layer sees a tensor of shape {tuple(features.shape)}, not "
                f"{(len(x), self.width)}: kernel needs one vector an example"
            )
        return features, scores


@dataclass(frozen=True)
class KernelHead:
    """The last layer from sums over all clients.

    Attributes:
        layout: of the model.
        head: its last layer.
        ridge: lambda; ``None`` for nearest class means.
    """

    layout: PayloadLayout
    head: Head
    ridge: float | None

    @property
    def track(self) -> Track:
        return "shared"

    @property
    def _sizes(self) -> tuple[int, int]:
        """Numbers of G (its upper half, row by row) and of B that a message holds."""
        d = self.head.width + 1
        return (d * (d + 1) // 2 if self.ridge is not None else 0), d * self.head.classes

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        from torch.nn import functional

        if task.memory:
            body, loss = b"", 0.0
        else:
            features, scores = self.head.features(trainer, task.state, task.x)
            body = self._summed(features.numpy(), task.y.numpy())
            loss = float(functional.cross_entropy(scores, task.y))
        return Upload(
            payload=pack(Kind.STATISTICS, self.layout, body),
            examples=len(task.y),
            batches=(),
            loss=loss,
            client=task.client,
            memory=_SENT,
            forwards=() if task.memory else batches_of(len(task.y)),
        )

    def _summed(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> bytes:
        """Counts by label u32, then B and the upper half of G in float32."""
        phi = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
        chosen = np.eye(self.head.classes)[labels]
        counts = np.bincount(labels, minlength=self.head.classes).astype("<u4").tobytes()
        body = counts + values_of(phi.T @ chosen, "<f4", "the sums of features")
        if self.ridge is not None:
            gram = phi.T @ phi
            half = gram[np.triu_indices(len(gram))]
            body += values_of(half, "<f4", "the products of features")
        return body

    def read(self, upload: Upload) -> Reading:
        body = unpack(Kind.STATISTICS, self.layout, upload.payload)
        examples = counted(upload.examples)
        sums = None if body.ended else self._read(body, examples)
        return Reading(upload.client, examples, (), sums)

    def _read(self, body: Body, examples: int) -> dict[str, Floats]:
        d, classes = self.head.width + 1, self.head.classes
        counts = np.array(body.integers(classes), dtype=np.float64)
        half_size, size = self._sizes
        sums = body.values(size, "<f4", "the sums of features").astype(np.float64)
        sums = sums.reshape(d, classes)
        half = body.values(half_size, "<f4", "the products of features").astype(np.float64)
        body.end()
        if counts.sum() != examples or (np.abs(sums[-1] - counts) > _TOLERANCE * examples).any():
            raise PayloadError(f"sums over other than the {examples} examples it claims")
        found = {"counts": counts, "sums": sums}
        if self.ridge is not None:
            gram = np.zeros((d, d))
            gram[np.triu_indices(d)] = half
            if (np.diag(gram) < 0).any() or abs(gram[-1, -1] - examples) > _TOLERANCE * examples:
                raise PayloadError("products of features that no features have")
            found["gram"] = gram + np.triu(gram, 1).T
        return found

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        total: dict[str, Floats] = {name: array.copy() for name, array in task.memory.items()}
        arrived = False
        for reading in readings:
            arrived = True
            for name, array in (reading.content or {}).items():
                total[name] = total[name] + array if name in total else array
        if not arrived or not total:
            raise InputError("no sums arrived: there is nothing to solve")
        solved = self.solve(total)
        layers = []
        for name, values in self._named(solved, task.state).items():
            indices = np.arange(values.size, dtype=np.int64)
            flat = values.astype(np.float32).reshape(-1)
            layers.append(LayerSelection(name, values.shape, indices, flat, "dense"))
        payload = encode(layers, self.layout, task.state.buffers)
        return Download(payload, touches(layers), memory=total)

    def solve(self, total: Memory) -> Floats:
        """The last layer, bias below; shape (d + 1, classes)."""
        sums, counts = total["sums"], total["counts"]
        if self.ridge is None:
            means = sums[:-1] / np.maximum(counts, 1)
            bias = np.where(counts > 0, -0.5 * np.square(means).sum(axis=0), -1e4)
            return np.vstack([means, bias])
        gram = total["gram"]
        jitter = self.ridge * np.trace(gram) / len(gram)
        solved: Floats = np.linalg.solve(gram + jitter * np.eye(len(gram)), sums)
        return solved

    def _named(self, solved: Floats, state: ModelState) -> dict[str, Floats]:
        layers = {self.head.weight: solved[:-1].T}
        if self.head.bias is not None:
            layers[self.head.bias] = solved[-1]
        return layers

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        """*state* with its last layer replaced."""
        decoded = decode(payload, self.layout)
        parameters = dict(state.parameters)
        for layer in decoded.layers:
            if layer.name not in (self.head.weight, self.head.bias) or layer.form != "dense":
                raise PayloadError(f"the payload holds {layer.name!r}, not the last layer alone")
            parameters[layer.name] = layer.values.astype(np.float32).reshape(layer.shape)
        return replace(state, parameters=parameters)


def make(name: MethodName, setting: Setting) -> KernelHead:
    """``kernel[:RIDGE]`` or ``kernel:mean``.

    Raises:
        InputError: arguments it does not take, or a model that does not end in a linear layer.
    """
    head = Head.of(setting.layout, setting.classes)
    if name.arguments == ("mean",) and not name.feedback.remembers:
        return KernelHead(setting.layout, head, None)
    (ridge,) = numbers(name, "kernel:mean or kernel:RIDGE", (1e-3,))
    if ridge <= 0:
        raise InputError(f"kernel needs a positive ridge: {name}")
    return KernelHead(setting.layout, head, ridge)
