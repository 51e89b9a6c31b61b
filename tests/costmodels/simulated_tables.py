"""Tables of measurements with known prices, for tests of what is fitted to them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from costmodels.samples import Samples

UNITS = {"macs": "J/MAC", "bytes": "J/byte", "calls": "J/call"}
PRICES = {
    "conv": np.array([2e-11, 3e-9, 1e-5]),
    "linear": np.array([6e-11, 1e-9, 4e-6]),
    "norm": np.array([1e-11, 8e-9, 2e-6]),
}


def table(
    seed: int = 0,
    groups: int = 12,
    rows: int = 10,
    *,
    kinds: tuple[str, ...] = ("conv", "linear"),
    noise: float = 0.0,
    between: float = 0.0,
    prices: dict[str, np.ndarray] | None = None,
) -> Samples:
    """*groups* models of *rows* layers; log-normal scatter of rows and of groups."""
    generator = np.random.default_rng(seed)
    m = groups * rows
    number = np.repeat(np.arange(groups), rows)
    X = np.column_stack(
        [10 ** generator.uniform(4, 9, m), 10 ** generator.uniform(3, 7, m), np.ones(m)]
    )
    kind = np.array(kinds)[np.arange(m) % len(kinds)]
    true = {**PRICES, "*": PRICES["conv"], **(prices or {})}
    energy_j = np.array([x @ true[name] for x, name in zip(X, kind, strict=True)])
    energy_j *= np.exp(noise * generator.normal(size=m))
    energy_j *= np.exp(between * generator.normal(size=groups))[number]
    return samples_of(X, energy_j, kind, np.array([f"net{g:03d}" for g in number]))


def samples_of(
    X: np.ndarray,
    energy_j: np.ndarray,
    kind: np.ndarray,
    group: np.ndarray,
    **groupings: np.ndarray,
) -> Samples:
    """Rows of MACs, bytes and calls as samples."""
    return Samples(
        features=pd.DataFrame(X, columns=list(UNITS)),
        units=UNITS,
        energy_j=energy_j,
        kind=kind,
        groupings={"network": group, **groupings},
        source="a simulated table",
    )


def bent(seed: int = 0, groups: int = 12, rows: int = 30) -> Samples:
    """One kind whose joules are no sum of prices: MACs get dearer where bytes are many."""
    generator = np.random.default_rng(seed)
    m = groups * rows
    X = np.column_stack(
        [10 ** generator.uniform(5, 8, m), 10 ** generator.uniform(4, 6, m), np.ones(m)]
    )
    energy_j = 1e-10 * X[:, 0] * (X[:, 1] / 1e5) ** 0.5 * np.exp(0.02 * generator.normal(size=m))
    group = np.array([f"net{g:03d}" for g in np.repeat(np.arange(groups), rows)])
    return samples_of(X, energy_j, np.full(m, "conv"), group)
