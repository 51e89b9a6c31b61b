"""Energy models of convolutions on two real CPUs, corrected for the other CPU by 20 of its rows.

As `cwmp fit TABLE` and `cwmp transfer MODEL TABLE --columns SPEC` do it, learned factor included.
The data is github.com/willowec/characterizing-pytorch-power (MIT), 1,000 convolutions by RAPL.

    python benchmarks/transfer_tables.py --data DIR [--draws 10]
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from costmodels import Samples, TableSpec, fit_samples, read_samples
from costmodels.transfer.core import DeviceFamilyWarning
from costmodels.transfer.energy import transfer_energies

ROWS = 20
CPUS = {"Broadwell": "broadwell-ep-*", "Raptor Lake": "raptorlake-*"}
SPECS = Path(__file__).parents[1] / "examples" / "tables"


def part(samples: Samples, rows: np.ndarray) -> Samples:
    """Some rows of a table."""
    return replace(
        samples,
        features=samples.features.iloc[rows].reset_index(drop=True),
        shape=samples.shape.iloc[rows].reset_index(drop=True),
        energy_j=samples.energy_j[rows],
        kind=samples.kind[rows],
        groupings={name: labels[rows] for name, labels in samples.groupings.items()},
    )


def main() -> None:
    """Print both ways of both passes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder above src/out/<cpu>/")
    parser.add_argument("--draws", type=int, default=10, help="draws of 20 rows a line")
    given = parser.parse_args()
    warnings.simplefilter("ignore", DeviceFamilyWarning)
    print(f"{'conv, 20 rows':38} {'as it is':>9} {'corrected':>9} {'median':>7} {'95 % held':>9}")
    for way in ("backward", "forward"):
        spec = TableSpec.load(SPECS / f"cpu-conv-{way}.toml")
        tables = {
            name: read_samples(next(given.data.glob(f"**/out/{folder}/conv.csv")), spec)
            for name, folder in CPUS.items()
        }
        models = {name: fit_samples(table) for name, table in tables.items()}
        for first in CPUS:
            for second in CPUS:
                if first == second:
                    continue
                found = [draw(models[first], tables[second], seed) for seed in range(given.draws)]
                plain, corrected, middle, held = np.mean(found, axis=0)
                print(
                    f"{way}, {first} to {second}".ljust(38),
                    f"{plain:9.1%} {corrected:9.1%} {middle:7.1%} {held:9.1%}",
                    flush=True,
                )


def draw(model, table: Samples, seed: int) -> tuple[float, float, float, float]:  # type: ignore[no-untyped-def]
    """Errors as it is and corrected, the median one, and how often intervals held."""
    order = np.random.default_rng(seed).permutation(len(table))
    calibration, rest = part(table, order[:ROWS]), part(table, order[ROWS:])
    found = transfer_energies(model, calibration).model
    frame = rest.features.join(rest.shape)
    before = model.predict(frame, rest.kind.tolist()).energy_j
    after = found.predict(frame, rest.kind.tolist())
    error = np.abs(after.energy_j / rest.energy_j - 1)
    held = (after.low_j <= rest.energy_j) & (rest.energy_j <= after.high_j)
    return (
        float(np.mean(np.abs(before / rest.energy_j - 1))),
        float(error.mean()),
        float(np.median(error)),
        float(held.mean()),
    )


if __name__ == "__main__":
    main()
