"""Additivity of training: the step of the whole model against the sum of its modules' steps.

    overhead = E_whole - sum_m E_m

with the standard errors of all cells in quadrature and Welch and Satterthwaite's degrees of
freedom. What modules do not contain, activations, the loss and the launch of it all, is the
overhead; that it is not zero says how far a sum of layer prices may be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from costmodels.cells import CellMean
from costmodels.records import Strict
from profiler.statistics import t_quantile

WHOLE = "*"


class WholeStep(Strict):
    """The training step of one model at one batch size.

    Attributes:
        model: whose step.
        examples: the batch size.
        modules: how many modules were measured.
        whole_j: joules of the step as a whole.
        sum_j: joules of its modules, each measured by itself.
        overhead_j, low_j, high_j: the difference, with its 95 % interval; may be negative.
    """

    model: str
    examples: Annotated[int, Field(ge=1)]
    modules: Annotated[int, Field(ge=1)]
    whole_j: float
    sum_j: float
    overhead_j: float
    low_j: float
    high_j: float


def whole_steps(model: str, cells: Sequence[CellMean]) -> tuple[WholeStep, ...]:
    """One check for each batch size at which the whole and all modules were measured.

    Args:
        model: the model's name.
        cells: of one trace, `costmodels.cells.cell_means`.
    """
    steps = [cell for cell in cells if cell.operation == "train"]
    modules = {cell.layer for cell in steps} - {WHOLE}
    found = []
    for whole in steps:
        parts = [cell for cell in steps if cell.layer != WHOLE and cell.k == whole.k]
        if whole.layer != WHOLE or not parts or {cell.layer for cell in parts} != modules:
            continue
        variances = [(cell.variance, cell.degrees) for cell in (whole, *parts)]
        total = sum(variance for variance, _ in variances)
        degrees = total**2 / sum(variance**2 / degree for variance, degree in variances)
        overhead_j = whole.mean_j - sum(cell.mean_j for cell in parts)
        reach_j = t_quantile(0.975, degrees) * total**0.5
        found.append(
            WholeStep(
                model=model,
                examples=whole.k,
                modules=len(parts),
                whole_j=whole.mean_j,
                sum_j=whole.mean_j - overhead_j,
                overhead_j=overhead_j,
                low_j=overhead_j - reach_j,
                high_j=overhead_j + reach_j,
            )
        )
    return tuple(found)
