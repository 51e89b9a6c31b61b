"""GPUs work behind the caller's back: meters that wait for them before each read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from profiler.errors import MeterReadError
from profiler.meters.base import MeterInfo, Reading
from profiler.meters.sampled import PowerSensor, SampledMeter


def waiting(synchronise: Callable[[], None]) -> Callable[[], None]:
    """*synchronise*, its failures told as the meter's.

    A CUDA error shows at the first wait after the kernel that caused it.
    """

    def wait() -> None:
        try:
            synchronise()
        except RuntimeError as error:
            raise MeterReadError(f"waiting for the GPU failed: {error}") from error

    return wait


class WaitingSampledMeter(SampledMeter):
    """A `SampledMeter` whose ``read`` waits for the GPU first; its samples wait for nothing."""

    def __init__(
        self,
        info: MeterInfo,
        sensor: PowerSensor,
        period_s: float,
        *,
        wait: Callable[[], None],
        **options: Any,
    ) -> None:
        self._wait = wait
        super().__init__(info, sensor, period_s, **options)

    def read(self) -> Reading:
        """Joules up to the last sample, after the GPUs have finished what they were given."""
        if not self._closed:
            self._wait()
        return super().read()
