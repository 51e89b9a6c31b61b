"""Cells of text -> numbers, lists -> columns, conditions on rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from costmodels.tables.decimals import refuse_grouped
from costmodels.tables.ledger import Ledger
from costmodels.tables.names import listed, nearest
from profiler.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WITH_UNIT = r"^\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>[A-Za-zµ]+)\s*$"
_CONDITION = re.compile(r"^\s*(?P<column>.+?)\s*(?P<how>==|!=|<=|>=|<|>)\s*(?P<value>.*?)\s*$")


def column(frame: pd.DataFrame, name: str, where: str) -> pd.Series:
    """The column *name*.

    Raises:
        InputError: there is none; says which there are, and the nearest.
    """
    if name not in frame.columns:
        raise InputError(
            f"{where} names the column {name!r}, which the table does not have"
            f"{nearest(name, map(str, frame.columns))} columns: {listed(map(str, frame.columns))}"
        )
    return frame[name]


def is_blank(cells: pd.Series) -> Mask:
    """Which cells hold nothing: missing, empty or white space."""
    blank: Mask = cells.isna().to_numpy(dtype=bool)
    if not pd.api.types.is_numeric_dtype(cells):
        blank = blank | (cells.astype(str).str.strip() == "").to_numpy(dtype=bool)
    return blank


def numbers(cells: pd.Series, ledger: Ledger, unit: str | None = None) -> Floats:
    """The numbers of a column, NaN where a cell is not one, shape (m,).

    A cell such as ``12 mJ`` is a number where *unit* is the unit of the column.

    Raises:
        InputError: a cell that is in says another unit, or sets thousands apart by points, so
            that other cells could be read as a thousandth of what they say.
    """
    if pd.api.types.is_numeric_dtype(cells):
        plain: Floats = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        return plain
    values: Floats = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64).copy()
    odd = np.flatnonzero(np.isnan(values) & ledger.alive)
    if not len(odd):
        return values
    refuse_grouped(cells.iloc[odd], ledger.lines[odd])
    if unit is None:
        return values
    parts = cells.iloc[odd].astype(str).str.extract(_WITH_UNIT)
    said = parts["unit"].fillna("").str.replace("µ", "u").to_numpy(dtype=object)
    other = (said != "") & (said != unit.replace("µ", "u"))
    if other.any():
        row = int(odd[int(np.argmax(other))])
        raise InputError(
            f"column {cells.name!r} says {cells.iloc[row]!r} on line {ledger.lines[row]}, where "
            f"the spec says {unit}: bring the column to one unit"
        )
    values[odd] = pd.to_numeric(parts["number"]).to_numpy(dtype=np.float64)
    return values


def labels(cells: pd.Series) -> NDArray[np.str_]:
    """The cells as text, shape (m,); whole numbers without a decimal point."""
    codes, unique = pd.factorize(cells, use_na_sentinel=False)
    words: NDArray[np.str_] = np.array([str(value).strip() for value in unique])
    if pd.api.types.is_float_dtype(cells):
        words = np.array([word.removesuffix(".0") for word in words.tolist()])
    taken: NDArray[np.str_] = np.take(words, codes)
    return taken


def hashable(frame: pd.DataFrame) -> pd.DataFrame:
    """*frame* with the columns of objects, lists among them, as text."""
    mixed = [name for name in frame.columns if pd.api.types.is_object_dtype(frame[name])]
    return frame.assign(**{name: frame[name].map(str) for name in mixed}) if mixed else frame


def split_lists(
    frame: pd.DataFrame, lists: Mapping[str, Sequence[str]], separator: str
) -> tuple[pd.DataFrame, dict[str, Mask]]:
    """Add the columns that cells with lists hold, and say which rows' lists do not fit.

    Raises:
        InputError: no such column, or a name that is taken.
    """
    unfit: dict[str, Mask] = {}
    added: dict[str, pd.Series] = {}
    for name, parts in lists.items():
        cells = column(frame, name, "file.lists")
        taken = [part for part in parts if part in frame.columns or part in added]
        if taken:
            raise InputError(f"file.lists.{name} adds {taken[0]!r}, which is a column already")
        text = (
            cells.map(_as_text(separator))
            if pd.api.types.is_object_dtype(cells)
            else cells.astype(str)
        )
        pieces = pc.split_pattern(
            pc.utf8_trim(pa.array(text.to_numpy(dtype=object), pa.large_string()), "()[] "),
            separator,
        )
        fits = np.asarray(pc.list_value_length(pieces)) == len(parts)
        unfit[name] = ~fits
        flat = pc.list_flatten(pieces.filter(pa.array(fits)))
        for number, part in enumerate(parts):
            if part == "_":
                continue
            values = pc.utf8_trim_whitespace(flat[number :: len(parts)])
            whole = np.full(len(frame), "", dtype=object)
            whole[fits] = values.to_numpy(zero_copy_only=False)
            added[part] = pd.Series(whole, index=frame.index, dtype=str)
    return pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1), unfit


def condition_column(condition: str) -> str | None:
    """The column that a condition is about; None where it cannot be read."""
    match = _CONDITION.match(condition)
    return None if match is None else match["column"].strip("'\"")


def matching(frame: pd.DataFrame, condition: str, where: str) -> Mask:
    """Which rows meet ``column == value``; compared as numbers where the value is one.

    Raises:
        InputError: the condition cannot be read, or names no column.
    """
    match = _CONDITION.match(condition)
    if match is None:
        raise InputError(
            f"{where} cannot be read: {condition!r}; write column, one of == != < <= > >=, and a "
            "number or a word"
        )
    how, value = match["how"], match["value"].strip("'\"")
    cells = column(frame, match["column"].strip("'\""), where)
    try:
        number = float(value)
    except ValueError:
        number = None
    if number is not None and value == match["value"]:
        found = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(_COMPARE[how](found, number), dtype=bool)
    if how not in ("==", "!="):
        raise InputError(f"{where} compares with {value!r}, which is not a number: {condition!r}")
    same: Mask = (cells.astype(str).str.strip() == value).to_numpy(dtype=bool)
    return same if how == "==" else ~same


_COMPARE = {
    "==": np.equal, "!=": np.not_equal, "<": np.less,
    "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip


def _as_text(separator: str) -> Callable[[object], str]:
    return lambda cell: (
        separator.join(map(str, cell)) if isinstance(cell, list | tuple) else str(cell)
    )
