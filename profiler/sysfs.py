"""Where the kernel's tree is: ``/sys``, or what ``CWMP_SYSFS`` puts in its place."""

from __future__ import annotations

import os
from pathlib import Path


def sysfs_root() -> Path:
    """The root under which every meter looks (containers mount the host's ``/sys`` elsewhere)."""
    return Path(os.environ.get("CWMP_SYSFS") or "/sys")


def is_there(path: Path) -> bool:
    """Whether *path* exists, or lies where this user may not look: opening it says so then."""
    try:
        return path.exists()
    except PermissionError:
        return True
    except OSError:
        return False


def read_kernel_file(path: Path, most_bytes: int = 4096) -> bytes:
    """The beginning of *path*, without waiting: a pipe in its place is empty, not a hang.

    Raises:
        OSError: it cannot be opened or read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(handle, most_bytes)
    finally:
        os.close(handle)
