"""One row of `fl_engines.py` in a process of its own: ``python fl_engines_rows.py ROW CASE``.

Says ``ROUND`` and the time as each round ends, and ``ACCURACY`` at the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from fl_engines_common import Case, accuracy, averaged, build, ended, images, round_ended, train

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SIZES = {10: 12, 100: 6, 1000: 3}
"""Clients -> rounds of the row ``scale``, the first of which warms up."""


def plain(case: Case) -> None:
    """A loop over clients with one model, and a mean in NumPy."""
    shards, test = images(case)
    model = build(case)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(case.rounds):
        found = []
        for x, y in shards:
            model.load_state_dict(state)
            train(model, x, y)
            found.append({name: t.numpy().copy() for name, t in model.state_dict().items()})
        mean = averaged(found, [len(y) for _, y in shards])
        state = {name: torch.from_numpy(np.asarray(array)) for name, array in mean.items()}
        model.load_state_dict(state)
        share = accuracy(model, *test)
        round_ended()
    ended(share)


def flower(case: Case) -> None:
    """Flower's tutorial: its Message API, its FedAvg, its simulation with one core a client."""
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    client, server = ClientApp(), ServerApp()

    @client.train()
    def local(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        model = build(case)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        x, y = images(case)[0][int(context.node_config["partition-id"])]
        train(model, x, y)
        metrics = MetricRecord({"num-examples": len(y)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content=content, reply_to=message)

    shares = []

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        model = build(case)
        model.load_state_dict(arrays.to_torch_state_dict())
        shares.append(accuracy(model, *images(case)[1]))
        if number:
            round_ended()
        return MetricRecord({"accuracy": shares[-1]})

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=case.clients
        )
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(build(case).state_dict()),
            num_rounds=case.rounds,
            evaluate_fn=evaluate,
        )

    backend = {
        "client_resources": {"num_cpus": 1.0, "num_gpus": 0.0},
        "init_args": {"log_to_driver": False, "logging_level": "error"},
    }
    run_simulation(server, client, case.clients, backend_config=backend)
    ended(shares[-1])


def ours(case: Case, **options: Any) -> None:
    """The local engine."""
    from cwmp.fl.engines import LocalEngine

    job = _job(case)
    _run(job.prepare(), LocalEngine(**options))


def flower_ours(case: Case) -> None:
    """This project's apps in Flower's simulation, each client a node."""
    from cwmp.fl.engines.flower import FlowerEngine

    job = _job(case)
    _run(job.prepare(), FlowerEngine(job))


def _run(ready: Any, engine: Any) -> None:
    shares = []
    for record in engine.run(ready.federation, ready.team):
        round_ended()
        shares.append(record.accuracy)
    ended(shares[-1])


def _job(case: Case) -> Any:
    from fl_engines_common import BATCH, LR, MODELS, MOMENTUM
    from stand_ins.cost_files import cost_file

    from cwmp.fl.job import Job
    from profiler.layers import layers_of

    costs = Path(case.folder) / "costs.json"
    if not costs.exists():
        cost_file(layers_of(MODELS[case.model]())).save(costs)
    return Job.parse(
        method="dense",
        data=f"cifar10:{case.folder}/images.npz",
        model=f"fl_engines_common:{case.model}",
        clients=case.clients,
        alpha=case.alpha,
        rounds=case.rounds,
        batch_size=BATCH,
        lr=LR,
        momentum=MOMENTUM,
        devices=({"name": "made up", "costs": costs},),
    )


def scale(case: Case) -> None:
    """Milliseconds a client and round of the local engine, by the number of clients.

    64-128-64-10 perceptrons on 66 examples of 8x8 each, the case's own model aside.
    """
    from stand_ins.federations import save_costs

    from cwmp.fl.data import Dataset
    from cwmp.fl.engines import LocalEngine
    from cwmp.fl.job import Job

    costs = save_costs(Path(case.folder))
    draws = np.random.default_rng(0)
    for clients, rounds in SIZES.items():
        y = np.arange(66 * clients) % 10
        x = draws.normal(size=(len(y), 1, 8, 8)).astype(np.float32)
        x[:, 0, 0, 0] += y
        data = Dataset(x, y, x[:100], y[:100], 10)
        job = Job.parse(
            method="dense",
            model="mlp",
            clients=clients,
            alpha=1e6,
            rounds=rounds,
            devices=({"name": "made up", "costs": costs},),
        )
        ready = job.prepare(data)
        for together in (0, 100):
            ends = [time.monotonic()]
            for _ in LocalEngine(together=together).run(ready.federation, ready.team):
                ends.append(time.monotonic())
            cost_s = median(np.diff(ends)[1:]) / clients
            print("COST", clients, together, 1e3 * cost_s, flush=True)


ROWS: dict[str, Callable[[Case], None]] = {
    "Flower, tutorial": flower,
    "Flower, our apps": flower_ours,
    "plain loop": plain,
    "ours": ours,
    "ours, 2 workers": lambda case: ours(case, workers=2),
    "ours, 100 together": lambda case: ours(case, together=100),
    "scale": scale,
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    ROWS[sys.argv[1]](Case.load(sys.argv[2]))
