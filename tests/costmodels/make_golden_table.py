"""Writes the golden energy model: ``python tests/costmodels/make_golden_table.py FOLDER``.

``energymodel-v1.json`` is the file; ``energymodel-v1.csv`` holds rows and their predictions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from costmodels import EnergyModel, TableSpec, fit_samples, samples_of

SPEC = {
    "version": 1,
    "source": "simulated, no machine was measured",
    "device": "simulated board",
    "kind": {"column": "kind"},
    "energy": {"column": "energy", "unit": "mJ"},
    "features": {"macs": {"unit": "J/MAC"}, "bytes": {"unit": "J/byte"}},
    "groupings": {"network": "network"},
}


def golden_table(seed: int = 5) -> pd.DataFrame:
    """Convolutions that are no sum of prices, linear layers that are; 20 networks."""
    generator = np.random.default_rng(seed)
    m = 240
    kind = np.where(np.arange(m) % 3 == 0, "linear", "conv")
    macs, moved = 10 ** generator.uniform(5, 8, m), 10 ** generator.uniform(4, 6, m)
    conv = 1e-10 * macs * (moved / 1e5) ** 0.5
    energy_j = np.where(kind == "conv", conv, 4e-11 * macs + 2e-9 * moved)
    energy_j = 1e-5 + energy_j * np.exp(0.05 * generator.normal(size=m))
    return pd.DataFrame(
        {
            "network": [f"net{number:02d}" for number in np.arange(m) % 20],
            "kind": kind,
            "macs": macs.round(),
            "bytes": moved.round(),
            "energy": 1e3 * energy_j,
        }
    )


def asked_table() -> pd.DataFrame:
    """Rows inside, outside, and of a kind that nobody measured."""
    rows = golden_table(6).drop(columns=["network", "energy"]).head(20)
    rows.loc[rows.index[-4:-2], "macs"] = 1e11
    rows.loc[rows.index[-2:], "kind"] = "attention"
    return rows


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    samples = samples_of(golden_table(), TableSpec.from_dict(SPEC))
    fit_samples(samples).save(folder / "energymodel-v1.json", force=True)
    rows = asked_table()
    frame = rows.assign(calls=1.0)
    found = EnergyModel.load(folder / "energymodel-v1.json").predict(frame, list(rows["kind"]))
    asked = frame.rename(columns={"kind": "asked_kind"}).reset_index(drop=True)
    whole = pd.concat([asked, found.frame()], axis=1)
    whole.to_csv(folder / "energymodel-v1.csv", index=False)
