"""Small federated jobs with made-up costs, for tests that run one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cwmp.fl.data import Dataset, input_spec
from cwmp.fl.job import Job
from cwmp.fl.models import build_model
from profiler.layers import layers_of
from stand_ins.cost_files import cost_file

SHAPE = (1, 8, 8)


def small_data(examples: int = 60, classes: int = 10) -> Dataset:
    """Images that carry their label in their mean: easy to learn, quick to train on."""
    generator = np.random.default_rng(0)
    labels = np.arange(examples, dtype=np.int64) % classes
    images = generator.normal(size=(examples, *SHAPE)) + labels[:, None, None, None]
    images = images.astype(np.float32)
    return Dataset(images, labels, images[:20], labels[:20], classes)


def save_costs(folder: Path, model: str = "mlp", name: str = "costs.json", **kwargs: Any) -> Path:
    """A cost file of *model* on digits; *kwargs* as for `cost_file`."""
    path = folder / name
    shape, classes = input_spec("digits")
    cost_file(layers_of(build_model(model, shape, classes)), **kwargs).save(path, force=True)
    return path


def small_job(folder: Path, **values: Any) -> Job:
    """A job of 4 clients and 2 rounds of an MLP on digits; *values* replace its own."""
    model = values.get("model", "mlp")
    job = {
        "method": "topk",
        "budget": "100%" if str(values.get("method", "")).startswith("dense") else "50%",
        "model": model,
        "clients": 4,
        "alpha": 5.0,
        "rounds": 2,
        "batch_size": 64,
        "lr": 0.02,
        "devices": ({"name": "board", "costs": save_costs(folder, model)},),
    }
    return Job.parse(**{**job, **values})
