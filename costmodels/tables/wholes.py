"""Rows that measured a whole model: set aside, for the sum of its layers to be held against."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.samples import Wholes
from costmodels.tables.cells import column, labels, matching
from costmodels.tables.ledger import Ledger
from costmodels.tables.spec import TableSpec
from profiler.errors import InputError

Mask = NDArray[np.bool_]


def set_aside(frame: pd.DataFrame, spec: TableSpec, ledger: Ledger) -> Mask:
    """Which rows are of whole models, shape (m,); they are taken out of *ledger*.

    Raises:
        InputError: no such column, or no row is of a whole model.
    """
    aside = np.zeros(len(frame), dtype=bool)
    if spec.whole is None:
        return aside
    for condition in spec.whole.rows:
        aside |= matching(frame, condition, "whole.rows")
    if not aside.any():
        raise InputError(f"no row is of a whole model: whole.rows is {spec.whole.rows}")
    ledger.drop(aside, "rows of whole models (set aside to test sums of layers, not fitted to)")
    return aside


def wholes_of(
    frame: pd.DataFrame, energy_j: NDArray[np.float64], aside: Mask, spec: TableSpec, ledger: Ledger
) -> Wholes | None:
    """The whole models whose layers are all there, and which of them each usable row is part of.

    A whole without a positive energy, or of which a layer was dropped, is left out and reported;
    one measured several times counts with its mean.

    Args:
        frame: all rows, shape (m, columns).
        energy_j: joules of each, repaired, shape (m,).
        aside: `set_aside`'s answer.
        spec: the table's.
        ledger: after everything else was dropped.
    """
    if spec.whole is None:
        return None
    name = labels(column(frame, spec.whole.of, "whole.of"))
    short = set(name[~aside & ~ledger.alive].tolist())
    usable = aside & np.isfinite(energy_j) & (energy_j > 0)
    means = pd.Series(energy_j[usable]).groupby(name[usable]).mean()
    parts = set(name[ledger.alive].tolist())
    whole = [label for label in means.index if label in parts and label not in short]
    left_out = sorted(set(name[aside].tolist()) - set(whole))
    if left_out:
        shown = ", ".join(left_out[:3]) + (" ..." if len(left_out) > 3 else "")
        ledger.remark(
            len(left_out), f"whole models lack a layer or an energy ({shown})", "left untested"
        )
    if not whole:
        return None
    return Wholes(
        name=np.array(whole, dtype=str),
        energy_j=means[whole].to_numpy(dtype=np.float64),
        part_of=name[ledger.alive],
    )
