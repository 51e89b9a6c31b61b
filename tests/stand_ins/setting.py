"""A setting of a tiny model, for tests of one method's mathematics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cwmp.fl.algorithms.setting import Setting
from cwmp.fl.models import build_model
from cwmp.fl.training import LocalPlan, Trainer
from cwmp.payload import PayloadLayout
from cwmp.selectors.costs import SelectionCosts
from stand_ins.cost_files import cost_file
from stand_ins.federations import SHAPE


def small_trainer(model: str = "mlp", seed: int = 0, **plan: Any) -> Trainer:
    """*model* for 8x8 images, made ready."""
    return Trainer(build_model(model, SHAPE, seed=seed), LocalPlan(**{"lr": 0.02, **plan}))


def small_setting(trainer: Trainer, budget: float = 1.0, **values: Any) -> Setting:
    """A setting for *trainer* at *budget* of the dense cost; *values* replace its own."""
    costs = SelectionCosts.from_cost_file(
        cost_file(trainer.layers), trainer.layers, buffer_entries=trainer.buffer_entries
    )
    buffers = {name: array.shape for name, array in trainer.state().buffers.items()}
    layout = PayloadLayout({layer.name: layer.shape for layer in trainer.layers}, buffers)
    setting = Setting(costs, layout, budget * costs.dense_j, plan=trainer.plan)
    return replace(setting, **values)
