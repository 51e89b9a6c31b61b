"""The end that sends frames."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Callable
from typing import TypeVar

from cwmp.transport.frame import ANSWER, HEADER, MAGIC, cause
from profiler.errors import InputError

T = TypeVar("T")


class Sender:
    """A connection to a `Receiver`.

    Args:
        host, port: where it listens.
        timeout_s: the longest wait for a connection, for the next bytes of a frame to leave
            this host, or for the answer once they all have.

    Raises:
        InputError: nothing answers there.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 10.0) -> None:
        self._name = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._same_host = _is_this_host(self._socket)
        except (OSError, OverflowError, ValueError) as error:
            raise InputError(
                f"cannot reach the receiver at {self._name}: {cause(error)}; "
                "start 'cwmp receive' there"
            ) from error

    @property
    def same_host(self) -> bool:
        """Whether the receiver's address is one of this host's own, the loopback or another."""
        return self._same_host

    def send(self, payload: bytes | memoryview) -> None:
        """Send one frame and wait until the peer has drained it.

        Raises:
            InputError: the peer left, refused the frame, or did not answer in time.
        """
        try:
            self._hand_over(HEADER.pack(MAGIC, len(payload)))
            self._hand_over(payload)
            answer = self._answer()
        except OSError as error:
            raise InputError(f"the receiver at {self._name} was lost: {cause(error)}") from error
        if not answer:
            raise InputError(
                f"the receiver at {self._name} closed the connection: it refuses frames of "
                f"{len(payload)} bytes, or was stopped"
            )
        if ANSWER.unpack(answer)[0] != len(payload):
            raise InputError(f"what answers at {self._name} is not a 'cwmp receive'")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _hand_over(self, content: bytes | memoryview) -> None:
        """All of *content* to the kernel; ``sendall`` would time the whole of it."""
        left = memoryview(content).cast("B")
        while left:
            left = left[self._while_it_moves(self._socket.send, left) :]

    def _answer(self) -> bytes:
        return self._while_it_moves(_read, self._socket, ANSWER.size)

    def _while_it_moves(self, call: Callable[..., T], *arguments: object) -> T:
        """*call* again after a timeout in which the kernel got bytes across on its own.

        A socket turns writable, and an answer comes, only after much of what the kernel holds
        has left, which takes a slow link longer than the timeout.
        """
        waiting: int | None = None
        while True:
            try:
                return call(*arguments)
            except TimeoutError:
                still = _bytes_under_way(self._socket)
                if still in (0, waiting):
                    raise
                waiting = still


def parse_peer(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT`` as host and port.

    Raises:
        InputError: it is neither.
    """
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not (separator and _can_be_a_host(host) and 0 < number < 65536):
        raise InputError(f"the peer {text!r} is not HOST:PORT")
    return host, number


def _can_be_a_host(text: str) -> bool:
    """Whether a resolver takes *text*: labels of 1 to 63 characters, no NUL."""
    try:
        return bool(text.encode("idna")) and "\0" not in text
    except UnicodeError:
        return False


def _is_this_host(connection: socket.socket) -> bool:
    own, peer = (
        ipaddress.ip_address(name[0].partition("%")[0])
        for name in (connection.getsockname(), connection.getpeername())
    )
    return own == peer or (getattr(peer, "ipv4_mapped", None) or peer).is_loopback


def _bytes_under_way(connection: socket.socket) -> int:
    """Bytes that this kernel holds and the peer's has not acknowledged; 0 where it cannot say."""
    try:
        import fcntl
        import termios

        count = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    except (ImportError, OSError):
        return 0
    return int.from_bytes(count, sys.byteorder)


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
