"""Labels that may not mean what they say: one kind spelled twice, and rows that sum up others."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.tables.cells import labels
from costmodels.tables.ledger import Ledger
from costmodels.tables.spec import DeviceColumn, KindColumn, TableSpec

Labels = NDArray[np.str_]

_FOOTERS = ("average", "mean", "total", "sum", "avg", "all")
_RARE = 0.2  # a footer for every four rows and fewer is none
_SPELLINGS = 6
_COLUMNS = (KindColumn, DeviceColumn)


def remark_labels(frame: pd.DataFrame, kind: Labels, spec: TableSpec, ledger: Ledger) -> None:
    """Report, as kept, kinds that differ in case or blanks alone, and rows that look like footers.

    A footer is a row whose kind, device or label of a grouping is a word such as ``average``, at
    most one for each value of the other labels (a footer of each network), in at most a fifth
    of the rows.

    Args:
        frame: all rows, shape (m, columns); those that are out are not looked at.
        kind: of all rows, shape (m,).
        spec: says which columns hold labels.
        ledger: which rows are in; takes the findings.
    """
    if isinstance(spec.kind, KindColumn):
        _spellings(kind, ledger)
    alive = ledger.alive.copy()
    table = pd.DataFrame({name: labels(frame[name][alive]) for name in _label_columns(spec, frame)})
    for name in table.columns:
        words = table[name].str.casefold()
        for word in _FOOTERS:
            rows = (words == word).to_numpy(dtype=bool)
            others = table.loc[rows].drop(columns=name)
            once = len(others) == 1 or (len(others.columns) > 0 and not others.duplicated().any())
            if rows.any() and once and rows.sum() <= max(1.0, _RARE * len(table)):
                mask = np.zeros(len(alive), dtype=bool)
                mask[np.flatnonzero(alive)[rows]] = True
                said = table[name][rows].iloc[0]
                ledger.kept(
                    mask,
                    f"rows labelled {said!r} in {name!r}: a footer? drop them with rows.drop, or "
                    "name them in [whole]",
                )


def _label_columns(spec: TableSpec, frame: pd.DataFrame) -> list[str]:
    """The columns of text that name kinds, devices and groups, each once."""
    names = [part.column for part in (spec.kind, spec.device) if isinstance(part, _COLUMNS)]
    for wanted in spec.groupings.values():
        if isinstance(wanted, str | list):
            names += [wanted] if isinstance(wanted, str) else wanted
    return [name for name in dict.fromkeys(names) if not pd.api.types.is_numeric_dtype(frame[name])]


def _spellings(kind: Labels, ledger: Ledger) -> None:
    """Report rows of kinds that are one but for case and blanks, the commonest spelling aside."""
    counts = pd.Series(kind[ledger.alive]).value_counts()
    alike: dict[str, list[str]] = {}
    for name in map(str, counts.index):
        alike.setdefault("".join(name.casefold().split()), []).append(name)
    twice = [names for names in alike.values() if len(names) > 1]
    if not twice:
        return
    shown = "; ".join(", ".join(map(repr, names[:_SPELLINGS])) for names in twice[:_SPELLINGS])
    rarer = [name for names in twice for name in names[1:]]
    ledger.kept(
        np.isin(kind, rarer) & ledger.alive,
        f"rows of kinds that differ from another in case or blanks alone ({shown}): each is a "
        "kind of its own; spell them alike if they are one",
    )
