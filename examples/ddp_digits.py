"""Train on the digits with two gloo processes, dense and within a joule budget, side by side.

    python examples/ddp_digits.py
    python examples/ddp_digits.py --costs costs.json --model lenet --budget 80%

Without ``--costs`` the prices are predicted for the model from a recorded trace, whose joules
are modelled from CPU time. Sending over that host's loopback has a large charge for each
message, so that a budget of 85 % of the dense cost sends about a sixth of the entries.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from costmodels import fit_cost_model
from cwmp import Budget, CostFile
from cwmp.fl.data import load_data
from cwmp.fl.models import build_model
from cwmp.integrations.ddp import CwmpState, cwmp_hook
from device_traces import load
from profiler.errors import CwmpError
from profiler.layers import layers_of

RANKS = 2
TRACE = "amd-epyc-2core-vm/lenet-modelled"


def new_model(name: str) -> nn.Module:
    return build_model(name, (1, 8, 8), 10, seed=0)


def train(rank: int, options: argparse.Namespace, costs: Path, folder: str) -> None:
    """One rank: both runs in turn; rank 0 leaves what came of them in *folder*."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS)
    budgets = {"dense": "100%", f"cwmp {options.budget}": options.budget}
    results = {name: one_run(rank, options, costs, budget) for name, budget in budgets.items()}
    if rank == 0:
        (Path(folder) / "results.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def one_run(rank: int, options: argparse.Namespace, costs: Path, budget: str) -> dict[str, float]:
    """Train with the hook and say how it went; 100 % is all-reduce in every round."""
    data = load_data("digits")
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    model = new_model(options.model)
    ddp = DistributedDataParallel(model)
    steps = options.epochs * (len(x) // (options.batch * RANKS))
    start_after = steps if budget == "100%" else options.start_after
    state = CwmpState(model, CostFile.load(costs), budget, start_after=start_after)
    ddp.register_comm_hook(state, cwmp_hook)
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
    for step in range(steps):
        rows = torch.arange(options.batch) + options.batch * (RANKS * step + rank)
        optimizer.zero_grad()
        cross_entropy(ddp(x[rows % len(x)]), y[rows % len(y)]).backward()
        optimizer.step()
    with torch.no_grad():
        loss = cross_entropy(model(x), y).item()
        guesses = model(torch.from_numpy(data.x_test)).argmax(dim=1)
    right = (guesses == torch.from_numpy(data.y_test)).float().mean().item()
    return {
        "loss": loss,
        "accuracy": right,
        "bytes": state.bytes_sent,
        "energy_j": state.energy_j,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--costs", type=Path, help="a cost file of the model")
    parser.add_argument("--model", default="mlp", choices=("mlp", "lenet", "resnet8"))
    parser.add_argument(
        "--budget", default="85%", help="of one rank and round; default %(default)s"
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32, help="examples a rank and step")
    parser.add_argument("--lr", type=float, default=0.15)
    parser.add_argument("--start-after", type=int, default=0, help="dense rounds at the start")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = options.costs or Path(folder) / "costs.json"
        try:
            Budget.parse(options.budget)
            if options.costs is None:
                layers = layers_of(new_model(options.model))
                fit_cost_model([load(TRACE)], seed=0).predict(layers, options.model).save(costs)
            CwmpState(new_model(options.model), CostFile.load(costs), options.budget)
        except CwmpError as error:
            parser.error(str(error))
        torch.multiprocessing.spawn(train, (options, costs, folder), RANKS)
        results = json.loads((Path(folder) / "results.json").read_text())
    print(f"{'':12} {'loss':>7} {'accuracy':>9} {'bytes sent':>12} {'declared J':>11}   (a rank)")
    for name, run in results.items():
        print(
            f"{name:12} {run['loss']:7.4f} {100 * run['accuracy']:7.1f} % {run['bytes']:12,} "
            f"{run['energy_j']:11.4f}"
        )
    dense, budgeted = results.values()
    print(
        f"{'ratio':12} {'':7} {'':9} {budgeted['bytes'] / dense['bytes']:12.3f} "
        f"{budgeted['energy_j'] / dense['energy_j']:11.3f}"
    )


if __name__ == "__main__":
    main()
