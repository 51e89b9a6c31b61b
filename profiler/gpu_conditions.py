"""What a block was measured under on an NVIDIA GPU: its clock, temperature and throttling.

Read through NVML beside the windows, never inside them. What a GPU does not show is ``None``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from profiler.conditions import Conditions, HostObserver, Observer, suspended_s
from profiler.errors import MeterNotFoundError
from profiler.meters.base import MeterInfo

THROTTLING = 0x08 | 0x20 | 0x40 | 0x80
"""Clocks event reasons: hardware slowdown, heat (by software or hardware), power brake."""
_SM_CLOCK, _GPU_SENSOR = 1, 0
_HEAT = 1
"""The performance policy whose violation time is counted; a power cap (0) is how a GPU works."""
_MHZ = 1e6


class GpuObserver:
    """The conditions of the GPUs that NVML numbers *indices*.

    ``frequency_hz`` is their highest SM clock and ``temperature_c`` that of the hottest.
    ``throttled`` adds up the nanoseconds that heat held a clock down; for a GPU that does not
    count them, one for each look that found it held down by `THROTTLING`. A GPU at its power
    limit works as it is meant to and is not throttled in either.

    Raises:
        MeterNotFoundError: there is no driver, or no such GPU.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        from profiler.meters.gpus import initialise

        self._nvml: Any = initialise()
        self._seen_throttled = dict.fromkeys(indices, 0)
        weakref.finalize(self, self._nvml.nvmlShutdown)
        try:
            self._handles = {i: self._nvml.nvmlDeviceGetHandleByIndex(i) for i in indices}
        except self._nvml.NVMLError as error:
            raise MeterNotFoundError(
                f"a GPU cannot be observed: {error}; run nvidia-smi"
            ) from error

    def observe(self) -> Conditions:
        """What the GPUs show now; some ten microseconds a call of the driver."""
        nvml, handles = self._nvml, self._handles
        clocks = _known(
            self._ask(nvml.nvmlDeviceGetClockInfo, handle, _SM_CLOCK) for handle in handles.values()
        )
        heat = _known(
            self._ask(nvml.nvmlDeviceGetTemperature, handle, _GPU_SENSOR)
            for handle in handles.values()
        )
        throttled = _known(self._throttled(index, handle) for index, handle in handles.items())
        return Conditions(
            suspended_s=suspended_s(),
            frequency_hz=max(clocks) * _MHZ if clocks else None,
            temperature_c=float(max(heat)) if heat else None,
            throttled=sum(throttled) if throttled else None,
        )

    def _throttled(self, index: int, handle: Any) -> int | None:
        nvml = self._nvml
        held_ns = self._ask(
            lambda h: nvml.nvmlDeviceGetViolationStatus(h, _HEAT).violationTime, handle
        )
        if held_ns is not None:
            return held_ns
        name = "nvmlDeviceGetCurrentClocksEventReasons"
        older = "nvmlDeviceGetCurrentClocksThrottleReasons"
        reasons = self._ask(getattr(nvml, name, None) or getattr(nvml, older), handle)
        if reasons is None:
            return None
        self._seen_throttled[index] += bool(reasons & THROTTLING)
        return self._seen_throttled[index]

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> int | None:
        try:
            return int(function(*arguments))
        except self._nvml.NVMLError:
            return None


class _SleepObserver:
    """A device that shows no conditions: whether the host slept is all that is known."""

    def observe(self) -> Conditions:
        return Conditions(suspended_s=suspended_s())


def observer_of(info: MeterInfo, device: str = "cpu") -> Observer:
    """Who looks at the conditions of the hardware that a meter's joules are of.

    Args:
        info: of the meter.
        device: the torch device that works, ``cpu`` or ``cuda:N``.

    Raises:
        MeterNotFoundError: the driver of the metered GPU is gone.
    """
    if info.name == "nvml":
        return GpuObserver([int(rail.removeprefix("gpu-")) for rail in info.selected])
    if info.covers == "cpu" and device == "cpu":
        return HostObserver()
    return _SleepObserver()


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]
