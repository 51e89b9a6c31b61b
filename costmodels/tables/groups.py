"""What is left out together when a model is tested: columns, or bins of a feature."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.tables.cells import column, labels
from costmodels.tables.explained import CALLS
from costmodels.tables.ledger import Ledger
from costmodels.tables.names import listed, nearest
from costmodels.tables.spec import SizeBins, TableSpec
from profiler.errors import InputError

Labels = NDArray[np.str_]


def grouping_labels(
    frame: pd.DataFrame,
    features: pd.DataFrame,
    kind: Labels,
    device: Labels,
    spec: TableSpec,
    ledger: Ledger,
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """The label of every usable row under each grouping, and what had to be assumed.

    Devices and kinds, where there are several, are groupings too, after those of the spec.
    Without any the rows are binned by the first feature that varies.

    Raises:
        InputError: no such column or feature.
    """
    groupings: dict[str, Labels] = {}
    assumptions: tuple[str, ...] = ()
    for name, wanted in spec.groupings.items():
        if isinstance(wanted, SizeBins):
            groupings[name] = _bins(features, wanted, name)
        else:
            names = [wanted] if isinstance(wanted, str) else wanted
            cells = [labels(column(frame, part, f"groupings.{name}")) for part in names]
            groupings[name] = cells[0] if len(cells) == 1 else _joined(names, cells)
    for name, found in (("device", device), ("kind", kind)):
        if name not in groupings and len(set(found.tolist())) > 1:
            groupings[name] = found
    if not groupings:
        size = next((name for name in features.columns if name != CALLS), None)
        if size is None:
            groupings["rows"] = np.full(len(features), "all")
        else:
            groupings["size"] = _bins(features, SizeBins(feature=size), "size")
            assumptions = (
                f"no grouping is named in the spec: the rows are grouped by bins of {size}",
            )
    primary, found = next(iter(groupings.items()))
    if len(set(found.tolist())) == 1:
        ledger.kept(
            ledger.alive,
            f"rows in the only group of {primary!r}: no group can be left out, so that the "
            "model cannot be tested",
        )
    return groupings, assumptions


def _bins(features: pd.DataFrame, wanted: SizeBins, name: str) -> Labels:
    if wanted.feature not in features.columns:
        raise InputError(
            f"groupings.{name} names the feature {wanted.feature!r}, which is not one that varies"
            f"{nearest(wanted.feature, features.columns)} features: {listed(features.columns)}"
        )
    values = features[wanted.feature].to_numpy()
    edges = np.unique(np.quantile(values, np.linspace(0, 1, wanted.bins + 1)))
    number = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    width = len(str(len(edges)))
    words = [
        f"{bin_:0{width}d}: {wanted.feature} {low:.3g} to {high:.3g}"
        for bin_, (low, high) in enumerate(pairwise(edges), 1)
    ] or [f"1: {wanted.feature} {edges[0]:.3g}"]
    found: Labels = np.array(words)
    taken: Labels = np.take(found, number)
    return taken


def _joined(names: list[str], cells: list[Labels]) -> Labels:
    table = pd.DataFrame(dict(zip(names, cells, strict=True)))
    codes = table.groupby(names, sort=False).ngroup().to_numpy()
    first = table.drop_duplicates()
    words: Labels = np.array(
        [" ".join(f"{n}={v}" for n, v in zip(names, row, strict=True)) for row in first.to_numpy()]
    )
    taken: Labels = np.take(words, codes)
    return taken
