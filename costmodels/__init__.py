"""Learn: traces to joules per parameter.

``costs_from_trace`` reads costs straight from measurement; ``fit_cost_model`` learns prices that
hold on layers nobody measured, from traces or from a table of energies. Names are imported when
they are first used, so that ``import costmodels`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costmodels.cells import CellMean, cell_means
    from costmodels.composition.links import Link
    from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
    from costmodels.costmodel import CostModel
    from costmodels.curves import Curve, fit_curve
    from costmodels.energymodel import EnergyModel
    from costmodels.estimators.bykind import KindwiseNNLS
    from costmodels.estimators.hybrid import HybridRegressor
    from costmodels.estimators.line import PiecewiseLine
    from costmodels.estimators.relative import RelativeNNLS
    from costmodels.fitting import fit_cost_model
    from costmodels.from_trace import costs_from_trace
    from costmodels.samples import Samples
    from costmodels.spread import Spread, marginal_spread
    from costmodels.tablefit import fit_and_test, fit_samples
    from costmodels.tables.building import read_samples, samples_of
    from costmodels.tables.predicting import Asked, features_of
    from costmodels.tables.spec import TableSpec
    from costmodels.transfer.core import DeviceFamilyWarning
    from costmodels.transfer.estimator import DeviceTransfer
    from costmodels.transfer.model import fit_transfer, transfer_costs

_HOMES = {
    "Asked": "tables.predicting",
    "CellMean": "cells",
    "CostFile": "costfile",
    "CostModel": "costmodel",
    "Curve": "curves",
    "DeviceFamilyWarning": "transfer.core",
    "DeviceTransfer": "transfer.estimator",
    "EnergyModel": "energymodel",
    "Estimate": "costfile",
    "HybridRegressor": "estimators.hybrid",
    "KindwiseNNLS": "estimators.bykind",
    "LayerCost": "costfile",
    "Link": "composition.links",
    "OperationCost": "costfile",
    "Piece": "costfile",
    "PiecewiseLine": "estimators.line",
    "RelativeNNLS": "estimators.relative",
    "Samples": "samples",
    "Spread": "spread",
    "TableSpec": "tables.spec",
    "cell_means": "cells",
    "costs_from_trace": "from_trace",
    "features_of": "tables.predicting",
    "fit_and_test": "tablefit",
    "fit_cost_model": "fitting",
    "fit_curve": "curves",
    "fit_samples": "tablefit",
    "fit_transfer": "transfer.model",
    "marginal_spread": "spread",
    "read_samples": "tables.building",
    "samples_of": "tables.building",
    "transfer_costs": "transfer.model",
}

__all__ = [
    "Asked",
    "CellMean",
    "CostFile",
    "CostModel",
    "Curve",
    "DeviceFamilyWarning",
    "DeviceTransfer",
    "EnergyModel",
    "Estimate",
    "HybridRegressor",
    "KindwiseNNLS",
    "LayerCost",
    "Link",
    "OperationCost",
    "Piece",
    "PiecewiseLine",
    "RelativeNNLS",
    "Samples",
    "Spread",
    "TableSpec",
    "cell_means",
    "costs_from_trace",
    "features_of",
    "fit_and_test",
    "fit_cost_model",
    "fit_curve",
    "fit_samples",
    "fit_transfer",
    "marginal_spread",
    "read_samples",
    "samples_of",
    "transfer_costs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
