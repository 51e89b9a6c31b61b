"""Cells and a spec -> `Samples`: each row once, in joules of one call, or counted as left out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.samples import ANY_KIND, Samples
from costmodels.tables.cells import column, hashable, is_blank, labels, matching, split_lists
from costmodels.tables.decimals import plain_numbers
from costmodels.tables.energy import (
    JOULES,
    calls_of,
    check_power,
    differenced,
    raw_energy,
    repaired,
    seconds,
)
from costmodels.tables.explained import (
    explain,
    ranges_besides,
    shape_columns,
    shape_fields,
    varying,
)
from costmodels.tables.groups import grouping_labels
from costmodels.tables.ledger import Ledger
from costmodels.tables.oddlabels import remark_labels
from costmodels.tables.reading import RawTable, read_table
from costmodels.tables.spec import DeviceColumn, KindColumn, TableSpec
from costmodels.tables.suspicion import refuse_cumulative, suspect_units
from costmodels.tables.wholes import set_aside, wholes_of
from profiler.errors import InputError

_DEVICES_NAMED = 5


def read_samples(path: str | Path, spec: TableSpec) -> Samples:
    """The usable rows of a file; see `samples_of`.

    Raises:
        InputFileError: *path* cannot be read.
        FileFormatError: it is not a table of the format that the spec names.
        InputError: as `samples_of`.
    """
    path = Path(path)
    return _samples(read_table(path, spec.file), spec, spec.source or path.name)


def samples_of(frame: pd.DataFrame, spec: TableSpec, source: str = "") -> Samples:
    """The usable rows of a table; every other row is counted in ``findings``, under one cause.

    In this order: rows not wanted, failed ones, lists of another length, exact repetitions,
    missing and unreadable energies, wraps, zeros, power that no machine draws, unusable
    features. A line in a finding is the row's number + 2, as if the frame were a file with one
    header line.

    Args:
        frame: one row a measurement, text or numbers, shape (m, columns).
        spec: what the columns mean.
        source: where the rows come from; the spec's own sentence where empty.

    Raises:
        InputError: a column that the table does not have, cells in another unit, a running
            total that poses as energies of rows, units that are mixed beyond doubt, or no
            usable row.
    """
    frame = frame.reset_index(drop=True)
    lines = np.arange(2, len(frame) + 2)
    raw = RawTable(frame, lines, np.zeros(len(frame), dtype=np.int64), (), _digest(frame))
    return _samples(raw, spec, source or spec.source or "the table")


def _samples(raw: RawTable, spec: TableSpec, source: str) -> Samples:
    if not len(raw.frame):
        raise InputError(f"{source} has no rows")
    twice = raw.frame.columns[raw.frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{source} has more than one column called {twice[0]!r}; rename one")
    frame, unfit = split_lists(raw.frame, spec.file.lists, spec.file.list_separator)
    frame = plain_numbers(frame, spec.file.decimal, raw.lines, besides=set(spec.file.lists))
    ledger = Ledger(raw.lines, raw.findings)
    aside = set_aside(frame, spec, ledger)
    device, kind = _devices(frame, spec, ledger), kinds_of(frame, spec, ledger)
    failed = _leave_out(raw.frame, frame, unfit, spec, ledger)
    duration_s = seconds(frame, spec.energy, ledger)
    recorded_j = energy_j = raw_energy(frame, spec.energy, duration_s, ledger)
    if spec.energy.cumulative:
        energy_j = differenced(np.where(failed, np.nan, energy_j), device, raw.gaps, ledger)
    energy_j = repaired(energy_j, _wrap_j(spec), ledger)
    if duration_s is not None:
        check_power(energy_j / duration_s, spec.energy, ledger)
    energy_j = energy_j / calls_of(frame, spec.energy, ledger)
    features, units = explain(frame, kind, spec, ledger)
    if not ledger.alive.any():
        found = "; ".join(map(str, ledger.findings))
        wanted = spec.energy.power or spec.energy.energy_columns[0]
        raise InputError(
            f"{source}: none of {len(frame)} rows is usable; {found}. Is {wanted!r} the column of "
            "the energies?"
        )

    wholes = wholes_of(frame, energy_j, aside, spec, ledger)
    alive = ledger.alive
    fields = shape_fields(frame, spec, ledger)[alive].reset_index(drop=True)
    shape = shape_columns(fields, spec)
    features, kinds = features[alive].reset_index(drop=True), kind
    kind, device = kind[alive], device[alive]
    if spec.energy.cumulative is None:
        _refuse_totals(recorded_j[alive], duration_s, alive, device, features, spec)
    refuse = spec.rows.mixed_units == "refuse"
    suspect_units(energy_j[alive], features, kind, device, ledger, refuse=refuse)
    explained, features = features, varying(features, ledger)
    groupings, assumptions = grouping_labels(frame[alive], features, kind, device, spec, ledger)
    remark_labels(frame, kinds, spec, ledger)
    return Samples(
        features=features,
        units={name: units[name] for name in features.columns},
        energy_j=energy_j[alive],
        kind=kind,
        groupings=groupings,
        source=source,
        device=_device_name(device),
        meter=spec.meter,
        findings=ledger.findings,
        sha256=raw.sha256,
        assumptions=assumptions,
        shape=shape,
        wholes=wholes,
        ranges=ranges_besides((explained, fields), (features, shape)),
    )


def _refuse_totals(
    recorded_j: NDArray[np.float64],
    duration_s: NDArray[np.float64] | None,
    alive: NDArray[np.bool_],
    device: NDArray[np.str_],
    features: pd.DataFrame,
    spec: TableSpec,
) -> None:
    """Refuse energies that are a running total, and durations that are a clock."""
    if duration_s is not None:
        refuse_cumulative(
            duration_s[alive],
            device,
            features,
            f"{spec.energy.time!r}",
            "it is a clock, where [energy] wants how long each row took; or write cumulative = "
            "false if it is that",
        )
    if spec.energy.power is None:
        refuse_cumulative(
            recorded_j,
            device,
            features,
            f"{spec.energy.energy_columns[0]!r}",
            "it is a running total; write cumulative = true in [energy] to take its differences, "
            "or cumulative = false if each row is a measurement of its own",
        )


def _leave_out(
    cells: pd.DataFrame,
    frame: pd.DataFrame,
    unfit: dict[str, NDArray[np.bool_]],
    spec: TableSpec,
    ledger: Ledger,
) -> NDArray[np.bool_]:
    """Drop what the spec does not want, failed rows, lists that do not fit, and repetitions.

    Returns which rows failed.
    """
    failed = np.zeros(len(frame), dtype=bool)
    for condition in spec.rows.drop:
        ledger.drop(matching(frame, condition, "rows.drop"), f"rows not wanted ({condition})")
    for condition in spec.rows.failed:
        mask = matching(frame, condition, "rows.failed")
        ledger.drop(mask, f"failed rows ({condition})")
        failed |= mask
    for name, mask in unfit.items():
        expected = len(spec.file.lists[name])
        ledger.drop(mask, f"rows whose list in {name!r} has not {expected} items")
    default = "keep" if spec.whole else "drop"  # a model may hold the same layer twice
    if (spec.rows.duplicates or default) == "drop":
        repeats = hashable(cells).duplicated().to_numpy(dtype=bool)
        ledger.drop(repeats, "rows that repeat an earlier one exactly")
    return failed


def _wrap_j(spec: TableSpec) -> float | None:
    energy = spec.energy
    if energy.wrap_size is None:
        return None
    return energy.wrap_size / energy.wrap_windows * JOULES[energy.unit or "J"]


def kinds_of(frame: pd.DataFrame, spec: TableSpec, ledger: Ledger) -> NDArray[np.str_]:
    """The kind of every row, ``*`` where none is told apart; rows without one are dropped."""
    if isinstance(spec.kind, KindColumn):
        return _told(frame, spec.kind.column, "kind.column", ledger)
    return np.full(len(frame), spec.kind or ANY_KIND)


def _devices(frame: pd.DataFrame, spec: TableSpec, ledger: Ledger) -> NDArray[np.str_]:
    if isinstance(spec.device, DeviceColumn):
        return _told(frame, spec.device.column, "device.column", ledger)
    return np.full(len(frame), spec.device)


def _told(frame: pd.DataFrame, name: str, where: str, ledger: Ledger) -> NDArray[np.str_]:
    cells = column(frame, name, where)
    ledger.drop(is_blank(cells), f"rows without {name!r}")
    return labels(cells)


def _device_name(device: NDArray[np.str_]) -> str:
    names = list(dict.fromkeys(device.tolist()))
    more = f" and {len(names) - _DEVICES_NAMED} more" if len(names) > _DEVICES_NAMED else ""
    return ", ".join(names[:_DEVICES_NAMED]) + more


def _digest(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256("\0".join(map(str, frame.columns)).encode())
    digest.update(pd.util.hash_pandas_object(hashable(frame), index=False).to_numpy().tobytes())
    return digest.hexdigest()
