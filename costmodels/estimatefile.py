"""Predicted energies of a table's rows, as CSV, Parquet or one JSON file."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from costmodels.costfile import Origin
from costmodels.records import Strict
from costmodels.sources import utc_now
from profiler.errors import InputError
from profiler.files import write_atomic

if TYPE_CHECKING:
    from costmodels.energymodel import EnergyModel
    from costmodels.estimates import Estimates
    from costmodels.tables.predicting import Asked

SCHEMA: Literal["cwmp.estimates"] = "cwmp.estimates"
FORMATS = (".csv", ".parquet", ".json")
_Joules = Annotated[float, Field(gt=0)]


class EstimateRow(Strict):
    """One row; the fields of `costmodels.estimates.Estimates`, and what was asked.

    Attributes:
        line: of the table that was asked about.
        kind: as that table says.
    """

    line: Annotated[int, Field(ge=1)]
    kind: str
    energy_j: _Joules
    low_j: _Joules
    high_j: _Joules
    calibrated: bool
    priced_as: str
    corrected: bool
    outside: str


class EstimateFile(Strict):
    """The JSON form of predictions; CSV and Parquet hold its rows alone.

    Attributes:
        device: whose joules these are.
        origin: ``modelled``.
        data_hash: SHA-256 of the table that the model was fitted to.
        level: of the intervals.
        findings: rows of the table that could not be predicted, one sentence each.
        rows: the predictions.
    """

    schema_name: Literal["cwmp.estimates"] = SCHEMA
    version: Literal[1] = 1
    created_utc: str
    device: str
    origin: Origin = "modelled"
    data_hash: str
    level: float = 0.95
    findings: tuple[str, ...] = ()
    rows: tuple[EstimateRow, ...]


def estimate_table(asked: Asked, estimates: Estimates) -> pd.DataFrame:
    """The columns of `EstimateRow`, one row each, shape (m, 9)."""
    frame = estimates.frame()
    frame.insert(0, "kind", asked.kind)
    frame.insert(0, "line", asked.lines)
    return frame


def check_format(path: Path) -> None:
    """Raise `InputError` unless *path* names one of the three formats."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: predictions end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")


def write_estimates(
    path: Path, table: pd.DataFrame, model: EnergyModel, findings: Sequence[str], *, force: bool
) -> None:
    """Write *table* of `estimate_table` whole or not at all, in the format that *path* names.

    Raises:
        InputError: another ending of *path*.
        OutputExistsError: *path* exists and *force* is false.
    """
    check_format(path)
    kind = path.suffix.lower()
    if kind == ".csv":
        content = table.to_csv(index=False).encode()
    elif kind == ".parquet":
        stream = io.BytesIO()
        table.to_parquet(stream, index=False)
        content = stream.getvalue()
    else:
        content = _json(table, model, findings).encode()
    write_atomic(path, content, force=force)


def _json(table: pd.DataFrame, model: EnergyModel, findings: Sequence[str]) -> str:
    rows: list[dict[str, Any]] = table.to_dict(orient="records")
    whole = EstimateFile(
        created_utc=utc_now(),
        device=model.device,
        data_hash=model.data_hash,
        findings=tuple(findings),
        rows=tuple(EstimateRow.model_validate(row) for row in rows),
    )
    return json.dumps(whole.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
