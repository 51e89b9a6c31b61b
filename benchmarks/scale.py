"""What a federated round costs as clients, parameters and rounds grow: seconds and memory.

    python benchmarks/scale.py                 everything, some ten minutes
    python benchmarks/scale.py clients         one of: clients, parameters, rounds

Every row is measured in a process of its own, so that its peak memory is its own. Data and
updates are drawn from a normal and a Laplace distribution; costs are linear and made up, which
no time here depends on.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import numpy as np

CLIENTS = (10, 100, 1_000, 10_000)
PARAMETERS = (10**5, 10**6, 10**7, 10**8)
ROUNDS = (10, 100, 1_000)
EXAMPLES = 32
SHARE = 0.01


def peak_bytes() -> int:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _federation(clients: int, rounds: int, model: str = "mlp"):
    import torch

    from cwmp.fl.models import build_model
    from cwmp.fl.rounds import Federation
    from cwmp.fl.training import LocalPlan, Trainer

    torch.set_num_threads(1)
    numbers = np.random.default_rng(0)
    pool = torch.from_numpy(numbers.normal(size=(1_000, 1, 8, 8)).astype(np.float32))
    labels = torch.arange(1_000) % 10
    trainer = Trainer(build_model(model, (1, 8, 8)), LocalPlan(batch_size=EXAMPLES, lr=0.01))
    # clients share a pool of examples: what grows is their number, not the data
    starts = [(31 * client) % (1_000 - EXAMPLES) for client in range(clients)]
    shards = tuple((pool[s : s + EXAMPLES], labels[s : s + EXAMPLES]) for s in starts)
    return Federation(trainer, trainer.state(), shards, (pool[:200], labels[:200]), rounds, 0)


def _method(federation, text: str):
    from cwmp.fl.algorithms import make_algorithm
    from cwmp.payload import PayloadLayout
    from cwmp.selectors.costs import SelectionCosts

    shapes = {layer.name: layer.shape for layer in federation.trainer.layers}
    costs = SelectionCosts.linear(shapes, dict.fromkeys(shapes, 1e-9))
    budget_j = costs.dense_j * (1 if text == "dense" else 0.1)
    return make_algorithm(text, costs, PayloadLayout(shapes), budget_j)


def clients_row(clients: int, method: str, together: int) -> dict[str, float]:
    """A round of *clients* clients of 32 examples each."""
    from cwmp.fl.engines.local import LocalEngine

    rounds = 3 if clients < 10_000 else 2
    federation = _federation(clients, rounds)
    run = LocalEngine(together=together).run(federation, _method(federation, method))
    warm = _federation(10, 1)
    list(LocalEngine(together=together).run(warm, _method(warm, method)))  # compiles
    before, times = peak_bytes(), []
    started = time.perf_counter()
    for _ in run:
        times.append(time.perf_counter() - started)
        started = time.perf_counter()
    seconds = min(times)
    return {"seconds": seconds, "per_client": seconds / clients, "grown": peak_bytes() - before}


def rounds_row(rounds: int) -> dict[str, float]:
    """A round of ten clients in a run of *rounds*."""
    from cwmp.fl.engines.local import LocalEngine

    federation = _federation(10, rounds)
    run = LocalEngine(together=10).run(federation, _method(federation, "cwmp+ef"))
    next(run)
    before, started = peak_bytes(), time.perf_counter()
    for _ in run:
        pass
    seconds = (time.perf_counter() - started) / (rounds - 1)
    return {"seconds": seconds, "grown": peak_bytes() - before}


def parameters_row(parameters: int) -> dict[str, float]:
    """One client's select and encode, and the server's decode and average of four uploads."""
    from cwmp.codec import decode, encode
    from cwmp.fl.aggregate import average
    from cwmp.payload import PayloadLayout
    from cwmp.selectors import CostWeighted
    from cwmp.selectors.costs import SelectionCosts

    layers = 20
    shapes = {f"layer{number}": (parameters // layers,) for number in range(layers)}
    numbers = np.random.default_rng(0)
    update = {name: numbers.laplace(size=s).astype(np.float32) for name, s in shapes.items()}
    marginal = {name: 1e-9 * (1 + number) for number, name in enumerate(shapes)}
    costs, layout = SelectionCosts.linear(shapes, marginal), PayloadLayout(shapes)
    before = peak_bytes()
    selector = CostWeighted(costs)
    steps: dict[str, float] = {}

    def timed(name, work):
        found = []
        for _ in range(3):
            started = time.perf_counter()
            result = work()
            found.append(time.perf_counter() - started)
        steps[name] = min(found)
        return result

    selection = timed("select", lambda: selector.select(update, SHARE * costs.dense_j))
    payload = timed("encode", lambda: encode(selection.layers, layout))
    decoded = timed("decode", lambda: decode(payload, layout))
    timed("average", lambda: average([(decoded, 1)] * 4, layout, costs))
    return {**steps, "bytes": len(payload), "grown": peak_bytes() - before}


ROWS = {"clients": clients_row, "rounds": rounds_row, "parameters": parameters_row}


def measured(kind: str, *arguments: object) -> dict[str, float]:
    """One row, from a process of its own."""
    command = [sys.executable, __file__, "row", kind, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    """Print the tables that were asked for."""
    wanted = sys.argv[1:] or ["clients", "parameters", "rounds"]
    if "clients" in wanted:
        print("\n| clients | method | trained | s a round | ms a client | memory grown, MB |")
        print("|---|---|---|---|---|---|")
        for clients in CLIENTS:
            ways = (("dense", 0), ("dense", 100), ("topk", 100), ("topk+ef", 100))
            for method, together in ways[1:3] if clients == max(CLIENTS) else ways:
                row = measured("clients", clients, method, together)
                how = f"{together} together" if together else "one by one"
                print(
                    f"| {clients:,} | {method} | {how} | {row['seconds']:.3g} | "
                    f"{1e3 * row['per_client']:.3g} | {row['grown'] / 1e6:.0f} |",
                    flush=True,
                )
    if "parameters" in wanted:
        heads = "parameters | select, ms | encode | decode | average of 4 | payload, kB | grown, MB"
        print(f"\n| {heads} |")
        print("|---|---|---|---|---|---|---|")
        for parameters in PARAMETERS:
            row = measured("parameters", parameters)
            cells = [f"{1e3 * row[name]:.3g}" for name in ("select", "encode", "decode", "average")]
            print(
                f"| {parameters:,} | {' | '.join(cells)} | {row['bytes'] / 1e3:.0f} | "
                f"{row['grown'] / 1e6:.0f} |",
                flush=True,
            )
    if "rounds" in wanted:
        print("\n| rounds | ms a round | memory grown, MB |\n|---|---|---|")
        for rounds in ROUNDS:
            row = measured("rounds", rounds)
            print(
                f"| {rounds:,} | {1e3 * row['seconds']:.3g} | {row['grown'] / 1e6:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["row"]:
        print(json.dumps(ROWS[sys.argv[2]](*json.loads(sys.argv[3]))))
    else:
        main()
