"""The GPUs that the NVIDIA driver shows, which can be metered, and which one is ``cuda:N``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from profiler.errors import InputError, MeterNotFoundError
from profiler.meters.nvml_facts import Facts, facts_of

GUARD_POWER_W = 5000.0
"""More than one GPU module draws."""
PCI_ORDER = (
    "cuda:N was taken as GPU N in PCI order, torch not being loaded; set "
    "CUDA_DEVICE_ORDER=PCI_BUS_ID where the GPUs differ"
)
_MIG = "MIG is on, and a slice of a GPU has no energy counter"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver shows it, and why its energy cannot be had, where it cannot."""

    index: int
    uuid: str
    name: str
    handle: Any
    cause: str | None = None
    remedy: str | None = None
    forbidden: bool = False
    facts: Facts = field(default_factory=Facts)

    @property
    def rail(self) -> str:
        """The name of its rail; numbered as ``nvidia-smi`` numbers GPUs."""
        return f"gpu-{self.index}"

    def answers_to(self, uuid: str) -> bool:
        """Whether *uuid* or the beginning of one is its; torch leaves the prefix ``GPU-`` out."""
        return self.uuid.removeprefix("GPU-").startswith(uuid.removeprefix("GPU-"))


def initialise() -> Any:
    """The NVML bindings with the driver open; each call needs one ``nvmlShutdown``.

    Raises:
        MeterNotFoundError: there is no driver.
    """
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        nvml = importlib.import_module("profiler.meters.nvml_library")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise MeterNotFoundError(
            f"no NVIDIA driver ({error}); install the driver that matches the GPU, or in a "
            "container pass the GPU in (--gpus all)"
        ) from error
    return nvml


@contextmanager
def session() -> Iterator[Any]:
    """The NVML bindings with the driver open for the length of a ``with`` block."""
    nvml = initialise()
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def list_gpus(nvml: Any) -> list[Gpu]:
    """Every GPU, metered or not, in PCI order.

    Raises:
        MeterNotFoundError: the driver lists none.
    """
    try:
        gpus = [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        raise MeterNotFoundError(f"the driver lists no GPU ({error}); run nvidia-smi") from error
    if not gpus:
        raise MeterNotFoundError("the NVIDIA driver shows no GPU; pass one in (--gpus all)")
    return gpus


def parse_device(device: str) -> int | None:
    """The N of ``cuda:N``; ``None`` for ``cpu``, which names no GPU.

    Raises:
        InputError: it is neither.
    """
    if device == "cpu":
        return None
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise InputError(f"nvml meters cuda:N devices, not {device!r}")
    return int(number or 0)


def behind(ordinal: int, gpus: Sequence[Gpu]) -> tuple[Gpu, bool]:
    """The GPU that CUDA calls *ordinal*, and whether the order of GPUs had to be assumed.

    torch's UUID decides where torch is loaded and sees a GPU; else ``CUDA_VISIBLE_DEVICES``.

    Raises:
        MeterNotFoundError: there is no such device, or it is a MIG slice.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if ordinal >= count:
            raise MeterNotFoundError(f"there is no cuda:{ordinal}: torch sees {count} GPUs")
        properties = torch.cuda.get_device_properties(ordinal)
        if " MIG " in str(getattr(properties, "name", "")):
            raise MeterNotFoundError(f"cuda:{ordinal} cannot be metered: {_MIG}; use a whole GPU")
        return _by_uuid(str(properties.uuid), gpus), False
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    tokens = [str(gpu.index) for gpu in gpus] if visible is None else visible.split(",")
    token = tokens[ordinal].strip() if ordinal < len(tokens) else ""
    if not token or (token.isdecimal() and int(token) >= len(gpus)):
        raise MeterNotFoundError(
            f"there is no cuda:{ordinal}: the driver shows {len(gpus)} GPUs and "
            f"CUDA_VISIBLE_DEVICES is {'not set' if visible is None else repr(visible)}"
        )
    if any(t.startswith("MIG-") for t in os.environ.get("NVIDIA_VISIBLE_DEVICES", "").split(",")):
        raise MeterNotFoundError(f"this container holds a slice of a GPU: {_MIG}; use a whole GPU")
    if not token.isdecimal():
        return _by_uuid(token, gpus), False
    in_order = len(gpus) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return gpus[int(token)], not in_order


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid, name = str(nvml.nvmlDeviceGetUUID(handle)), str(nvml.nvmlDeviceGetName(handle))
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0]:
            remedy = f"sudo nvidia-smi -i {index} -mig 0, or measure on a GPU without slices"
            return Gpu(index, uuid, name, handle, _MIG, remedy)
    except nvml.NVMLError:
        pass  # a GPU that knows no MIG
    try:
        facts = facts_of(nvml, handle)
    except nvml.NVMLError_NoPermission:
        cause, remedy = "the driver refuses this user", "ask for access to /dev/nvidia*"
        return Gpu(index, uuid, name, handle, cause, remedy, forbidden=True)
    except nvml.NVMLError as error:
        cause, remedy = f"the driver says: {error}", "run nvidia-smi to see the GPU's state"
        return Gpu(index, uuid, name, handle, cause, remedy)
    if not facts.counts and facts.power is None:
        cause = "it has no energy counter and shows no power"
        remedy = "use a GPU of the Volta generation or later, not through a virtual GPU"
        return Gpu(index, uuid, name, handle, cause, remedy)
    return Gpu(index, uuid, name, handle, facts=facts)


def _by_uuid(uuid: str, gpus: Sequence[Gpu]) -> Gpu:
    matches = [gpu for gpu in gpus if gpu.answers_to(uuid)]
    if len(matches) == 1:
        return matches[0]
    if uuid.startswith("MIG-") or any(gpu.cause == _MIG for gpu in gpus):
        raise MeterNotFoundError(f"{uuid} cannot be metered: {_MIG}; use a whole GPU")
    raise MeterNotFoundError(f"{len(matches)} of the driver's GPUs have the UUID {uuid}")
