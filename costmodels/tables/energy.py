"""The energy columns -> joules of one call, with every row that has none counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.tables.cells import column, is_blank, numbers
from costmodels.tables.decimals import advice
from costmodels.tables.ledger import Ledger
from costmodels.tables.spec import Energy
from profiler.errors import InputError

Floats = NDArray[np.float64]

JOULES = MappingProxyType(
    {"J": 1.0, "kJ": 1e3, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6, "nJ": 1e-9}
    | {"Wh": 3600.0, "kWh": 3.6e6, "mWh": 3.6}
)
WATTS = MappingProxyType({"W": 1.0, "kW": 1e3, "mW": 1e-3, "uW": 1e-6, "µW": 1e-6})
SECONDS = MappingProxyType(
    {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
)

# "min", "h" and "s" at the end of a name mean other things too
_TOLD = tuple(
    unit
    for unit in (*JOULES, *WATTS, *SECONDS)
    if unit not in ("h", "min", "s") and "µ" not in unit
)


def seconds(frame: pd.DataFrame, spec: Energy, ledger: Ledger) -> Floats | None:
    """How long each row lasted, NaN where that is no positive number; None without a column."""
    if spec.time is None:
        return None
    time = _column(frame, spec.time, spec.time_unit, "energy.time", ledger)
    ledger.drop(time <= 0, f"rows whose {spec.time!r} is zero or below")
    return np.where(time > 0, time, np.nan) * SECONDS[spec.time_unit or "s"]


def raw_energy(
    frame: pd.DataFrame, spec: Energy, duration_s: Floats | None, ledger: Ledger
) -> Floats:
    """The recorded joules of each row as they stand, NaN where a cell is no number, shape (m,).

    The sum of the energy columns, or power x time. Empty cells and cells that are not numbers
    are dropped from *ledger*: an absent rail is not zero.
    """
    if spec.power is not None and duration_s is not None:
        power = _column(frame, spec.power, spec.power_unit, "energy.power", ledger)
        ledger.drop(power <= 0, f"rows whose {spec.power!r} is zero or below")
        return power * WATTS[spec.power_unit or "W"] * duration_s
    total = np.zeros(len(frame))
    for name in spec.energy_columns:
        part = _column(frame, name, spec.unit, "energy.column", ledger)
        if len(spec.energy_columns) > 1 and not spec.cumulative:
            # the others would hide in the sum that this one wrapped
            part = _unwrapped(part, spec, name, ledger)
        total = total + part
    return total * JOULES[spec.unit or "J"]


def _unwrapped(values: Floats, spec: Energy, name: str, ledger: Ledger) -> Floats:
    """One rail of several: below zero it gets one wrap, or its row is dropped."""
    with np.errstate(invalid="ignore"):
        negative = values < 0
        if spec.wrap_size is None:
            words = f"rows whose {name!r} is below zero (give energy.wrap_size to repair wraps)"
            ledger.drop(negative, words)
            return values
        wrap = spec.wrap_size / spec.wrap_windows
        values = np.where(negative, values + wrap, values)
        ledger.drop(values < 0, f"rows whose {name!r} is below zero by more than one wrap")
    ledger.repaired(negative, f"rows whose {name!r} was below zero, by adding one wrap")
    return values


def differenced(
    energy_j: Floats, owner: NDArray[np.str_], gaps: NDArray[np.int64], ledger: Ledger
) -> Floats:
    """The joules between each row of a running total and the one before it on its device.

    *energy_j* is NaN where the total is not to be trusted; a zero after the first row is no total
    either. Rows that are out still count as the row before. A difference over a row that could
    not be read would be two rows' energy: it is dropped; so are the two differences at a total
    that falls and is back on the next row, which no wrap and no reset does.
    """
    frame = pd.DataFrame({"energy": energy_j, "gaps": gaps})
    first = ~pd.Series(owner).duplicated().to_numpy(dtype=bool)
    frame.loc[(energy_j == 0) & ~first, "energy"] = np.nan
    steps = frame.groupby(owner, sort=False).diff()
    joules: Floats = steps["energy"].to_numpy(dtype=np.float64).copy()
    ledger.drop(first, "first rows of a cumulative column, with nothing before them")
    broken = (steps["gaps"] > 0).to_numpy(dtype=bool) | np.isnan(joules)
    ledger.drop(broken, "rows at or after an unreadable one in a cumulative column")
    ledger.drop(
        _dips(frame["energy"], owner),
        "rows at a cumulative column's fall for one row only (a false reading)",
    )
    return joules


def _dips(totals: pd.Series, owner: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Which known totals are below the one before while the next is not, and those next ones."""
    known = totals.notna().to_numpy(dtype=bool)
    values, owners = totals[known], owner[known]
    by_owner = values.groupby(owners, sort=False)
    last, one_more = by_owner.shift(1), by_owner.shift(2)
    back = (last < one_more) & (values >= one_more)
    dip = back.groupby(owners, sort=False).shift(-1, fill_value=False)
    found = np.zeros(len(totals), dtype=bool)
    found[known] = (back | dip).to_numpy(dtype=bool)
    return found


def repaired(energy_j: Floats, wrap_j: float | None, ledger: Ledger) -> Floats:
    """Positive joules: a wrap of known size is added once, what stays below zero is dropped."""
    energy_j = energy_j.copy()
    with np.errstate(invalid="ignore"):
        negative = energy_j < 0
        if wrap_j is None:
            ledger.drop(
                negative,
                "negative energies (the counter wrapped; give energy.wrap_size to repair them)",
            )
        else:
            energy_j[negative] += wrap_j
            ledger.drop(energy_j < 0, "negative energies that one wrap does not explain")
            ledger.repaired(negative, f"negative energies by adding one wrap of {wrap_j:.6g} J")
        ledger.drop(
            energy_j == 0, "energies of zero (nothing measured, or a window below the counter's)"
        )
    return energy_j


def check_power(power_w: Floats, spec: Energy, ledger: Ledger) -> None:
    """Drop rows whose energy over time no machine draws.

    Raises:
        InputError: more than half of the rows are so: a unit in the spec is wrong.
    """
    with np.errstate(invalid="ignore"):
        wild = power_w > spec.max_power_w
    rows, count = int(ledger.alive.sum()), int((wild & ledger.alive).sum())
    if 2 * count > rows:
        raise InputError(
            f"{count} of {rows} rows draw more than {spec.max_power_w:g} W: look at the units of "
            "the energy, the power and the time in the spec"
        )
    ledger.drop(wild, f"rows that draw more than {spec.max_power_w:g} W")


def calls_of(frame: pd.DataFrame, spec: Energy, ledger: Ledger) -> Floats:
    """Over how many calls each row was recorded, shape (m,)."""
    if spec.calls is None:
        return np.ones(len(frame))
    if not isinstance(spec.calls, str):
        return np.full(len(frame), float(spec.calls))
    calls = numbers(column(frame, spec.calls, "energy.calls"), ledger)
    ledger.drop(~(np.isfinite(calls) & (calls > 0)), f"rows without a usable {spec.calls!r}")
    return calls


def _column(
    frame: pd.DataFrame, name: str | None, unit: str | None, where: str, ledger: Ledger
) -> Floats:
    cells = column(frame, name or "", where)
    _agrees(str(cells.name), unit, _TOLD)
    values = numbers(cells, ledger, unit)
    missing = np.isnan(values)
    if missing.any():
        odd = cells[missing]
        said_so = odd.astype(str).str.strip().str.casefold() == "nan"
        missing[missing] = is_blank(odd) | said_so.to_numpy(dtype=bool)
    ledger.drop(missing, f"rows without {name!r}")
    odd = ~np.isfinite(values)
    ledger.drop(odd, f"rows whose {name!r} is not a finite number{advice(cells[odd])}")
    return values


def _agrees(name: str, unit: str | None, units: Iterable[str]) -> None:
    """Refuse a column whose name ends in another unit than the spec gives it."""
    said = name.rstrip(")] ").replace("µ", "u").casefold()
    wanted = (unit or "").replace("µ", "u").casefold()
    for other in units:
        if said == other.casefold() or re.search(rf"[\W_]{other.casefold()}$", said):
            if other.casefold() != wanted:
                raise InputError(
                    f"column {name!r} is in {other} by its name, where the spec says {unit}: "
                    "correct the unit, or rename the column"
                )
            return
