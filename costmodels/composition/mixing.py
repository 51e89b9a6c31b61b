"""The average device of a fleet: weighted means of cost files, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isfinite

from costmodels.composition.bounds import mean_pieces, weakest
from costmodels.costfile import CostFile, LayerCost, OperationCost
from costmodels.sources import utc_now
from profiler.errors import InputError, LayerMismatchError


def mix(files: Sequence[tuple[CostFile, float]]) -> CostFile:
    """The expected joules of a device drawn from a fleet: ``E(k) = sum_d w_d E_d(k)``.

    Break points of one device become break points of the mix, so E is exact. Limits are averaged
    like values (`costmodels.composition.bounds`): errors of two devices are most likely
    independent, and the interval then too wide. It is the interval of the mean, not what one
    device may cost.

    Args:
        files: cost files of the same layers on other devices, each with its share of the fleet.
            Shares are positive and need not add up to one.

    Raises:
        InputError: no file, a share that is not a positive number, an operation that counts
            something else or is paid by another in two files.
        LayerMismatchError: a layer that a file lacks, or has with another shape or dtype.
    """
    if not files:
        raise InputError("a mix of no cost files")
    for costs, share in files:
        if not (isfinite(share) and share > 0):
            raise InputError(f"{costs.device} has a share of {share}; it must be positive")
    whole = sum(share for _, share in files)
    parts = [(costs, share / whole) for costs, share in files]
    dropped: list[str] = []
    layers = _mix_layers(parts, lambda costs: costs.layers, dropped, "layer")
    modules = _mix_layers(parts, lambda costs: costs.modules, dropped, "module")
    message = _mix_operations([(c.message, w) for c, w in parts], "message", dropped)
    members = [costs for costs, _ in parts]
    shares = ", ".join(f"{weight:.3g} {costs.device}" for costs, weight in parts)
    return CostFile(
        created_utc=utc_now(),
        device=f"mix of {shares}",
        meter=_joined(costs.meter for costs in members),
        origin=weakest(costs.origin for costs in members),
        model=_joined(costs.model for costs in members),
        basis=f"weighted mean over devices: {shares}",
        layers=layers,
        modules=modules,
        message=message,
        assumptions=(
            f"a mix of devices, {shares}: intervals are of the mean, averaged limit by limit, "
            "not the range over devices",
            *(f"left out, since not every device has it: {name}" for name in dropped),
            *_said(members),
        ),
        software=_agreed(members),
        provenance={
            "mix": [
                {
                    "device": costs.device,
                    "weight": weight,
                    "created_utc": costs.created_utc,
                    "basis": costs.basis,
                    "software": costs.software,
                    "provenance": costs.provenance,
                }
                for costs, weight in parts
            ]
        },
    )


def _mix_layers(
    parts: Sequence[tuple[CostFile, float]],
    group: Callable[[CostFile], tuple[LayerCost, ...]],
    dropped: list[str],
    word: str,
) -> tuple[LayerCost, ...]:
    """Layers of all files; training modules that not all have are dropped, layers are not."""
    tables = [({layer.name: layer for layer in group(c)}, c.device, w) for c, w in parts]
    names = dict.fromkeys(name for table, _, _ in tables for name in table)
    mixed = []
    for name in names:
        lacking = [device for table, device, _ in tables if name not in table]
        if lacking and word == "layer":
            raise LayerMismatchError(f"{lacking[0]} has no costs of layer {name!r}: mix one model")
        if lacking:
            dropped.append(f"{word} {name}")
            continue
        found = [(table[name], weight) for table, _, weight in tables]
        first = found[0][0]
        for layer, _ in found[1:]:
            if (layer.shape, layer.dtype) != (first.shape, first.dtype):
                raise LayerMismatchError(
                    f"{word} {name!r} has another shape or dtype on another device: mix one model"
                )
        operations = _mix_operations([(x.operations, w) for x, w in found], name, dropped)
        if not operations:
            raise InputError(f"{word} {name!r} has no operation that every device has")
        changes = {"operations": operations}
        mixed.append(LayerCost.model_validate({**dict(first), **changes}))
    return tuple(mixed)


def _mix_operations(
    parts: Sequence[tuple[tuple[OperationCost, ...], float]], owner: str, dropped: list[str]
) -> tuple[OperationCost, ...]:
    tables = [({(c.operation, c.pattern): c for c in costs}, w) for costs, w in parts]
    keys = dict.fromkeys(key for table, _ in tables for key in table)
    mixed = []
    for key in keys:
        found = [(weight, table[key]) for table, weight in tables if key in table]
        if len(found) < len(tables):
            dropped.append(f"{' '.join(key)} of {owner}")
            continue
        mixed.append(_mix_operation(found, owner))
    return tuple(mixed)


def _mix_operation(found: Sequence[tuple[float, OperationCost]], owner: str) -> OperationCost:
    costs = [cost for _, cost in found]
    first = costs[0]
    for cost in costs[1:]:
        if (cost.unit, cost.payer) != (first.unit, first.payer):
            raise InputError(
                f"{first.operation} of {owner} is by the {first.unit}, paid by the {first.payer}, "
                f"on one device, and by the {cost.unit}, paid by the {cost.payer}, on another"
            )
    low, high = max(cost.k_min for cost in costs), min(cost.k_max for cost in costs)
    changes = {
        "origin": weakest(cost.origin for cost in costs),
        "implementation": _joined(cost.implementation for cost in costs),
        "pieces": mean_pieces(found),
        # Where no k was measured on all, the nearest that was on one.
        "k_min": min(low, high),
        "k_max": high,
        "blocks": sum(cost.blocks for cost in costs),
        "lack_of_fit_p": first.lack_of_fit_p if len(costs) == 1 else None,
    }
    return OperationCost.model_validate({**dict(first), **changes})


def _said(members: Sequence[CostFile]) -> list[str]:
    """Assumptions that all share, then the others with their device before them."""
    common = [s for s in members[0].assumptions if all(s in other.assumptions for other in members)]
    own = [f"{c.device}: {s}" for c in members for s in c.assumptions if s not in common]
    return [*common, *dict.fromkeys(own)]


def _agreed(members: Sequence[CostFile]) -> dict[str, str]:
    """The software that is the same everywhere."""
    return {
        name: version
        for name, version in members[0].software.items()
        if all(costs.software.get(name) == version for costs in members)
    }


def _joined(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(texts))
