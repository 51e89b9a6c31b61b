"""What every row of `fl_engines.py` shares: models, images, training, evaluation; torch alone.

Nothing of this project is imported, so that another environment can run the same code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH, LR, MOMENTUM = 32, 0.02, 0.5
CLASSES, TESTED = 10, 500


@dataclass(frozen=True)
class Case:
    """A federated job of made-up images of CIFAR's shape.

    Attributes:
        model: of `MODELS`.
        clients: how many.
        images: a client's, on average.
        alpha: the Dirichlet concentration of their labels; large ones deal alike.
        rounds: of one run; the first warms up.
        folder: where the images lie, as files.
    """

    model: str
    clients: int
    images: int
    alpha: float
    rounds: int
    folder: str

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: str) -> Case:
        """From JSON."""
        return cls(**json.loads(Path(path).read_text()))


def lenet() -> nn.Module:
    """Two 5x5 convolutions and three linear layers: 62 006 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, CLASSES),
    )


def mlp() -> nn.Module:
    """One hidden layer of 16: 49 338 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.ReLU(), nn.Linear(16, CLASSES))


MODELS = {"lenet": lenet, "mlp": mlp}


def build(case: Case) -> nn.Module:
    """The case's model with the weights from which every row starts."""
    torch.manual_seed(0)
    return MODELS[case.model]()


@lru_cache(maxsize=1)
def images(case: Case) -> tuple[tuple[tuple[Tensor, Tensor], ...], tuple[Tensor, Tensor]]:
    """(x, y) of each client, and of the test set; float32, normalised."""
    folder = Path(case.folder)
    x, y, tx, ty = (
        torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("x", "y", "tx", "ty")
    )
    with np.load(folder / "parts.npz") as parts:
        picked = [torch.from_numpy(parts[f"{client:06}"]) for client in range(case.clients)]
    return tuple((x[part], y[part]) for part in picked), (tx, ty)


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """One epoch of SGD, as tutorials write it; batches are indexed, which is faster than a
    `DataLoader`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    model.train()
    for part in torch.randperm(len(y)).split(BATCH):
        optimizer.zero_grad()
        functional.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of right answers."""
    model.eval()
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def averaged(states: list[Mapping[str, np.ndarray]], weights: list[int]) -> dict[str, np.ndarray]:
    """The weighted mean of states, in NumPy."""
    total = sum(weights)
    return {
        name: sum(state[name] * (n / total) for state, n in zip(states, weights, strict=True))
        for name in states[0]
    }


def round_ended() -> None:
    """Tell the parent; the monotonic clock is the machine's, not the process's."""
    print("ROUND", time.monotonic(), flush=True)


def ended(share: float) -> None:
    """Tell the parent how well the last model does."""
    print("ACCURACY", share, flush=True)
