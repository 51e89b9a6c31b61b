"""The end that drains frames."""

from __future__ import annotations

import errno
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from cwmp.transport.frame import ANSWER, HEADER, MAGIC, MAX_PAYLOAD_BYTES, MIN_BYTES_S, cause
from profiler.errors import InputError

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
    """Drains frames, each connection on a thread of its own; served in the foreground or not.

    Args:
        host: the address to listen on, IPv4 or IPv6; of a name that is both, IPv4.
        port: 0 takes a free one.
        max_payload_bytes: longer frames are refused.
        timeout_s: a connection that is silent for longer is closed, and so is one whose frame
            falls so far behind `MIN_BYTES_S`.
        max_connections: at a time; further ones wait until one of them ends.

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
        max_connections: int = 16,
    ) -> None:
        self.received = Received()
        self._limit_bytes, self._timeout_s = max_payload_bytes, timeout_s
        self._stopping = threading.Event()
        self._free = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()  # of what the connections' threads share: these two
        self._open: dict[socket.socket, threading.Thread] = {}
        self._thread: threading.Thread | None = None
        try:
            self._listener = _listen(host, port)
        except (OSError, OverflowError, ValueError) as error:
            raise InputError(f"cannot listen on {host}:{port}: {cause(error)}") from error

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def serve(self) -> None:
        """Accept and drain until `close`; returns then."""
        while True:
            self._free.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:  # `close` shut the listener down
                return
            thread = threading.Thread(target=self._attend, args=(connection,), daemon=True)
            with self._lock:
                if self._stopping.is_set():
                    connection.close()
                    return
                self.received.connections += 1
                thread.start()
                self._open[connection] = thread

    def start(self) -> Receiver:
        """Serve on a thread of this process."""
        self._thread = threading.Thread(target=self.serve, name="cwmp-receiver", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop serving and let go of the port."""
        with self._lock:
            self._stopping.set()
            threads = [*self._open.values(), *([self._thread] if self._thread else [])]
            for waiting in (self._listener, *self._open):
                with suppress(OSError):
                    waiting.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
        for thread in threads:
            thread.join(timeout=self._timeout_s)
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

    def _attend(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._drain(connection)
        finally:
            with self._lock:
                self._open.pop(connection, None)
            self._free.release()

    def _drain(self, connection: socket.socket) -> None:
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._stopping.is_set():
                frame = _Incoming(connection, self._timeout_s)
                header = frame.read_header()
                if not header:
                    return
                magic, length = HEADER.unpack(header)
                if magic != MAGIC or length > self._limit_bytes:
                    raise ConnectionAbortedError(errno.ECONNABORTED, "not a frame to drain")
                frame.discard(length, buffer)
                with self._lock:  # before the answer: a sender that has it finds itself counted
                    self.received.frames += 1
                    self.received.payload_bytes += length
                connection.sendall(ANSWER.pack(length))
        except OSError:
            with self._lock:
                self.received.refused += 1


class _Incoming:
    """One frame as it arrives: its clock runs from its first byte on, and counts its bytes."""

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        self._connection, self._timeout_s = connection, timeout_s
        self._begin_s: float | None = None
        self._bytes = 0

    def read_header(self) -> bytes:
        """The header; none at all when the peer closed before its first byte."""
        header = bytearray(HEADER.size)
        first = self._receive(memoryview(header))
        if not first:
            return b""
        self._begin_s = time.monotonic()
        self.discard(HEADER.size - first, memoryview(header)[first:])
        return bytes(header)

    def discard(self, length: int, buffer: memoryview) -> None:
        """Read *length* bytes, over and over into *buffer*."""
        left = length
        while left:
            count = self._receive(buffer[: min(left, len(buffer))])
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "the sender left inside a frame")
            left -= count

    def _receive(self, buffer: memoryview) -> int:
        allowed_s = self._timeout_s
        if self._begin_s is not None:
            due_s = self._begin_s + self._timeout_s + self._bytes / MIN_BYTES_S
            allowed_s = min(allowed_s, due_s - time.monotonic())
            if allowed_s <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "the frame arrives too slowly")
        self._connection.settimeout(allowed_s)
        count = self._connection.recv_into(buffer)
        self._bytes += count
        return count


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return socket.create_server(address, family=family)
