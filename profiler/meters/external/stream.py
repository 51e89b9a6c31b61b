"""Where lines come from: a file that grows, a pipe, or a server (`profiler.meters.external.http`).

A feed hands out whole lines as bytes. What cannot go on (a truncated file, a pipe whose writer
left) raises `MeterReadError` at every later call; what may pass (one poll that failed) raises once.
"""

from __future__ import annotations

import os
import select
import stat
import time
from pathlib import Path
from typing import NoReturn, Protocol

from profiler.errors import InputError, InputFileError, MeterReadError
from profiler.meters.external.format import LONGEST_LINE_BYTES
from profiler.meters.external.http import HttpFeed
from profiler.meters.external.options import ExternalOptions

_CHUNK_BYTES = 1 << 20
_LOOK_S = 0.005


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
