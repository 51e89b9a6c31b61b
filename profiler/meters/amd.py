"""AMD GPUs through AMD SMI: their energy counter, or where it is not to be trusted their power."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from profiler.errors import CounterFaultError, InputError, MeterNotFoundError, MeterReadError
from profiler.meters.amd_gpus import (
    SMI_ORDER,
    AmdGpu,
    behind,
    list_gpus,
    parse_device,
    torch_address,
)
from profiler.meters.amd_smi import (
    GUARD_POWER_W,
    initialise,
    read_energy,
    read_power_w,
    said,
    session,
)
from profiler.meters.base import (
    EnergyMeter,
    MeterInfo,
    Rail,
    SourceReport,
    Systematic,
    choose_rails,
)
from profiler.meters.counted import Channel, CountedMeter, longest_read_gap_s, started
from profiler.meters.counter import UnwrappedCounter
from profiler.meters.gpu_wait import WaitingSampledMeter, waiting

PERIOD_S = 0.02
"""Assumed time between new values of the power sensor."""
SLACK_S, STALL_S = 1.0, 5.0
_WRAP = 2**64
_GAIN = Systematic(0.05, "gain of the GPU's power sensor: 5 %, assumed; none is published")
_NOTHING = "it shows neither a working energy counter nor its power"
_REMEDY = "update ROCm, or use a GPU that amd-smi shows a power for"


class AmdPowerSensor:
    """Watts of *gpus*, by rail."""

    def __init__(self, gpus: Sequence[AmdGpu]) -> None:
        self._gpus = tuple(gpus)
        self._smi: Any = initialise()

    def watts(self) -> Mapping[str, float]:
        """The power of each rail.

        Raises:
            MeterReadError: the driver does not answer.
            CounterFaultError: it answers with no power that a GPU can draw.
        """
        return {gpu.rail: self._watts(gpu) for gpu in self._gpus}

    def close(self) -> None:
        """Let go of the driver."""
        self._smi.amdsmi_shut_down()

    def _watts(self, gpu: AmdGpu) -> float:
        try:
            power_w = read_power_w(self._smi, gpu.handle)
        except self._smi.AmdSmiException as error:
            raise _failed(gpu, "power", error) from error
        if power_w is None:
            raise CounterFaultError(
                f"{gpu.rail} ({gpu.name}) shows no power any more; repeat the measurement"
            )
        return power_w


class AmdSource:
    """Finds the GPUs that AMD SMI shows, and opens their counters or power sensors."""

    name = "amd"

    def discover(self) -> Sequence[SourceReport]:
        """One report a GPU, or one that says why there is none."""
        try:
            with session() as smi:
                gpus = list_gpus(smi)
        except MeterNotFoundError as error:
            cause, _, remedy = str(error).partition("; ")
            return [SourceReport(self.name, False, "amdsmi", cause=cause, remedy=remedy)]
        return [
            SourceReport(
                self.name,
                usable=gpu.usable,
                path=f"amdsmi, {gpu.address or gpu.index}",
                device=gpu.name,
                rails=(Rail(gpu.rail, "gpu", gpu.mirrors is None, gpu.mirrors),)
                if gpu.usable
                else (),
                unit=_unit(gpu),
                cause=None if gpu.usable else f"{_NOTHING} ({gpu.doubt})",
                remedy=None if gpu.usable else _REMEDY,
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
        """Open the counter behind ``cuda:N`` (so torch calls AMD's too), for ``cpu`` all of them.

        `MeterInfo.covers` is ``gpu`` in either case. A counter whose slope does not agree with
        the power sensor within a factor of `AGREEMENT` is not taken: its power is sampled.

        Args:
            argument: none is taken.
            device: ``cuda:N`` counts that GPU; ``cpu`` (no GPU named) counts them all.
            rails: other rails than that, by name.
            synchronise: in place of ``torch.cuda.synchronize``.

        Raises:
            InputError: an argument, an unknown rail, or a device that is neither.
            MeterNotFoundError: no AMD SMI, no driver, no such GPU, or one that shows nothing.
            MeterReadError, CounterFaultError: the first read failed.
        """
        if argument:
            raise InputError(f"amd takes no argument, got {argument!r}; use --device cuda:N")
        ordinal = parse_device(device)
        with session() as smi:
            gpus = list_gpus(smi)
            assumed = False
            if ordinal is None:
                counted = [g for g in gpus if g.usable and g.part_of is None] or gpus[:1]
            else:
                gpu, assumed = behind(ordinal, gpus)
                counted = [gpu if gpu.part_of is None else gpus[gpu.part_of]]
            for gpu in counted:
                if not gpu.usable:
                    raise MeterNotFoundError(
                        f"{gpu.rail} ({gpu.name}): {_NOTHING} ({gpu.doubt}); {_REMEDY}"
                    )
            usable = [gpu for gpu in gpus if gpu.usable]
            return _open(usable, counted, rails, synchronise, (SMI_ORDER,) if assumed else ())


SOURCE = AmdSource()


def _open(
    gpus: Sequence[AmdGpu],
    counted: Sequence[AmdGpu],
    rails: Sequence[str] | None,
    synchronise: Callable[[], None] | None,
    assumptions: tuple[str, ...],
) -> EnergyMeter:
    because = f"not the device asked for, {', '.join(gpu.rail for gpu in counted)}"
    available = tuple(
        Rail(gpu.rail, "gpu", gpu in counted, None if gpu in counted else gpu.mirrors or because)
        for gpu in gpus
    )
    selected = choose_rails(available, rails)
    chosen = [gpu for gpu in gpus if gpu.rail in selected]
    counts = all(gpu.counts for gpu in chosen)
    dark = [gpu.rail for gpu in chosen if not (counts or gpu.watts)]
    if dark:
        raise MeterNotFoundError(
            f"{dark[0]} shows joules alone and another GPU watts alone; meter them apart, with "
            "--rails"
        )
    wait = waiting(synchronise or partial(synchronise_rocm, chosen))
    smi = initialise()
    try:
        channels = [_channel(smi, gpu) for gpu in chosen] if counts else []
    except BaseException:
        smi.amdsmi_shut_down()
        raise
    info = MeterInfo(
        name="amd",
        device=" + ".join(gpu.name for gpu in chosen),
        origin="measured",
        rails=available,
        selected=selected,
        assumptions=assumptions,
        max_read_gap_s=longest_read_gap_s(channels),
        covers="gpu",
        lag_s=0.0 if counts else PERIOD_S,
        scope=tuple(sentence for gpu in chosen for sentence in _scope(gpu, counts)),
        systematic=(_GAIN,),
    )
    if counts:
        return CountedMeter(info, channels, smi.amdsmi_shut_down, before_read=wait)
    smi.amdsmi_shut_down()
    return WaitingSampledMeter(info, AmdPowerSensor(chosen), PERIOD_S, wait=wait)


def _channel(smi: Any, gpu: AmdGpu) -> Channel:
    def energy_units() -> int:
        try:
            raw, unit_j = read_energy(smi, gpu.handle)
        except (smi.AmdSmiException, MeterReadError) as error:
            raise _failed(gpu, "energy", error) from error
        if unit_j != gpu.unit_j:
            raise CounterFaultError(
                f"{gpu.rail} ({gpu.name}) now counts in {unit_j:g} J, before in {gpu.unit_j:g} J: "
                "the driver was reset; repeat the measurement"
            )
        return raw

    counter = UnwrappedCounter(
        f"AMD SMI energy of {gpu.rail}", gpu.unit_j, GUARD_POWER_W, SLACK_S, _WRAP, STALL_S
    )
    return started(gpu.rail, counter, energy_units)


def _scope(gpu: AmdGpu, counts: bool) -> tuple[str, ...]:
    what = (
        f"{gpu.rail} is what the driver calls the socket's power: GPU and memory, on older cards "
        "the GPU without its memory; nothing of the host"
    )
    said_of = [what]
    if gpu.partitions > 1:
        said_of.append(
            f"{gpu.rail} is the whole of a GPU cut into {gpu.partitions} partitions: work on any "
            "of them is in its joules"
        )
    if counts:
        return (*said_of, *([] if gpu.doubt is None else [f"{gpu.rail}: {gpu.doubt}"]))
    why = gpu.doubt or "another GPU has no counter"
    return (*said_of, f"{gpu.rail}: {why}, so its power is sampled and summed")


def _unit(gpu: AmdGpu) -> str | None:
    if gpu.counts:
        return f"{gpu.unit_j * 1e6:.4g} uJ"
    return "W, sampled" if gpu.watts else None


def _failed(gpu: AmdGpu, what: str, error: Exception) -> MeterReadError:
    return MeterReadError(f"reading the {what} of {gpu.rail} ({gpu.name}) failed: {said(error)}")


def synchronise_rocm(gpus: Sequence[AmdGpu]) -> None:
    """Wait for those of *gpus* that torch sees, if this process has used torch on any GPU.

    A GPU whose place torch does not say is waited for, too.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    for ordinal in range(torch.cuda.device_count()):
        address = torch_address(torch, ordinal)
        if address is None or any(gpu.address == address for gpu in gpus):
            torch.cuda.synchronize(ordinal)
