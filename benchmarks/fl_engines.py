"""Seconds a round of the same job: Flower's simulation, fluke, a plain loop and the local engine.

One command, at most 9 minutes on two quiet cores (leave ``--fluke-python`` out where there is no
fluke)::

    python benchmarks/fl_engines.py --fluke-python fluke/bin/python

fluke pins versions of its own, so it gets an environment of its own
(``python -m venv fluke && fluke/bin/pip install fluke-fl``); where the torchvision that comes with
it was built for another torch, a stand-in takes its place: nothing of it is used.

Every row has the same made-up images and shares of them, normalised alike, the same model with
the same first weights, one epoch of SGD with momentum in batches of 32, a mean weighted by
examples, and one evaluation on 500 images a round; one thread a process. The accuracy after the
last round is printed to show that (fluke's clients keep their momentum between rounds). Rows:

- Flower, tutorial: Flower's Message API, `FedAvg` and simulation on Ray with one core a client,
  around the plain loop's training code; what a client trains on is cached in its process.
- Flower, our apps: the same simulation with this project's apps.
- fluke: its `FedAVG`, with accuracy as the only metric.
- plain loop: a `for` over clients around that training code.
- ours: `LocalEngine` in one process, with two workers, and (perceptrons alone) 100 clients
  trained together; "dense" sends the whole model as float32, encoded and decoded.

Each row is run in a process of its own, and all rows once before any a second time, forwards and
backwards in turn. "start" is from the launch of the process to the end of its first round;
seconds a round are of the rounds after it, over all repeats.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import numpy as np
from fl_engines_common import CLASSES, MODELS, TESTED, Case

from cwmp.fl.data import load_data
from cwmp.fl.engines.flower_home import Programs, quiet_environment
from cwmp.fl.partition import dirichlet_partition

HERE = Path(__file__).parent
FLOWER = "Flower, tutorial"
ROWS = (FLOWER, "Flower, our apps", "fluke", "plain loop", "ours", "ours, 2 workers")
TOGETHER = "ours, 100 together"
CASES = (
    Case("lenet", 20, 500, 1e6, 4, ""),
    Case("mlp", 100, 66, 3.0, 4, ""),
)
LIMIT_S = 120.0
"""A row that takes longer is given up."""


@dataclass
class Row:
    """What was seen of one row of one case, over its repeats."""

    starts_s: list[float] = field(default_factory=list)
    rounds_s: list[float] = field(default_factory=list)
    accuracy: float = 0.0


Table = dict[str, Row]


def main() -> None:
    """Run every row of every case, again and again, and print what came of it."""
    options = _options()
    began_s = time.monotonic()
    print(machine(options.fluke_python), flush=True)
    with tempfile.TemporaryDirectory(prefix="engines-") as name:
        folder = Path(name)
        environment = quiet_environment(folder / "home") | {"PYTHONPATH": str(HERE)}
        cases = [prepared(case, folder, options) for case in CASES]
        tables: list[Table] = [defaultdict(Row) for _ in cases]
        costs: dict[tuple[int, int], list[float]] = defaultdict(list)
        for repeat in range(options.repeats):
            repeat_s = time.monotonic()
            for case, table in zip(cases, tables, strict=True):
                rows = _rows(case, options)
                for row in rows if repeat % 2 == 0 else rows[::-1]:
                    run(row, case, table, options, environment)
            for clients, together, cost_ms in scale(cases[1], environment):
                costs[clients, together].append(cost_ms)
            now_s = time.monotonic()
            print(f"repeat {repeat + 1} of {options.repeats}: {now_s - repeat_s:.0f} s", flush=True)
            if now_s - began_s + (now_s - repeat_s) > 60 * options.minutes:
                break
    for case, table in zip(cases, tables, strict=True):
        show(case, table)
    show_scale(costs)
    print(f"\nload average {os.getloadavg()[0]:.2f}, {time.monotonic() - began_s:.0f} s in all")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Seconds a round, by engine.")
    parser.add_argument("--fluke-python", help="a Python that has fluke")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, help="of one run; the first warms up")
    parser.add_argument("--clients", type=int, help="at most so many: a quick look")
    parser.add_argument("--minutes", type=float, default=9.0, help="no repeat starts that is over")
    parser.add_argument("--only", action="append", help="a row; may be given again")
    return parser.parse_args()


def _rows(case: Case, options: argparse.Namespace) -> tuple[str, ...]:
    rows = (*ROWS, TOGETHER) if case.model == "mlp" else ROWS
    return tuple(row for row in rows if not options.only or row in options.only)


def machine(fluke_python: str | None) -> str:
    """Versions, cores and load."""
    cores = len(os.sched_getaffinity(0))
    found = [f"Python {sys.version.split()[0]}"]
    for name in ("torch", "numpy", "flwr", "ray", "cwmp"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    if fluke_python:
        ask = "from importlib.metadata import version as v; print(v('fluke-fl'), v('torch'))"
        done = subprocess.run([fluke_python, "-c", ask], capture_output=True, text=True)
        found.append("fluke {} with torch {}".format(*(done.stdout.split() or ("?", "?"))))
    loads = " ".join(f"{load:.2f}" for load in os.getloadavg())
    return f"{', '.join(found)}; {_processor()}, {cores} cores, load average {loads}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def prepared(case: Case, folder: Path, options: argparse.Namespace) -> Case:
    """The case with its images and their shares as files."""
    clients = min(case.clients, options.clients or case.clients)
    mine = folder / case.model
    mine.mkdir()
    case = replace(
        case, clients=clients, rounds=options.rounds or case.rounds, folder=str(mine.absolute())
    )
    draws = np.random.default_rng(0)
    marks = draws.integers(0, 128, (CLASSES, 32, 32, 3), dtype=np.uint8)
    arrays = {}
    for name, count in (("train", clients * case.images), ("test", TESTED)):
        labels = np.arange(count) % CLASSES
        noise = draws.integers(0, 128, (count, 32, 32, 3), dtype=np.uint8)
        arrays |= {f"x_{name}": noise + marks[labels], f"y_{name}": labels}
    np.savez(mine / "images.npz", **arrays)
    data = load_data(f"cifar10:{mine}/images.npz")
    for name in ("x", "y"):
        np.save(mine / f"{name}.npy", getattr(data, f"{name}_train"))
        np.save(mine / f"t{name}.npy", getattr(data, f"{name}_test"))
    parts = dirichlet_partition(data.y_train, clients, case.alpha, 0)
    np.savez(mine / "parts.npz", **{f"{client:06}": part for client, part in enumerate(parts)})
    case.save(mine / "case.json")
    sizes = [len(part) for part in parts]
    size = sum(p.numel() for p in MODELS[case.model]().parameters())
    print(
        f"{case.model} of {size} parameters: {clients} clients of {min(sizes)} to {max(sizes)} "
        f"images, {case.rounds} rounds a run"
    )
    return case


def run(
    row: str,
    case: Case,
    table: Table,
    options: argparse.Namespace,
    environment: Mapping[str, str],
) -> None:
    """Run one row once and enter what it says; a line says so where it cannot be run."""
    if row == "fluke" and not options.fluke_python:
        if row not in table:
            print("fluke: skipped; --fluke-python names a Python that has it")
        table[row] = Row()
        return
    began_s = time.monotonic()
    said = launch(row, case, options.fluke_python, environment)
    ends = [float(words[1]) for words in said if words[0] == "ROUND"]
    if len(ends) != case.rounds or said[-1][0] != "ACCURACY":
        return
    table[row].starts_s.append(ends[0] - began_s)
    table[row].rounds_s.extend(np.diff(ends).tolist())
    table[row].accuracy = float(said[-1][1])


def launch(
    row: str, case: Case, fluke_python: str | None, environment: Mapping[str, str]
) -> list[list[str]]:
    """What a row's process prints, in words; nothing of one that fails."""
    path = f"{case.folder}/case.json"
    command = [sys.executable, str(HERE / "fl_engines_rows.py"), row, path]
    if row == "fluke":
        command = [fluke_python or "", str(HERE / "fl_engines_fluke.py"), path]
    with tempfile.TemporaryDirectory() as name, Programs() as programs:
        try:
            program = programs.start("row", command, Path(name), environment)
            code = program.process.wait(timeout=LIMIT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{row}: failed: {error}")
            return []
        if code:
            print(f"{row}: failed: {program.last_words()}")
            return []
        lines = program.log.read_text().splitlines()
    return [line.split() for line in lines if line.startswith(("ROUND", "ACCURACY", "COST"))]


def scale(case: Case, environment: Mapping[str, str]) -> list[tuple[int, int, float]]:
    """(clients, trained together, milliseconds a client and round) of the local engine."""
    said = launch("scale", case, None, environment)
    return [(int(w[1]), int(w[2]), float(w[3])) for w in said if w[0] == "COST"]


def show(case: Case, table: Table) -> None:
    """One line a row, beside Flower's tutorial."""
    rounds = len(table[FLOWER].rounds_s)
    base = median(table[FLOWER].rounds_s) if rounds else float("nan")
    print(
        f"\n{case.clients} clients x {case.images} images, {case.model}\n"
        f"{'row':20} {'start s':>7} {'round s':>8} {'min':>7} {'max':>7} {'n':>3} "
        f"{'x Flower':>8} {'accuracy':>8}"
    )
    for name, row in table.items():
        if not row.rounds_s:
            continue
        middle = median(row.rounds_s)
        print(
            f"{name:20} {median(row.starts_s):7.1f} {middle:8.3f} {min(row.rounds_s):7.3f} "
            f"{max(row.rounds_s):7.3f} {len(row.rounds_s):3} {base / middle:8.2f} "
            f"{100 * row.accuracy:6.1f} %"
        )


def show_scale(costs: Mapping[tuple[int, int], Sequence[float]]) -> None:
    """One line a number of clients."""
    if not costs:
        return
    print("\nours, by clients: 64-128-64-10 perceptrons, 66 examples each; ms a client and round")
    print(f"{'clients':>7} {'together':>8} {'median':>8} {'min':>8} {'max':>8}")
    for (clients, together), found in sorted(costs.items(), key=lambda item: item[0][::-1]):
        print(
            f"{clients:7} {together or 'no':>8} {median(found):8.3f} {min(found):8.3f} "
            f"{max(found):8.3f}"
        )


if __name__ == "__main__":
    main()
