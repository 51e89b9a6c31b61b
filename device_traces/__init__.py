"""Traces this project recorded, one folder a device, with checksums and origin.

>>> for entry in entries():
...     assert entry.origin in ("measured", "modelled")
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profiler.errors import FileFormatError, InputError
from profiler.files import read_bytes, read_json

if TYPE_CHECKING:
    from profiler.trace import Trace

__all__ = ["Entry", "entries", "load"]

FOLDER = Path(__file__).parent


class Entry(BaseModel):
    """One recorded trace.

    Attributes:
        file: path below this package, ``<device>/<model>-<meter>.parquet``.
        sha256: checksum of the file.
        origin: ``measured`` by a counter or ``modelled`` from CPU time.
        command: the command that recorded it.
        remark: what a reader must know before using it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    device: str
    meter: str
    origin: Literal["measured", "modelled"]
    model: str
    recorded_utc: str
    command: str
    remark: str

    @property
    def name(self) -> str:
        """What `load` takes: the file without its suffix."""
        return self.file.rsplit(".", 1)[0]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_name: Literal["cwmp.traces"]
    version: Literal[1]
    traces: tuple[Entry, ...]


def entries(folder: Path = FOLDER) -> tuple[Entry, ...]:
    """What the manifest lists.

    Raises:
        FileFormatError: the manifest is not one this release reads.
    """
    try:
        return _Manifest.model_validate(read_json(folder / "manifest.json")).traces
    except ValidationError as error:
        raise FileFormatError(f"{folder / 'manifest.json'} is refused: {error}") from error


def load(name: str, folder: Path = FOLDER) -> Trace:
    """Load a recorded trace after checking its checksum.

    Raises:
        InputError: no trace of that name.
        FileFormatError: the file is not the one that was recorded.
    """
    from profiler.trace import Trace

    known = {entry.name: entry for entry in entries(folder)}
    if name not in known:
        raise InputError(f"no recorded trace {name!r}; there are {', '.join(known) or 'none'}")
    path = folder / known[name].file
    if hashlib.sha256(read_bytes(path)).hexdigest() != known[name].sha256:
        raise FileFormatError(f"{path} is not what was recorded: its checksum differs; reinstall")
    return Trace.load(path)
