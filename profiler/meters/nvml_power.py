"""The power of NVIDIA GPUs that show no joules: older ones, and some in a virtual machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profiler.errors import CounterFaultError, MeterReadError
from profiler.meters.gpus import GUARD_POWER_W, Gpu, initialise
from profiler.meters.nvml_facts import field_mw

PERIOD_S = 0.1
"""The slowest known sensor shows a new value so often; more samples would repeat it."""
_MW = 1e-3


class NvmlPowerSensor:
    """Watts of *gpus*, by rail: of this instant, or where that is not shown as averaged.

    Raises:
        MeterNotFoundError: there is no driver.
    """

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._gpus = tuple(gpus)
        self._nvml: Any = initialise()

    def watts(self) -> Mapping[str, float]:
        """The power of each rail.

        Raises:
            MeterReadError: the driver does not answer: the GPU is lost, or shows it no more.
            CounterFaultError: it answers with more than any GPU draws.
        """
        return {gpu.rail: self._watts(gpu) for gpu in self._gpus}

    def close(self) -> None:
        """Let go of the driver."""
        self._nvml.nvmlShutdown()

    def _watts(self, gpu: Gpu) -> float:
        nvml = self._nvml
        try:
            if gpu.facts.power == "instant":
                power_w = field_mw(nvml, gpu.handle) * _MW
            else:
                power_w = nvml.nvmlDeviceGetPowerUsage(gpu.handle) * _MW
        except nvml.NVMLError as error:
            raise MeterReadError(
                f"reading the power of {gpu.rail} ({gpu.name}) failed: {error}"
            ) from error
        if not 0 <= power_w <= GUARD_POWER_W:
            raise CounterFaultError(
                f"{gpu.rail} ({gpu.name}) says it draws {power_w:g} W: the sensor is broken or "
                "the driver was reset; repeat the measurement"
            )
        return power_w
