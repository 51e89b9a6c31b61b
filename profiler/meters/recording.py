"""Recorded counters: what a recording is, the recorder that makes one, and its file.

CSV: a first line ``# {json}`` with schema, version, device, origin, covers and rails, a header
``time_s,<rail>,...``, then the joules each counter stood at, by the second. The first line may
also hold scope, systematic and lag_s; files that do not were recorded before there were any.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profiler.errors import FileFormatError, InputError
from profiler.files import read_bytes, refuse_existing, write_atomic
from profiler.meters.base import (
    Covers,
    EnergyMeter,
    MeterInfo,
    Origin,
    Rail,
    Reading,
    Systematic,
    first_reading,
)

SCHEMA, VERSION = "cwmp.recording", 1
_ORIGINS: tuple[Origin, ...] = ("measured", "modelled", "assumed")
_COVERS: tuple[Covers, ...] = ("cpu", "gpu")
_SHOWN = 100
_UNRECORDED = "the error of sampling a power was not recorded, and is in no interval"


@dataclass(frozen=True, slots=True)
class Recording:
    """Joules by rail at increasing times; `load_recording` and `save_recording` are the file.

    Attributes:
        times_s: increasing, shape (n,).
        energy_j: rail name -> non-decreasing joules, shape (n,).
        covers: as `MeterInfo.covers`; files without it are of processors.
        scope, systematic, lag_s: as in `MeterInfo`; of a sampled power, `scope` also says that its
            sampling variance is lost.

    Raises:
        FileFormatError: fewer than two rows, times that do not increase, joules that decrease,
            a number that is not finite, or a lag below 0.
    """

    device: str
    origin: Origin
    rails: tuple[Rail, ...]
    assumptions: tuple[str, ...]
    times_s: tuple[float, ...]
    energy_j: dict[str, tuple[float, ...]]
    covers: Covers = "cpu"
    scope: tuple[str, ...] = ()
    systematic: tuple[Systematic, ...] = ()
    lag_s: float = 0.0

    def __post_init__(self) -> None:
        if self.origin not in _ORIGINS:
            raise FileFormatError(f"origin {self.origin!r} is not one of {', '.join(_ORIGINS)}")
        if self.covers not in _COVERS:
            raise FileFormatError(f"covers {self.covers!r} is not one of {', '.join(_COVERS)}")
        if not (0 <= self.lag_s < math.inf):
            raise FileFormatError(f"lag_s is {self.lag_s}, not a number of seconds from 0")
        if len(self.times_s) < 2:
            raise FileFormatError("a recording needs at least two rows")
        _check_column("time_s", self.times_s, strictly=True)
        if [rail.name for rail in self.rails] != list(self.energy_j):
            raise FileFormatError("the columns are not the rails that the first line names")
        for name, column in self.energy_j.items():
            _check_column(name, column, strictly=False)


def record(
    meter: EnergyMeter,
    path: Path,
    *,
    duration_s: float,
    interval_s: float = 0.001,
    force: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Recording:
    """Read *meter* every *interval_s* for *duration_s* and write the recording to *path*.

    Rows in which no counter moved are left out, but for the last.

    Raises:
        OutputExistsError: *path* exists and *force* is false; nothing is measured then.
        InputError: a duration or interval that is not positive.
    """
    if not (duration_s > 0 and interval_s > 0):
        raise InputError(f"cannot record {duration_s} s every {interval_s} s; both must be > 0")
    refuse_existing(path, force=force)
    info, first = meter.info, first_reading(meter)
    rows, last = [first], first
    while last.time_s - first.time_s < duration_s:
        sleep(interval_s)
        last = meter.read()
        if last.energy_j != rows[-1].energy_j:
            rows.append(last)
    if rows[-1] is not last:
        rows.append(last)
    recording = Recording(
        device=info.device,
        origin=info.origin,
        rails=tuple(rail for rail in info.rails if rail.name in first.energy_j),
        assumptions=info.assumptions,
        times_s=tuple(row.time_s - first.time_s for row in rows),
        energy_j={
            rail.name: tuple(row.energy_j[rail.name] for row in rows)
            for rail in info.rails
            if rail.name in first.energy_j
        },
        covers=info.covers,
        scope=_scope(info, rows),
        systematic=info.systematic,
        lag_s=info.lag_s,
    )
    save_recording(recording, path, force=force)
    return recording


def _scope(info: MeterInfo, rows: Sequence[Reading]) -> tuple[str, ...]:
    """The meter's scope, and what a recording of it leaves out."""
    sampled = any(row.variance_j2 for row in rows)
    return (*info.scope, _UNRECORDED) if sampled else info.scope


def save_recording(recording: Recording, path: Path, *, force: bool = False) -> None:
    """Write *recording* whole or not at all.

    Raises:
        OutputExistsError: *path* exists and *force* is false.
    """
    header = {
        "schema": SCHEMA,
        "version": VERSION,
        "device": recording.device,
        "origin": recording.origin,
        "covers": recording.covers,
        "rails": [asdict(rail) for rail in recording.rails],
        "assumptions": list(recording.assumptions),
        "scope": list(recording.scope),
        "systematic": [asdict(term) for term in recording.systematic],
        "lag_s": recording.lag_s,
    }
    stream = io.StringIO()
    stream.write(f"# {json.dumps(header)}\n")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["time_s", *recording.energy_j])
    for row in zip(recording.times_s, *recording.energy_j.values(), strict=True):
        writer.writerow([repr(value) for value in row])
    write_atomic(path, stream.getvalue().encode(), force=force)


def load_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        InputFileError: *path* cannot be read.
        FileFormatError: it is no recording, of another version, or its content is refused.
    """
    try:
        first, _, rest = read_bytes(path).decode().partition("\n")
        header = _parse_header(first)
        if not rest.endswith("\n"):
            raise FileFormatError("its last line was cut off; record again")
        rows = list(csv.reader(io.StringIO(rest)))
        names, values = rows[0], [[float(cell) for cell in row] for row in rows[1:]]
        if names[:1] != ["time_s"] or any(len(row) != len(names) for row in values):
            raise FileFormatError("the table is not a column time_s and one for each rail")
        columns = [tuple(row[number] for row in values) for number in range(len(names))]
        return Recording(
            device=str(header["device"]),
            origin=header["origin"],
            rails=tuple(Rail(**rail) for rail in header["rails"]),
            assumptions=tuple(header["assumptions"]),
            times_s=columns[0],
            energy_j=dict(zip(names[1:], columns[1:], strict=True)),
            covers=header.get("covers", "cpu"),
            scope=_sentences(header.get("scope", [])),
            systematic=tuple(Systematic(**term) for term in header.get("systematic", ())),
            lag_s=float(header.get("lag_s", 0.0)),
        )
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise FileFormatError(
            f"{path} is not a recording: {type(error).__name__} {str(error)[:_SHOWN]!r}"
        ) from error


def _parse_header(line: str) -> dict[str, Any]:
    header = json.loads(line.removeprefix("# "))
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise FileFormatError(f"not a recording: its schema is not {SCHEMA!r}")
    if header.get("version") != VERSION:
        raise FileFormatError(
            f"recording version {header.get('version')!r}; this release reads version {VERSION}"
        )
    return header


def _sentences(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise FileFormatError("scope is not a list of sentences")
    return tuple(value)


def _check_column(name: str, values: Sequence[float], *, strictly: bool) -> None:
    for row, value in enumerate(values):
        if not math.isfinite(value):
            raise FileFormatError(f"column {name!r} is {value} in row {row}")
        if row and (value < values[row - 1] or (strictly and value == values[row - 1])):
            raise FileFormatError(
                f"column {name!r} falls or stands still in row {row}"
                if strictly
                else f"column {name!r} falls in row {row}"
            )
