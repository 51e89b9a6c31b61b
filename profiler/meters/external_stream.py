"""Where lines come from: a file that grows, a pipe, or a web server that is asked again and again.

A feed hands out whole lines as bytes. What cannot go on (a truncated file, a pipe whose writer
left) raises `MeterReadError` at every later call; what may pass (one poll that failed) raises once.
"""

from __future__ import annotations

import http.client
import os
import select
import ssl
import stat
import time
from pathlib import Path
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

from profiler.errors import InputError, InputFileError, MeterReadError
from profiler.meters.external_format import LONGEST_LINE_BYTES
from profiler.meters.external_options import ExternalOptions

_CHUNK_BYTES = 1 << 20
_LOOK_S = 0.005
_LONGEST_TIMEOUT_S = 10.0


class Feed(Protocol):
    """A source of lines."""

    def poll(self, timeout_s: float) -> list[bytes]:
        """Whole lines that have come; waits up to *timeout_s* for the first.

        Raises:
            MeterReadError: nothing more can come, or this attempt failed.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing more can come."""
        ...

    def close(self) -> None: ...


def open_feed(options: ExternalOptions) -> Feed:
    """The feed for *options.place*.

    Raises:
        InputFileError: there is no such file, or it may not be read.
        InputError: it is a folder or a device.
    """
    if options.is_url:
        return HttpFeed(options.place, options.period_s or 1.0)
    path = Path(options.place)
    try:
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode):
            return PipeFeed(path)
        if stat.S_ISREG(mode):
            return FileFeed(path)
    except OSError as error:
        raise InputFileError(
            f"cannot read {path}: {error.strerror or error}; start the meter's program first"
        ) from error
    raise InputError(f"external: {path} is neither a file nor a pipe")


class _Lines:
    """Bytes in, whole lines out; an unfinished one waits for its end."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, data: bytes) -> list[bytes]:
        *lines, rest = (self._rest + data).split(b"\n")
        # A line without end must not fill the memory; cut, it is refused by the parser.
        self._rest = rest[: LONGEST_LINE_BYTES + 1]
        return lines


class FileFeed:
    """A file that another program appends to; what is in it already is skipped, but its header."""

    def __init__(self, path: Path) -> None:
        self.ended = False
        self._path = path
        self._lines = _Lines()
        self._stream = path.open("rb", buffering=0)
        self._first: list[bytes] = []
        head = self._stream.read(LONGEST_LINE_BYTES) or b""
        if b"\n" in head:
            comments = (line for line in head.split(b"\n") if line.strip())
            header = next((line for line in comments if not line.startswith(b"#")), b"")
            self._first = [] if header.startswith(b"{") else [header]
            self._position = self._stream.seek(-1, os.SEEK_END)
            self._skipping = self._stream.read(1) != b"\n"
            self._position += 1
        else:
            self._position, self._skipping = self._stream.seek(0), False

    def poll(self, timeout_s: float) -> list[bytes]:
        lines, self._first = self._first, []
        until_s = time.monotonic() + timeout_s
        while not lines:
            lines = self._new_lines()
            if lines or time.monotonic() >= until_s:
                break
            time.sleep(min(_LOOK_S, timeout_s))
        return lines

    def close(self) -> None:
        self._stream.close()

    def _new_lines(self) -> list[bytes]:
        try:
            opened = os.fstat(self._stream.fileno())
            data = self._stream.read(_CHUNK_BYTES) or b""
            named = self._path.stat()
        except (OSError, ValueError) as error:
            self._end(f"cannot be read any more: {getattr(error, 'strerror', None) or error}")
        if opened.st_size < self._position:
            self._end("was truncated while it was read")
        if not data and (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino):
            self._end("was replaced by another file while it was read")
        self._position += len(data)
        lines = self._lines.split(data)
        if self._skipping and lines:
            self._skipping = False
            del lines[0]
        return lines

    def _end(self, why: str) -> NoReturn:
        self.ended = True
        raise MeterReadError(
            f"{self._path} {why}; let the meter's program append to one file, and measure again"
        )


class PipeFeed:
    """A named pipe (FIFO)."""

    def __init__(self, path: Path) -> None:
        self.ended = False
        self._path = path
        self._lines = _Lines()
        self._begun = self._closed = False
        self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def poll(self, timeout_s: float) -> list[bytes]:
        if self.ended:
            self._end()
        ready, _, _ = select.select([self._handle], [], [], timeout_s)
        if not ready:
            return []
        try:
            data = os.read(self._handle, _CHUNK_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise MeterReadError(f"reading {self._path} failed: {error.strerror}") from error
        if not data and self._begun:
            self._end()
        if not data:  # no writer has come yet
            time.sleep(min(_LOOK_S, timeout_s))
        self._begun = self._begun or bool(data)
        return self._lines.split(data)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._handle)

    def _end(self) -> NoReturn:
        self.ended = True
        raise MeterReadError(
            f"the program that wrote to {self._path} closed it; keep it running, and measure again"
        )


class HttpFeed:
    """A URL asked every *period_s*; each answer is a JSON object or lines of CSV.

    No redirect is followed, no proxy is used, and an answer over 64 KiB is refused.
    """

    ended = False

    def __init__(self, url: str, period_s: float) -> None:
        parts = urlsplit(url)
        self.period_s = period_s
        self._url = url
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        timeout_s = min(max(2 * period_s, 1.0), _LONGEST_TIMEOUT_S)
        self._timeout_s = timeout_s
        host = parts.hostname or ""
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection = http.client.HTTPSConnection(
                host, parts.port, timeout=timeout_s, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        self._due_s = time.monotonic()

    def poll(self, timeout_s: float) -> list[bytes]:
        wait_s = self._due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return []
        try:
            body = self._ask()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise MeterReadError(
                f"asking {self._url} failed: {cause}; is the meter there, and does it answer "
                f"within {self._timeout_s:g} s?"
            ) from error
        finally:
            self._due_s = max(self._due_s + self.period_s, time.monotonic())
        return _answer_lines(body)

    def close(self) -> None:
        self._connection.close()

    def _ask(self) -> bytes:
        until_s = time.monotonic() + self._timeout_s
        headers = {"Accept": "application/json, text/csv", "Accept-Encoding": "identity"}
        self._connection.request("GET", self._target, headers=headers)
        answer = self._connection.getresponse()
        if answer.status != 200:
            said = f"it said {answer.status} {answer.reason[:60]}"
            if 300 <= answer.status < 400:
                said += ", and redirects are not followed: give the final URL"
            raise ValueError(said)
        body = b""
        while part := answer.read1(LONGEST_LINE_BYTES + 1 - len(body)):
            body += part
            if len(body) > LONGEST_LINE_BYTES:
                raise ValueError(f"its answer is longer than {LONGEST_LINE_BYTES} bytes")
            if time.monotonic() > until_s:
                raise ValueError("its answer was not complete in time")
        return body


def _answer_lines(body: bytes) -> list[bytes]:
    """A JSON object is one line, however it is broken; CSV is its lines."""
    text = body.strip()
    if text.startswith(b"{"):
        return [text.replace(b"\r", b" ").replace(b"\n", b" ")]
    return text.split(b"\n") if text else []
