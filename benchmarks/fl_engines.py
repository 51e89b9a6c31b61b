"""Seconds a round of the same job in Flower's simulation, fluke and the local engine.

Made-up images. Each engine trains the same model by the same plan; the median over the rounds
after the first is compared, and the first (with whatever starts) is shown apart. Peers that are
not installed are left out; fluke pins versions of its own, so it gets an environment of its own::

    python -m venv fluke && fluke/bin/pip install fluke-fl
    python benchmarks/fl_engines.py --fluke fluke/bin/python

Flower runs this project's apps on Ray, one actor a core. fluke splits iid and evaluates once a
round, as the others do. Timings of a shared machine are upper bounds: repeat on a quiet one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

FLUKE = """
import sys, time
from unittest.mock import MagicMock
import numpy as np, torch
try:
    import torchvision
except Exception:  # built for another torch; nothing of it is used here
    sys.modules |= {"torchvision" + part: MagicMock() for part in
        ("", ".datasets", ".models", ".transforms", ".transforms.functional", ".utils")}
torch.set_num_threads(1)
from torch import nn
from fluke import DDict, FlukeENV
from fluke.algorithms.fedavg import FedAVG
from fluke.data import DataContainer, DataSplitter
from fluke.evaluation import ClassificationEval
FlukeENV().set_evaluator(ClassificationEval(eval_every=1, n_classes=10))
path, model, clients, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
d = {k: torch.from_numpy(v) for k, v in np.load(path).items()}
x, y, tx, ty = (d[k] for k in ("x_train", "y_train", "x_test", "y_test"))
x, tx = (a.permute(0, 3, 1, 2).float() / 255 for a in (x, tx))
net = (nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
    nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
    nn.Linear(84, 10)) if model == "lenet" else
    nn.Sequential(nn.Flatten(), nn.Linear(3072, 32), nn.ReLU(), nn.Linear(32, 10)))
optimizer = DDict(name="SGD", lr=0.02, momentum=0.5)
hp = DDict(model=net, client=DDict(batch_size=32, local_epochs=1, loss="CrossEntropyLoss",
    optimizer=optimizer, scheduler=DDict(name="StepLR", step_size=1, gamma=1)),
    server=DDict(weighted=True))
alg = FedAVG(clients, DataSplitter(DataContainer(x, y.long(), tx, ty.long(), 10)), hp)
for _ in range(rounds):
    start = time.perf_counter()
    alg.run(1, 1.0, finalize=False)
    print("ROUND", time.perf_counter() - start, flush=True)
"""


@dataclass(frozen=True)
class Case:
    """A federated job: made-up images of CIFAR's shape, dealt alike."""

    model: str
    clients: int
    images: int

    def __str__(self) -> str:
        return f"{self.clients} clients x {self.images} images, {self.model}"


CASES = (Case("lenet", 20, 500), Case("mlp", 100, 50))


def main() -> None:
    """Compare the engines on each case, then time ours by the number of clients."""
    parser = argparse.ArgumentParser(description="Seconds a round, by engine.")
    parser.add_argument("--fluke", help="a Python that has fluke")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, help="replace the number of clients: a quick look")
    parser.add_argument("--skip-flower", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            case = Case(case.model, options.clients or case.clients, case.images)
            compare(case, Path(folder), options)
        print("\ncost per client of the local engine, mlp, 50 images each")
        for clients in (10, 100, 1000):
            times = ours(Case("mlp", clients, 50), Path(folder), 2, 0)
            print(f"{clients:6} clients  {1e3 * times[-1] / clients:8.3f} ms a client and round")


def compare(case: Case, folder: Path, options: argparse.Namespace) -> None:
    """Print one row an engine."""
    rows = {f"local, {w} workers": ours(case, folder, options.rounds, w) for w in (0, 2)}
    if find_spec("flwr") and find_spec("ray") and not options.skip_flower:
        rows["Flower's simulation"] = ours(case, folder, options.rounds, None)
    if options.fluke:
        rows["fluke"] = fluke(case, folder, options)
    base = median(rows["local, 2 workers"][1:])
    print(
        f"\n{case}, {options.rounds} rounds\n"
        "engine                first s  median s  min-max s      x"
    )
    for name, times in rows.items():
        rest = times[1:]
        if rest:
            spread = f"{min(rest):.2f}-{max(rest):.2f}"
            print(
                f"{name:20} {times[0]:8.2f} {median(rest):9.3f}  {spread:12} "
                f"{median(rest) / base:5.2f}"
            )


def images(case: Case, folder: Path) -> Path:
    """The made-up images as a file that all engines read."""
    path = folder / f"{case.clients}x{case.images}.npz"
    if not path.exists():
        draws = np.random.default_rng(0)
        count = case.clients * case.images
        np.savez(
            path,
            x_train=draws.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
            y_train=np.arange(count) % 10,
            x_test=draws.integers(0, 256, (500, 32, 32, 3), dtype=np.uint8),
            y_test=np.arange(500) % 10,
        )
    return path


def ours(case: Case, folder: Path, rounds: int, workers: int | None) -> list[float]:
    """Seconds of each round, by the local engine or (``None``) by Flower."""
    from stand_ins.cost_files import cost_file

    from cwmp.fl.data import input_spec
    from cwmp.fl.engines import LocalEngine, make_engine
    from cwmp.fl.job import Job
    from cwmp.fl.models import build_model
    from profiler.layers import layers_of

    data = f"cifar10:{images(case, folder)}"
    shape, classes = input_spec(data)
    costs = folder / f"{case.model}.json"
    cost_file(layers_of(build_model(case.model, shape, classes))).save(costs, force=True)
    job = Job.parse(
        method="dense",
        data=data,
        model=case.model,
        clients=case.clients,
        alpha=1e6,
        rounds=rounds,
        lr=0.02,
        momentum=0.5,
        devices=({"name": "made up", "costs": costs},),
    )
    ready = job.prepare()
    engine = make_engine("flower", job) if workers is None else LocalEngine(workers)
    federation, team = ready.federation, ready.team
    times, start = [], time.perf_counter()
    for _ in engine.run(federation, team):
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    return times


def fluke(case: Case, folder: Path, options: argparse.Namespace) -> list[float]:
    """Seconds of each round of fluke's FedAvg."""
    script = folder / "run_fluke.py"
    script.write_text(FLUKE)
    command = [options.fluke, str(script), str(images(case, folder)), case.model]
    command += [str(case.clients), str(options.rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print("fluke failed:", json.dumps(done.stderr.strip().splitlines()[-1:]))
    return [float(x.split()[1]) for x in done.stdout.splitlines() if x.startswith("ROUND")]


if __name__ == "__main__":
    main()
