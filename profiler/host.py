"""What a measurement ran on: hardware, kernel and software, without naming the owner."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from profiler.sysfs import sysfs_root

_CPUINFO = Path("/proc/cpuinfo")
_DISTRIBUTIONS = (
    "cwmp",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "torch",
    "numba",
    "nvidia-ml-py",
    "pyJoules",
)
_HYPERVISORS = re.compile(r"qemu|kvm|vmware|virtualbox|xen|bochs|firecracker|virtual machine", re.I)


def describe_host(*, identify: bool = False) -> dict[str, Any]:
    """The machine as metadata: what changes a measurement, and by default nothing that names it.

    Args:
        identify: add the host's and the user's name; ``None`` for a user without one, as in
            a container that runs under a bare number.
    """
    cpu0 = sysfs_root() / "devices" / "system" / "cpu" / "cpu0"
    host: dict[str, Any] = {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "logical_cpus": os.cpu_count(),
        "usable_cpus": _usable_cpus(),
        "caches": _caches(cpu0 / "cache"),
        "governor": _text(cpu0 / "cpufreq" / "scaling_governor"),
        "kernel": f"{platform.system()} {platform.release()}",
        "virtualisation": virtualisation(),
    }
    if identify:
        host["host_name"] = platform.node()
        host["user_name"] = _user_name()
    return host


def cpu_model(cpuinfo: Path = _CPUINFO) -> str:
    """The processor as it names itself; the architecture where it does not."""
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _text(cpuinfo) or "", re.M)
    return " ".join(match[1].split()) if match else platform.machine()


def cpu_vendor(cpuinfo: Path = _CPUINFO) -> str | None:
    """The processor's maker as it names itself (``GenuineIntel``, ``AuthenticAMD``), if it does."""
    match = re.search(r"^vendor_id\s*:\s*(\S+)$", _text(cpuinfo) or "", re.M)
    return match[1] if match else None


def virtualisation(cpuinfo: Path = _CPUINFO) -> str | None:
    """The hypervisor this system runs on as far as it can be told, or ``None``.

    The processor's ``hypervisor`` flag decides where there is one; elsewhere the names that
    firmware gives the machine under ``class/dmi/id``.
    """
    dmi = sysfs_root() / "class" / "dmi" / "id"
    names = [_text(dmi / name) for name in ("sys_vendor", "product_name")]
    product = " ".join(name for name in names if name)
    if re.search(r"^flags\s*:.*\bhypervisor\b", _text(cpuinfo) or "", re.M):
        return product or "the CPU reports a hypervisor"
    return product if _HYPERVISORS.search(product) else None


def software_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that a measurement depends on."""
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_revision(path: Path | None = None) -> str | None:
    """The commit of the checkout at *path*, ``-dirty`` appended where files differ from it.

    Args:
        path: the checkout; by default this project's own. A folder that merely lies inside
            some other repository has no revision of its own.
    """
    root = path or Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        result = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _user_name() -> str | None:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # before Python 3.13, and since
        return None


def _usable_cpus() -> int | None:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def _caches(folder: Path) -> dict[str, str]:
    caches = {}
    for index in sorted(folder.glob("index*")):
        level, kind, size = (_text(index / name) for name in ("level", "type", "size"))
        if level and size:
            letter = {"Data": "d", "Instruction": "i"}.get(kind or "", "")
            caches[f"L{level}{letter}"] = size
    return caches


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None
