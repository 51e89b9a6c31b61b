"""A table without energies -> what an energy model asks of a layer before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.samples import Finding
from costmodels.tables.building import kinds_of
from costmodels.tables.cells import condition_column, is_blank, matching, split_lists
from costmodels.tables.decimals import plain_numbers
from costmodels.tables.explained import explain, shape_fields
from costmodels.tables.ledger import Ledger
from costmodels.tables.reading import read_table
from costmodels.tables.spec import TableSpec
from profiler.errors import InputError


@dataclass(frozen=True)
class Asked:
    """Layers that an energy model is asked about; ``model.predict(asked.frame, asked.kind)``.

    Attributes:
        frame: every feature and every shape column, finite and at least zero, shape (m, ...).
        kind: of each row, shape (m,).
        lines: the line of the file that each row was on; of a frame, the row's number + 2.
        findings: which rows could not be asked about, and why.
    """

    frame: pd.DataFrame
    kind: NDArray[np.str_]
    lines: NDArray[np.int64]
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.frame)


def features_of(table: str | Path | pd.DataFrame, spec: TableSpec) -> Asked:
    """The features of each row of a table whose energies nobody measured.

    The spec is the one that the model was fitted with, or another that gives the same features.
    What it says about energies, groups, devices and failed rows is not looked at. Every row is
    asked about but those that ``rows.drop`` does not want; a condition on a column that this
    table does not have, or has empty, is passed over. Rows without a usable shape are left out
    and counted.

    Args:
        table: a file as `costmodels.tables.read_samples` reads it, or a frame.
        spec: what the columns mean.

    Raises:
        InputFileError: the file cannot be read.
        FileFormatError: it is not a table of the format that the spec names.
        InputError: a column that the table does not have, a kind without a formula, or no row
            that can be asked about.
    """
    found: tuple[Finding, ...] = ()
    if isinstance(table, pd.DataFrame):
        cells = table.reset_index(drop=True)
        lines, source = np.arange(2, len(cells) + 2), "the table"
    else:
        raw = read_table(Path(table), spec.file)
        cells, lines, found, source = raw.frame, raw.lines, raw.findings, Path(table).name
    if not len(cells):
        raise InputError(f"{source} has no rows")
    frame, unfit = split_lists(cells, spec.file.lists, spec.file.list_separator)
    frame = plain_numbers(frame, spec.file.decimal, lines, besides=set(spec.file.lists))
    ledger = Ledger(lines, found)
    kind = kinds_of(frame, spec, ledger)
    for condition in spec.rows.drop:
        name = condition_column(condition)
        if name is None or (name in frame.columns and not is_blank(frame[name]).all()):
            ledger.drop(matching(frame, condition, "rows.drop"), f"rows not wanted ({condition})")
    for condition in spec.whole.rows if spec.whole else ():
        ledger.drop(matching(frame, condition, "whole.rows"), f"rows of whole models ({condition})")
    for name, mask in unfit.items():
        ledger.drop(mask, f"rows whose list in {name!r} has not {len(spec.file.lists[name])} items")
    features, _ = explain(frame, kind, spec, ledger)
    fields = shape_fields(frame, spec, ledger)
    fields = fields.drop(columns=[name for name in fields.columns if name in features.columns])
    alive = ledger.alive
    if not alive.any():
        why = "; ".join(map(str, ledger.findings))
        raise InputError(f"{source}: none of {len(frame)} rows can be predicted; {why}")
    asked = pd.concat([features, fields], axis=1)
    return Asked(
        frame=asked[alive].reset_index(drop=True),
        kind=kind[alive],
        lines=lines[alive],
        findings=ledger.findings,
    )
