"""The line between an engine and the Flower server app that it started in another process.

A Unix socket in a folder of its own, which only its user can open. Messages are archives of
`cwmp.fl.archive` behind their length: JSON and arrays, nothing that could run. The server app
says hello, asks before each round who can take part, reports the round, and ends with the last
model or an error.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from cwmp.fl.archive import from_bytes, to_bytes
from profiler.errors import FileFormatError, RoundError

ENVIRONMENT = "CWMP_FLOWER_LINK"
"""Names the socket to the server app."""
VERSION = 1
_LENGTH = struct.Struct(">Q")
_LARGEST_BYTES = 1 << 34
_LOOK_S = 0.2

Meta = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]


class Line:
    """One end of the line."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    def to(cls, path: str) -> Line:
        """Call whoever listens at *path*."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(path)
        return cls(connection)

    def send(self, kind: str, arrays: Arrays | None = None, **meta: Any) -> None:
        """One message."""
        data = to_bytes({"version": VERSION, "kind": kind, **meta}, arrays or {})
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self, alive: Callable[[], None] = lambda: None) -> tuple[Meta, Arrays]:
        """The next message; *alive* is called now and then, and raises if none can come.

        Raises:
            EOFError: the other end is gone.
            FileFormatError: not such a message.
        """
        (size,) = _LENGTH.unpack(self._exactly(_LENGTH.size, alive))
        if size > _LARGEST_BYTES:
            raise FileFormatError(f"a message of {size} bytes from the Flower server app")
        meta, arrays = from_bytes(self._exactly(size, alive), "a message of the Flower server app")
        if meta.get("version") != VERSION:
            raise FileFormatError("the Flower server app is of another release")
        return meta, arrays

    def _exactly(self, size: int, alive: Callable[[], None]) -> bytes:
        got = bytearray()
        self._socket.settimeout(_LOOK_S)
        while len(got) < size:
            try:
                part = self._socket.recv(min(size - len(got), 1 << 20))
            except TimeoutError:
                alive()
                continue
            if not part:
                raise EOFError
            got += part
        self._socket.settimeout(None)
        return bytes(got)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Listener:
    """Waits for the one call of a server app; *folder* must be its user's alone."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "link")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen(1)

    def accept(self, alive: Callable[[], None], patience_s: float = 300.0) -> Line:
        """The call; *alive* raises if none can come.

        Raises:
            RoundError: no call within *patience_s*.
        """
        self._socket.settimeout(_LOOK_S)
        for _ in range(int(patience_s / _LOOK_S)):
            try:
                return Line(self._socket.accept()[0])
            except TimeoutError:
                alive()
        raise RoundError(f"Flower's server app did not start within {patience_s:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
