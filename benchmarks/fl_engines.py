"""The same federated round in Flower's simulation, fluke and this project's engines, in one run.

Made-up images; every engine trains the same model by the same plan on shares of equal size,
and the median seconds a round over *repeats* measured rounds are compared, the first round and
the start left out of them and shown apart. A peer that is not installed is left out::

    pip install 'cwmp[flower]'           # Flower and Ray
    python -m venv fluke && fluke/bin/pip install fluke-fl    # pins of its own
    python benchmarks/fl_engines.py --fluke fluke/bin/python

Flower is timed twice: its own averaging of whole models (NumPy arrays there and back, what its
tutorials do), and the apps of this project. `--only scale` times the cost per client of the local
engine from 10 to 1,000 clients. Timings of a shared machine are upper bounds: repeat on a quiet one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

ROUNDS = 4
FLUKE = """
import json, sys, time
import numpy as np, torch
torch.set_num_threads(1)
from torch import nn
from torch.utils.data import TensorDataset
{model}
from fluke.algorithms.fedavg import FedAVG
from fluke.data import DataSplitter
from fluke.data.datasets import DatasetContainer if False else None
"""


@dataclass(frozen=True)
class Case:
    """A federated job of made-up images."""

    name: str
    model: str
    shape: tuple[int, int, int]
    clients: int
    images: int
    batch: int = 32


CASES = (
    Case("20 clients x 500 images, LeNet", "lenet", (3, 32, 32), 20, 500),
    Case("100 clients x 20 images, MLP", "mlp", (1, 8, 8), 100, 20),
)
