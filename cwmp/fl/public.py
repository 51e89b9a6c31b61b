"""A public set: training examples that everybody has, taken out before clients are dealt theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cwmp.fl.data import Dataset
from profiler.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_STREAM = 0x9B11


def set_aside(data: Dataset, count: int, seed: int) -> tuple[Dataset, tuple[Tensor, Tensor] | None]:
    """*data* without *count* training examples drawn at random, and those examples.

    Returns:
        The data left for clients, and (x, y) of the public set; ``None`` where *count* is 0.

    Raises:
        InputError: fewer than *count* + 1 training examples.
    """
    import torch

    if not count:
        return data, None
    if count >= len(data.y_train):
        raise InputError(
            f"a public set of {count} leaves nothing of {len(data.y_train)} training examples"
        )
    order = np.random.default_rng([seed, _STREAM]).permutation(len(data.y_train))
    public, private = np.sort(order[:count]), np.sort(order[count:])
    left = replace(data, x_train=data.x_train[private], y_train=data.y_train[private])
    return left, (
        torch.from_numpy(data.x_train[public]),
        torch.from_numpy(data.y_train[public]),
    )
