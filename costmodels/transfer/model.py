"""`transfer_costs`: a cost model of device A corrected for device B by a short trace of B.

All operations are corrected together (`costmodels.transfer.core`, a group an operation): one that
the trace does not hold takes the scale that the others have in common, and the width of what
operations differ by.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from costmodels.cells import CellMean, cell_means
from costmodels.costfile import Origin
from costmodels.costmodel import CostModel
from costmodels.estimators.folds import fold_numbers
from costmodels.features import cell_features, group_of
from costmodels.records import Coefficient, OperationModel, TraceSource
from costmodels.sources import trace_hash, utc_now
from costmodels.transfer.core import Correction, DeviceFamilyWarning, correct, verdict
from costmodels.transfer.parts import Parts, transfer_sentences
from costmodels.validation import Validation, validate
from profiler.errors import InputError
from profiler.statistics import detect

if TYPE_CHECKING:
    from profiler.trace import Trace

Floats = NDArray[np.float64]
_Z95 = 1.959964
_PARTS = 10
WIDEST_FACTOR = 100.0
WEAKEST_FIRST: tuple[Origin, ...] = ("assumed", "modelled", "measured")


@dataclass(frozen=True, slots=True)
class PartScale:
    """What B pays for one part of a price, over what A does, with its 95 % interval."""

    group: str
    feature: str
    value: float
    low: float
    high: float
    cells: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """A corrected cost model and what its correction rests on.

    Attributes:
        model: of device B.
        scales: of every part that A has a price for.
        p_value: of the family test.
        same_family: whether that is at least the level asked for.
        verdict: the test in a sentence.
        blocks: sound blocks of the calibration that served.
    """

    model: CostModel
    scales: tuple[PartScale, ...]
    p_value: float | None
    same_family: bool | None
    verdict: str
    blocks: int


def transfer_costs(model: CostModel, calibration: Trace, *, alpha: float = 0.05) -> CostModel:
    """The cost model of the calibration's device: `fit_transfer` without its report."""
    return fit_transfer(model, calibration, alpha=alpha).model


def fit_transfer(model: CostModel, calibration: Trace, *, alpha: float = 0.05) -> Transfer:
    """Correct *model* of device A by a trace of device B, about 20 blocks over unlike cells.

    Args:
        model: of A.
        calibration: of B; blocks of operations that A has no prices for are not used.
        alpha: of the family test.

    Raises:
        InputError: fewer than 3 cells of operations that A has prices for, cells at or below
            zero although their noise is small, or nothing but noise.

    Warns:
        DeviceFamilyWarning: the family test failed.
    """
    cells, unused = _cells(model, calibration)
    parts = Parts(model)
    found = correct(parts.rows(cells), spread_degrees=parts.degrees(cells))
    said = verdict(found, alpha)
    same = None if found.p_value is None else found.p_value >= alpha
    if same is False:
        warnings.warn(said, DeviceFamilyWarning, stacklevel=2)
    held_out = _leave_layers_out(parts, cells)
    operations = tuple(_corrected(parts, found, index, cells, held_out) for index in parts.indices)
    digest = trace_hash(calibration)
    meta = calibration.metadata
    corrected = CostModel(
        created_utc=utc_now(),
        device=meta.device,
        meter=meta.meter,
        origin=min(model.origin, meta.origin, key=WEAKEST_FIRST.index),
        governor=meta.host.get("governor"),
        seed=model.seed,
        traces=(
            *model.traces,
            TraceSource(
                model=meta.model,
                created_utc=meta.created_utc,
                blocks=len(calibration.blocks),
                sha256=digest,
            ),
        ),
        data_hash=hashlib.sha256(f"{model.data_hash}{digest}".encode()).hexdigest(),
        software=meta.software,
        assumptions=transfer_sentences(model, calibration, found, cells, unused, said),
        operations=operations,
    )
    return Transfer(
        model=corrected,
        scales=_part_scales(parts, found, cells),
        p_value=found.p_value,
        same_family=same,
        verdict=said,
        blocks=sum(cell.blocks for cell in cells),
    )


def _cells(model: CostModel, calibration: Trace) -> tuple[tuple[CellMean, ...], list[str]]:
    """The cells that A has prices for, and the groups that it has none for."""
    cells: list[CellMean] = []
    unused: list[str] = []
    for cell in cell_means(calibration):
        group = group_of(cell.operation, cell.pattern)
        priced = model.find(group) is not None and not (group == "train" and cell.macs is None)
        if priced:
            cells.append(cell)
        else:
            unused.append(group)
    if not cells:
        held = ", ".join(dict.fromkeys(unused)) or "nothing"
        known = ", ".join(found.group for found in model.operations)
        raise InputError(f"the calibration holds {held} where the model has prices for {known}")
    return tuple(cells), list(dict.fromkeys(unused))


def _leave_layers_out(parts: Parts, cells: Sequence[CellMean]) -> Floats:
    """Corrected joules of each cell without any cell of its layer, NaN where too few are left.

    With more than ten layers they are left out in ten parts, every layer whole.
    """
    labels = np.array([cell.group for cell in cells])
    predicted = np.full(len(cells), np.nan)
    every = parts.rows(cells).contributions
    part = fold_numbers(labels, _PARTS, 0)
    for number in np.unique(part):
        out = part == number
        kept = [cell for cell, left in zip(cells, out, strict=True) if not left]
        try:
            found = correct(parts.rows(kept))
        except InputError:
            continue
        predicted[out] = found.predict(every[out])
    return predicted


def _corrected(
    parts: Parts, found: Correction, index: int, cells: Sequence[CellMean], held_out: Floats
) -> OperationModel:
    """One operation of B: scaled prices, B's own figures, and the interval of the correction."""
    source = parts.model.operations[index]
    mine = np.array([parts.index(cell) == index for cell in cells])
    columns = parts.columns(index)
    scales = found.scales[columns]
    errors = np.sqrt(np.diag(found.scales_covariance)[columns])
    own = [cell for cell, taken in zip(cells, mine, strict=True) if taken]
    half = _half_width(parts, found, index, own)
    report = _report(own, held_out[mine], half, source, parts.model)
    return source.model_copy(
        update={
            "coefficients": tuple(
                _scaled(price, float(scale), float(error))
                for price, scale, error in zip(source.coefficients, scales, errors, strict=True)
            ),
            "interval_method": f"{source.interval_method}; and the scales' posterior",
            "validation": report,
            "cells": source.cells + len(own),
            "blocks": source.blocks + sum(cell.blocks for cell in own),
        }
    )


def _scaled(price: Coefficient, scale: float, error: float) -> Coefficient:
    """A price of B; relative errors of A's price and of the scale add in squares."""

    def away(factor: float) -> float:
        return exp(hypot(log(factor), _Z95 * error))

    value = price.value * scale
    low = value / away(price.value / price.low) if price.low > 0 else 0.0
    high = price.high * scale * exp(_Z95 * error)
    if price.value > 0:
        high = value * away(price.high / price.value)
    return price.model_copy(update={"value": value, "low": min(low, value), "high": high})


def _half_width(parts: Parts, found: Correction, index: int, cells: Sequence[CellMean]) -> float:
    """The widest 95 % log half-width in A's trained range, and no less than A's own; at most 100.

    At the calibration's own cells and at the range's two ends, all features at their smallest
    and all at their largest: a layer has no cache lines without entries, so that other corners
    of the range stand for no layer.
    """
    source = parts.model.operations[index]
    features = [
        [price.feature_low for price in source.coefficients],
        [price.feature_high for price in source.coefficients],
        *(cell_features(cells) if cells else ()),
    ]
    rows = parts.contributions(index, np.maximum(np.array(features, dtype=np.float64), 0.0))
    rows = rows[rows.sum(axis=1) > 0]
    below, above = found.interval(rows, parts.scatter[index][0])
    middle = found.predict(rows)
    widest = float(np.max(np.maximum(np.log(above / middle), np.log(middle / below))))
    return min(max(widest, source.validation.half_width_log), log(WIDEST_FACTOR))


def _report(
    cells: Sequence[CellMean],
    held_out: Floats,
    half: float,
    source: OperationModel,
    model: CostModel,
) -> Validation:
    """B's own leave-one-layer-out figures; the interval is the correction's."""
    y = np.array([cell.mean_j for cell in cells])
    detected = np.array(
        [detect(c.mean_j, float(np.sqrt(c.variance)), c.degrees).detected for c in cells],
        dtype=bool,
    )
    report = validate(y, held_out, detected, [cell.group for cell in cells], model.seed)
    told = (
        f"corrected from {model.device} by {len(cells)} cells"
        if cells
        else f"no calibration: the scale of the other operations, from {model.device}"
    )
    return report.model_copy(
        update={
            "half_width_log": half,
            "calibrated": False,
            "verdict": f"uncalibrated: {told}; the interval is the correction's posterior",
        }
    )


def _part_scales(
    parts: Parts, found: Correction, cells: Sequence[CellMean]
) -> tuple[PartScale, ...]:
    errors = np.sqrt(np.diag(found.scales_covariance))
    counts = [sum(parts.index(cell) == index for cell in cells) for index in parts.indices]
    said = []
    for index, operation in enumerate(parts.model.operations):
        for column, price in zip(parts.columns(index), operation.coefficients, strict=True):
            if price.value > 0:
                value, factor = float(found.scales[column]), exp(_Z95 * float(errors[column]))
                said.append(
                    PartScale(
                        group=operation.group,
                        feature=price.feature,
                        value=value,
                        low=value / factor,
                        high=value * factor,
                        cells=counts[index],
                    )
                )
    return tuple(said)
