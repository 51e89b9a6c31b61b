"""Shape columns and ready features -> the feature columns of the rows, with their units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.tables.cells import column, numbers
from costmodels.tables.decimals import advice
from costmodels.tables.ledger import Ledger
from costmodels.tables.names import listed
from costmodels.tables.shapes import ITEM_BYTES, SHAPE_KINDS, UNITS, shape_features, shape_kind
from costmodels.tables.spec import KindColumn, TableSpec
from profiler.errors import InputError

CALLS = "calls"


def explain(
    frame: pd.DataFrame, kind: NDArray[np.str_], spec: TableSpec, ledger: Ledger
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The features of every row, NaN where it is out, and the unit of each one's price.

    ``calls``, a one in each row, is always there: the fixed cost of a call.

    Raises:
        InputError: a column that is not there, or a kind without formula and ready features.
    """
    rows = len(frame)
    units = {CALLS: UNITS[CALLS]}
    parts = {CALLS: np.ones(rows)}
    if spec.shape:
        shaped = _shaped(frame, kind, spec, ledger)
        ledger.drop(
            ~np.isfinite(shaped.to_numpy()).all(axis=1),
            "rows whose shape is missing or impossible",
        )
        units |= UNITS
        parts |= {name: shaped[name].to_numpy() for name in shaped.columns}
    for name, feature in spec.features.items():
        cells = column(frame, feature.column or name, f"features.{name}")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            parts[name] = feature.scale * numbers(cells, ledger) ** feature.exponent
            unusable = ~(np.isfinite(parts[name]) & (parts[name] >= 0))
        odd = advice(cells[unusable & ledger.alive])
        ledger.drop(unusable, f"rows whose feature {name!r} is missing or negative{odd}")
        units[name] = feature.unit
    return pd.DataFrame(parts), units


def varying(features: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
    """*features* without those that are the same in every row, but ``calls``.

    A constant other than zero is reported; a quantity that no row has is not worth a word.
    """
    kept = []
    for name in features.columns:
        values = features[name].to_numpy()
        if name == CALLS or values.min() != values.max():
            kept.append(name)
        elif values[0] != 0:
            ledger.kept(
                ledger.alive, f"rows in all of which feature {name!r} is {values[0]:g}: left out"
            )
    return features[kept]


def shape_fields(frame: pd.DataFrame, spec: TableSpec, ledger: Ledger) -> pd.DataFrame:
    """The shape's fields of every row, 0 where a kind has no such field."""
    parts = {
        field: (
            np.nan_to_num(numbers(column(frame, cell, f"shape.{field}"), ledger))
            if isinstance(cell, str)
            else np.full(len(frame), float(cell))
        )
        for field, cell in spec.shape.items()
    }
    return pd.DataFrame(parts, index=pd.RangeIndex(len(frame)))


def shape_columns(fields: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """The fields that a correction may look at: those that differ between rows.

    Those that the main grouping is made of are left out: no group that was left out lies inside
    their range, so that nothing learned from them could be tested.
    """
    main = next(iter(spec.groupings.values()), None)
    grouped = {main} if isinstance(main, str) else set(main) if isinstance(main, list) else set()
    kept = [
        field
        for field in fields.columns
        if spec.shape[field] not in grouped and np.ptp(fields[field].to_numpy()) > 0
    ]
    return fields[kept]


def ranges_besides(
    columns: Sequence[pd.DataFrame], fitted: Sequence[pd.DataFrame]
) -> dict[str, tuple[float, float]]:
    """Least and greatest value of the *columns* that are not among the *fitted* ones.

    A model fitted to calls of one batch size, say, is not to be asked about another in silence.
    """
    known = {CALLS, *(name for frame in fitted for name in frame.columns)}
    return {
        str(name): (float(values.min()), float(values.max()))
        for frame in columns
        for name, values in frame.items()
        if name not in known
    }


def _shaped(
    frame: pd.DataFrame, kind: NDArray[np.str_], spec: TableSpec, ledger: Ledger
) -> pd.DataFrame:
    fields = {
        name: (
            numbers(column(frame, value, f"shape.{name}"), ledger)
            if isinstance(value, str)
            else np.full(len(frame), float(value))
        )
        for name, value in spec.shape.items()
    }
    table = np.full((len(frame), len(UNITS)), np.nan)
    named = spec.kind.shapes if isinstance(spec.kind, KindColumn) else {}
    ready = set(spec.features) & set(UNITS)
    for label in np.unique(kind[ledger.alive]):
        formula = named.get(str(label), str(label))
        rows = kind == label
        if shape_kind(formula) is None and spec.features:
            table[rows] = 0.0
            continue
        if shape_kind(formula) is None:
            raise InputError(
                f"kind {str(label)!r} has no shape formula; name one in kind.shapes "
                f"({listed(SHAPE_KINDS)}), leave its rows out, or give ready [features]"
            )
        part = {name: values[rows] for name, values in fields.items()}
        with np.errstate(over="ignore", invalid="ignore"):
            shaped = shape_features(formula, part, int(rows.sum()), ITEM_BYTES[spec.dtype])
        table[rows] = shaped.to_numpy()
    shaped = pd.DataFrame(table, columns=list(UNITS))
    return shaped.drop(columns=[name for name in shaped.columns if name in ready])
