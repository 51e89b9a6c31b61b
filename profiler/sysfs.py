"""Where the kernel's tree is: ``/sys``, or what ``CWMP_SYSFS`` puts in its place."""

from __future__ import annotations

import os
from pathlib import Path


def sysfs_root() -> Path:
    """The root under which every meter looks (containers mount the host's ``/sys`` elsewhere)."""
    return Path(os.environ.get("CWMP_SYSFS") or "/sys")
