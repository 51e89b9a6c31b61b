"""Costs straight from measurement: each layer gets the line of the layer it was measured as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Literal

from costmodels.cells import CellMean, cell_means
from costmodels.costfile import CostFile, LayerCost, OperationCost, Origin, Unit
from costmodels.curves import Curve, fit_curve, price
from costmodels.features import Group, group_of
from costmodels.pooling import Pool
from costmodels.sources import (
    assumptions_of,
    basis_of,
    provenance_of,
    refuse_other_model,
    utc_now,
    with_messages_of,
)
from profiler.errors import InputError

if TYPE_CHECKING:
    from profiler.trace import Trace, TraceMetadata

Payer = Literal["client", "server", "receivers"]
UNITS: Mapping[str, Unit] = {
    "update": "entry",
    "encode": "entry",
    "send": "byte",
    "select": "entry",
    "train": "example",
}
"""What k counts. ``select`` is read at the model's own size, so that only k is left free."""

MESSAGE_OPERATIONS = ("encode", "send", "select")
_UPDATE_PATTERNS = ("random", "clustered", "dense")


def payer_of(operation: str) -> Payer:
    """Who spends an operation's joules: each receiver of an update applies it."""
    return "receivers" if operation == "update" else "client"


def costs_from_trace(trace: Trace, messages: Trace | None = None) -> CostFile:
    """The cost file of the model that *trace* profiled, on the device it was profiled on.

    Args:
        trace: one session; every layer of its model needs ``update`` blocks, its own or those
            of a layer of equal signature.
        messages: a session of the same model that encode, send and select are taken from, all
            of them, in the place of *trace*'s: where updates run on a GPU, messages run on the
            CPU beside it and need a meter of their own.

    Raises:
        InputError: a trace holds no sound blocks, *trace* none of ``update`` for some layer;
            *messages* profiled other layers, or no message at all.
    """
    meta = trace.metadata
    curves = _curves(trace)
    costs = _costs(curves, meta)
    layers = _layers(meta, costs)
    message = _messages(costs) if messages is None else _messages_of(messages, meta)
    file = CostFile(
        created_utc=utc_now(),
        device=meta.device,
        meter=meta.meter,
        origin=meta.origin,
        model=meta.model,
        basis=f"weighted lines E(k) = a + c k over {basis_of(trace)}",
        layers=layers,
        modules=_modules(curves, costs),
        message=message,
        assumptions=(*assumptions_of(trace), *_pooled_sentence(layers)),
        software=meta.software,
        provenance={
            **provenance_of(trace),
            "measured_as": {
                record.name: record.measured_as
                for record in meta.layers
                if record.measured_as != record.name
            },
        },
    )
    return file if messages is None else with_messages_of(file, messages)


def _messages_of(messages: Trace, meta: TraceMetadata) -> tuple[OperationCost, ...]:
    """The message costs of a second trace, of the model that *meta* describes."""
    refuse_other_model(meta, messages.metadata)
    found = _messages(_costs(_curves(messages), messages.metadata))
    if not found:
        raise InputError("the trace for messages holds no encode, send or select blocks")
    return found


def _messages(
    costs: Mapping[tuple[str, str, str], OperationCost],
) -> tuple[OperationCost, ...]:
    return tuple(cost for key, cost in costs.items() if key[0] in MESSAGE_OPERATIONS)


def _layers(
    meta: TraceMetadata, costs: Mapping[tuple[str, str, str], OperationCost]
) -> tuple[LayerCost, ...]:
    layers = []
    for record in meta.layers:
        found = [costs.get(("update", p, record.measured_as)) for p in _UPDATE_PATTERNS]
        operations = tuple(cost for cost in found if cost is not None)
        if not operations:
            raise InputError(
                f"layer {record.name!r} has no 'update' blocks in the trace: continue it with "
                "'cwmp profile --resume', or price the model with 'cwmp fit' and 'cwmp predict'"
            )
        layers.append(
            LayerCost(
                name=record.name,
                kind=record.kind,
                shape=record.shape,
                dtype=record.dtype,
                parameters=prod(record.shape),
                operations=operations,
            )
        )
    return tuple(layers)


def operation_cost(
    curve: Curve,
    pool: Pool,
    *,
    origin: Origin,
    implementation: str,
) -> OperationCost:
    """A fitted curve as an entry of a cost file."""
    cell = curve.cells[0]
    a, c = pool.suggest(curve)
    return OperationCost.model_validate(
        {
            "operation": cell.operation,
            "pattern": cell.pattern,
            "unit": UNITS[cell.operation],
            "payer": payer_of(cell.operation),
            "origin": origin,
            "implementation": implementation,
            "pieces": price(curve, a, c, fixed_cost=cell.pattern != "dense"),
            "k_min": curve.k_min,
            "k_max": curve.k_max,
            "blocks": curve.blocks,
            "lack_of_fit_p": curve.lack_of_fit_p,
        }
    )


def _curves(trace: Trace) -> dict[tuple[str, str, str], Curve]:
    """(operation, pattern, layer) -> curve. Messages of other sizes than the model's are left
    to the pooled regression."""
    total = sum(prod(record.shape) for record in trace.metadata.layers)
    grouped: dict[tuple[str, str, str], list[CellMean]] = {}
    for cell in cell_means(trace):
        grouped.setdefault((cell.operation, cell.pattern, cell.layer), []).append(cell)
    return {
        key: fit_curve(_of_size(cells, total) if key[0] in ("encode", "select") else cells)
        for key, cells in grouped.items()
    }


def _of_size(cells: Sequence[CellMean], total: int) -> list[CellMean]:
    sizes = {cell.parameters for cell in cells}
    nearest = min(sizes, key=lambda size: (abs(size - total), size))
    return [cell for cell in cells if cell.parameters == nearest]


def _pools(curves: Mapping[tuple[str, str, str], Curve]) -> dict[Group, Pool]:
    groups: dict[Group, list[Curve]] = {}
    for (operation, pattern, _), curve in curves.items():
        groups.setdefault(group_of(operation, pattern), []).append(curve)
    return {group: Pool.of(members) for group, members in groups.items()}


def _costs(
    curves: Mapping[tuple[str, str, str], Curve], meta: TraceMetadata
) -> dict[tuple[str, str, str], OperationCost]:
    pools = _pools(curves)
    return {
        (operation, pattern, layer): operation_cost(
            curve,
            pools[group_of(operation, pattern)],
            origin=meta.origin,
            implementation=meta.implementations.get(operation, "not recorded"),
        )
        for (operation, pattern, layer), curve in curves.items()
    }


def _pooled_sentence(layers: Sequence[LayerCost]) -> tuple[str, ...]:
    pieces = [piece for layer in layers for op in layer.operations for piece in op.pieces]
    found = [e for piece in pieces for e in (piece.a_j, piece.c_j) if e is not None]
    pooled = sum(estimate.below_detection for estimate in found)
    if not pooled:
        return ()
    return (
        f"{pooled} of {len(found)} update estimates are below detection: each carries the value "
        "that the other layers suggest, moved into its own measured interval",
    )


def _modules(
    curves: Mapping[tuple[str, str, str], Curve],
    costs: Mapping[tuple[str, str, str], OperationCost],
) -> tuple[LayerCost, ...]:
    modules = []
    for key, curve in curves.items():
        if key[0] != "train":
            continue
        cell = curve.cells[0]
        modules.append(
            LayerCost(
                name=cell.layer,
                kind=cell.kind,
                shape=cell.shape,
                dtype=cell.dtype,
                parameters=cell.parameters,
                operations=(costs[key],),
            )
        )
    return tuple(modules)
