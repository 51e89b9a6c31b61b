"""NVML: the energy counter of NVIDIA GPUs, through nvidia-ml-py.

The counter is in millijoules since the driver was loaded and steps every 10 to 100 ms by
device. CUDA runs behind the caller's back, so each read first waits for the GPU.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from profiler.errors import InputError, MeterNotFoundError, MeterPermissionError, MeterReadError
from profiler.meters.base import MeterInfo, Rail, Reading, SourceReport, choose_rails
from profiler.meters.counter import UnwrappedCounter, read_counters
from profiler.meters.gpus import (
    PCI_ORDER,
    Gpu,
    behind,
    initialise,
    list_gpus,
    parse_device,
    session,
)

GUARD_POWER_W = 5000.0
"""More than one GPU module draws."""
SLACK_S = 1.0
"""A counter's content is at most this old; the slowest known steps every 100 ms."""
_LIBRARY = "libnvidia-ml.so.1"
_MJ = 1e-3


class NvmlMeter:
    """An open set of GPU energy counters. Safe to read from several threads.

    Args:
        gpus: every GPU whose energy can be read.
        counted: the GPUs that make up "this device".
        rails: the rails to read; ``None`` takes the counted ones.
        synchronise: waits until the GPUs' work is done; called before each read. By default
            `synchronise_torch` on the GPUs read.
        assumptions: how the GPUs were told apart, where that was assumed.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        counted: Sequence[Gpu],
        rails: Sequence[str] | None = None,
        *,
        synchronise: Callable[[], None] | None = None,
        assumptions: tuple[str, ...] = (),
    ) -> None:
        because = f"not the device asked for, {', '.join(gpu.rail for gpu in counted)}"
        available = tuple(
            Rail(gpu.rail, "gpu", gpu in counted, None if gpu in counted else because)
            for gpu in gpus
        )
        selected = choose_rails(available, rails)
        chosen = [gpu for gpu in gpus if gpu.rail in selected]
        self._synchronise = synchronise or partial(synchronise_torch, chosen)
        self._lock = threading.Lock()
        self._closed = False
        self._info = MeterInfo(
            name="nvml",
            device=" + ".join(gpu.name for gpu in chosen),
            origin="measured",
            rails=available,
            selected=selected,
            assumptions=assumptions,
            covers="gpu",
        )
        self._nvml = initialise()
        try:
            self._channels = [(gpu, self._counter(gpu)) for gpu in chosen]
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """Joules since opening, after the GPUs have finished what they were given."""
        with self._lock:
            if self._closed:
                raise MeterReadError("the nvml meter is closed; open it again")
            self._wait()
            return read_counters(
                (gpu.rail, counter, partial(self._energy_mj, gpu))
                for gpu, counter in self._channels
            )

    def close(self) -> None:
        """Let go of the driver; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._nvml.nvmlShutdown()

    def _counter(self, gpu: Gpu) -> UnwrappedCounter:
        counter = UnwrappedCounter(f"NVML energy of {gpu.rail}", _MJ, GUARD_POWER_W, SLACK_S)
        before_s = time.perf_counter()
        counter.start(self._energy_mj(gpu), before_s)
        return counter

    def _energy_mj(self, gpu: Gpu) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle))
        except self._nvml.NVMLError as error:
            raise MeterReadError(f"reading {gpu.rail} ({gpu.name}) failed: {error}") from error

    def _wait(self) -> None:
        try:
            self._synchronise()
        except RuntimeError as error:
            raise MeterReadError(f"waiting for the GPU failed: {error}") from error


class NvmlSource:
    """Finds the GPUs that the NVIDIA driver shows, and opens their energy counters."""

    name = "nvml"

    def discover(self) -> Sequence[SourceReport]:
        """One report a GPU, or one that says why there is none."""
        try:
            with session() as nvml:
                gpus = list_gpus(nvml)
        except MeterNotFoundError as error:
            cause, _, remedy = str(error).partition("; ")
            return [SourceReport(self.name, False, _LIBRARY, cause=cause, remedy=remedy)]
        return [
            SourceReport(
                self.name,
                usable=gpu.cause is None,
                path=f"{_LIBRARY}, {gpu.uuid}",
                device=gpu.name,
                rails=(Rail(gpu.rail, "gpu"),) if gpu.cause is None else (),
                unit="mJ",
                cause=gpu.cause,
                remedy=gpu.remedy,
            )
            for gpu in gpus
        ]

    def open(
        self,
        argument: str = "",
        *,
        device: str = "cpu",
        rails: Sequence[str] | None = None,
        synchronise: Callable[[], None] | None = None,
    ) -> NvmlMeter:
        """Open the counter behind ``cuda:N``, or for ``cpu`` those of all GPUs.

        Whatever the device, `MeterInfo.covers` is ``gpu``: the joules of a command on the
        machine's GPUs, never those of work on its processor.

        Args:
            argument: none is taken.
            device: ``cuda:N`` counts that GPU; ``cpu`` (no GPU named) counts them all.
            rails: other rails than that, by name.
            synchronise: in place of ``torch.cuda.synchronize``.

        Raises:
            InputError: an argument, an unknown rail, or a device that is neither.
            MeterNotFoundError: no driver, no such GPU, MIG, or a GPU without the counter.
            MeterPermissionError: the driver refuses this user.
        """
        if argument:
            raise InputError(f"nvml takes no argument, got {argument!r}; use --device cuda:N")
        ordinal = parse_device(device)
        with session() as nvml:
            gpus = list_gpus(nvml)
            assumptions: tuple[str, ...] = ()
            if ordinal is None:
                counted = [gpu for gpu in gpus if gpu.cause is None] or list(gpus[:1])
            else:
                gpu, assumed = behind(ordinal, gpus)
                counted = [gpu]
                assumptions = (PCI_ORDER,) if assumed else ()
            for gpu in counted:
                if gpu.cause is not None:
                    error = MeterPermissionError if gpu.forbidden else MeterNotFoundError
                    raise error(f"{gpu.rail} ({gpu.name}): {gpu.cause}; {gpu.remedy}")
            usable = [gpu for gpu in gpus if gpu.cause is None]
            return NvmlMeter(
                usable, counted, rails, synchronise=synchronise, assumptions=assumptions
            )


SOURCE = NvmlSource()


def synchronise_torch(gpus: Sequence[Gpu]) -> None:
    """Wait for those of *gpus* that torch sees, if this process has used torch on any GPU.

    No other GPU is waited for: its work is not in the reading, and waiting would open a context
    of some hundred megabytes on it.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    for ordinal in range(torch.cuda.device_count()):
        uuid = str(torch.cuda.get_device_properties(ordinal).uuid)
        if any(gpu.answers_to(uuid) for gpu in gpus):
            torch.cuda.synchronize(ordinal)
