"""Costs straight from measurement: each layer gets the line of the layer it was measured as."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import prod
from typing import TYPE_CHECKING, Literal

from costmodels.cells import CellMean, cell_means
from costmodels.costfile import CostFile, LayerCost, OperationCost, Origin, Unit
from costmodels.curves import Curve, fit_curve, price
from costmodels.features import Group, group_of
from costmodels.pooling import Pool
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


def costs_from_trace(trace: Trace) -> CostFile:
    """The cost file of the model that *trace* profiled, on the device it was profiled on.

    Args:
        trace: one session; every layer of its model needs ``update`` blocks, its own or those
            of a layer of equal signature.

    Raises:
        InputError: the trace holds no blocks, or none of ``update`` for some layer.
    """
    meta = trace.metadata
    curves = _curves(trace)
    pools = _pools(curves)
    costs = {key: _cost(curve, pools, meta) for key, curve in curves.items()}
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
    return CostFile(
        created_utc=utc_now(),
        device=meta.device,
        meter=meta.meter,
        origin=meta.origin,
        model=meta.model,
        basis=(
            f"weighted lines E(k) = a + c k over {len(trace.blocks)} blocks of "
            f"{meta.model}, {meta.origin} by {meta.meter} on {meta.created_utc}"
        ),
        layers=tuple(layers),
        modules=_modules(curves, costs),
        message=tuple(
            cost for (operation, _, _), cost in costs.items() if operation in MESSAGE_OPERATIONS
        ),
        assumptions=(*assumptions_of(meta), *_pooled_sentence(layers)),
        software=meta.software,
        provenance={
            "trace_sha256": trace_hash(trace),
            "blocks": len(trace.blocks),
            "seed": meta.seed,
            "remarks": list(meta.remarks),
            "dropped": dict(meta.dropped),
            "measured_as": {
                record.name: record.measured_as
                for record in meta.layers
                if record.measured_as != record.name
            },
        },
    )


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


def assumptions_of(meta: TraceMetadata) -> tuple[str, ...]:
    """What a trace assumes, what its joules include, and what was remarked, as sentences."""
    scope = (f"scope: {sentence}" for sentence in meta.scope)
    remarks = (f"profiling: {sentence}" for sentence in meta.remarks)
    return tuple(dict.fromkeys((*meta.assumptions, *scope, *remarks)))


def trace_hash(trace: Trace) -> str:
    """SHA-256 of a trace's content, the same for its Parquet and its CSV form."""
    digest = hashlib.sha256(trace.metadata.model_dump_json().encode())
    digest.update(trace.blocks.to_csv(index=False).encode())
    return digest.hexdigest()


def utc_now() -> str:
    """The time as a label, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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


def _cost(curve: Curve, pools: Mapping[Group, Pool], meta: TraceMetadata) -> OperationCost:
    cell = curve.cells[0]
    return operation_cost(
        curve,
        pools[group_of(cell.operation, cell.pattern)],
        origin=meta.origin,
        implementation=meta.implementations.get(cell.operation, "not recorded"),
    )


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
