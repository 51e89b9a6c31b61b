"""NVML: the energy counter of NVIDIA GPUs, through nvidia-ml-py.

The counter is in millijoules since the driver was loaded and steps every 10 to 100 ms by
device. CUDA runs behind the caller's back, so each read first waits for the GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from profiler.errors import InputError, MeterNotFoundError, MeterPermissionError, MeterReadError
from profiler.meters.base import EnergyMeter, MeterInfo, Rail, SourceReport, choose_rails
from profiler.meters.counted import Channel, CountedMeter, started
from profiler.meters.counter import UnwrappedCounter
from profiler.meters.gpu_wait import WaitingSampledMeter, waiting
from profiler.meters.gpus import (
    GUARD_POWER_W,
    PCI_ORDER,
    Gpu,
    behind,
    initialise,
    list_gpus,
    parse_device,
    session,
)
from profiler.meters.nvml_facts import scope_of, systematic_of
from profiler.meters.nvml_power import PERIOD_S, NvmlPowerSensor

SLACK_S = 1.0
"""A counter's content is at most this old; the slowest known steps every 100 ms."""
LAG_S = 0.1
"""Assumed age of a step's content when it shows: one period of the slowest sensor."""
STALL_S = 5.0
"""A GPU always draws something, so its counter moves."""
_LIBRARY = "libnvidia-ml.so.1"
_MJ = 1e-3


def open_gpus(
    gpus: Sequence[Gpu],
    counted: Sequence[Gpu],
    rails: Sequence[str] | None = None,
    *,
    synchronise: Callable[[], None] | None = None,
    assumptions: tuple[str, ...] = (),
) -> EnergyMeter:
    """A meter of GPUs: by their counters, or where one of them has none by the power of all.

    Args:
        gpus: every GPU whose energy can be had.
        counted: the GPUs that make up "this device".
        rails: the rails to read; ``None`` takes the counted ones.
        synchronise: waits until the GPUs' work is done; called before each read. By default
            `synchronise_torch` on the GPUs read.
        assumptions: how the GPUs were told apart, where that was assumed.

    Raises:
        InputError: an unknown rail.
        MeterNotFoundError: the driver is gone.
        MeterReadError, CounterFaultError: the first read failed.
    """
    because = f"not the device asked for, {', '.join(gpu.rail for gpu in counted)}"
    available = tuple(
        Rail(gpu.rail, "gpu", gpu in counted, None if gpu in counted else because) for gpu in gpus
    )
    selected = choose_rails(available, rails)
    chosen = [gpu for gpu in gpus if gpu.rail in selected]
    wait = waiting(synchronise or partial(synchronise_torch, chosen))
    counts = all(gpu.facts.counts for gpu in chosen)
    averaged_s = max(g.facts.averaged_s if g.facts.power == "usage" else 0.0 for g in chosen)
    info = MeterInfo(
        name="nvml",
        device=" + ".join(gpu.name for gpu in chosen),
        origin="measured",
        rails=available,
        selected=selected,
        assumptions=assumptions,
        covers="gpu",
        lag_s=LAG_S if counts else max(averaged_s, PERIOD_S),
        scope=tuple(
            sentence
            for gpu in chosen
            for sentence in scope_of(gpu.rail, gpu.name, gpu.facts, counts=counts)
        ),
        systematic=systematic_of([gpu.facts for gpu in chosen]),
    )
    if not counts:
        dark = [gpu.rail for gpu in chosen if gpu.facts.power is None]
        if dark:
            raise MeterNotFoundError(
                f"{dark[0]} shows joules alone and another GPU watts alone; meter them apart, "
                "with --rails"
            )
        return WaitingSampledMeter(info, NvmlPowerSensor(chosen), PERIOD_S, wait=wait)
    nvml = initialise()
    try:
        channels = [_channel(nvml, gpu) for gpu in chosen]
    except BaseException:
        nvml.nvmlShutdown()
        raise
    return CountedMeter(info, channels, nvml.nvmlShutdown, before_read=wait)


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
                unit=_unit(gpu),
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
    ) -> EnergyMeter:
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
            return open_gpus(
                usable, counted, rails, synchronise=synchronise, assumptions=assumptions
            )


def _channel(nvml: Any, gpu: Gpu) -> Channel:
    def energy_mj() -> int:
        try:
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle))
        except nvml.NVMLError as error:
            raise MeterReadError(f"reading {gpu.rail} ({gpu.name}) failed: {error}") from error

    counter = UnwrappedCounter(
        f"NVML energy of {gpu.rail}", _MJ, GUARD_POWER_W, SLACK_S, stall_s=STALL_S
    )
    return started(gpu.rail, counter, energy_mj)


SOURCE = NvmlSource()


def _unit(gpu: Gpu) -> str | None:
    if gpu.cause is not None:
        return None
    return "mJ" if gpu.facts.counts else "mW, sampled"


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
