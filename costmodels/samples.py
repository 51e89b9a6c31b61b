"""Measured energies with what was known before running: the rows that a table's model is fitted to.

A row is one measurement: features that are physical quantities and never negative (MACs, bytes,
calls), the joules of one call, the kind of layer, and what must be left out together when the
model is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from profiler.errors import InputError

Floats = NDArray[np.float64]
Labels = NDArray[np.str_]
ANY_KIND = "*"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was noticed in a table, how often, and what was done about it.

    Attributes:
        what: in words: ``rows that repeat an earlier one``.
        rows: how many rows.
        action: ``dropped``, ``repaired`` or ``kept``.
        examples: the first lines of the file it was seen on, counted from 1 with the header.
    """

    what: str
    rows: int
    action: str
    examples: tuple[int, ...] = ()

    def __str__(self) -> str:
        at = f" (line {', '.join(map(str, self.examples))})" if self.examples else ""
        return f"{self.rows} {self.what}: {self.action}{at}"


@dataclass(frozen=True)
class Wholes:
    """Whole models that were measured beside their layers.

    Attributes:
        name: of each whole model, shape (n,).
        energy_j: joules of one call of it, positive, shape (n,).
        part_of: the whole that each row of the samples is a layer of, shape (m,).
    """

    name: Labels
    energy_j: Floats
    part_of: Labels


@dataclass(frozen=True)
class Samples:
    """Measurements ready to fit; checked when made.

    Attributes:
        features: float64, finite, at least zero, shape (m, p); the column names are the
            features' names.
        units: what the price of each feature is in: ``J/MAC``, ``J/byte``, ``J/call``.
        energy_j: joules of one call, positive, shape (m,).
        kind: the kind of layer or operation of each row; ``*`` where none is told apart.
        groupings: name -> label of each row. The first is the one that the model is chosen
            and its intervals are calibrated by.
        source: what the rows come from, in one sentence.
        device, meter: whose joules they are; empty where not said.
        findings: what was dropped and repaired on the way.
        sha256: of the file or frame, empty where unknown.
        assumptions: one sentence each.
        shape: further columns that are known before running and have no price, such as the
            channels and the stride of a convolution; finite and at least zero, shape (m, q).
        wholes: whole models that the sums of their layers are held against.
        ranges: least and greatest value of what is known before running but is not fitted to,
            because it is the same in all rows or tells the groups apart.

    Raises:
        InputError: no rows, shapes that do not fit together, NaN, negative features, or an
            energy that is not positive.
    """

    features: pd.DataFrame
    units: Mapping[str, str]
    energy_j: Floats
    kind: Labels
    groupings: Mapping[str, Labels]
    source: str
    device: str = ""
    meter: str = ""
    findings: tuple[Finding, ...] = ()
    sha256: str = ""
    assumptions: tuple[str, ...] = ()
    shape: pd.DataFrame = field(default_factory=pd.DataFrame)
    wholes: Wholes | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.features)
        if rows == 0:
            raise InputError(f"{self.source} has no usable row to fit to")
        if not self.groupings:
            raise InputError("name a grouping: what is left out together when testing the model")
        if list(self.units) != list(self.features.columns):
            raise InputError("every feature needs the unit of its price, in the same order")
        for name, column in (
            ("energy_j", self.energy_j),
            ("kind", self.kind),
            *self.groupings.items(),
        ):
            if len(column) != rows:
                raise InputError(f"{name} has {len(column)} rows where the features have {rows}")
        _refuse_not_physical(self.features)
        if len(names := set(self.kind.tolist())) > 1 and ANY_KIND in names:
            raise InputError(
                f"the kind {ANY_KIND!r} stands for all kinds, and {self.source} has others beside "
                "it: name the kind of those rows"
            )
        if self.shape.columns.size:
            if len(self.shape) != rows:
                raise InputError(f"shape has {len(self.shape)} rows where the features have {rows}")
            _refuse_not_physical(self.shape)
        if not (np.isfinite(self.energy_j) & (self.energy_j > 0)).all():
            row = int(np.argmin(np.isfinite(self.energy_j) & (self.energy_j > 0)))
            raise InputError(
                f"the energy of row {row} is {self.energy_j[row]} J: energies are positive; drop "
                "the row or repair it"
            )
        object.__setattr__(self, "units", MappingProxyType(dict(self.units)))
        object.__setattr__(self, "ranges", MappingProxyType(dict(self.ranges)))
        object.__setattr__(self, "groupings", MappingProxyType(dict(self.groupings)))

    @property
    def group(self) -> Labels:
        """The labels of the first grouping."""
        return next(iter(self.groupings.values()))

    def __len__(self) -> int:
        return len(self.features)


def _refuse_not_physical(columns: pd.DataFrame) -> None:
    values = columns.to_numpy(dtype=np.float64)
    sound = np.isfinite(values) & (values >= 0)
    if not sound.all():
        row, column = np.argwhere(~sound)[0]
        raise InputError(
            f"feature {columns.columns[column]!r} is {values[row, column]} in row {row}: "
            "features are finite and not negative"
        )
