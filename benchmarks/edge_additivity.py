"""From single convolutions to whole networks on an edge board.

    python benchmarks/edge_additivity.py --data FOLDER [--json FILE]

FOLDER holds NeurstrucEnergy's files (`edge_networks` says which). Convolutions are priced from
the single ones alone: non-negative least squares on relative error over calls, MACs and input,
output and weight bytes, grouped convolutions apart. A network is s times the sum of its
convolutions plus h for each of its other layers, s and h fitted to networks of other families;
further terms are offered (weight bytes of linear layers, bytes that other layers touch) and used
where leaving families out says so. Target: a median error of at most 10 %.

Beside it, to tell what the figure rests on: MACs alone in place of the convolutions' prices, and
the sizes as recorded in place of those that follow from the links.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from edge_networks import (
    Floats,
    Layer,
    Network,
    listed_networks,
    read_convolutions,
    read_networks,
)

from costmodels.estimators.relative import RelativeNNLS
from costmodels.evaluation.additivity import Additivity, fit_additivity
from costmodels.evaluation.scores import Metric, Scores

TARGET = 0.10
FEATURES = {
    "calls": "J/call",
    "macs": "J/MAC",
    "input_bytes": "J/byte",
    "output_bytes": "J/byte",
    "weight_bytes": "J/byte",
}
Predict = Callable[[Sequence[Layer]], Floats]


def features(layers: Iterable[Layer]) -> Floats:
    """One row a convolution, the columns of `FEATURES`."""
    rows = [[1.0, a.macs, a.input_bytes, a.output_bytes, a.weight_bytes] for a in layers]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(FEATURES))


def kinds(layers: Iterable[Layer]) -> list[str]:
    """``grouped`` (depthwise included) or ``conv``."""
    return ["grouped" if layer.groups > 1 else "conv" for layer in layers]


def fit_convolutions(layers: Sequence[Layer], energy_j: Floats) -> Predict:
    """Joules of convolutions by kind, from the single ones."""
    X, kind = features(layers), np.array(kinds(layers))
    models = {k: RelativeNNLS().fit(X[kind == k], energy_j[kind == k]) for k in np.unique(kind)}

    def predict(some: Sequence[Layer]) -> Floats:
        each, wanted = np.zeros(len(some)), np.array(kinds(some))
        for k, model in models.items():
            if (wanted == k).any():
                each[wanted == k] = model.predict(features(some)[wanted == k])
        return each

    return predict


def _macs_alone(layers: Sequence[Layer]) -> Floats:
    """Joules by MACs, in a unit that the scale absorbs."""
    return np.array([1e-10 * layer.macs for layer in layers])


def evaluate(networks: Sequence[Network], predict: Predict, seed: int = 0) -> Additivity:
    """Networks from their convolutions, each family judged by the others."""
    sums = [predict(network.of("conv")).sum() for network in networks]
    others = [len(network.layers) - len(network.of("conv")) for network in networks]
    linear = [sum(a.weight_bytes for a in network.of("linear")) for network in networks]
    light = ("batch_norm", "activation", "pool", "global_pool", "add", "concat")
    touched = [sum(a.input_bytes + a.output_bytes for a in n.of(*light)) for n in networks]
    return fit_additivity(
        sums,
        others,
        [network.energy_j for network in networks],
        groups=[network.family for network in networks],
        extras={"linear weight bytes": linear, "bytes of other layers": touched},
        seed=seed,
    )


def report(data: Path) -> dict[str, Any]:
    """Everything that is printed, as JSON would hold it."""
    layers, above_j, total_j = read_convolutions(data)
    networks = read_networks(data)
    found = evaluate(networks, fit_convolutions(layers, total_j))
    above = evaluate(networks, fit_convolutions(layers, above_j))
    as_recorded = [replace(network, layers=network.recorded) for network in networks]
    beside = {
        "joules above idle": above,
        "sizes as recorded": evaluate(as_recorded, fit_convolutions(layers, total_j)),
        "MACs and overhead": evaluate(networks, _macs_alone),
    }
    error = {
        network.name: predicted / network.energy_j - 1
        for network, predicted in zip(networks, found.predicted_j, strict=True)
    }
    listed = [abs(error[name]) for name in listed_networks(data)]
    return {
        "convolutions": len(layers),
        "networks": {
            network.name: {
                "family": network.family,
                "energy_j": network.energy_j,
                "predicted_j": predicted,
                "layers": len(network.layers),
                "convolutions": len(network.of("conv")),
                "resized": network.resized,
            }
            for network, predicted in zip(networks, found.predicted_j, strict=True)
        },
        "additivity": found.model_dump(),
        "median_ape_of_22_listed": float(np.median(listed)),
        "beside": {name: other.scores.model_dump() for name, other in beside.items()},
        "target": TARGET,
    }


def main() -> None:
    """Print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the files")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    figures = report(arguments.data)
    found = Additivity.model_validate(figures["additivity"])
    print(f"{'network':18} {'family':12} {'J':>7} {'sum':>7} {'error':>7}")
    for name, row in figures["networks"].items():
        error = row["predicted_j"] / row["energy_j"] - 1
        print(
            f"{name:18} {row['family']:12} {row['energy_j']:7.3f} {row['predicted_j']:7.3f} "
            f"{100 * error:+6.1f} %"
        )
    for term in found.terms:
        print(f"{term.name:22} {term.value:.4g} [{term.low:.4g}, {term.high:.4g}]")
    print("terms chosen by the families left out:", found.chosen)
    for label, scores in (
        ("with overhead", found.scores),
        ("scale alone", found.without_overhead),
        ("plain sum", found.unscaled),
        *((name, Scores.model_validate(other)) for name, other in figures["beside"].items()),
    ):
        print(f"{label:18} median {_percent(scores.median_ape)}, mean {_percent(scores.mape)}")
    print(f"median over the 22 listed lines: {100 * figures['median_ape_of_22_listed']:.1f} %")
    reached = (found.scores.median_ape.value or 0) <= TARGET
    print(f"target: median at most {TARGET:.0%}: {'reached' if reached else 'MISSED'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


def _percent(metric: Metric) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "undefined"
    return f"{100 * metric.value:.1f} % [{100 * metric.low:.1f}, {100 * metric.high:.1f}]"


if __name__ == "__main__":
    main()
