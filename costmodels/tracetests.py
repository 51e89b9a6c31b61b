"""What the prices of traces are worth where more is left out than one layer signature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from costmodels.records import Strict
from costmodels.regression import Regression, arrays, detected_cells, fit_prices
from costmodels.validation import Validation, leave_one_group_out, validate

_SIZE_BINS = 5


class TraceTest(Strict):
    """Prices fitted without a group, judged on that group.

    Attributes:
        grouping: ``model``, ``kind`` or ``size`` (a fifth of the tensors by their parameters).
        validation: as for the layer signatures.
    """

    grouping: str
    validation: Validation


def trace_tests(regression: Regression, models: Sequence[str], seed: int) -> tuple[TraceTest, ...]:
    """Tests of pooled prices by leaving out whole models, layer kinds, and bins of size.

    A grouping with fewer than two groups is left out.

    Args:
        regression: what is tested.
        models: the model that each of its cells was measured on.
        seed: of the bootstrap over groups.
    """
    cells = regression.cells
    groupings = {
        "model": list(models),
        "kind": [cell.kind for cell in cells],
        "size": _bins(np.array([cell.parameters for cell in cells])),
    }
    X, y, noise = arrays(cells)
    detected = detected_cells(cells)
    return tuple(
        TraceTest(
            grouping=name,
            validation=validate(
                y, leave_one_group_out(fit_prices, X, y, noise, labels), detected, labels, seed
            ),
        )
        for name, labels in groupings.items()
        if len(set(labels)) > 1
    )


def _bins(sizes: NDArray[np.int64]) -> list[str]:
    """A fifth of the distinct sizes each."""
    distinct = np.unique(sizes)
    count = min(_SIZE_BINS, distinct.size)
    number = np.searchsorted(distinct, sizes) * count // distinct.size
    return [f"bin {at + 1} of {count}" for at in number.tolist()]
