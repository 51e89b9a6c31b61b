"""What the joules of an NVIDIA GPU contain, and how far they can be trusted, by its generation.

Sources: NVML API reference (nvmlDeviceGetPowerUsage, nvmlPowerScopeType_t); Z. Yang, K. Adamek,
W. Armour, "Accurate and convenient energy measurements for GPUs", SC 2024, arXiv 2312.02741, who
ran micro-benchmarks on over 70 GPUs and used external power meters in their test cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from profiler.meters.base import Systematic

Power = Literal["instant", "usage"]
"""How a GPU shows its power: of this instant (field 186), or as PowerUsage says it."""

INSTANT_FIELD, GPU_SCOPE, MODULE_SCOPE = 186, 0, 1
AMPERE, HOPPER = 7, 9
_GA100 = (8, 0)
_ABSENT = (2, 3, 13)
"""NVML's codes for what a GPU or its driver does not have: field, feature, function."""
_GAIN = Systematic(
    0.05, "gain of the GPU's power sensor, +-5 % (arXiv 2312.02741; assumed for models not in it)"
)
_PART_TIME = Systematic(
    0.05,
    "the sensor sees 25 % of the time (arXiv 2312.02741); what repeats in step with it does not "
    "average out: 5 %, assumed",
)
_SUPERCHIP = re.compile(r"\bG[HB]\d{2,3}\b", re.I)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the driver says of one GPU beside its name.

    Attributes:
        counts: whether it counts joules.
        power: how it shows its power, where it does.
        architecture: NVML's number of its generation; ``None`` where the driver does not say.
        capability: CUDA's compute capability, (8, 0); likewise.
        module: whether a power of the whole module is shown beside that of the GPU.
    """

    counts: bool = True
    power: Power | None = None
    architecture: int | None = None
    capability: tuple[int, int] | None = None
    module: bool = False

    @property
    def part_time(self) -> bool:
        """Whether its sensor is known to sample a quarter of the time: A100 and H100 chips."""
        return self.capability == _GA100 or self.architecture == HOPPER

    @property
    def averaged_s(self) -> float:
        """Over how many seconds its PowerUsage is averaged; 0 where it is not."""
        recent = self.architecture is None or self.architecture >= AMPERE
        return 1.0 if recent and self.capability != _GA100 else 0.0


def facts_of(nvml: Any, handle: Any) -> Facts:
    """Ask the driver; what it does not answer stays ``None``.

    Raises:
        NVMLError: it refuses this user, or the GPU does not answer.
    """

    def ask(name: str) -> Any:
        try:
            return getattr(nvml, name)(handle)
        except (nvml.NVMLError, AttributeError):
            return None

    capability = ask("nvmlDeviceGetCudaComputeCapability")
    power: Power | None = None
    if _has(nvml, lambda: field_mw(nvml, handle)):
        power = "instant"
    elif _has(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle)):
        power = "usage"
    return Facts(
        counts=_has(nvml, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)),
        power=power,
        architecture=ask("nvmlDeviceGetArchitecture"),
        capability=None if capability is None else (int(capability[0]), int(capability[1])),
        module=_has(nvml, lambda: field_mw(nvml, handle, MODULE_SCOPE)),
    )


def field_mw(nvml: Any, handle: Any, scope: int = GPU_SCOPE) -> int:
    """The instant power, mW. Raises ``NVMLError`` where the field is not supported."""
    (value,) = nvml.nvmlDeviceGetFieldValues(handle, [(INSTANT_FIELD, scope)])
    if value.nvmlReturn:
        raise nvml.NVMLError(value.nvmlReturn)
    kinds = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    if value.valueType >= len(kinds):
        raise nvml.NVMLError(3)
    return int(getattr(value.value, kinds[value.valueType]))


def _has(nvml: Any, read: Callable[[], object]) -> bool:
    try:
        read()
    except nvml.NVMLError as error:
        if error.value not in _ABSENT:
            raise
        return False
    return True


def scope_of(rail: str, name: str, facts: Facts, *, counts: bool) -> tuple[str, ...]:
    """What the joules of *rail* include and leave out, for `MeterInfo.scope`.

    *counts*: whether they are counted by the GPU; else its power is sampled.
    """
    if facts.module or _SUPERCHIP.search(name):
        sentences = [
            f"{name} shares a module with processors: {rail} is at least the GPU with its memory, "
            "and may be the whole module, processors and their memory included"
        ]
    else:
        sentences = [f"{rail} is the GPU with its memory and board, without anything of the host"]
    if facts.part_time:
        sentences.append(
            f"the power sensor of {name} sees 25 % of the time: work that repeats in step with it "
            "is misjudged, so blocks begin at random times"
        )
    if not counts:
        kind = "instant power" if facts.power == "instant" else "power"
        averaged = facts.power == "usage" and facts.averaged_s
        mean = f", a mean of the last {facts.averaged_s:g} s," if averaged else ""
        sentences.append(f"{rail} counts no joules: its {kind}{mean} is sampled and summed")
    return tuple(sentences)


def systematic_of(every: Sequence[Facts]) -> tuple[Systematic, ...]:
    """`MeterInfo.systematic` of GPUs read together."""
    part_time = any(facts.part_time for facts in every)
    return (_GAIN, _PART_TIME) if part_time else (_GAIN,)
