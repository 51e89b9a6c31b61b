"""The windows of a monitor as text and as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from profiler.errors import FileFormatError
from profiler.files import read_json, write_atomic
from profiler.listing import NOT_SEEN, quantity
from profiler.meters.base import MeterInfo
from profiler.probe import ProbeResult
from profiler.windows.summary import Joules, WindowSummary

SCHEMA, VERSION = "cwmp.windows", 1
_COLUMNS = ("window", "n", "each", "95 % interval", "systematic", "all n", "duration")


def as_table(summaries: Sequence[WindowSummary], info: MeterInfo) -> str:
    """Lines of text: a window each, then its part above rest and its rails, then notes.

    What lies below the critical level is shown as ``< limit``, and where there is none, as a rail
    that never stepped has none, as ``not seen``.
    """
    if not summaries:
        return "no window has ended"
    rows: list[tuple[str, ...]] = [_COLUMNS]
    notes: list[str] = []
    for each in summaries:
        rows += _rows(each)
        notes += [f"{each.name}: {remark}" for remark in each.remarks]
        notes += [f"{each.name}: {n} dropped: {cause}" for cause, n in each.dropped.items()]
    widths = [max(len(row[number]) for row in rows) for number in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join((*lines, "", *notes, *_about(info)))


def as_document(
    summaries: Sequence[WindowSummary], info: MeterInfo, probe: ProbeResult
) -> dict[str, Any]:
    """Plain numbers, lists and dicts, with the schema's name and version."""
    return {
        "schema_name": SCHEMA,
        "schema_version": VERSION,
        "meter": info.name,
        "device": info.device,
        "origin": info.origin,
        "rails": list(info.selected),
        "assumptions": list(info.assumptions),
        "scope": list(info.scope),
        "systematic_terms": [asdict(term) for term in info.systematic],
        "probe": probe.as_dict(),
        "windows": [each.as_dict() for each in summaries],
    }


def save(path: Path, document: dict[str, Any]) -> None:
    """Write a document to a new file.

    Raises:
        OutputExistsError: the file exists.
        OutputError: it cannot be written.
    """
    write_atomic(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def read_windows(path: Path | str) -> dict[str, Any]:
    """The document that `EnergyMonitor.save` wrote.

    Raises:
        InputFileError: the file cannot be read.
        FileFormatError: it is another kind of file, or of another version.
    """
    raw = read_json(Path(path))
    if not isinstance(raw, dict) or raw.get("schema_name") != SCHEMA:
        raise FileFormatError(f"{path} holds no windows: its schema is not {SCHEMA!r}")
    if raw.get("schema_version") != VERSION:
        raise FileFormatError(
            f"{path} has version {raw.get('schema_version')!r} of {SCHEMA}; this reads {VERSION}"
        )
    return raw


def _rows(each: WindowSummary) -> list[tuple[str, ...]]:
    if each.energy is None or each.duration_s is None:
        return [(each.name, "0", "-", "-", "-", "-", "-")]
    systematic = _systematic(each)
    total = "-" if each.total_j is None else _with_error(each.total_j, each.total_half_width_j)
    first = (systematic, total, quantity(each.duration_s, "s"))
    rows: list[tuple[str, ...]] = [(each.name, str(each.n), *_cells(each.energy), *first)]
    if each.above_rest is not None:
        rows.append(("  above rest", "", *_cells(each.above_rest), "", "", ""))
    if len(each.rails) > 1:
        rows += [(f"  {rail}", "", *_cells(one), "", "", "") for rail, one in each.rails.items()]
    return rows


def _systematic(each: WindowSummary) -> str:
    if each.systematic_j is not None:
        return f"+- {quantity(each.systematic_j, 'J')}" if each.systematic_j else "-"
    if each.total_j is None:
        return "-"
    return f"unknown, edges +- {quantity(each.edges_j, 'J')}" if each.edges_j else "unknown"


def _cells(joules: Joules) -> tuple[str, str]:
    if not joules.detected:
        limit_j = joules.upper_limit_j
        return (f"< {quantity(limit_j, 'J')}" if limit_j else NOT_SEEN), "-"
    interval = "unknown"
    if joules.half_width_j is not None:
        interval = f"+- {quantity(joules.half_width_j, 'J')} ({joules.basis})"
    return quantity(joules.mean_j or 0.0, "J"), interval


def _with_error(value_j: float, half_width_j: float | None) -> str:
    if half_width_j is None:
        return quantity(value_j, "J") if value_j > 0 else NOT_SEEN
    if value_j <= half_width_j:
        return f"< {quantity(max(value_j, 0.0) + half_width_j, 'J')}"
    return f"{quantity(value_j, 'J')} +- {quantity(half_width_j, 'J')}"


def _about(info: MeterInfo) -> list[str]:
    return [
        f"meter: {info.name} ({info.device}), origin: {info.origin}, "
        f"rails: {' + '.join(info.selected)}",
        *(f"scope: {sentence}" for sentence in info.scope),
        *(f"assumed: {sentence}" for sentence in info.assumptions),
        *(f"systematic: {sentence}" for sentence in info.systematic_sentences),
    ]
