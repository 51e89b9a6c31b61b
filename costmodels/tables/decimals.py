"""Numbers as they are written in tables: decimal commas, and thousands set apart."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from profiler.errors import InputError

Decimal = Literal[".", ","]

_SIGN, _TAIL = r"[-+]?", r"(?:[eE][-+]?\d+)?(?:\s*[A-Za-zµ]+)?"
_APART = " '\u00a0\u202f"  # spaces, also those that do not break, and apostrophes
_OTHER: dict[Decimal, Decimal] = {".": ",", ",": "."}
_GROUPED = rf"\d{{1,3}}(?:[.,{_APART}]\d{{3}})+(?:[.,]\d*)?"
_POINTS = rf"{_SIGN}\d{{1,3}}(?:\.\d{{3}}){{2,}}(?:,\d*)?"
_ODD = rf"{_SIGN}(?:{_GROUPED}|\d*,\d+){_TAIL}"


def plain_numbers(
    frame: pd.DataFrame, decimal: Decimal | None, lines: NDArray[np.int64], *, besides: set[str]
) -> pd.DataFrame:
    """*frame* with its numbers as ``1234.5``, where the spec says how its decimals are written.

    The other of point and comma, a space and an apostrophe set thousands apart, in groups of
    three digits; every other cell is left as it is. So is a column in which the other sign
    stands for decimals throughout: a program wrote it.

    Args:
        frame: text cells, shape (m, columns).
        decimal: of the spec; nothing is done where it is None.
        lines: the line of each row, shape (m,).
        besides: columns that hold lists.

    Raises:
        InputError: both signs stand for decimals in one column.
    """
    if decimal is None:
        return frame
    other = _OTHER[decimal]
    here, there = f"\\{decimal}", f"\\{other}"
    digits = rf"(?:\d{{1,3}}(?:[{there}{_APART}]\d{{3}})+|\d+)(?:{here}\d*)?|{here}\d+"
    number = rf"{_SIGN}(?:{digits}){_TAIL}"
    foreign = rf"{_SIGN}\d*{there}\d+{_TAIL}"
    found: dict[str, pd.Series] = {}
    for name in frame.columns:
        if name in besides or pd.api.types.is_numeric_dtype(frame[name]):
            continue
        text = frame[name].astype(str).str.strip()
        ours = text.str.fullmatch(number).to_numpy(dtype=bool)
        odd = text.str.fullmatch(foreign).to_numpy(dtype=bool) & ~ours
        if odd.any():
            if (text.str.contains(decimal, regex=False).to_numpy(dtype=bool) & ours).any():
                row = int(np.argmax(odd))
                raise InputError(
                    f"column {name!r} says {text.iloc[row]!r} on line {lines[row]}, and elsewhere "
                    f"writes decimals with {decimal!r}: bring the column to one notation"
                )
            continue
        changed = text[ours].str.replace(rf"[{there}{_APART}](?=\d{{3}})", "", regex=True)
        cells = frame[name].astype(object).copy()
        cells[ours] = changed.str.replace(decimal, ".", regex=False)
        found[name] = cells
    return frame.assign(**found) if found else frame


def refuse_grouped(cells: pd.Series, lines: NDArray[np.int64]) -> None:
    """Refuse unreadable *cells* of which one is ``1.234.567``: ``1.234`` would be read as 1.2.

    Raises:
        InputError: names the cell and what to write.
    """
    found = cells.astype(str).str.strip().str.fullmatch(_POINTS).to_numpy(dtype=bool)
    if found.any():
        row = int(np.argmax(found))
        raise InputError(
            f"column {cells.name!r} says {cells.iloc[row]!r} on line {lines[row]}, with thousands "
            "set apart by points: write decimal = ',' in [file]"
        )


def advice(cells: pd.Series) -> str:
    """What to write in the spec where unreadable *cells* look like numbers; else nothing."""
    if not len(cells) or pd.api.types.is_numeric_dtype(cells):
        return ""
    text = cells.astype(str).str.strip()
    odd = text[text.str.fullmatch(_ODD).to_numpy(dtype=bool)]
    if not len(odd):
        return ""
    return f", such as {odd.iloc[0]!r}: is decimal = ',' or '.' missing in [file]?"
