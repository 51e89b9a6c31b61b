"""Numbers and names in the kernel's tree, read with errors that say what and where.

A file is opened for each read: a driver that is loaded again gets new files under the old path,
and one that is gone is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

from profiler.errors import CounterFaultError, MeterPermissionError, MeterReadError
from profiler.sysfs import read_kernel_file, sysfs_root

GUARD_POWER_W = 10_000.0
"""More than any rail of a machine carries."""
_DIGITS = 20  # of 2**64
_NUMBER = re.compile(rb"-?\d{1,20}\s*\n")  # the kernel ends its lines: without, it is cut off


def read_number(path: Path) -> int:
    """The whole number that *path* holds.

    Raises:
        MeterPermissionError: this user may not read it.
        MeterReadError: it is gone, or the driver's read failed.
        CounterFaultError: it holds anything else.
    """
    try:
        text = read_kernel_file(path, _DIGITS + 3)
    except PermissionError as error:
        raise MeterPermissionError(
            f"this user may not read {path}; sudo chmod o+r {path}, or run as root"
        ) from error
    except OSError as error:
        raise MeterReadError(f"reading {path} failed: {error.strerror}") from error
    if not _NUMBER.fullmatch(text):
        raise CounterFaultError(f"{path} holds {text!r}, not a whole number and a line feed")
    return int(text)


def number_or_none(path: Path) -> int | None:
    """The whole number that *path* holds; ``None`` where there is none to read."""
    try:
        return read_number(path)
    except (MeterReadError, MeterPermissionError, CounterFaultError):
        return None


def read_name(path: Path) -> str | None:
    """The text that *path* holds, fit for a rail's name; ``None`` where there is none.

    Blanks and commas become ``_``: names are joined by commas on the command line.
    """
    try:
        text = read_kernel_file(path).decode(errors="replace").replace("\0", " ").strip()
    except OSError:
        return None
    return re.sub(r"[\s,]+", "_", text) or None


def board_model() -> str | None:
    """The board as its device tree names it, or ``None`` on machines without one."""
    try:
        shown = read_kernel_file(sysfs_root() / "firmware/devicetree/base/model")
    except OSError:
        return None
    return " ".join(shown.decode(errors="replace").replace("\0", " ").split()) or None


def in_order(folder: Path, pattern: str) -> list[Path]:
    """What matches *pattern* under *folder*, 2 before 10; empty where it does not exist."""

    def key(path: Path) -> list[int | str]:
        parts = re.split(r"(\d+)", str(path))
        return [int(part) if index % 2 else part for index, part in enumerate(parts)]

    return sorted(folder.glob(pattern), key=key)


@dataclass(frozen=True)
class PowerFiles:
    """Watts from files: one that holds a power, or a current and a voltage to multiply.

    Attributes:
        paths: whose numbers are multiplied.
        unit_w: watts a unit of the product.
        least_w: readings down to here, below 0, are the noise of a sensor without load, and
            kept: cut off at 0 they would add up.
        unsigned: the sign is a convention of the driver's, and dropped.
    """

    paths: tuple[Path, ...]
    unit_w: float
    least_w: float = 0.0
    unsigned: bool = False

    def watts(self) -> float:
        """The power now.

        Raises:
            MeterPermissionError, MeterReadError: a file cannot be read.
            CounterFaultError: it holds no number, or one that no rail carries.
        """
        power_w = prod(read_number(path) for path in self.paths) * self.unit_w
        if self.unsigned:
            power_w = abs(power_w)
        if not self.least_w <= power_w <= GUARD_POWER_W:
            raise CounterFaultError(f"{self._named} says {power_w:g} W, which no rail carries")
        return power_w

    @cached_property
    def _named(self) -> str:
        return " x ".join(
            str(path) if index == 0 else path.name for index, path in enumerate(self.paths)
        )


@dataclass(frozen=True)
class FilesSensor:
    """A `profiler.meters.sampled.PowerSensor` over `PowerFiles`, by rail."""

    rails: Mapping[str, PowerFiles]

    def watts(self) -> Mapping[str, float]:
        """Every rail's power, one after the other."""
        return {rail: files.watts() for rail, files in self.rails.items()}

    def close(self) -> None:
        """Nothing is held open."""


def unique_names(wanted: Sequence[tuple[str, str]]) -> list[str]:
    """A name for each (name, place): the name, with ``@place`` where another has the same.

    Raises nothing: two of one name and one place are numbered.
    """
    names = [name for name, _ in wanted]
    unique: list[str] = []
    for name, place in wanted:
        candidate = stem = f"{name}@{place}" if names.count(name) > 1 else name
        number = 1
        while candidate in unique:
            number += 1
            candidate = f"{stem}.{number}"
        unique.append(candidate)
    return unique
