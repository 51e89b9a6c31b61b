"""Federated distillation: clients send what their models say of a public set, not the models.

``fedmd``: Li and Wang 2019 (arXiv 1910.03581), one teacher for all. ``kta``: KTA v2 (arXiv
2512.00841), a teacher for each client. A client's round, with its own model v_j::

    digest    v_j <- SGD on  T^2 KL(q_j || softmax(v_j(public) / T))     q_j came after last round
    revisit   v_j <- SGD on its own examples
    upload    z_j = v_j(public), float16, shape (m, classes)

and the server's, with p_j = softmax(z_j / T)::

    fedmd     q = softmax( mean_j z_j / T )
    kta       q_j = sum_k W_jk p_k,   W_jk = s_jk a_k / sum over k in N_j of s_jk a_k
              s_jk = max(0, cosine of p_j - 1/C and p_k - 1/C over all m examples)
              a_k  = max(0, accuracy of z_k on the public labels - 1/C)
              N_j  = j and the others of largest s_jk a_k, NEIGHBOURS in all; 0, the
                     default, takes everybody

Known of KTA v2 from its abstract: local training, logits on a small reference set, a similarity
graph in prediction space combined with reference accuracy, per-client soft targets, a second
stage of distillation. The formulas of s and a, the product and the neighbourhood are chosen
here; everybody as neighbours is the graph as it is, without a number to choose (5 neighbours
were seen to do worse on digits, docs/methods.md). Where no labels of the public set are known
a_k = 1; a row of zeros becomes the mean.

The paper distils at a round's end, here it is the start of the client's next round: the same
sequence, but for the distillation after the last round, which is not evaluated. Clients that
were not asked keep their last teacher. The server holds every client's logits of a round:
clients x m x classes float32. Weights are not n_j: every client's word counts the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.algorithms.base import (
    ClientTask,
    Download,
    Memory,
    Reading,
    ServerTask,
    Track,
    Upload,
)
from cwmp.fl.algorithms.envelope import Kind, batches_of, counted, numbers, pack, unpack, values_of
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.training import ModelState, Trainer
from cwmp.payload import PayloadLayout
from profiler.errors import InputError, PayloadError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
_LARGEST = 6e4
_PARAMETER, _BUFFER = "parameter ", "buffer "
EVERYBODY = 0


@dataclass(frozen=True)
class Distillation:
    """Personal models that learn from each other on a public set.

    Attributes:
        layout: of the model; personal models all have it.
        public: the examples that everybody has, shape (m, ...).
        labels: theirs, for the server alone; ``None`` where they are not known.
        classes: C.
        graph: whether teachers follow the similarity graph (kta) or are one mean (fedmd).
        neighbours: clients in a teacher; `EVERYBODY` takes all.
        temperature: T.
    """

    layout: PayloadLayout
    public: Tensor
    labels: NDArray[np.int64] | None
    classes: int
    graph: bool
    neighbours: int = EVERYBODY
    temperature: float = 3.0

    @property
    def track(self) -> Track:
        return "personal"

    @property
    def shape(self) -> tuple[int, int]:
        """(m, classes), of logits and of soft targets."""
        return len(self.public), self.classes

    def model_of(self, state: ModelState, memory: Memory) -> ModelState:
        if not memory:
            return state
        parameters = {name: memory[_PARAMETER + name] for name in state.parameters}
        buffers = {name: memory[_BUFFER + name] for name in state.buffers}
        return ModelState(parameters, buffers, state.counters)

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        model = self.model_of(task.state, task.memory)
        batches: tuple[int, ...] = ()
        if task.message:
            model, batches = self._digest(trainer, model, task)
        local = trainer.train(model, task.x, task.y, task.order, lr_factor=task.lr_factor)
        model = _moved(model, local.delta, local.buffers)
        logits = trainer.scores(model, self.public).numpy()
        if logits.shape != self.shape:
            raise InputError(f"the model scores {logits.shape[1]} classes, not {self.classes}")
        kept = {_PARAMETER + name: values for name, values in model.parameters.items()}
        kept |= {_BUFFER + name: values for name, values in model.buffers.items()}
        sent = np.clip(logits, -_LARGEST, _LARGEST)
        return Upload(
            payload=pack(Kind.LOGITS, self.layout, values_of(sent, "<f2", "the logits")),
            examples=len(task.y),
            batches=batches + local.batches,
            loss=local.loss,
            client=task.client,
            memory=kept,
            forwards=batches_of(len(self.public)),
        )

    def read(self, upload: Upload) -> Reading:
        logits = self._read(upload.payload, Kind.LOGITS, "the logits")
        return Reading(upload.client, counted(upload.examples), (), logits)

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        received = [(reading.client, reading.content) for reading in readings]
        if not received:
            raise InputError("no logits arrived: there is no teacher")
        logits = np.stack([content for _, content in received])
        personal = {
            client: pack(Kind.TEACHER, self.layout, values_of(targets, "<f2", "the targets"))
            for (client, _), targets in zip(received, self.teachers(logits), strict=True)
        }
        return Download(pack(Kind.NOTHING, self.layout, b""), (), personal)

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        """*state* as it is: there is no shared model after the first."""
        unpack(Kind.NOTHING, self.layout, payload).end()
        return state

    def teachers(self, logits: NDArray[np.floating]) -> list[Floats]:
        """q_j of each client; *logits* of shape (clients, m, classes)."""
        if not self.graph:
            mean = _softmax(logits.mean(axis=0, dtype=np.float64) / self.temperature)
            return [mean] * len(logits)
        said = _softmax(logits.astype(np.float64) / self.temperature)
        weights = self.weights(logits)
        return [np.tensordot(row, said, axes=1) for row in weights]

    def weights(self, logits: NDArray[np.floating]) -> Floats:
        """W of kta: rows add up to 1; shape (clients, clients)."""
        flat = _softmax(logits.astype(np.float64) / self.temperature).reshape(len(logits), -1)
        flat -= 1 / self.classes
        length = np.sqrt(np.square(flat).sum(axis=1, keepdims=True))
        flat /= np.where(length > 0, length, 1)
        edges = np.maximum(flat @ flat.T, 0) * self.trust(logits)
        if 0 < self.neighbours < len(edges):
            edges = _strongest(edges, self.neighbours)
        total = edges.sum(axis=1, keepdims=True)
        mean = np.full_like(edges, 1 / len(edges))
        np.divide(edges, total, out=mean, where=total > 0)
        return mean

    def trust(self, logits: NDArray[np.floating]) -> Floats:
        """a of each client; shape (clients,)."""
        if self.labels is None:
            return np.ones(len(logits))
        right: Floats = (logits.argmax(axis=2) == self.labels).mean(axis=1)
        return np.maximum(right - 1 / self.classes, 0.0)

    def _digest(
        self, trainer: Trainer, model: ModelState, task: ClientTask
    ) -> tuple[ModelState, tuple[int, ...]]:
        """*model* after distilling from the teacher in the task's message."""
        import torch

        targets = self._read(task.message, Kind.TEACHER, "the soft targets")
        total = targets.sum(axis=1, keepdims=True)
        if (targets < 0).any() or not (np.abs(total - 1) < 0.05).all():
            raise PayloadError("the soft targets are not distributions over the classes")
        learnt = trainer.train(
            model,
            self.public,
            torch.from_numpy(targets / total),
            task.draws,
            lr_factor=task.lr_factor,
            temperature=self.temperature,
        )
        return _moved(model, learnt.delta, learnt.buffers), learnt.batches

    def _read(self, payload: bytes, kind: Kind, what: str) -> NDArray[np.float32]:
        body = unpack(kind, self.layout, payload)
        count, classes = self.shape
        values = body.values(count * classes, "<f2", what).astype(np.float32)
        body.end()
        return values.reshape(self.shape)


def make(name: MethodName, setting: Setting) -> Distillation:
    """``fedmd[:TEMPERATURE]`` or ``kta[:NEIGHBOURS,TEMPERATURE]``.

    Raises:
        InputError: arguments it does not take, or no public set.
    """
    if name.name == "fedmd":
        neighbours = float(EVERYBODY)
        (temperature,) = numbers(name, "fedmd:TEMPERATURE", (3.0,))
    else:
        neighbours, temperature = numbers(name, "kta:NEIGHBOURS,TEMPERATURE", (0.0, 3.0))
        if neighbours < EVERYBODY or neighbours != int(neighbours):
            raise InputError(f"kta needs a whole number of neighbours, 0 for everybody: {name}")
    if temperature <= 0:
        raise InputError(f"{name.name} needs a positive temperature: {name}")
    if setting.public is None:
        raise InputError(
            f"{name.name} distils on examples that everybody has: set public, the number of "
            "training examples to set aside, to 1 or more (such as 500)"
        )
    x, y = setting.public
    return Distillation(
        layout=setting.layout,
        public=x,
        labels=None if y is None else y.numpy(),
        classes=setting.classes,
        graph=name.name == "kta",
        neighbours=int(neighbours),
        temperature=temperature,
    )


def _moved(model: ModelState, delta: Memory, buffers: Memory) -> ModelState:
    parameters = {name: values + delta[name] for name, values in model.parameters.items()}
    return replace(model, parameters=parameters, buffers=dict(buffers))


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return found


def _strongest(edges: Floats, count: int) -> Floats:
    """*edges* with each row's own and its count - 1 largest others; of equals the first."""
    ranked = edges.copy()
    np.fill_diagonal(ranked, np.inf)
    order = np.argsort(-ranked, axis=1, kind="stable")[:, :count]
    kept = np.zeros_like(edges)
    np.put_along_axis(kept, order, np.take_along_axis(edges, order, axis=1), axis=1)
    return kept
