"""NVIDIA GPUs: persistence, slices, clocks, and who else computes there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from profiler.checks.finding import Finding
from profiler.errors import MeterNotFoundError

if TYPE_CHECKING:
    from profiler.meters.base import MeterInfo

_SLOWED = {0x08: "hardware", 0x20: "heat (software)", 0x40: "heat (hardware)", 0x80: "power brake"}
_CAPPED = 0x04
_CLOCKS_OF = "nvidia-smi -i {} --query-supported-clocks=graphics --format=csv"
_MHZ = 1e6


@dataclass(frozen=True, slots=True)
class GpuState:
    """One GPU as NVML shows it; what it does not show is ``None``.

    Attributes:
        index: as ``nvidia-smi`` counts.
        name: its product name.
        persistent: whether the driver stays loaded.
        sliced: whether MIG is on.
        clock_hz, highest_clock_hz: of the multiprocessors, now and at most.
        reasons: NVML's bit mask of why the clock is what it is.
        others: process ids of others that compute on it.
    """

    index: int
    name: str
    persistent: bool | None = None
    sliced: bool | None = None
    clock_hz: float | None = None
    highest_clock_hz: float | None = None
    reasons: int | None = None
    others: tuple[int, ...] = ()


def look_at_gpus() -> list[GpuState]:
    """The GPUs that the driver shows; none without bindings or a driver."""
    from profiler.meters.gpus import list_gpus, session

    try:
        with session() as nvml:
            return [_state(nvml, gpu.index, gpu.name, gpu.handle) for gpu in list_gpus(nvml)]
    except MeterNotFoundError:
        return []


def gpu_findings(gpu: GpuState, *, metered: bool = True) -> list[Finding]:
    """Everything that is wrong with one GPU; notes alone where it is not what is *metered*."""
    checks = (_persistence, _slices, _slowed, _capped, _clocks, _company)
    found = [each for check in checks if (each := check(gpu)) is not None]
    return found if metered else [replace(each, severity="note") for each in found]


def is_metered(gpu: GpuState, meter: MeterInfo | None, device: str) -> bool:
    """Whether a measurement is of *gpu*; where no meter is open, any may be what *device* means."""
    if meter is not None and meter.name == "nvml":
        return f"gpu-{gpu.index}" in meter.selected
    return device != "cpu"


def _persistence(gpu: GpuState) -> Finding | None:
    if gpu.persistent is not False:
        return None
    return Finding(
        "gpu-persistence",
        "widens",
        f"GPU {gpu.index} ({gpu.name}) is not in persistence mode",
        "the driver unloads when the last process ends, and the next one wakes the GPU: seconds "
        "at another power, and the energy counter starts again",
        "measured",
        f"keep it awake:\nsudo nvidia-smi -i {gpu.index} --persistence-mode=1",
        "nvmlDeviceGetPersistenceMode: 0",
    )


def _slices(gpu: GpuState) -> Finding | None:
    if not gpu.sliced:
        return None
    return Finding(
        "gpu-mig",
        "spoils",
        f"GPU {gpu.index} ({gpu.name}) is cut into slices (MIG)",
        "a slice has no energy counter; the whole board's holds the other slices' joules",
        "measured",
        "switch MIG off while nothing runs, or measure on another GPU:\n"
        f"sudo nvidia-smi -i {gpu.index} -mig 0",
        "nvmlDeviceGetMigMode: 1",
    )


def _slowed(gpu: GpuState) -> Finding | None:
    causes = [word for bit, word in _SLOWED.items() if (gpu.reasons or 0) & bit]
    if not causes:
        return None
    return Finding(
        "gpu-throttled",
        "spoils",
        f"GPU {gpu.index} ({gpu.name}) is slowed down by {' and '.join(causes)}",
        "blocks run at another clock and voltage than the rest",
        "measured",
        f"cool it, or lock a clock that it can hold:\n{_CLOCKS_OF.format(gpu.index)}",
        f"nvmlDeviceGetCurrentClocksEventReasons: {gpu.reasons:#x}",
    )


def _capped(gpu: GpuState) -> Finding | None:
    if not (gpu.reasons or 0) & _CAPPED:
        return None
    return Finding(
        "gpu-power-limit",
        "widens",
        f"GPU {gpu.index} ({gpu.name}) works at its power limit",
        "its clock follows the load; no block is dropped for that, but they scatter more",
        "measured",
        f"lock a clock that it can hold:\n{_CLOCKS_OF.format(gpu.index)}",
        f"nvmlDeviceGetCurrentClocksEventReasons: {gpu.reasons:#x}",
    )


def _clocks(gpu: GpuState) -> Finding | None:
    now_hz, most_hz = gpu.clock_hz, gpu.highest_clock_hz
    if not now_hz or not most_hz or now_hz >= most_hz:
        return None
    mhz = round(now_hz / _MHZ)
    return Finding(
        "gpu-clocks",
        "note",
        f"GPU {gpu.index} ({gpu.name}) may change its clock: {mhz} MHz now, "
        f"{most_hz / _MHZ:.0f} at most (NVML does not say whether it is locked)",
        f"a window that starts at rest starts {most_hz / now_hz:.1f}x slower than it ends",
        "assumed",
        "lock it at a clock that the load can hold; the figure here is an example:\n"
        f"sudo nvidia-smi -i {gpu.index} --lock-gpu-clocks={round(0.7 * most_hz / _MHZ)}",
        "nvmlDeviceGetClockInfo, nvmlDeviceGetMaxClockInfo",
    )


def _company(gpu: GpuState) -> Finding | None:
    if not gpu.others:
        return None
    pids = ", ".join(str(pid) for pid in gpu.others)
    return Finding(
        "gpu-shared",
        "spoils",
        f"another process computes on GPU {gpu.index} ({gpu.name}): pid {pids}",
        "the board's counter holds its joules too",
        "measured",
        f"end it, or take another GPU:\nnvidia-smi -i {gpu.index}",
        f"nvmlDeviceGetComputeRunningProcesses: {pids}",
    )


def _state(nvml: Any, index: int, name: str, handle: Any) -> GpuState:
    def ask(what: str, *arguments: Any) -> Any:
        """An answer, or ``None`` from a driver or GPU that does not know the question."""
        call: Callable[..., Any] | None = getattr(nvml, what, None)
        try:
            return call(handle, *arguments) if call else None
        except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):
            return None

    persistent, mig = ask("nvmlDeviceGetPersistenceMode"), ask("nvmlDeviceGetMigMode")
    now = ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
    most = ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM)
    running = ask("nvmlDeviceGetComputeRunningProcesses") or ()
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # as drivers before 535 call them
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return GpuState(
        index=index,
        name=name,
        persistent=None if persistent is None else bool(persistent),
        sliced=None if mig is None else bool(mig[0]),
        clock_hz=None if now is None else now * _MHZ,
        highest_clock_hz=None if most is None else most * _MHZ,
        reasons=reasons,
        others=tuple(process.pid for process in running if process.pid != os.getpid()),
    )
