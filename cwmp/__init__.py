"""Spend joules on the entries of a model update that are worth them.

Every public name stands here and is loaded when it is first used, so that ``import cwmp``
costs nothing::

    from cwmp import CostFile, CostWeighted

    costs = CostFile.load("costs.json")
    selection = CostWeighted(costs).select(update, budget_j=0.002)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from costmodels.costfile import CostFile
    from cwmp.bounds import captured_bound, cost_spread, fractional_knapsack_bound
    from cwmp.budget import Budget
    from cwmp.codec import decode, encode
    from cwmp.controller import PriceController
    from cwmp.controller_state import ControllerState
    from cwmp.feedback import ErrorFeedback
    from cwmp.gain import PredictedGain, predict_gain
    from cwmp.payload import DecodedPayload, PayloadLayout
    from cwmp.selection import LayerSelection, Selection
    from cwmp.selectors import CostWeighted, Dense, RandomK, TopK, make_selector
    from cwmp.selectors.base import Selector
    from cwmp.selectors.block_shapes import Channels, Groups, NofM, Tiles
    from cwmp.selectors.blocks import BlockWeighted
    from cwmp.selectors.burst_costs import BurstCosts, BurstPrice
    from cwmp.selectors.bursts import BurstWeighted
    from cwmp.selectors.costs import LayerPrice, SelectionCosts
    from cwmp.selectors.element_costs import ElementCosts
    from cwmp.selectors.element_weighted import ElementWeighted
    from cwmp.selectors.priced import PriceSelector
    from cwmp.selectors.refined import Refined, RefinedSelection
    from cwmp.selectors.value_types import ValueTypeChoice, best_value_type
    from cwmp.spending import PriceGrid, SpendReport, SpendTotal
    from cwmp.wire.values import as_sent

__all__ = [
    "BlockWeighted",
    "Budget",
    "BurstCosts",
    "BurstPrice",
    "BurstWeighted",
    "Channels",
    "ControllerState",
    "CostFile",
    "CostWeighted",
    "DecodedPayload",
    "Dense",
    "ElementCosts",
    "ElementWeighted",
    "ErrorFeedback",
    "Groups",
    "LayerPrice",
    "LayerSelection",
    "NofM",
    "PayloadLayout",
    "PredictedGain",
    "PriceController",
    "PriceGrid",
    "PriceSelector",
    "RandomK",
    "Refined",
    "RefinedSelection",
    "Selection",
    "SelectionCosts",
    "Selector",
    "SpendReport",
    "SpendTotal",
    "Tiles",
    "TopK",
    "ValueTypeChoice",
    "as_sent",
    "best_value_type",
    "captured_bound",
    "cost_spread",
    "decode",
    "encode",
    "fractional_knapsack_bound",
    "make_selector",
    "predict_gain",
]

_HOMES = {
    "costmodels.costfile": ("CostFile",),
    "cwmp.bounds": ("captured_bound", "cost_spread", "fractional_knapsack_bound"),
    "cwmp.budget": ("Budget",),
    "cwmp.codec": ("decode", "encode"),
    "cwmp.controller": ("PriceController",),
    "cwmp.controller_state": ("ControllerState",),
    "cwmp.feedback": ("ErrorFeedback",),
    "cwmp.gain": ("PredictedGain", "predict_gain"),
    "cwmp.payload": ("DecodedPayload", "PayloadLayout"),
    "cwmp.selection": ("LayerSelection", "Selection"),
    "cwmp.selectors": ("CostWeighted", "Dense", "RandomK", "TopK", "make_selector"),
    "cwmp.selectors.base": ("Selector",),
    "cwmp.selectors.block_shapes": ("Channels", "Groups", "NofM", "Tiles"),
    "cwmp.selectors.blocks": ("BlockWeighted",),
    "cwmp.selectors.burst_costs": ("BurstCosts", "BurstPrice"),
    "cwmp.selectors.bursts": ("BurstWeighted",),
    "cwmp.selectors.costs": ("LayerPrice", "SelectionCosts"),
    "cwmp.selectors.element_costs": ("ElementCosts",),
    "cwmp.selectors.element_weighted": ("ElementWeighted",),
    "cwmp.selectors.priced": ("PriceSelector",),
    "cwmp.selectors.refined": ("Refined", "RefinedSelection"),
    "cwmp.selectors.value_types": ("ValueTypeChoice", "best_value_type"),
    "cwmp.spending": ("PriceGrid", "SpendReport", "SpendTotal"),
    "cwmp.wire.values": ("as_sent",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
