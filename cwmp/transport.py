"""Bytes through a real TCP socket until the peer has drained them.

A frame is ``CWMP``, the payload's length as a 64-bit little-endian integer, and the payload.
The peer reads it to the last byte, keeps nothing, and answers with the length; `Sender.send`
returns when that answer is there. A frame that does not begin with the magic, or is longer
than the receiver allows, ends the connection.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from profiler.errors import InputError

MAGIC = b"CWMP"
DEFAULT_PORT = 7533
MAX_PAYLOAD_BYTES = 4 * 2**30
_HEADER = struct.Struct("<4sQ")
_ANSWER = struct.Struct("<Q")
_BUFFER_BYTES = 1 << 18


@dataclass
class Received:
    """What a receiver has drained.

    Attributes:
        connections: accepted.
        frames, payload_bytes: drained whole.
        refused: connections ended for a bad frame, a timeout or a break.
    """

    connections: int = 0
    frames: int = 0
    payload_bytes: int = 0
    refused: int = 0


class Receiver:
    """Drains frames, one connection at a time; in the foreground or on a thread.

    Args:
        host: the address to listen on.
        port: 0 takes a free one.
        max_payload_bytes: longer frames are refused.
        timeout_s: a connection that is silent for longer is closed.

    Raises:
        InputError: the address cannot be listened on.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        timeout_s: float = 30.0,
    ) -> None:
        self.received = Received()
        self._limit_bytes, self._timeout_s = max_payload_bytes, timeout_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: socket.socket | None = None
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        try:
            self._listener = socket.create_server((host, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"cannot listen on {host}:{port}: {_cause(error)}") from error

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def serve(self) -> None:
        """Accept and drain until `close`; returns then."""
        while not self._stopping.is_set():
            try:
                self._connection, _ = self._listener.accept()
            except OSError:  # `close` shut the listener down
                return
            with self._connection as connection:
                self.received.connections += 1
                self._drain(connection)

    def start(self) -> Receiver:
        """Serve on a thread of this process."""
        self._thread = threading.Thread(target=self.serve, name="cwmp-receiver", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop serving and let go of the port."""
        self._stopping.set()
        for waiting in (self._listener, self._connection):
            with suppress(OSError):
                if waiting is not None:
                    waiting.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
        if self._thread is not None:
            self._thread.join(timeout=self._timeout_s)
        self._listener.close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drain(self, connection: socket.socket) -> None:
        connection.settimeout(self._timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while not self._stopping.is_set():
                header = _read(connection, _HEADER.size)
                if not header:
                    return
                magic, length = _HEADER.unpack(header)
                if magic != MAGIC or length > self._limit_bytes:
                    self.received.refused += 1
                    return
                self._discard(connection, length)
                connection.sendall(_ANSWER.pack(length))
                self.received.frames += 1
                self.received.payload_bytes += length
        except OSError:
            self.received.refused += 1

    def _discard(self, connection: socket.socket, length: int) -> None:
        left = length
        while left:
            count = connection.recv_into(self._buffer[: min(left, _BUFFER_BYTES)])
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "the sender left inside a frame")
            left -= count


class Sender:
    """A connection to a `Receiver`.

    Args:
        host, port: where it listens.
        timeout_s: the longest wait for a connection or an answer.

    Raises:
        InputError: nothing answers there.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 10.0) -> None:
        self._name = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot reach the receiver at {self._name}: {_cause(error)}; "
                "start 'cwmp receive' there"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, payload: bytes | memoryview) -> None:
        """Send one frame and wait until the peer has drained it.

        Raises:
            InputError: the peer left, refused the frame, or did not answer in time.
        """
        try:
            self._socket.sendall(_HEADER.pack(MAGIC, len(payload)))
            self._socket.sendall(payload)
            answer = _read(self._socket, _ANSWER.size)
        except OSError as error:
            raise InputError(f"the receiver at {self._name} was lost: {_cause(error)}") from error
        if not answer:
            raise InputError(
                f"the receiver at {self._name} closed the connection: it refuses frames of "
                f"{len(payload)} bytes, or was stopped"
            )
        if _ANSWER.unpack(answer)[0] != len(payload):
            raise InputError(f"what answers at {self._name} is not a 'cwmp receive'")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def parse_peer(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT`` as host and port.

    Raises:
        InputError: it is neither.
    """
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (separator and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"the peer {text!r} is not HOST:PORT")
    return host, int(port)


def _read(connection: socket.socket, count: int) -> bytes:
    """Exactly *count* bytes; none at all when the peer closed before the first.

    Raises:
        ConnectionResetError: the peer left in between.
    """
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            if not parts:
                return b""
            raise ConnectionResetError(errno.ECONNRESET, "the peer left inside a header")
        parts += part
    return parts


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
