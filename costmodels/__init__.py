"""Learn: traces to joules per parameter.

``costs_from_trace`` reads costs straight from measurement; ``fit_cost_model`` learns prices that
hold on layers nobody measured. Names are imported when they are first used, so that
``import costmodels`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costmodels.cells import CellMean, cell_means
    from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
    from costmodels.costmodel import CostModel
    from costmodels.curves import Curve, fit_curve
    from costmodels.estimators import RelativeNNLS
    from costmodels.fitting import fit_cost_model
    from costmodels.from_trace import costs_from_trace
    from costmodels.line import PiecewiseLine
    from costmodels.spread import Spread, marginal_spread

_HOMES = {
    "CellMean": "cells",
    "CostFile": "costfile",
    "CostModel": "costmodel",
    "Curve": "curves",
    "Estimate": "costfile",
    "LayerCost": "costfile",
    "OperationCost": "costfile",
    "Piece": "costfile",
    "PiecewiseLine": "line",
    "RelativeNNLS": "estimators",
    "Spread": "spread",
    "cell_means": "cells",
    "costs_from_trace": "from_trace",
    "fit_cost_model": "fitting",
    "fit_curve": "curves",
    "marginal_spread": "spread",
}

__all__ = [
    "CellMean",
    "CostFile",
    "CostModel",
    "Curve",
    "Estimate",
    "LayerCost",
    "OperationCost",
    "Piece",
    "PiecewiseLine",
    "RelativeNNLS",
    "Spread",
    "cell_means",
    "costs_from_trace",
    "fit_cost_model",
    "fit_curve",
    "marginal_spread",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
