"""A file of separated values or JSON lines -> text cells, with every odd line counted.

Lines are told apart and their fields counted on the bytes, so that a ragged line is found by its
number and left out before any parser guesses what it means. Double quotes enclose a field; a
separator or a line break inside them is text.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.samples import Finding
from costmodels.tables.names import listed
from costmodels.tables.spec import FileFormat
from profiler.errors import FileFormatError
from profiler.files import read_bytes

SPACE = "space"
_SNIFFED = ("\t", ",", ";", "|", SPACE)
_HEAD_BYTES, _HEAD_LINES = 1 << 18, 50
_QUOTE, _NEWLINE = ord('"'), ord("\n")


@dataclass(frozen=True)
class RawTable:
    """The cells of a file.

    Attributes:
        frame: text cells by column (for JSON lines: their values), shape (m, columns).
        lines: the line of each row in the file, counted from 1.
        gaps: how many unreadable lines stand before each row.
        findings: what was left out.
        sha256: of the file.
    """

    frame: pd.DataFrame
    lines: NDArray[np.int64]
    gaps: NDArray[np.int64]
    findings: tuple[Finding, ...]
    sha256: str


def read_table(path: Path, layout: FileFormat) -> RawTable:
    """Read the cells of *path*.

    Raises:
        InputFileError: *path* cannot be read.
        FileFormatError: not UTF-8, no header, a column named twice, an open quote, or most
            lines have another number of fields than the header.
    """
    content = read_bytes(path)
    sha256 = hashlib.sha256(content).hexdigest()
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not text in UTF-8 (byte {error.start})") from error
    if b"\0" in content:
        raise FileFormatError(f"{path} is not text: byte {content.index(0)} is zero")
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    kind = layout.format or ("jsonl" if path.suffix in (".jsonl", ".ndjson") else "csv")
    if not content.strip():
        raise FileFormatError(f"{path} is empty")
    read = _read_json_lines if kind == "jsonl" else _read_separated
    frame, lines, bad_lines, findings = read(path, content, layout)
    gaps = np.searchsorted(bad_lines, lines)
    return RawTable(frame, lines, gaps, findings, sha256)


_Parts = tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64], tuple[Finding, ...]]


def _read_separated(path: Path, content: bytes, layout: FileFormat) -> _Parts:
    if not content.endswith(b"\n"):
        content += b"\n"
    data = np.frombuffer(content, dtype=np.uint8)
    newline = data == _NEWLINE
    inside = None
    if _QUOTE in data:
        # A doubled quote flips the parity twice, so that parity alone tells inside from outside.
        inside = (np.cumsum(data == _QUOTE, dtype=np.uint8) & 1).astype(bool)
        if inside[-1]:
            raise FileFormatError(f"{path} has a quotation mark that is never closed")
        every = np.flatnonzero(newline)
        newline &= ~inside
    ends = np.flatnonzero(newline) + 1
    starts = np.concatenate(([0], ends[:-1]))
    numbers = (
        np.arange(1, len(starts) + 1) if inside is None else np.searchsorted(every, starts) + 1
    )
    separator = layout.separator or _sniff(content, layout)
    fields = _count_fields(data, starts, separator, inside)
    wanted = np.logical_or.reduceat(~np.isin(data, list(b" \t\r\n")), starts)
    if layout.comment is not None:
        wanted &= ~_begins(data, starts, layout.comment.encode())
    names, body = _header(path, content, layout, separator, (starts, ends, wanted))
    wanted &= body
    good = wanted & (fields == len(names))
    if not wanted.any():
        raise FileFormatError(f"{path} has a header and no rows")
    if 2 * good.sum() < wanted.sum():
        raise FileFormatError(
            f"{int((wanted & ~good).sum())} of {int(wanted.sum())} lines of {path} have not the "
            f"{len(names)} fields of the header ({listed(names)}): name the separator, "
            "what comments begin with (comment), or the columns (names) in [file]"
        )
    kept = data[np.repeat(good, ends - starts)].tobytes()
    frame = _parse(kept, names, separator)
    if len(frame) != int(good.sum()):
        raise FileFormatError(
            f"{path} reads as {len(frame)} rows on {int(good.sum())} lines: look for quotes "
            "inside a field"
        )
    findings = _ragged(fields, wanted, numbers, len(names))
    return frame, numbers[good], numbers[wanted & ~good], findings


def _parse(content: bytes, names: list[str], separator: str) -> pd.DataFrame:
    frame: pd.DataFrame = pd.read_csv(
        io.BytesIO(content),
        sep=r"\s+" if separator == SPACE else separator,
        header=None,
        names=names,
        index_col=False,
        dtype=str,
        na_filter=False,
    )
    return frame


def _sniff(content: bytes, layout: FileFormat) -> str:
    """The separator that cuts the first lines into the same, and the largest, number of fields."""
    head = content[:_HEAD_BYTES].decode(errors="replace").splitlines()[:_HEAD_LINES]
    lines = [
        line
        for line in head
        if line.strip() and not (layout.comment and line.startswith(layout.comment))
    ]
    if not lines:
        return ","
    best, score = ",", 0
    for candidate in _SNIFFED:
        counts = [len(_cells(line, candidate)) for line in lines]
        expected = len(layout.names) if layout.names else counts[0]
        agreeing = sum(count == expected for count in counts)
        if expected > 1 and agreeing > score:
            best, score = candidate, agreeing
    return best


def _cells(line: str, separator: str) -> list[str]:
    plain, cut = (" ".join(line.split()), " ") if separator == SPACE else (line.rstrip(), separator)
    try:
        return next(csv.reader([plain], delimiter=cut), [])
    except csv.Error as error:
        raise FileFormatError(
            f"a line cannot be cut into cells ({error}): {line[:40]!r}"
        ) from error


def _count_fields(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    separator: str,
    inside: NDArray[np.bool_] | None,
) -> NDArray[np.int64]:
    if separator == SPACE:
        blank = np.isin(data, list(b" \t\r\n"))
        if inside is not None:
            blank &= ~inside
        begins = ~blank
        begins[1:] &= blank[:-1]
        return np.add.reduceat(begins, starts, dtype=np.int64)
    if len(separator.encode()) != 1:
        raise FileFormatError(f"a separator is one character or {SPACE!r}, not {separator!r}")
    cuts = data == ord(separator)
    if inside is not None:
        cuts &= ~inside
    return np.add.reduceat(cuts, starts, dtype=np.int64) + 1


def _begins(data: NDArray[np.uint8], starts: NDArray[np.int64], prefix: bytes) -> NDArray[np.bool_]:
    found = np.ones(len(starts), dtype=bool)
    for offset, byte in enumerate(prefix):
        at = np.minimum(starts + offset, len(data) - 1)
        found &= data[at] == byte
    return found


def _header(
    path: Path,
    content: bytes,
    layout: FileFormat,
    separator: str,
    cut: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]],
) -> tuple[list[str], NDArray[np.bool_]]:
    """The names of the columns, and which lines come after them."""
    starts, ends, wanted = cut
    body = np.ones(len(starts), dtype=bool)
    if layout.names is not None:
        names = list(layout.names)
    else:
        if not wanted.any():
            raise FileFormatError(f"{path} holds no line but comments")
        first = int(np.argmax(wanted))
        body[: first + 1] = False
        line = content[starts[first] : ends[first]].decode()
        names = [
            name.strip() or f"unnamed {n}" for n, name in enumerate(_cells(line, separator), 1)
        ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FileFormatError(f"{path} has more than one column called {twice[0]!r}; rename one")
    return names, body


def _ragged(
    fields: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    numbers: NDArray[np.int64],
    expected: int,
) -> tuple[Finding, ...]:
    """The lines of another number of fields; the last one of the file is a footer."""
    footer = np.zeros(len(fields), dtype=bool)
    last = int(np.flatnonzero(wanted)[-1])
    footer[last] = fields[last] != expected
    findings = []
    for mask, what in (
        ((fields > expected) & ~footer, "lines with more fields than the header"),
        ((fields < expected) & ~footer, "lines with fewer fields than the header"),
        (footer, f"last line (a footer or cut off: {fields[last]} fields, not {expected})"),
    ):
        found = numbers[mask & wanted]
        if len(found):
            examples = tuple(int(number) for number in found[:3])
            findings.append(Finding(what, len(found), "dropped", examples))
    return tuple(findings)


def _read_json_lines(path: Path, content: bytes, layout: FileFormat) -> _Parts:
    """One object a line; what is not one is counted like a ragged line."""
    rows, lines, bad = [], [], []
    for number, line in enumerate(content.decode().split("\n"), 1):
        if not line.strip() or (layout.comment and line.startswith(layout.comment)):
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            rows.append(value)
            lines.append(number)
        else:
            bad.append(number)
    if not rows:
        raise FileFormatError(f"{path} holds no JSON object on a line of its own")
    frame = pd.DataFrame(rows)
    findings = (
        (Finding("lines that are not a JSON object", len(bad), "dropped", tuple(bad[:3])),)
        if bad
        else ()
    )
    return frame, np.array(lines), np.array(bad, dtype=np.int64), findings
