"""Files written whole or not at all, and never over another one unasked."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from profiler.errors import FileFormatError, InputFileError, OutputError, OutputExistsError


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise before any work is done when *path* exists and may not be replaced.

    Raises:
        OutputExistsError: *path* exists and *force* is false.
        InputFileError: the folder that should hold *path* does not exist.
        OutputError: no file can have that name, or its folder may not be looked into.
    """
    try:
        exists = path.exists()
    except OSError as error:
        raise _unwritable(path, error) from error
    if exists and not force:
        raise OutputExistsError(f"{path} exists already; give --force to replace it")
    if not path.absolute().parent.is_dir():
        raise InputFileError(f"{path.absolute().parent} is not a folder; create it first")


def write_atomic(path: Path, content: bytes, *, force: bool = False) -> None:
    """Write *content* to *path* so that a reader sees the old file, the new one, or none.

    The bytes go to a temporary sibling, are flushed to the disk and renamed into place.

    Raises:
        OutputExistsError: *path* exists and *force* is false.
        InputFileError: the folder that should hold *path* does not exist.
        OutputError: it cannot be written, for example because the disk is full.
    """
    refuse_existing(path, force=force)
    try:
        _write(path, content, force=force)
    except OutputExistsError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def read_bytes(path: Path) -> bytes:
    """Read a whole input file.

    Raises:
        InputFileError: *path* is absent or unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Parse a JSON file strictly: ``NaN`` and ``Infinity`` are refused, as in the standard.

    Raises:
        InputFileError: *path* is absent or unreadable.
        FileFormatError: the content is not JSON.
    """
    try:
        return json.loads(read_bytes(path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not valid JSON: {error}") from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _write(path: Path, content: bytes, *, force: bool) -> None:
    # Not named after *path*, whose name may be as long as the file system allows.
    handle, temporary = tempfile.mkstemp(prefix=".cwmp-", dir=path.absolute().parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        if force:
            Path(temporary).replace(path)
        else:
            _rename_new(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _rename_new(temporary: str, path: Path) -> None:
    """Give *temporary* the name *path* unless another writer took it meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise OutputExistsError(f"{path} appeared while it was being written") from error
    except OSError:  # file systems without hard links
        Path(temporary).replace(path)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; choose another place or make room"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
