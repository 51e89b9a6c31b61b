"""What a processor's energy counters are, whichever way the kernel shows them.

Hackenberg et al. 2015: D. Hackenberg, R. Schoene, T. Ilsche, D. Molka, J. Schuchart, R. Geyer,
"An Energy Efficiency Feature Survey of the Intel Haswell Processor", IPDPSW 2015. Khan et al.
2018: K. N. Khan, M. Hirki, T. Niemi, J. K. Nurminen, Z. Ou, "RAPL in Action: Experiences in Using
RAPL for Power Measurements", ACM TOMPECS 3(2), 2018. Schoene et al. 2021: R. Schoene, T. Ilsche,
M. Bielert, M. Velten, M. Schmidl, D. Hackenberg, "Energy Efficiency Aspects of the AMD Zen 2
Architecture", IEEE CLUSTER 2021.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable

from profiler.meters.base import Rail, Systematic
from profiler.meters.counter import UnwrappedCounter

GUARD_POWER_W = 1000.0
"""More than one package or its memory draws: the largest are sold at 500 W."""
PSYS_GUARD_POWER_W = 10_000.0
"""More than one whole machine draws."""
SLACK_S = 0.1
"""A counter's content is at most this old; the slowest known steps every 3 ms."""
STALL_S = 1.0
"""Hundreds of steps: a counter that shows no other value for so long has stopped."""
_ALWAYS_DRAW = ("package", "dram", "psys")  # cores and graphics may be switched off
_VALIDATED, _MODELLED = 0.05, 0.10


def processor_counter(
    label: str,
    unit_j: float,
    domain: str,
    range_units: int | None = None,
    guard_power_w: float | None = None,
) -> UnwrappedCounter:
    """A counter of *domain*, not started yet, with the bounds that such a rail keeps.

    Args:
        label: its path or name, for messages.
        unit_j: joules a raw unit.
        domain: as `Rail.domain`.
        range_units: the raw value at which it wraps, if it does.
        guard_power_w: a power it cannot reach; by default one that no hardware of its kind does.
    """
    default_w = PSYS_GUARD_POWER_W if domain == "psys" else GUARD_POWER_W
    stall_s = STALL_S if domain in _ALWAYS_DRAW else None
    return UnwrappedCounter(
        label, unit_j, guard_power_w or default_w, SLACK_S, range_units, stall_s
    )


def scope(rails: Iterable[Rail]) -> tuple[str, ...]:
    """What the joules of these rails, the ones read, include and leave out."""
    domains = {rail.domain for rail in rails}
    if "psys" in domains:
        return ("psys is what the board's maker wired to it: the whole machine on most laptops",)
    sentences = ["the processor's own joules: board, disks, network and fans are outside"]
    if "package" in domains and "dram" not in domains:
        sentences.append("memory has no rail among those read: it is outside")
    return tuple(sentences)


def gain(vendor: str | None, rails: Iterable[Rail]) -> tuple[Systematic, ...]:
    """The error of the counters' gain, which no repetition averages out.

    Args:
        vendor: of the processor, as ``/proc/cpuinfo`` names it.
        rails: those read.
    """
    if any(rail.domain == "psys" for rail in rails):
        return (Systematic(_MODELLED, "psys gain, assumed: board makers publish no accuracy"),)
    if vendor == "GenuineIntel":
        cause = (
            "RAPL gain, assumed: within a few percent of external meters since Haswell "
            "(Hackenberg et al. 2015; Khan et al. 2018)"
        )
        return (Systematic(_VALIDATED, cause),)
    if vendor in ("AuthenticAMD", "HygonGenuine"):
        cause = (
            "RAPL gain, assumed: AMD models it from activity, and data-dependent power is missed "
            "(Schoene et al. 2021)"
        )
        return (Systematic(_MODELLED, cause),)
    return (Systematic(_MODELLED, "RAPL gain, assumed: no validation of this processor is known"),)


def elsewhere(virtual: str | None) -> tuple[str, str] | None:
    """Why this machine has no such counter whatever is installed, and what to do; or ``None``.

    Args:
        virtual: the hypervisor's name, or ``None`` on a bare machine.
    """
    if virtual:
        return (
            f"a virtual machine exposes no counter ({virtual})",
            "measure on the machine itself, or use --meter modelled",
        )
    if platform.machine() not in ("x86_64", "AMD64", "i386", "i686"):
        return (
            f"RAPL is a counter of x86 processors; this is {platform.machine()}",
            "use a meter of the board, or --meter modelled",
        )
    return None
