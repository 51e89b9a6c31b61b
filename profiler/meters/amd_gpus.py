"""The AMD GPUs that AMD SMI shows, what can be had of each, and which one is ``cuda:N``.

Some cards have an energy counter that stands still or counts nonsense, so each is compared with
the card's own power sensor before it is believed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from profiler.errors import InputError, MeterNotFoundError, MeterReadError
from profiler.meters.amd_smi import (
    GUARD_POWER_W,
    address_of,
    name_of,
    read_energy,
    read_power_w,
    said,
)

SMI_ORDER = (
    "cuda:N was taken as the GPU that AMD SMI lists N-th, since torch does not say its place"
)
AGREEMENT = 3.0
"""A counter whose slope and the power differ by more than this factor is not believed."""
_CHECK_S = 0.3
_UNCHECKED = "its counter could not be checked: no power is shown"


@dataclass(frozen=True, slots=True)
class AmdGpu:
    """One GPU and what can be had of it.

    Attributes:
        index: its place in AMD SMI's list.
        address: its place on the PCI bus, ``0000:c1:00.0``.
        counts: whether its energy counter is there and agrees with its power.
        unit_j: joules a unit of the counter.
        watts: whether it shows its power.
        doubt: why the counter is not taken, or that it could not be checked.
        part_of: the index of the GPU that stands for the whole board, where this is another
            partition of it; every partition shows the whole board's joules.
        partitions: how many the board it stands for is cut into.
    """

    index: int
    address: str
    name: str
    handle: Any
    counts: bool = False
    unit_j: float = 0.0
    watts: bool = False
    doubt: str | None = None
    part_of: int | None = None
    partitions: int = 1

    @property
    def rail(self) -> str:
        """The name of its rail."""
        return f"gpu-{self.index}"

    @property
    def usable(self) -> bool:
        return self.counts or self.watts

    @property
    def mirrors(self) -> str | None:
        """Whose joules it shows instead of its own, as a reason to leave its rail out."""
        return (
            None if self.part_of is None else f"a partition: shows the joules of gpu-{self.part_of}"
        )


def list_gpus(smi: Any) -> list[AmdGpu]:
    """Every GPU, its counter compared with its power for a third of a second.

    Raises:
        MeterNotFoundError: the driver shows none.
    """
    try:
        handles = list(smi.amdsmi_get_processor_handles())
    except smi.AmdSmiException as error:
        raise MeterNotFoundError(f"AMD SMI lists no GPU ({said(error)}); run amd-smi") from error
    if not handles:
        raise MeterNotFoundError("the AMD driver shows no GPU; pass in /dev/kfd and /dev/dri")
    before = [_look(smi, handle) for handle in handles]
    time.sleep(_CHECK_S)
    after = [_look(smi, handle) for handle in handles]
    gpus = [
        _judged(smi, index, handle, *looks)
        for index, (handle, *looks) in enumerate(zip(handles, before, after, strict=True))
    ]
    boards: dict[object, list[AmdGpu]] = {}
    for gpu, *looks in zip(gpus, before, after, strict=True):
        boards.setdefault(_board(gpu, *looks), []).append(gpu)
    return sorted((g for board in boards.values() for g in _parts(board)), key=lambda g: g.index)


def behind(ordinal: int, gpus: Sequence[AmdGpu]) -> tuple[AmdGpu, bool]:
    """The GPU that torch calls *ordinal*, and whether the order of GPUs had to be assumed.

    Raises:
        MeterNotFoundError: there is no such device.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if ordinal >= count:
            raise MeterNotFoundError(f"there is no cuda:{ordinal}: torch sees {count} GPUs")
        address = torch_address(torch, ordinal)
        found = [gpu for gpu in gpus if gpu.address == address]
        if found:
            return found[0], False
    visible = os.environ.get("HIP_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
    tokens = [str(gpu.index) for gpu in gpus] if visible is None else visible.split(",")
    token = tokens[ordinal].strip() if ordinal < len(tokens) else ""
    if not token.isdecimal() or int(token) >= len(gpus):
        raise MeterNotFoundError(
            f"there is no cuda:{ordinal}: AMD SMI shows {len(gpus)} GPUs and HIP_VISIBLE_DEVICES "
            f"is {'not set' if visible is None else repr(visible)}"
        )
    return gpus[int(token)], len(gpus) > 1


def torch_address(torch: Any, ordinal: int) -> str | None:
    """Where torch's device lies on the PCI bus, as AMD SMI writes it; ``None``: it is not said."""
    found = torch.cuda.get_device_properties(ordinal)
    parts = [getattr(found, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if not all(isinstance(part, int) for part in parts):
        return None
    domain, bus, device = parts
    return f"{domain:04x}:{bus:02x}:{device:02x}.0"


def parse_device(device: str) -> int | None:
    """The N of ``cuda:N``, as torch calls AMD's GPUs too; ``None`` for ``cpu``.

    Raises:
        InputError: it is neither.
    """
    kind, _, number = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or not (number or "0").isdecimal():
        raise InputError(f"amd meters cuda:N devices, as torch calls them, not {device!r}")
    return int(number or 0)


def _board(gpu: AmdGpu, before: _Look, after: _Look) -> object:
    """What two partitions of one board have in common and two boards never: place, or counter."""
    bus_and_device = gpu.address.rpartition(".")[0]
    if bus_and_device:
        return bus_and_device
    moved = before.energy_j is not None and before.energy_j != after.energy_j
    return (before.energy_j, after.energy_j) if moved else gpu.index


def _parts(board: Sequence[AmdGpu]) -> list[AmdGpu]:
    """*board*'s partitions; the first that shows anything stands for them all."""
    whole = next((gpu for gpu in board if gpu.usable), board[0])
    return [
        replace(gpu, partitions=len(board)) if gpu is whole else replace(gpu, part_of=whole.index)
        for gpu in board
    ]


@dataclass(frozen=True, slots=True)
class _Look:
    time_s: float
    energy_j: float | None
    unit_j: float
    power_w: float | None


def _look(smi: Any, handle: Any) -> _Look:
    energy_j, unit_j, power_w = None, 0.0, None
    with suppress(smi.AmdSmiException, MeterReadError):
        raw, unit_j = read_energy(smi, handle)
        energy_j = raw * unit_j
    now_s = time.perf_counter()
    with suppress(smi.AmdSmiException):
        power_w = read_power_w(smi, handle)
    return _Look(now_s, energy_j, unit_j, power_w)


def _judged(smi: Any, index: int, handle: Any, before: _Look, after: _Look) -> AmdGpu:
    shown_w = [look.power_w for look in (before, after) if look.power_w is not None]
    doubt = _doubt(before, after, shown_w)
    return AmdGpu(
        index=index,
        address=address_of(smi, handle),
        name=name_of(smi, handle),
        handle=handle,
        counts=doubt is None or doubt == _UNCHECKED,
        unit_j=after.unit_j,
        watts=len(shown_w) == 2,
        doubt=doubt,
    )


def _doubt(before: _Look, after: _Look, shown_w: Sequence[float]) -> str | None:
    if before.energy_j is None or after.energy_j is None:
        return "it has no energy counter"
    slope_w = (after.energy_j - before.energy_j) / (after.time_s - before.time_s)
    if slope_w == 0:
        return "its energy counter stands still"
    if not 0 < slope_w <= GUARD_POWER_W:
        return f"its energy counter says {slope_w:.3g} W"
    if not shown_w:
        return _UNCHECKED
    low_w, high_w = min(shown_w) / AGREEMENT, max(shown_w) * AGREEMENT
    if not low_w <= slope_w <= high_w:
        return f"its energy counter says {slope_w:.3g} W where its sensor says {shown_w[-1]:.3g} W"
    return None
