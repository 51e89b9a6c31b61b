"""A cost model and a model's layers to a cost file, with what lies outside training flagged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
from costmodels.features import feature_matrix
from costmodels.from_trace import UNITS, payer_of
from costmodels.pieces import secants
from costmodels.records import ANY_KIND, OperationModel
from costmodels.sources import utc_now
from profiler.errors import InputError
from profiler.layers import LayerInfo
from profiler.workloads import Cell

if TYPE_CHECKING:
    from costmodels.costmodel import CostModel

_NOTHING = 1e-12
_TOLERANCE = 0.05
_LARGEST_BATCH = 4096
UNSEEN_FACTOR = 3.0
"""By how much intervals of a kind nobody measured are wider, up and down: a judgement."""


@dataclass(frozen=True)
class _Subject:
    """What is priced: a layer, a message of a model, or a module's training step."""

    name: str
    kind: str
    parameters: int
    dtype: str
    macs: float | None = None


@dataclass
class _Findings:
    """What lies outside the training data, collected while pricing."""

    outside: dict[str, set[str]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    own_prices: set[str] = field(default_factory=set)
    without_macs: list[str] = field(default_factory=list)


def predict(
    model: CostModel, layers: Sequence[LayerInfo], model_name: str, modules: Sequence[Cell]
) -> CostFile:
    """The work of `CostModel.predict`."""
    sparse = model.find("update")
    if sparse is None:
        raise InputError("the cost model has no 'update' prices: profile with update and fit again")
    if not layers:
        raise InputError("there are no layers to price")
    findings = _Findings()
    priced = _layers(model, layers, findings)
    total = sum(layer.parameters for layer in layers)
    whole = _Subject("*", "payload", total, layers[0].dtype)
    message = tuple(
        _operation_cost(found, pattern, whole, _message_k_max(found, total), findings)
        for group in ("encode", "encode.dense", "send", "select.topk", "select.cwmp")
        if (found := model.find(group)) is not None
        for pattern in found.patterns
    )
    steps = tuple(
        step
        for module in modules
        if (train := model.find("train", module.kind)) is not None
        and (step := _module(train, module, findings)) is not None
    )
    return CostFile(
        created_utc=utc_now(),
        device=model.device,
        meter=model.meter,
        origin="modelled",
        model=model_name,
        basis=(
            f"predicted by a pooled regression on {model.origin} blocks of "
            f"{', '.join(dict.fromkeys(trace.model for trace in model.traces))}; "
            f"{model_name} itself was not measured"
        ),
        layers=priced,
        modules=steps,
        message=message,
        assumptions=(*model.assumptions, *_sentences(model, findings)),
        software=model.software,
        provenance={
            "data_hash": model.data_hash,
            "cost_model_created_utc": model.created_utc,
            "extrapolated": {name: sorted(columns) for name, columns in findings.outside.items()},
            "unseen_kinds": sorted(findings.kinds),
            "own_prices": sorted(findings.own_prices),
        },
    )


def _layers(
    model: CostModel, layers: Sequence[LayerInfo], findings: _Findings
) -> tuple[LayerCost, ...]:
    """Each layer's costs; layers that are alike in all that is priced are priced once."""
    known: dict[tuple[str, int, str], LayerCost] = {}
    priced = []
    for layer in layers:
        alike = known.get(key := (layer.kind, layer.parameters, layer.dtype))
        if alike is None:
            found = known[key] = _layer(model, layer, findings)
        else:
            found = alike.model_copy(update={"name": layer.name, "shape": layer.shape})
            if alike.name in findings.outside:
                findings.outside[layer.name] = set(findings.outside[alike.name])
        priced.append(found)
    return tuple(priced)


def _layer(model: CostModel, layer: LayerInfo, findings: _Findings) -> LayerCost:
    subject = _Subject(layer.name, layer.kind, layer.parameters, layer.dtype)
    operations = [
        _operation_cost(found, pattern, subject, layer.parameters, findings)
        for group in ("update", "update.dense")
        if (found := model.find(group, layer.kind)) is not None
        for pattern in found.patterns
    ]
    return LayerCost(
        name=layer.name,
        kind=layer.kind,
        shape=layer.shape,
        dtype=layer.dtype,
        parameters=layer.parameters,
        operations=tuple(operations),
    )


def _module(train: OperationModel, module: Cell, findings: _Findings) -> LayerCost | None:
    if module.macs is None:
        findings.without_macs.append(module.layer)
        return None
    subject = _Subject(
        module.layer, module.kind, module.parameters, module.dtype, module.macs / module.k
    )
    return LayerCost(
        name=module.layer,
        kind=module.kind,
        shape=module.shape,
        dtype=module.dtype,
        parameters=module.parameters,
        operations=(_operation_cost(train, "batch", subject, _LARGEST_BATCH, findings),),
    )


def _operation_cost(
    model: OperationModel, pattern: str, subject: _Subject, k_max: int, findings: _Findings
) -> OperationCost:
    operation = model.group.partition(".")[0]
    prices = np.array(model.prices)
    if model.kind != ANY_KIND:
        findings.own_prices.add(model.name)

    def features(k: NDArray[np.float64]) -> NDArray[np.float64]:
        return feature_matrix(
            operation,
            pattern,
            k,
            parameters=subject.parameters,
            dtype=subject.dtype,
            macs=subject.macs,
        )

    low, high = min(model.k_low, k_max), min(model.k_high, k_max)
    if model.group.endswith(".dense"):
        low = high = k_max
    _note_outside(model, subject, features(np.array([low, high], dtype=np.float64)), findings)
    spread = model.validation.half_width_log
    if _is_unseen(model, subject):
        spread += log(UNSEEN_FACTOR)
    return OperationCost.model_validate(
        {
            "operation": operation,
            "pattern": pattern,
            "unit": UNITS[operation],
            "payer": payer_of(operation),
            "origin": "modelled",
            "implementation": model.implementation,
            "pieces": _pieces(model, lambda k: np.asarray(features(k) @ prices), k_max, spread),
            "k_min": low,
            "k_max": high,
        }
    )


def _pieces(
    model: OperationModel,
    energy: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    k_max: int,
    spread: float | None = None,
) -> tuple[Piece, ...]:
    """E(k) as secant lines within 5 %; at k = k_max alone for the dense add.

    A price of zero per k cannot stand. Where a line is flat, E is tilted by 5 % about its end,
    0.95 E(k) + 0.05 E(k_max) k / k_max, which for a concave E is neither above E nor more than
    5 % below; the slope that this gives is flagged, with the most that the residuals leave
    room for as its limit. *spread* is the half-width on the log scale, by default the model's.
    """
    if spread is None:
        spread = model.validation.half_width_log
    last_j = float(energy(np.array([k_max], dtype=np.float64))[0])
    if not last_j > 0:
        raise InputError(
            f"the cost model predicts no energy for {model.group!r}: profile a model nearer to "
            "this one and fit again"
        )
    if model.group.endswith(".dense"):
        return (Piece(a_j=None, c_j=_estimate(last_j / k_max, spread)),)
    lines = secants(energy, k_max, _TOLERANCE)
    flat = [c * k_max <= _NOTHING * last_j for _, _, c in lines]
    if any(flat):
        tilt_j = _TOLERANCE * last_j / k_max
        lines = [(k, (1 - _TOLERANCE) * a, (1 - _TOLERANCE) * c + tilt_j) for k, a, c in lines]
    pieces = []
    for (from_k, a, c), level in zip(lines, flat, strict=True):
        slope = _limit(c, last_j / k_max, spread) if level else _estimate(c, spread)
        fixed = _estimate(a, spread) if a > _NOTHING * last_j else None
        pieces.append(Piece(from_k=from_k, a_j=fixed, c_j=slope))
    return tuple(pieces)


def _estimate(value: float, spread: float) -> Estimate:
    return Estimate(value=value, low=value * exp(-spread), high=value * exp(spread))


def _limit(value: float, mean_j: float, spread: float) -> Estimate:
    limit = max(min(exp(spread) - 1.0, 1.0) * mean_j, value)
    return Estimate(value=value, low=0.0, high=limit, below_detection=True, upper_limit=limit)


def _message_k_max(model: OperationModel, total: int) -> int:
    """Entries of the whole model; for send, bytes of a dense payload with some to spare."""
    return max(model.k_high, 8 * total) if model.group == "send" else total


def _is_unseen(model: OperationModel, subject: _Subject) -> bool:
    kinds = model.kinds if model.group.startswith("update") else ()
    return bool(kinds) and subject.kind not in kinds


def _note_outside(
    model: OperationModel, subject: _Subject, rows: NDArray[np.float64], findings: _Findings
) -> None:
    """Remember the features that leave their trained range within the trained range of k."""
    if _is_unseen(model, subject):
        findings.kinds.add(subject.kind)
    for column, price in enumerate(model.coefficients):
        values = rows[:, column]
        below = values.min() < price.feature_low * (1 - 1e-9)
        above = values.max() > price.feature_high * (1 + 1e-9)
        if below or above:
            findings.outside.setdefault(subject.name, set()).add(f"{model.group}:{price.feature}")


def _sentences(model: CostModel, findings: _Findings) -> list[str]:
    sentences = []
    loose = [
        f"{found.name} ({found.validation.groups})"
        for found in model.operations
        if not found.validation.calibrated
    ]
    if loose:
        sentences.append(
            "intervals are uncalibrated, 95 % needs 19 left-out groups and these had fewer: "
            f"{', '.join(loose)}"
        )
    if findings.outside:
        names = sorted(findings.outside)
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        sentences.append(
            f"extrapolated beyond the trained range: {shown}; their intervals are not covered "
            "by cross-validation (provenance.extrapolated names the features)"
        )
    if findings.kinds:
        sentences.append(
            f"layer kinds never measured, priced by the pooled regression with intervals "
            f"widened by an assumed factor of {UNSEEN_FACTOR:g}: "
            f"{', '.join(sorted(findings.kinds))}"
        )
    if findings.own_prices:
        sentences.append(
            "priced by a regression of the layer kind alone, everything else by the pooled one: "
            f"{', '.join(sorted(findings.own_prices))}"
        )
    if findings.without_macs:
        sentences.append(
            "training is not priced for modules without known multiply-accumulates: "
            f"{', '.join(findings.without_macs)}"
        )
    return sentences
