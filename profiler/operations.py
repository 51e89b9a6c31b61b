"""The operation ``update``: apply k entries of an update to a layer, in place.

Sparse: ``index_add_`` of k values at k sorted, distinct indices into the flattened tensor.
``random`` indices are uniform; ``clustered`` ones lie in aligned runs of `RUN` entries at
uniform places (one run, at any place, when k <= `RUN`). ``dense`` is the vectorised add of
all n entries. The reference is the same loop fetching the next set, without the write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from profiler.layers import LayerInfo
from profiler.meters.base import Covers
from profiler.workloads import Cell, OperationName, Pattern, Workload

if TYPE_CHECKING:
    import torch

RUN = 64
_SETS = 4
_POOL_BYTES = 64 * 2**20


def kept_counts(parameters: int, densities: Sequence[float]) -> tuple[int, ...]:
    """The distinct k to measure in a layer of n entries, ascending.

    k = max(1, round(d n)) for each density d. Where that leaves a small layer without a lever
    for the slope, the largest k is raised to min(n, `RUN`); n >= 2 always gets two k.

    >>> kept_counts(10, (0.01, 0.05, 0.2))
    (1, 2, 10)
    """
    counts = sorted({max(1, round(density * parameters)) for density in densities})
    reach = min(parameters, RUN)
    if counts[-1] < reach:
        if len(counts) >= max(2, len(densities)):
            counts.pop()
        counts.append(reach)
    if len(counts) == 1 and parameters >= 2:
        counts.insert(0, 1)
    return tuple(sorted(set(counts)))


def check_densities(densities: Sequence[float]) -> tuple[float, ...]:
    """*densities*, ascending.

    Raises:
        InputError: none is given, one is given twice, or one lies outside (0, 1].
    """
    for density in densities:
        if not 0 < density <= 1:
            raise InputError(f"the density {density} is not above 0 and at most 1 (100%)")
    if not densities or len(set(densities)) != len(densities):
        raise InputError("give at least one density, each once")
    return tuple(sorted(densities))


def check_device(device: str) -> None:
    """Raise unless torch can work on *device*.

    Raises:
        InputError: it is neither ``cpu`` nor a CUDA device that torch sees.
    """
    import torch

    if device == "cpu":
        return
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; give cpu or cuda:0") from error
    if found.type != "cuda":
        raise InputError(f"operations run on cpu or cuda:N, not on {device!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (found.index or 0) >= count:
        raise InputError(f"torch sees {count} CUDA devices, so there is no {device!r}; give cpu")


def place_of(device: str) -> Covers:
    """Where the work of a torch device is done."""
    return "cpu" if device == "cpu" else "gpu"


def draw_indices(
    generator: np.random.Generator, parameters: int, k: int, pattern: Pattern
) -> NDArray[np.int64]:
    """*k* distinct positions below *parameters*, ascending; shape (k,).

    Raises:
        InputError: *k* is not in 1..parameters.
    """
    if not 1 <= k <= parameters:
        raise InputError(f"cannot draw {k} of {parameters} entries")
    if pattern != "clustered":
        return np.sort(generator.choice(parameters, k, replace=False, shuffle=False)).astype(
            np.int64
        )
    runs, places = -(-k // RUN), parameters // RUN
    if runs == 1 or runs > places:
        return np.arange(k, dtype=np.int64) + int(generator.integers(parameters - k + 1))
    starts = np.sort(generator.choice(places, runs, replace=False, shuffle=False)) * RUN
    return (starts[:, None] + np.arange(RUN)).ravel()[:k].astype(np.int64)


def shared_layers(layers: Sequence[LayerInfo]) -> dict[str, str]:
    """Layer -> the first layer of the same signature, whose cells stand for it."""
    first: dict[tuple[str, tuple[int, ...], str], str] = {}
    return {layer.name: first.setdefault(layer.signature, layer.name) for layer in layers}


class UpdateOperation:
    """Apply entries in place with ``torch``. Works on tensors of its own, not on a model's.

    Args:
        layers: the model's layers; those of equal signature share the first one's cells.
        densities: k / n to measure.
        device: ``cpu`` or ``cuda:0``; loops end with one synchronisation.

    Raises:
        InputError: densities that `check_densities` refuses.
    """

    implementation = "torch.Tensor.index_add_ on the flattened tensor; dense: torch.Tensor.add_"
    scope: tuple[str, ...] = ()

    def __init__(
        self, layers: Sequence[LayerInfo], densities: Sequence[float], device: str = "cpu"
    ) -> None:
        self.layers = tuple(layers)
        self.densities = check_densities(densities)
        self.device = device
        self.runs_on = place_of(device)

    @property
    def name(self) -> OperationName:
        return "update"

    def cells(self) -> tuple[Cell, ...]:
        stands = shared_layers(self.layers)
        return tuple(
            _cell(layer, k, pattern)
            for layer in self.layers
            if stands[layer.name] == layer.name
            for k, pattern in self._points(layer.parameters)
        )

    def prepare(self, cell: Cell, seed: int) -> Workload:
        return UpdateWorkload(cell, self.device, seed)

    def _points(self, parameters: int) -> list[tuple[int, Pattern]]:
        counts = kept_counts(parameters, self.densities)
        sparse: tuple[Pattern, ...] = ("random", "clustered")
        points = [(k, pattern) for pattern in sparse for k in counts]
        return [*points, (parameters, "dense")]


class UpdateWorkload:
    """One cell of `UpdateOperation`: a tensor and a pool of fresh sets, rotated by the loop."""

    def __init__(self, cell: Cell, device: str, seed: int) -> None:
        import torch

        generator = np.random.default_rng(seed)
        dtype = getattr(torch, cell.dtype)

        def values(count: int) -> torch.Tensor:
            drawn = generator.standard_normal(count, dtype=np.float32) * np.float32(1e-3)
            return torch.from_numpy(drawn).to(device=device, dtype=dtype)

        self._dense = cell.pattern == "dense"
        self._device = torch.device(device)
        self._tensor = values(cell.parameters)
        sets = max(2, min(_SETS, _POOL_BYTES // (16 * cell.k)))
        self._pool: list[tuple[torch.Tensor | None, torch.Tensor]] = []
        for _ in range(sets):
            index = None
            if not self._dense:
                drawn = draw_indices(generator, cell.parameters, cell.k, cell.pattern)
                index = torch.from_numpy(drawn).to(device)
            self._pool.append((index, values(cell.k)))

    def run(self, repetitions: int) -> None:
        tensor, pool = self._tensor, self._pool
        sets = len(pool)
        if self._dense:
            for step in range(repetitions):
                _, values = pool[step % sets]
                tensor.add_(values)
        else:
            for step in range(repetitions):
                index, values = pool[step % sets]
                tensor.index_add_(0, index, values)  # type: ignore[arg-type]
        synchronise(self._device)

    def reference(self, repetitions: int) -> None:
        pool = self._pool
        sets = len(pool)
        for step in range(repetitions):
            _index, _values = pool[step % sets]
        synchronise(self._device)

    def close(self) -> None:
        self._pool.clear()


def synchronise(device: torch.device) -> None:
    """Wait until an asynchronous device has done what it was given."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _cell(layer: LayerInfo, k: int, pattern: Pattern) -> Cell:
    return Cell(
        operation="update",
        layer=layer.name,
        kind=layer.kind,
        shape=layer.shape,
        dtype=layer.dtype,
        parameters=layer.parameters,
        k=k,
        pattern=pattern,
    )
