"""fluke's FedAvg on a case of `fl_engines.py`; run by fluke's own Python.

fluke imports torchvision for its data sets, of which nothing is used here. Where the wheel of
torchvision was built for another torch its import fails, and a stand-in takes its place.
Timed by a callback at the end of each round: `run` ends with a second evaluation of everything.
"""

from __future__ import annotations

import sys
from unittest.mock import MagicMock

import torch

try:
    import torchvision  # noqa: F401
except Exception:
    PARTS = ("", ".datasets", ".models", ".transforms", ".transforms.functional", ".utils")
    sys.modules |= {f"torchvision{part}": MagicMock() for part in PARTS}

from fl_engines_common import (
    BATCH,
    CLASSES,
    LR,
    MOMENTUM,
    Case,
    accuracy,
    build,
    ended,
    images,
    round_ended,
)
from fluke import DDict, FlukeENV
from fluke.algorithms.fedavg import FedAVG
from fluke.data import DataSplitter, DummyDataContainer, FastDataLoader
from fluke.evaluation import ClassificationEval
from fluke.utils import FederationObserver
from torchmetrics import Accuracy


class Clock(FederationObserver):
    """Told of each round."""

    def end_round(self, round: int) -> None:
        round_ended()


def main() -> None:
    """Run the case that is named."""
    torch.set_num_threads(1)
    case = Case.load(sys.argv[1])
    shards, test = images(case)
    right = Accuracy(task="multiclass", num_classes=CLASSES, top_k=1)
    FlukeENV().set_evaluator(ClassificationEval(eval_every=1, n_classes=CLASSES, accuracy=right))
    FlukeENV().set_eval_cfg(pre_fit=False, post_fit=False, locals=False, server=True)
    loaders = [
        FastDataLoader(x, y, num_labels=CLASSES, batch_size=BATCH, shuffle=True) for x, y in shards
    ]
    tested = FastDataLoader(*test, num_labels=CLASSES, batch_size=len(test[1]))
    data = DummyDataContainer(loaders, [None] * len(loaders), tested, CLASSES)
    client = DDict(
        batch_size=BATCH,
        local_epochs=1,
        loss="CrossEntropyLoss",
        optimizer=DDict(name="SGD", lr=LR, momentum=MOMENTUM),
        scheduler=DDict(name="StepLR", step_size=1, gamma=1),
    )
    plan = DDict(model=build(case), client=client, server=DDict(weighted=True))
    algorithm = FedAVG(case.clients, DataSplitter(data), plan)
    algorithm.set_callbacks([Clock()])
    algorithm.run(case.rounds, 1.0)
    ended(accuracy(algorithm.server.model, *test))


if __name__ == "__main__":
    main()
