"""Several cost files of one device and model as one: a file of layers and one of messages."""

from __future__ import annotations

from collections.abc import Sequence

from costmodels.composition.bounds import weakest
from costmodels.costfile import CostFile, LayerCost, OperationCost
from costmodels.sources import utc_now
from profiler.errors import InputError, LayerMismatchError


def merge(files: Sequence[CostFile]) -> CostFile:
    """Everything that any of *files* prices; what two of them price must be the same in both.

    Layers keep the order in which they first appear. The origin is the weakest.

    Raises:
        InputError: no file; another device or model, other software; two prices for one
            operation, with the layer named.
        LayerMismatchError: a layer with another shape, kind or dtype in two files.
    """
    if not files:
        raise InputError("a merge of no cost files")
    first = files[0]
    for other in files[1:]:
        _refuse_other(first, other)
    meters = list(dict.fromkeys(costs.meter for costs in files))
    bases = list(dict.fromkeys(costs.basis for costs in files))
    software = {name: version for costs in files for name, version in costs.software.items()}
    if len(files) == 1:
        return first
    return CostFile(
        created_utc=utc_now(),
        device=first.device,
        meter=" | ".join(meters),
        origin=weakest(costs.origin for costs in files),
        model=first.model,
        basis="; ".join(bases),
        layers=_merge_layers([costs.layers for costs in files], "layer"),
        modules=_merge_layers([costs.modules for costs in files], "module"),
        message=_merge_operations([costs.message for costs in files], "messages"),
        assumptions=tuple(dict.fromkeys(s for costs in files for s in costs.assumptions)),
        software=software,
        provenance={
            "merged": [
                {"created_utc": c.created_utc, "basis": c.basis, "provenance": c.provenance}
                for c in files
            ]
        },
    )


def _refuse_other(first: CostFile, other: CostFile) -> None:
    if other.device != first.device:
        raise InputError(
            f"costs of {first.device} and of {other.device} are not merged; 'cwmp costs mix' "
            "averages devices"
        )
    if other.model != first.model:
        raise InputError(f"costs of {first.model} and of {other.model} are not merged")
    for name, version in other.software.items():
        known = first.software.get(name, version)
        if known != version:
            raise InputError(
                f"costs under {name} {known} and under {version} are not merged: profile again"
            )


def _merge_layers(groups: Sequence[tuple[LayerCost, ...]], word: str) -> tuple[LayerCost, ...]:
    found: dict[str, list[LayerCost]] = {}
    for group in groups:
        for layer in group:
            found.setdefault(layer.name, []).append(layer)
    merged = []
    for name, layers in found.items():
        first = layers[0]
        for other in layers[1:]:
            if (other.kind, other.shape, other.dtype) != (first.kind, first.shape, first.dtype):
                raise LayerMismatchError(
                    f"{word} {name!r} has another kind, shape or dtype in another file: merge "
                    "files of one model"
                )
        operations = _merge_operations([x.operations for x in layers], f"{word} {name!r}")
        merged.append(LayerCost.model_validate({**dict(first), "operations": operations}))
    return tuple(merged)


def _merge_operations(
    groups: Sequence[tuple[OperationCost, ...]], owner: str
) -> tuple[OperationCost, ...]:
    merged: dict[tuple[str, str], OperationCost] = {}
    for group in groups:
        for cost in group:
            key = (cost.operation, cost.pattern)
            if merged.setdefault(key, cost) != cost:
                raise InputError(
                    f"{cost.operation}, {cost.pattern} of {owner} has two prices: take it out of "
                    "one of the files"
                )
    return tuple(merged.values())
