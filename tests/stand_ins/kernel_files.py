"""What only the kernel's own files do: fail while they are open, refuse even root."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION_3, _OVERRIDES = 0x20080522, (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class MortalFile:
    """A file of at most 15 bytes that fails whoever holds it open after ``close``.

    It is a thread's name under ``/proc``, which a reader can have open when the thread ends, as a
    counter of a driver that is unloaded.
    """

    def __init__(self) -> None:
        self._end, begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._live, args=(begun,), daemon=True)
        self._thread.start()
        begun.wait()
        self.path = Path(f"/proc/{os.getpid()}/task/{self._thread.native_id}/comm")

    def _live(self, begun: threading.Event) -> None:
        begun.set()
        self._end.wait()

    def write(self, text: bytes) -> None:
        """Replace its content."""
        handle = os.open(self.path, os.O_WRONLY)
        try:
            os.write(handle, text)
        finally:
            os.close(handle)

    def close(self) -> None:
        """Let it vanish; a second call does nothing."""
        self._end.set()
        self._thread.join()
        while self.path.exists():  # the kernel reaps the thread a moment after it ended
            time.sleep(0.2e-3)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


@contextmanager
def without_privilege() -> Iterator[None]:
    """The permissions of files hold for this thread even if it is root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = _Header(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(ctypes.byref(header), words):
        raise OSError(ctypes.get_errno(), "capget")
    effective = words[0]
    words[0] = effective & ~_OVERRIDES
    if libc.capset(ctypes.byref(header), words):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        words[0] = effective
        libc.capset(ctypes.byref(header), words)
