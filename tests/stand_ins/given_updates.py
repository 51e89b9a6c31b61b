"""A trainer whose updates are given, so that what a method makes of them can be followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cwmp.fl.algorithms import build_method
from cwmp.fl.algorithms.base import Algorithm, ClientTask, Memory, Upload
from cwmp.fl.algorithms.setting import Setting
from cwmp.fl.training import LocalResult, ModelState
from cwmp.payload import PayloadLayout
from cwmp.selectors.costs import LayerPrice, SelectionCosts

SHAPES: Mapping[str, tuple[int, ...]] = {"a": (12, 10), "a.bias": (12,), "b": (6, 12)}
Update = Mapping[str, np.ndarray]


def priced(shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> SelectionCosts:
    """Prices with fixed charges, bytes, and a dense form that pays at high density."""
    layers = tuple(
        LayerPrice(
            name,
            shape,
            (1,),
            (2e-8,),
            (4e-9 * (1 + 3 * (number % 2)),),
            dense_j=2e-8 + 1e-9 * int(np.prod(shape)),
            byte_j=1e-9,
        )
        for number, (name, shape) in enumerate(shapes.items())
    )
    return SelectionCosts(layers, 2e-8)


def linear(shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> SelectionCosts:
    """c k and nothing else, c from 1 to 4."""
    marginal = {name: 1.0 + 3 * (number % 2) for number, name in enumerate(shapes)}
    return SelectionCosts.linear(shapes, marginal)


def updates(rounds: int, seed: int = 0, scale: float = 0.01) -> list[Update]:
    draw = np.random.default_rng(seed)
    return [
        {n: (scale * draw.standard_normal(s)).astype(np.float32) for n, s in SHAPES.items()}
        for _ in range(rounds)
    ]


@dataclass
class GivenTrainer:
    """Training gives the next of *given*; where it started is written down."""

    given: Sequence[Update]
    starts: list[ModelState] = field(default_factory=list)

    def train(self, state: ModelState, *_: Any, **__: Any) -> LocalResult:
        self.starts.append(state)
        delta = {name: array.copy() for name, array in self.given[len(self.starts) - 1].items()}
        return LocalResult(delta, {}, (1,), 0.0)


@dataclass(frozen=True)
class Sent:
    """A client's rounds: uploads, and what waits in its memory after each."""

    uploads: list[Upload]
    memories: list[Memory]
    starts: list[ModelState]


def setting(costs: SelectionCosts, share: float = 0.2, **values: Any) -> Setting:
    layout = PayloadLayout({layer.name: layer.shape for layer in costs.layers})
    return Setting(costs, layout, share * costs.dense_j, **values)


def method_of(text: str, costs: SelectionCosts, share: float = 0.2, **values: Any) -> Algorithm:
    return build_method(text, setting(costs, share, **values))


def zero_state() -> ModelState:
    return ModelState({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}, {})


def follow(method: Algorithm, given: Sequence[Update], seed: int = 0) -> Sent:
    """One client's rounds with the updates *given*, from the same state each time."""
    trainer = GivenTrainer(given)
    done = Sent([], [], trainer.starts)
    memory: Memory = {}
    for number in range(1, len(given) + 1):
        task = ClientTask(
            zero_state(),
            torch.zeros(4, 1),
            torch.zeros(4, dtype=torch.int64),
            order=np.random.default_rng(0),
            draws=np.random.default_rng([seed, number]),
            round=number,
            memory=memory,
        )
        upload = method.client(trainer, task)  # type: ignore[arg-type]
        memory = upload.memory
        done.uploads.append(upload)
        done.memories.append(memory)
    return done


def arrived(method: Algorithm, upload: Upload) -> dict[str, np.ndarray]:
    """What an upload adds, as whole layers in float64."""
    whole = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for layer in method.read(upload).content.layers:
        whole[layer.name].reshape(-1)[layer.indices] = layer.values
    return whole
