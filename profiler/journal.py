"""What a running session has measured so far, safe against ``kill -9``.

``TRACE.journal`` is JSON lines: a header, then one line per sizing, plan, dropped read and
block, each flushed to the disk before the next block begins, and one for a session's end. A line
torn by a crash is dropped when the journal is opened again; every whole line counts. Each line
ends with the CRC-32 of it and of all before it, so that neither a bit that flipped on the disk nor
a line that is lost makes a measurement.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from profiler.errors import (
    FileFormatError,
    InputError,
    InputFileError,
    OutputError,
    OutputExistsError,
)
from profiler.files import read_bytes

SCHEMA = "cwmp.journal"
VERSION = 2
Kind = Literal["sizing", "plan", "dropped", "block", "end"]
_KINDS = get_args(Kind)
_SEAL = b',"crc":"'
_NUMBERED = {"sizing": "cell", "block": "block"}


def journal_path(trace: str | Path) -> Path:
    """Where the journal of *trace* lies: beside it, ``.journal`` appended."""
    trace = Path(trace)
    return trace.with_name(trace.name + ".journal")


@dataclass
class Measured:
    """The content of a journal.

    Attributes:
        header: what the session was asked and ran on.
        sizing: cell position -> its sizing record.
        plan: the blocks that the precision asks for, once the pilot is over.
        dropped: cause -> count.
        blocks: the records of the measured blocks, as they came.
        end: how the session ended; ``None`` where it was killed, interrupted or still runs.
    """

    header: dict[str, Any]
    sizing: dict[int, dict[str, Any]] = field(default_factory=dict)
    plan: dict[str, Any] | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None


class Journal:
    """An open journal. Make one with `create` and `begin`, or with `reopen`.

    Raises:
        OutputError: a line cannot be written, for example because the disk is full.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle
        self._crc = 0

    @classmethod
    def create(cls, path: Path, *, force: bool = False) -> Journal:
        """Take *path* for a new journal; with *force* in place of one that is there.

        Raises:
            OutputExistsError: there is one already, and *force* is false.
            OutputError: a running session writes to it.
        """
        refuse_unfinished(path, force=force)
        if force:
            _discard(path)
        handle = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL)
        _lock(path, handle)
        return cls(path, handle)

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write the first line: what the session was asked and what it runs on."""
        self._write({"schema": SCHEMA, "version": VERSION, "header": dict(header)})

    @classmethod
    def reopen(cls, path: Path) -> tuple[Journal, Measured]:
        """Read a journal, cut off a torn last line, and open it to go on.

        Raises:
            InputFileError: there is none.
            FileFormatError: it is no journal of this version, damaged before its end, or
                holds a block twice.
            OutputError: a running session writes to it.
        """
        if not path.exists():
            raise InputFileError(f"there is nothing to resume: {path} does not exist")
        handle = _open(path, os.O_WRONLY | os.O_APPEND)
        try:
            _lock(path, handle)
            measured, whole_bytes, crc = _read(path)
            os.ftruncate(handle, whole_bytes)
        except BaseException:
            os.close(handle)
            raise
        journal = cls(path, handle)
        journal._crc = crc
        return journal, measured

    @staticmethod
    def read(path: Path) -> Measured:
        """What a journal holds, a torn last line left out; nothing is locked or changed.

        Raises:
            InputFileError: it cannot be read.
            FileFormatError: as `reopen`.
        """
        return _read(path)[0]

    def append(self, kind: Kind, record: Mapping[str, Any]) -> None:
        """Write one record and wait until the disk has it.

        Raises:
            InputError: a number in it is infinite or NaN; nothing is written.
        """
        self._write({"kind": kind, **record})

    def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            line, crc = sealed(record, self._crc)
        except ValueError as error:
            raise InputError(
                f"{self.path} is not given a {record.get('kind', 'header')} record with a number "
                f"that is not finite ({_unbounded(record)}); what it holds is kept: check the "
                "meter's readings ('cwmp doctor'), then give --resume"
            ) from error
        try:
            while line:
                line = line[os.write(self._handle, line) :]
            os.fsync(self._handle)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._crc = crc


def sealed(record: Mapping[str, Any], before: int = 0) -> tuple[bytes, int]:
    """*record* as a line of a journal, and the checksum at its end.

    Args:
        record: what to write.
        before: the checksum at the end of the line before.

    Raises:
        ValueError: a number in *record* is infinite or NaN.
    """
    text = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()[:-1]
    crc = zlib.crc32(text, before)
    return b'%s%s%08x"}\n' % (text, _SEAL, crc), crc


def _opened(line: bytes, before: int) -> tuple[dict[str, Any], int]:
    """The record in *line* and its checksum. Raises ``ValueError`` where it is damaged."""
    text, seal, check = line.rpartition(_SEAL)
    if not seal:
        raise ValueError("it has no checksum")
    crc = zlib.crc32(text, before)
    if check != b'%08x"}' % crc:
        raise ValueError("its checksum is another, or a line before it is lost")
    record: dict[str, Any] = json.loads(text + b"}")
    return record, crc


def refuse_unfinished(path: Path, *, force: bool) -> None:
    """Raise `OutputExistsError` if *path* is there and *force* is false."""
    if path.exists() and not force:
        raise OutputExistsError(
            f"{path} holds an unfinished session; give --resume to go on with it, or --force "
            "to discard it"
        )


def check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise unless a session may go on: everything that decides what is measured is equal.

    Raises:
        FileFormatError: naming the first entry that differs, and both values.
    """
    before = json.loads(json.dumps(before))
    now = json.loads(json.dumps(now))
    for key in (*now, *(key for key in before if key not in now)):
        was, this = before.get(key), now.get(key)
        if was == this:
            continue
        where = key
        if isinstance(was, dict) and isinstance(this, dict):
            inner = next(k for k in sorted({*was, *this}) if was.get(k) != this.get(k))
            where, was, this = f"{key}.{inner}", was.get(inner), this.get(inner)
        raise FileFormatError(
            f"{path} cannot be resumed: its {where} is {_short(was)}, now it is {_short(this)}; "
            "profile with the same, or give --force without --resume to begin again"
        )


def _read(path: Path) -> tuple[Measured, int, int]:
    """What *path* holds, the bytes of its whole lines, and the checksum at their end."""
    content = read_bytes(path)
    whole_bytes = content.rfind(b"\n") + 1
    lines = content[:whole_bytes].splitlines()
    records: list[dict[str, Any]] = []
    crc = 0
    for number, line in enumerate(lines):
        try:
            record, crc = _opened(line, crc)
        except ValueError as error:
            if number and number == len(lines) - 1:
                whole_bytes -= len(line) + 1
                break
            if number == 0:
                _check_schema(path, _plain(line))
            raise FileFormatError(f"{path}, line {number + 1} is damaged: {error}") from error
        records.append(record)
    _check_schema(path, records[0] if records else {})
    return _sort(path, records), whole_bytes, crc


def _plain(line: bytes) -> dict[str, Any]:
    """What *line* says, its checksum unseen: journals of version 1 had none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _check_schema(path: Path, first: Mapping[str, Any]) -> None:
    if first.get("schema") != SCHEMA:
        raise FileFormatError(f"{path} is not a journal; give --force to begin again")
    if first.get("version") != VERSION:
        raise FileFormatError(
            f"{path} has journal version {first.get('version')!r}; this release reads "
            f"version {VERSION}: finish it with the release that wrote it"
        )


def _sort(path: Path, records: list[dict[str, Any]]) -> Measured:
    measured = Measured(dict(records[0]["header"]))
    seen: set[tuple[str, int]] = set()
    for number, record in enumerate(records[1:], start=2):
        kind = record.pop("kind", None)
        if kind not in _KINDS:
            raise FileFormatError(f"{path}, line {number}: unknown record {kind!r}")
        if kind in _NUMBERED:
            name = (kind, int(record[_NUMBERED[kind]]))
            if name in seen:
                raise FileFormatError(
                    f"{path}, line {number}: {kind} {name[1]} is there twice, as two sessions "
                    "leave it that write to one journal; give --force to begin again"
                )
            seen.add(name)
        if kind == "sizing":
            measured.sizing[int(record["cell"])] = record
        elif kind == "plan":
            measured.plan = record
        elif kind == "dropped":
            measured.dropped[str(record["cause"])] += 1
        elif kind == "block":
            measured.blocks.append(record)
        # a session that went on after its end was resumed, and has not ended again
        measured.end = record if kind == "end" else None
    return measured


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags, 0o666)
    except OSError as error:
        raise _unwritable(path, error) from error


def _lock(path: Path, handle: int) -> None:
    """Keep other sessions off the journal until it is closed, or its writer is gone.

    A file system that has no locks is taken as it is.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{path} is in use by another session; wait until it ends, or give another output"
        ) from error
    except OSError:
        return


def _discard(path: Path) -> None:
    """Delete a journal that no running session writes to, if there is one."""
    if not path.exists():
        return
    handle = _open(path, os.O_WRONLY)
    try:
        _lock(path, handle)
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _unbounded(record: Mapping[str, Any]) -> str:
    """The entries of *record* that no JSON holds, by name."""
    names = []
    for name, value in record.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            names.append(f"{name} {_short(value)}")
    return ", ".join(names)


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; what it holds is kept: free space or "
        "mend the folder, then give --resume"
    )
