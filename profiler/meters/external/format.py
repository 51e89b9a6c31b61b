"""Lines of a stream -> samples: CSV with a header, or a JSON object a line.

What a column holds is told by its name and the unit at the end of it: ``time_ms``,
``power (mW)``, ``energy_kWh``, ``watts``. Anything else is refused, never guessed at.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any

from profiler.errors import CounterFaultError, FileFormatError
from profiler.meters.external.options import (
    ENERGY_UNITS_J,
    POWER_UNITS_W,
    TIME_UNITS_S,
    ExternalOptions,
)

LONGEST_LINE_BYTES = 64 * 1024
_TIME_NAMES = ("time", "timestamp", "t", "ts", "datetime", "date", "epoch", "unixtime")
_POWER_NAMES = ("power", "watts", "watt", "p", "apower", "active_power")
_ENERGY_NAMES = ("energy", "joules", "joule", "e")
_NAME = re.compile(r"(?P<base>.*?)(?:[\s_]*[(\[](?P<inside>[^)\]]*)[)\]]|_(?P<suffix>[^_]+))?\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SHOWN = 60
_LARGEST = 1e300  # times any unit still a finite number


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a stream.

    Attributes:
        stamp_s: seconds by the stream's own clock; ``None`` where it has none.
        value: watts, or where the stream counts energy, joules.
    """

    stamp_s: float | None
    value: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns are read, and what their numbers are multiplied by to give SI."""

    time: str | None
    time_unit_s: float
    value: str
    value_unit: float
    counts_energy: bool


class LineParser:
    """Turns lines into samples; the first line settles what all of them are.

    Attributes:
        layout: ``None`` until the first line that is not blank nor a comment (``#``).
    """

    def __init__(self, options: ExternalOptions) -> None:
        self.layout: Layout | None = None
        self._options = options
        self._header: list[str] | None = None
        self._delimiter = ","

    def parse(self, line: bytes) -> Sample | None:
        """The sample in *line*; ``None`` for a header, a blank line or a comment.

        Raises:
            FileFormatError: the first line names no power or energy that can be read.
            CounterFaultError: a later line does not hold what the first one promised.
        """
        try:
            text = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise self._fault(repr(line[:_SHOWN]), "it is not UTF-8 text") from error
        if not text or text.startswith("#"):
            return None
        if len(line) > LONGEST_LINE_BYTES:
            raise self._fault(text, f"it is longer than {LONGEST_LINE_BYTES} bytes")
        if self._header is None and text.startswith("{"):
            cells = self._json(text)
            if self.layout is None:
                self.layout = find_layout(list(cells), self._options, nested=True)
            return self._sample(cells, self.layout, text)
        row = self._csv(text)
        names, layout = self._table(row)
        if row == names:
            return None
        if len(row) != len(names):
            raise self._fault(text, f"it has {len(row)} cells, not {len(names)}")
        return self._sample(dict(zip(names, row, strict=True)), layout, text)

    def _table(self, row: list[str]) -> tuple[list[str], Layout]:
        """The names and layout of the table that *row* belongs to, or begins."""
        if self._header is not None and self.layout is not None:
            return self._header, self.layout
        if self.layout is not None:
            raise self._fault(",".join(row), "the lines before it were JSON")
        names = row
        if all(_NUMBER.fullmatch(cell) for cell in row):
            if not (self._options.is_url and len(row) <= 2):
                raise FileFormatError(
                    f"{self._place}: the first line is {','.join(row)[:_SHOWN]!r}; it must name "
                    "the columns, as in time_s,power_w"
                )
            names = ["time_s", "power_w"][-len(row) :]  # a server may answer with bare numbers
        if len(set(names)) != len(names):
            raise FileFormatError(f"{self._place}: a column is named twice in {_listed(names)}")
        self.layout = find_layout(names, self._options)
        self._header = names
        return names, self.layout

    def _sample(self, cells: Mapping[str, Any], layout: Layout, text: str) -> Sample:
        stamp_s = None
        if layout.time is not None:
            stamp_s = self._stamp_s(self._cell(cells, layout.time, text), layout.time_unit_s, text)
        raw = self._cell(cells, layout.value, text)
        return Sample(stamp_s, self._number(raw, text) * layout.value_unit)

    def _cell(self, cells: Mapping[str, Any], name: str, text: str) -> Any:
        if name in cells:
            return cells[name]
        found: Any = cells
        for part in name.split("."):
            if not isinstance(found, Mapping) or part not in found:
                raise self._fault(text, f"it has no {name!r}")
            found = found[part]
        return found

    def _stamp_s(self, raw: Any, unit_s: float, text: str) -> float:
        if isinstance(raw, str) and not _NUMBER.fullmatch(raw.strip()):
            try:
                moment = datetime.fromisoformat(raw.strip())
                return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
            except (ValueError, OverflowError) as error:
                raise self._fault(text, f"{raw[:_SHOWN]!r} is not a time") from error
        return self._number(raw, text) * unit_s

    def _number(self, raw: Any, text: str) -> float:
        plain = isinstance(raw, int | float) and not isinstance(raw, bool)
        if not plain and not (isinstance(raw, str) and _NUMBER.fullmatch(raw.strip())):
            raise self._fault(text, f"{str(raw)[:_SHOWN]!r} is not a number")
        try:
            number = float(raw)
        except OverflowError:
            number = inf
        if not abs(number) < _LARGEST:
            raise self._fault(text, f"{str(raw)[:_SHOWN]!r} is not a finite number")
        return number

    def _json(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._fault(text, "it is not a JSON object") from error
        if not isinstance(found, dict):
            raise self._fault(text, "it is not a JSON object")
        return found

    def _csv(self, text: str) -> list[str]:
        if self._header is None:
            self._delimiter = next((mark for mark in ",;\t" if mark in text), ",")
        try:
            rows = list(csv.reader([text], delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            raise self._fault(text, f"it is not CSV ({error})") from error
        return [cell.strip() for cell in rows[0]]

    def _fault(self, text: str, why: str) -> CounterFaultError:
        return CounterFaultError(
            f"{self._place} sent {text[:_SHOWN]!r}: {why}; let the meter's program write a sample "
            "a line, as the first line says"
        )

    @property
    def _place(self) -> str:
        return self._options.place


def find_layout(names: Sequence[str], options: ExternalOptions, *, nested: bool = False) -> Layout:
    """Which of *names* hold time and power, or energy where there is no power.

    Args:
        names: of the columns or keys.
        options: the columns and units that the user named go first.
        nested: a name with dots may lead into an object.

    Raises:
        FileFormatError: a named column is missing, or none can be read as power or energy.
    """

    def known(name: str | None) -> str | None:
        if name is not None and name not in names and not (nested and "." in name):
            raise FileFormatError(
                f"{options.place} has no column {name!r}; it has {_listed(names)}"
            )
        return name

    time = known(options.time) or _first(names, _TIME_NAMES, {})
    value = known(options.power)
    counts_energy = False
    if value is None and options.energy is None:
        value = _first(names, _POWER_NAMES, POWER_UNITS_W)
    if value is None:
        value = known(options.energy) or _first(names, _ENERGY_NAMES, ENERGY_UNITS_J)
        counts_energy = value is not None
    if value is None:
        raise FileFormatError(
            f"{options.place} has no power among {_listed(names)}; call a column power_w "
            "or watts, or name it: #power=COLUMN,unit=W"
        )
    units, default = (ENERGY_UNITS_J, "j") if counts_energy else (POWER_UNITS_W, "w")
    unit = options.unit or _unit(value, units) or default
    if unit not in units:
        raise FileFormatError(f"{options.place}: {value!r} cannot be in {unit}; correct #unit=")
    time_unit = options.time_unit or (_unit(time, TIME_UNITS_S) if time else None) or "s"
    return Layout(time, TIME_UNITS_S[time_unit], value, units[unit], counts_energy)


def _listed(names: Sequence[str]) -> str:
    """Names fit for a message, whatever bytes they came from."""
    text = ", ".join(names)[:200]
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def _first(names: Sequence[str], usual: Sequence[str], bare: Mapping[str, float]) -> str | None:
    """The first of *names* with a *usual* base, and no unit or one of its kind."""
    units = bare or TIME_UNITS_S
    for name in names:
        lowered = name.strip().lower()
        if lowered in usual or lowered in bare:
            return name
        match = _NAME.fullmatch(lowered)
        unit = match and (match["inside"] or match["suffix"])
        if match and match["base"].strip() in usual and unit and unit.strip() in units:
            return name
    return None


def _unit(name: str, units: Mapping[str, float]) -> str | None:
    """The unit that *name* ends in or is, if it is one of *units*."""
    lowered = name.rpartition(".")[2].strip().lower()
    match = _NAME.fullmatch(lowered)
    unit = ((match["inside"] or match["suffix"] or "") if match else "").strip()
    return unit if unit in units else lowered if lowered in units else None
