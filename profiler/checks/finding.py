"""One thing that was found, and the trees in which the checks look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from profiler.sysfs import sysfs_root

Severity = Literal["spoils", "widens", "note"]
"""It falsifies or prevents joules; it widens their intervals; it is good to know."""
Basis = Literal["measured", "assumed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something on this host that a measurement suffers from.

    Attributes:
        name: of the check, fixed, for scripts: ``governor``, ``other-load``.
        severity: how bad it is.
        what: what was found, in one sentence.
        effect: what it does to joules or to the width of their intervals.
        basis: whether the figures in *what* and *effect* were taken here or are general knowledge.
        remedy: what mends it; further lines are commands.
        evidence: the files or calls looked at, and what they said.
    """

    name: str
    severity: Severity
    what: str
    effect: str
    basis: Basis
    remedy: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Trees:
    """The kernel's two trees, as the checks read them.

    Attributes:
        sysfs: ``/sys``, or what ``CWMP_SYSFS`` names.
        proc: ``/proc``.
    """

    sysfs: Path = field(default_factory=sysfs_root)
    proc: Path = Path("/proc")

    @property
    def cpus(self) -> list[Path]:
        """The folders of the logical CPUs, ``cpu0`` first."""
        found = (self.sysfs / "devices/system/cpu").glob("cpu[0-9]*")
        return sorted(found, key=lambda path: int("".join(filter(str.isdigit, path.name)) or 0))


def text(path: Path) -> str | None:
    """What a file says, without the space around it; ``None`` where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except (OSError, ValueError):
        return None


def number(path: Path) -> float | None:
    """The finite number in a file; ``None`` where there is none."""
    try:
        value = float(text(path) or "")
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def shown(path: Path, value: object) -> str:
    """``path: value``, as evidence."""
    return f"{path}: {value}"


def texts(paths: Sequence[Path]) -> dict[Path, str]:
    """Those of *paths* that say something, with what they say."""
    said = ((path, text(path)) for path in paths)
    return {path: value for path, value in said if value}
