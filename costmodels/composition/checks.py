"""What a cost file can be suspected of, beyond what its schema refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost
from costmodels.features import item_bytes
from profiler.errors import FileFormatError, InputError, InputFileError

Severity = Literal["error", "warning"]
WIDEST_FACTOR = 100.0
MOST_POOLED = 0.5


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One thing found in a cost file.

    Attributes:
        severity: an ``error`` keeps a selector from spending by the file; a ``warning`` says
            what its joules are worth.
        where: the layer or operation; empty for the whole file.
        what: the finding and what to do about it.
    """

    severity: Severity
    where: str
    what: str


def validate(path: str | Path) -> tuple[Suspicion, ...]:
    """Read a cost file and say what is wrong with it, errors first; nothing where all is well.

    The schema refuses costs that are zero, negative, NaN or fall with k. Beyond it: intervals
    wider than a factor of 100 or of no width, estimates pooled from other layers, prices outside
    the training data or never measured, assumed origins, and what a selector needs and lacks.
    """
    try:
        costs = CostFile.load(path)
    except (FileFormatError, InputFileError) as error:
        return (Suspicion("error", "", str(error)),)
    return suspicions(costs)


def suspicions(costs: CostFile) -> tuple[Suspicion, ...]:
    """As `validate`, of costs in memory."""
    found = [*_whole(costs), *_beyond(costs)]
    for layer in costs.layers:
        found += _layer(layer)
    for owner, cost in _operations(costs):
        found += _operation(owner, cost)
    once = dict.fromkeys(found)
    return tuple(sorted(once, key=lambda suspicion: suspicion.severity != "error"))


def _whole(costs: CostFile) -> Iterator[Suspicion]:
    if not any(cost.operation == "send" for cost in costs.message):
        yield Suspicion(
            "error", "message", "no 'send' cost: profile it, or take one from 'cwmp costs link'"
        )
    estimates = [e for layer in costs.layers for cost in layer.operations for e in _values(cost)]
    pooled = sum(estimate.below_detection for estimate in estimates)
    if pooled > MOST_POOLED * len(estimates):
        yield Suspicion(
            "warning",
            "layers",
            f"{pooled} of {len(estimates)} estimates are below detection and pooled from other "
            "layers: measure longer, with 'cwmp profile --resume'",
        )
    if costs.origin == "assumed":
        yield Suspicion("warning", "", "the weakest of these costs is assumed, not measured")
    for part in _parts(costs.provenance):
        for name, columns in _mapping(part.get("extrapolated")).items():
            yield Suspicion(
                "warning",
                name,
                f"extrapolated beyond what was measured ({', '.join(map(str, columns))}): its "
                "interval covers no such step",
            )
        kinds = part.get("unseen_kinds")
        if isinstance(kinds, list) and kinds:
            yield Suspicion(
                "warning", "layers", f"kinds that were never measured: {', '.join(map(str, kinds))}"
            )
    slopes = [c.pieces[0].c_j.value for x in costs.layers if (c := x.find("update", "random"))]
    if len(slopes) > 1 and min(slopes) == max(slopes):
        yield Suspicion(
            "warning", "layers", "every layer has the same c: weighing by cost gains nothing"
        )


def _beyond(costs: CostFile) -> Iterator[Suspicion]:
    """Layers whose measured range ends below their last entry, in one finding."""
    short = [
        (layer, cost)
        for layer in costs.layers
        if (cost := layer.find("update", "random"))
        and cost.blocks
        and cost.k_max < layer.parameters
    ]
    if short:
        layer, cost = min(short, key=lambda pair: pair[1].k_max / pair[0].parameters)
        yield Suspicion(
            "warning",
            "layers",
            f"update is extrapolated beyond the measured k in {len(short)} of {len(costs.layers)} "
            f"layers, most in {layer.name} (up to k = {cost.k_max} of {layer.parameters})",
        )


def _layer(layer: LayerCost) -> Iterator[Suspicion]:
    for pattern, why in (("random", "a sparse update"), ("dense", "100 %")):
        if layer.find("update", pattern) is None:
            yield Suspicion(
                "error", layer.name, f"no cost of update, {pattern}, which {why} is priced by"
            )
    try:
        item_bytes(layer.dtype)
    except InputError as error:
        yield Suspicion("warning", layer.name, str(error))


def _operation(owner: str, cost: OperationCost) -> Iterator[Suspicion]:
    where = f"{owner}: {cost.operation}, {cost.pattern}"
    if cost.origin == "assumed":
        yield Suspicion("warning", where, "assumed, not measured")
    for estimate in _values(cost):
        factor = _factor(estimate)
        if factor > WIDEST_FACTOR:
            yield Suspicion(
                "warning",
                where,
                f"an interval that spans a factor of {factor:.2g}: next to nothing is known",
            )
        elif estimate.low == estimate.high:
            yield Suspicion(
                "warning", where, "an interval of no width: the uncertainty was not stated"
            )


def _factor(estimate: Estimate) -> float:
    """The wider half of an interval as a factor; a lower limit of 0 says undetected, not wide."""
    down = estimate.value / estimate.low if estimate.low > 0 else 1.0
    return max(down, estimate.high / estimate.value)


def _values(cost: OperationCost) -> list[Estimate]:
    return [e for piece in cost.pieces for e in (piece.a_j, piece.c_j) if e is not None]


def _operations(costs: CostFile) -> Iterator[tuple[str, OperationCost]]:
    for group in (costs.layers, costs.modules):
        for layer in group:
            yield from ((layer.name, cost) for cost in layer.operations)
    yield from (("message", cost) for cost in costs.message)


def _parts(provenance: object, depth: int = 8) -> Iterator[dict[str, object]]:
    """The provenance of a file and of those that it was mixed or merged from."""
    if not isinstance(provenance, dict) or depth == 0:
        return
    yield provenance
    for composed in ("mix", "merged"):
        members = provenance.get(composed)
        for member in members if isinstance(members, list) else ():
            if isinstance(member, dict):
                yield from _parts(member.get("provenance"), depth - 1)


def _mapping(value: object) -> dict[str, list[object]]:
    """What a file by another hand may hold in a free field, if it is what this project writes."""
    if not isinstance(value, dict):
        return {}
    return {str(name): columns for name, columns in value.items() if isinstance(columns, list)}
