"""The system call perf_event_open, and which energy events the kernel offers through it.

The events are files under ``bus/event_source/devices/power``: ``type`` and ``events/energy-X`` say
what to ask for, ``energy-X.scale`` and ``.unit`` what one count is, ``cpumask`` on which CPU of
each package. The attribute's layout is that of linux/perf_event.h, its first published size.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from profiler.errors import (
    CounterFaultError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.meters.base import Rail
from profiler.sysfs import read_kernel_file

PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
PERMISSION_COMMAND = "sudo sysctl kernel.perf_event_paranoid=0"
_SYSCALL = {"x86_64": 298, "AMD64": 298, "aarch64": 241}
_ATTRIBUTE = struct.Struct("=IIQQQQQIIQ")  # type, size, config, then nothing that counting needs
_EVERY_PROCESS, _NO_GROUP, _CLOSE_ON_EXEC = -1, -1, 8
_NAMES = {"pkg": "package", "cores": "core", "gpu": "uncore", "ram": "dram", "psys": "psys"}
_EVENT = re.compile(r"event=(0x[0-9a-fA-F]{1,8}|\d{1,8})")


@dataclass(frozen=True, slots=True)
class EnergyEvent:
    """One energy counter of one package.

    Attributes:
        path: the file that offers it.
        kind: the number of its performance monitoring unit.
        config: its number there.
        cpu: the CPU on which it is opened.
        unit_j: joules a count.
        rail: the rail it makes.
    """

    path: Path
    kind: int
    config: int
    cpu: int
    unit_j: float
    rail: Rail


def scan(pmu: Path, cpus: Path) -> tuple[EnergyEvent, ...]:
    """Every energy event under *pmu*, package by package, each with a unique rail name.

    Only packages and their memory are counted: cores and graphics lie inside the package, psys
    contains it.

    Args:
        pmu: ``.../bus/event_source/devices/power``.
        cpus: ``.../devices/system/cpu``, which says in which package a CPU is.

    Raises:
        MeterReadError, CounterFaultError: a file is missing or says something else than it should.
    """
    offered = sorted(
        path for path in pmu.glob("events/energy-*") if path.suffix not in (".scale", ".unit")
    )
    if not offered:
        return ()
    kind = _number(pmu / "type")
    places = _packages(pmu / "cpumask", cpus)
    events = []
    for cpu, package in places.items():
        for path in offered:
            rail = _rail(path.name.removeprefix("energy-"), package, len(places))
            events.append(EnergyEvent(path, kind, _config(path), cpu, _unit_j(path), rail))
    return tuple(events)


class PerfEvents:
    """The kernel's performance events, through the C library.

    Args:
        library: answers as libc does for ``syscall``, ``read`` and ``close``; by default libc.
    """

    def __init__(self, library: ctypes.CDLL | None = None) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True) if library is None else library
        self._value = ctypes.c_uint64()
        self._pointer = ctypes.byref(self._value)
        self._read = self._libc.read
        self._read.restype = ctypes.c_ssize_t
        self._read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]

    def open(self, event: EnergyEvent) -> int:
        """Begin to count *event* for every process; the handle of its counter, which is at 0.

        Raises:
            MeterPermissionError: the kernel does not let this user count for every process.
            MeterNotFoundError: this kernel or machine has no such event.
            MeterReadError: it failed for another reason.
        """
        number = _SYSCALL.get(platform.machine())
        if number is None:
            raise MeterNotFoundError(
                f"perf events are not read on {platform.machine()}; use another meter"
            )
        attribute = _ATTRIBUTE.pack(event.kind, _ATTRIBUTE.size, event.config, *[0] * 7)
        handle = self._libc.syscall(
            ctypes.c_long(number),
            ctypes.c_char_p(attribute),
            ctypes.c_long(_EVERY_PROCESS),
            ctypes.c_long(event.cpu),
            ctypes.c_long(_NO_GROUP),
            ctypes.c_ulong(_CLOSE_ON_EXEC),
        )
        if handle < 0:
            raise _refusal(ctypes.get_errno(), event)
        return int(handle)

    def read(self, handle: int, event: EnergyEvent) -> int:
        """Counts since ``open``. One thread at a time.

        Raises:
            MeterReadError: the kernel did not answer with a whole number.
        """
        size = self._read(handle, self._pointer, 8)
        if size == 8:
            return self._value.value
        cause = os.strerror(ctypes.get_errno()) if size < 0 else f"{size} of 8 bytes came"
        raise MeterReadError(f"reading {event.path} failed: {cause}; run: cwmp devices")

    def close(self, handle: int) -> None:
        """Stop counting."""
        self._libc.close(handle)


def _refusal(code: int, event: EnergyEvent) -> Exception:
    name = f"{event.path} on CPU {event.cpu}"
    if code in (1, 13):  # EPERM, EACCES
        level = _text(PARANOID) if PARANOID.exists() else "unknown"
        return MeterPermissionError(
            f"the kernel refuses {name} ({PARANOID} is {level}); {PERMISSION_COMMAND}, or run with "
            "CAP_PERFMON (in a container --cap-add PERFMON)"
        )
    why = os.strerror(code)
    if code in (2, 19, 38, 95):  # ENOENT, ENODEV, ENOSYS, EOPNOTSUPP
        return MeterNotFoundError(
            f"the kernel offers {name} but has no such counter ({why}); choose other rails"
        )
    return MeterReadError(f"cannot open {name}: {why}; run: cwmp devices")


def _packages(cpumask: Path, cpus: Path) -> dict[int, str]:
    """``{cpu: "0"}``, or ``"0-die-1"`` where a package has several CPUs in the mask."""
    where = {}
    for cpu in _cpu_list(cpumask):
        topology = cpus / f"cpu{cpu}" / "topology"
        where[cpu] = (_number(topology / "physical_package_id"), topology / "die_id")
    packages = [package for package, _ in where.values()]
    names = {
        cpu: f"{package}-die-{_number(die)}" if packages.count(package) > 1 else str(package)
        for cpu, (package, die) in where.items()
    }
    if len(set(names.values())) < len(names):
        raise CounterFaultError(f"{cpumask} names one package's CPUs twice: {_text(cpumask)!r}")
    return names


def _cpu_list(path: Path) -> list[int]:
    """CPUs as the kernel lists them: ``0,28`` or ``0-3``."""
    text = _text(path)
    if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", text):
        raise CounterFaultError(f"{path} holds {text!r}, not a list of CPUs")
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return sorted(set(cpus))


def _rail(event: str, package: str, packages: int) -> Rail:
    domain = _NAMES.get(event, event)
    if domain == "psys":
        name = "psys" if packages == 1 else f"psys-{package}"
        return Rail(name, domain, False, "contains the packages")
    whole = f"package-{package}"
    because = None
    if domain not in ("package", "dram"):
        because = f"{'lies inside' if event in _NAMES else 'may overlap with'} {whole}"
    return Rail(f"{domain}-{package}", domain, because is None, because)


def _config(path: Path) -> int:
    match = _EVENT.fullmatch(_text(path))
    if match is None:
        raise CounterFaultError(f"{path} holds {_text(path)!r}, not an event's number")
    return int(match[1], 0) if match[1].startswith("0x") else int(match[1])


def _unit_j(path: Path) -> float:
    scale, unit = (path.with_name(path.name + end) for end in (".scale", ".unit"))
    try:
        unit_j = float(_text(scale))
    except ValueError:
        unit_j = float("nan")
    if _text(unit) != "Joules" or not (isfinite(unit_j) and 0 < unit_j < 1):
        raise CounterFaultError(
            f"{path} counts in units of {_text(scale)!r} {_text(unit)!r}, not of joules"
        )
    return unit_j


def _number(path: Path) -> int:
    text = _text(path)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise CounterFaultError(f"{path} holds {text!r}, not a number")
    return int(text)


def _text(path: Path) -> str:
    try:
        text = read_kernel_file(path)
    except OSError as error:
        raise MeterReadError(f"cannot read {path}: {error.strerror}") from error
    if not text.endswith(b"\n"):
        raise CounterFaultError(f"{path} holds {text[:40]!r}, not a whole line")
    return text.decode("ascii", "replace").strip()
