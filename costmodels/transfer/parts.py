"""The prices of `costmodels.transfer.model` side by side, and what a transfer assumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from costmodels.cells import CellMean
from costmodels.costmodel import CostModel
from costmodels.features import cell_features, group_of
from costmodels.records import ANY_KIND, OperationModel
from costmodels.sources import assumptions_of
from costmodels.transfer.core import Correction, Rows
from costmodels.validation import UNKNOWN_FACTOR

if TYPE_CHECKING:
    from profiler.trace import Trace

Floats = NDArray[np.float64]
_Z95 = 1.959964
_TAILS_90 = 2 * 1.644854


class Parts:
    """All parts of a cost model's prices side by side, an operation after the other."""

    def __init__(self, model: CostModel) -> None:
        self.model = model
        self.indices = range(len(model.operations))
        self.of_kind: Mapping[tuple[str, str], int] = {
            (found.group, found.kind): index for index, found in enumerate(model.operations)
        }
        self.groups = np.concatenate(
            [
                np.full(len(found.coefficients), index)
                for index, found in enumerate(model.operations)
            ]
        )
        self.prices = np.concatenate([found.prices for found in model.operations])
        self.scatter = [group_scatter(found) for found in model.operations]

    def columns(self, index: int) -> NDArray[np.intp]:
        return np.flatnonzero(self.groups == index)

    def contributions(self, index: int, features: Floats) -> Floats:
        """What A pays by part, zero in the parts of other operations, shape (m, parts)."""
        wide = np.zeros((len(features), self.groups.size))
        columns = self.columns(index)
        wide[:, columns] = features * self.prices[columns]
        return wide

    def index(self, cell: CellMean) -> int:
        group = group_of(cell.operation, cell.pattern)
        return self.of_kind.get((group, cell.kind), self.of_kind[group, ANY_KIND])

    def rows(self, cells: Sequence[CellMean]) -> Rows:
        indices = [self.index(cell) for cell in cells]
        return Rows.of(
            np.concatenate(
                [
                    self.contributions(index, cell_features([cell]))
                    for index, cell in zip(indices, cells, strict=True)
                ]
            ),
            [cell.mean_j for cell in cells],
            # the noise model's, not the cell's own of two blocks: a lucky pair is not precise
            variance_j2=[max(cell.variance, cell.weight_variance) for cell in cells],
            spread_log=[self.scatter[index][0] for index in indices],
            layers=[f"{index} {cell.group}" for index, cell in zip(indices, cells, strict=True)],
            shared=float(np.mean([self.scatter[index][1] for index in indices])),
            groups=self.groups,
        )

    def degrees(self, cells: Sequence[CellMean]) -> float:
        """Behind the spreads of *cells* together: the harmonic mean over them."""
        return float(1.0 / np.mean([1.0 / self.scatter[self.index(cell)][2] for cell in cells]))


def group_scatter(found: OperationModel) -> tuple[float, float, float]:
    """A's spread on left-out groups, its part that a group shares, and degrees of freedom."""
    if len(found.residuals) < 2:
        return max(found.validation.half_width_log, log(UNKNOWN_FACTOR)) / _Z95, 1.0, 1.0
    medians = np.array([group.median for group in found.residuals])
    inside = np.array([(group.q95 - group.q05) / _TAILS_90 for group in found.residuals])
    total = float(np.mean(medians**2 + inside**2))
    shared = float(np.mean(medians**2)) / total if total > 0 else 1.0
    return float(np.sqrt(total)), min(shared, 0.99), float(len(medians) - 1)


def transfer_sentences(
    model: CostModel,
    calibration: Trace,
    found: Correction,
    cells: Sequence[CellMean],
    unused: Sequence[str],
    said: str,
) -> tuple[str, ...]:
    """What the corrected model rests on, then the assumptions of both devices."""
    meta = calibration.metadata
    blocks = sum(cell.blocks for cell in cells)
    held = {group_of(cell.operation, cell.pattern) for cell in cells}
    sentences = [
        f"transferred: prices of {model.device} ({model.origin} by {model.meter}), scaled for "
        f"{meta.device} by {blocks} blocks in {len(cells)} cells; what the first device pays "
        "nothing for is free here too",
        f"transferred: {said}",
    ]
    if missing := [found.group for found in model.operations if found.group not in held]:
        sentences.append(
            "transferred: no calibration blocks, scaled like the other operations, wide: "
            f"{', '.join(missing)}"
        )
    if found.informative < found.rows:
        sentences.append(
            f"transferred: {found.rows - found.informative} of {found.rows} cells drown in their "
            "noise and do not count"
        )
    if single := sum(cell.blocks == 1 for cell in cells):
        sentences.append(
            f"transferred: {single} of {len(cells)} cells have a single block; its noise beyond "
            "the counter's steps is unknown and counts as a difference of the devices"
        )
    if unused:
        sentences.append(
            f"transferred: blocks without prices on {model.device} are not used: "
            f"{', '.join(unused)}"
        )
    sentences += differences(model, calibration)
    own = set(assumptions_of(calibration))
    first = (f"{model.device}: {sentence}" for sentence in model.assumptions if sentence not in own)
    return tuple(dict.fromkeys((*sentences, *assumptions_of(calibration), *first)))


def differences(model: CostModel, calibration: Trace) -> list[str]:
    """What the scales hold beside the device: another scope, another code, or nothing at all."""
    meta = calibration.metadata
    told = []
    first = {text for text in model.assumptions if text.startswith("scope: ")}
    second = {f"scope: {text}" for text in meta.scope}
    if first != second:
        told.append(
            "transferred: the joules of the two devices do not include the same, and the scales "
            f"hold the difference: {'; '.join(sorted(first)) or 'no scope said'} there, "
            f"{'; '.join(sorted(second)) or 'no scope said'} here"
        )
    for operation in model.operations:
        name = operation.group.partition(".")[0]
        code = meta.implementations.get(name)
        if code is not None and code != operation.implementation:
            told.append(
                f"transferred: {name} is {operation.implementation} on {model.device} and {code} "
                "here; the scales hold the difference"
            )
    if meta.device == model.device:
        told.append("transferred: both traces name the same device; scales near 1 are expected")
    return list(dict.fromkeys(told))
