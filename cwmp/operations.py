"""The operations of a message: ``encode``, ``send`` and ``select``, ready to be profiled.

All are operations of a whole payload, layer ``*``, kind ``payload``. A payload at density d
keeps max(1, round(d n_l)) entries of each layer, as `cwmp.codec` then writes them; ``dense``
keeps all of them in the dense form. References fetch the next input and do nothing with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwmp.codec import encode
from cwmp.payload import PayloadLayout
from cwmp.selection import Form, LayerSelection
from cwmp.selectors.base import Selector
from cwmp.selectors.cost_weighted import CostWeighted
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.top_k import TopK
from cwmp.transport import Receiver, Sender, parse_peer
from profiler.layers import LayerInfo
from profiler.meters.base import Covers
from profiler.operations import check_densities, draw_indices
from profiler.workloads import Cell, Operation, OperationName, Pattern, Workload

if TYPE_CHECKING:
    from torch import nn

MESSAGE_OPERATIONS = ("encode", "send", "select")
WHOLE, KIND = "*", "payload"
LOOPBACK_SCOPE = "send over loopback counts both ends, sender and receiver, on this host"
PEER_HERE_SCOPE = (
    "send to a receiver on this same host: hardware counters count both ends, modelled joules only "
    "this process"
)
REMOTE_SCOPE = "send to another host counts this host's end alone"
_SETS = 4
_POOL_BYTES = 64 * 2**20

Buffers = dict[str, tuple[int, ...]]


class EncodeOperation:
    """Selection to bytes, buffers included. k counts entries kept, of the model's n.

    Args:
        layers: the model's layers.
        densities: k / n to measure, for random and clustered indices; dense is added.
        buffers: name -> shape of the model's floating-point buffers, sent whole.
    """

    implementation = "cwmp.codec.encode"
    runs_on: Covers = "cpu"
    scope: tuple[str, ...] = ()

    def __init__(
        self,
        layers: Sequence[LayerInfo],
        densities: Sequence[float],
        buffers: Buffers | None = None,
    ) -> None:
        self.layers = tuple(layers)
        self.densities = check_densities(densities)
        self.layout = PayloadLayout({layer.name: layer.shape for layer in layers}, buffers or {})

    @property
    def name(self) -> OperationName:
        return "encode"

    def cells(self) -> tuple[Cell, ...]:
        counts = {sum(_counts(self.layers, density)): density for density in self.densities}
        patterns: tuple[Pattern, ...] = ("random", "clustered")
        points = [(d, k, pattern) for pattern in patterns for k, d in counts.items()]
        cells = [self._cell(k, pattern, d) for d, k, pattern in points]
        return (*cells, self._cell(_total(self.layers), "dense", 1.0))

    def prepare(self, cell: Cell, seed: int) -> Workload:
        density = 1.0 if cell.pattern == "dense" else self._density(cell.k)
        buffers = self._zeros()
        pool = [
            draw_selection(self.layers, density, cell.pattern, np.random.default_rng([seed, n]))
            for n in range(_sets(16 * cell.k))
        ]
        return PoolWorkload(pool, lambda layers: encode(layers, self.layout, buffers))

    def payload(self, density: float, pattern: Pattern, generator: np.random.Generator) -> bytes:
        """A payload of random values at *density*; all entries for pattern ``dense``."""
        layers = draw_selection(self.layers, density, pattern, generator)
        return encode(layers, self.layout, self._zeros())

    def _zeros(self) -> dict[str, NDArray[np.float32]]:
        return {n: np.zeros(shape, dtype=np.float32) for n, shape in self.layout.buffers.items()}

    def _density(self, k: int) -> float:
        return next(d for d in self.densities if sum(_counts(self.layers, d)) == k)

    def _cell(self, k: int, pattern: Pattern, density: float) -> Cell:
        return Cell(
            operation="encode",
            layer=WHOLE,
            kind=KIND,
            shape=(_total(self.layers),),
            dtype=self.layers[0].dtype,
            parameters=_total(self.layers),
            k=k,
            pattern=pattern,
            payload_bytes=len(self.payload(density, pattern, np.random.default_rng(0))),
        )


class SendOperation:
    """Bytes through a TCP socket until the peer has drained them.

    k counts BYTES here, and *parameters* is the largest k, so that density means the share of
    the largest payload. Each block opens its own connection, outside its windows.

    Args:
        sizes: payload sizes in bytes.
        peer: ``HOST:PORT`` of a ``cwmp receive``; ``None`` drains in a thread of this process.

    Raises:
        InputError: *peer* is not HOST:PORT, or does not answer.
    """

    implementation = "cwmp.transport.Sender over TCP"
    runs_on: Covers = "cpu"

    def __init__(self, sizes: Sequence[int], peer: str | None = None) -> None:
        self.sizes = tuple(sorted(set(sizes)))
        self._peer = None if peer is None else parse_peer(peer)
        self.scope: tuple[str, ...] = (LOOPBACK_SCOPE,)
        if self._peer is not None:
            sender = Sender(*self._peer)
            self.scope = (PEER_HERE_SCOPE if sender.same_host else REMOTE_SCOPE,)
            sender.close()

    @property
    def name(self) -> OperationName:
        return "send"

    def cells(self) -> tuple[Cell, ...]:
        return tuple(
            Cell(
                operation="send",
                layer=WHOLE,
                kind=KIND,
                shape=(self.sizes[-1],),
                dtype="uint8",
                parameters=self.sizes[-1],
                k=size,
                pattern="random",
                payload_bytes=size,
            )
            for size in self.sizes
        )

    def prepare(self, cell: Cell, seed: int) -> Workload:
        generator = np.random.default_rng(seed)
        pool = [generator.bytes(cell.k) for _ in range(_sets(cell.k))]
        if self._peer is not None:
            return SendWorkload(pool, Sender(*self._peer))
        receiver = Receiver().start()
        try:
            return SendWorkload(pool, Sender(*receiver.address), receiver)
        except BaseException:
            receiver.close()
            raise


class SelectOperation:
    """Choose k of the model's n entries over all layers, by each rule.

    The pattern names the rule. An entry costs one joule here and opening a layer next to
    nothing, so that a budget of k joules keeps k entries; but it is a fixed cost, so that
    CWMP runs its whole search.
    """

    implementation = "cwmp.selectors.TopK, cwmp.selectors.CostWeighted"
    runs_on: Covers = "cpu"
    RULES: tuple[Pattern, ...] = ("topk", "cwmp")
    scope: tuple[str, ...] = ()

    def __init__(self, layers: Sequence[LayerInfo], densities: Sequence[float]) -> None:
        self.layers = tuple(layers)
        self.densities = check_densities(densities)
        shapes = {layer.name: layer.shape for layer in layers}
        costs = SelectionCosts.linear(
            shapes, dict.fromkeys(shapes, 1.0), dict.fromkeys(shapes, 0.1 / len(shapes))
        )
        self._rules: dict[str, Selector] = {"topk": TopK(costs), "cwmp": CostWeighted(costs)}

    @property
    def name(self) -> OperationName:
        return "select"

    def cells(self) -> tuple[Cell, ...]:
        total = _total(self.layers)
        counts = sorted({max(1, round(density * total)) for density in self.densities})
        return tuple(
            Cell(
                operation="select",
                layer=WHOLE,
                kind=KIND,
                shape=(total,),
                dtype=self.layers[0].dtype,
                parameters=total,
                k=k,
                pattern=rule,
            )
            for rule in self.RULES
            for k in counts
        )

    def prepare(self, cell: Cell, seed: int) -> Workload:
        generator = np.random.default_rng(seed)
        pool = [
            {
                layer.name: generator.standard_normal(layer.shape, dtype=np.float32)
                for layer in self.layers
            }
            for _ in range(_sets(4 * cell.parameters))
        ]
        rule, budget_j = self._rules[cell.pattern], cell.k + 0.1  # at one joule an entry
        return PoolWorkload(pool, lambda update: rule.select(update, budget_j))


class PoolWorkload:
    """A function over a pool of fresh inputs, rotated by the loop."""

    def __init__(self, pool: list[Any], function: Callable[[Any], object]) -> None:
        self._pool = pool
        self._function = function

    def run(self, repetitions: int) -> None:
        pool, function = self._pool, self._function
        sets = len(pool)
        for step in range(repetitions):
            function(pool[step % sets])

    def reference(self, repetitions: int) -> None:
        pool = self._pool
        sets = len(pool)
        for step in range(repetitions):
            _input = pool[step % sets]

    def close(self) -> None:
        self._pool = []


class SendWorkload(PoolWorkload):
    """One connection and, on loopback, the thread that drains it."""

    def __init__(self, pool: list[bytes], sender: Sender, receiver: Receiver | None = None) -> None:
        super().__init__(pool, sender.send)
        self._sender, self._receiver = sender, receiver

    def close(self) -> None:
        super().close()
        self._sender.close()
        if self._receiver is not None:
            self._receiver.close()


def message_operations(
    model: nn.Module,
    layers: Sequence[LayerInfo],
    densities: Sequence[float],
    *,
    names: Sequence[str] = MESSAGE_OPERATIONS,
    peer: str | None = None,
) -> list[Operation]:
    """Those of `MESSAGE_OPERATIONS` that *names* holds, for the payloads of *model*.

    Its floating-point buffers go with every payload. The kernels they run on are compiled here,
    once a machine, or loaded, so that no session's time is spent on it.

    Raises:
        InputError: densities that cannot be used, or a *peer* that does not answer.
    """
    buffers = {
        name: tuple(tensor.shape)
        for name, tensor in model.named_buffers()
        if tensor.is_floating_point() and tensor.numel()
    }
    encoder = EncodeOperation(layers, densities, buffers)
    chosen: list[Operation] = []
    if "encode" in names:
        chosen.append(encoder)
    if "send" in names:
        chosen.append(SendOperation(payload_sizes(encoder), peer))
    if "select" in names:
        chosen.append(SelectOperation(layers, densities))
    for operation in chosen:
        _load_kernels(operation)
    return chosen


def _load_kernels(operation: Operation) -> None:
    """Run a cell of each pattern once: what has to be compiled first is not part of a session."""
    if operation.name == "send":
        return
    first = {cell.pattern: cell for cell in reversed(operation.cells())}
    for cell in first.values():
        workload = operation.prepare(cell, 0)
        try:
            workload.run(1)
        finally:
            workload.close()


def payload_sizes(encoder: EncodeOperation) -> tuple[int, ...]:
    """The bytes of the encoder's payloads at each density and dense: what ``send`` measures."""
    return tuple(sorted({cell.payload_bytes or 0 for cell in encoder.cells()}))


def draw_selection(
    layers: Sequence[LayerInfo], density: float, pattern: Pattern, generator: np.random.Generator
) -> tuple[LayerSelection, ...]:
    """Random float32 values at random indices, max(1, round(density n_l)) of each layer."""
    form: Form = "dense" if pattern == "dense" else "sparse"
    kept = []
    for layer, k in zip(layers, _counts(layers, density), strict=True):
        count = layer.parameters if form == "dense" else k
        indices = (
            np.arange(count, dtype=np.int64)
            if form == "dense"
            else draw_indices(generator, layer.parameters, count, pattern)
        )
        values = generator.standard_normal(count, dtype=np.float32)
        kept.append(LayerSelection(layer.name, layer.shape, indices, values, form))
    return tuple(kept)


def _counts(layers: Sequence[LayerInfo], density: float) -> list[int]:
    return [max(1, round(density * layer.parameters)) for layer in layers]


def _total(layers: Sequence[LayerInfo]) -> int:
    return sum(layer.parameters for layer in layers)


def _sets(set_bytes: int) -> int:
    return max(2, min(_SETS, _POOL_BYTES // max(set_bytes, 1)))
