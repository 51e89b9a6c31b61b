"""The fallback that says so: CPU time times an assumed power, origin ``modelled``.

E = w * (CPU seconds of this process + CPU seconds of children it has waited for)

It tells apart what costs CPU time and nothing else: no memory, no stalls against
arithmetic, no idle power.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Sequence

from profiler.errors import InputError, MeterReadError
from profiler.host import cpu_model
from profiler.meters.base import MeterInfo, Rail, Reading, SourceReport, choose_rails

WATTS_PER_CORE = 6.0
"""TDP by cores of current server processors: EPYC 9654 360 W / 96 = 3.8, EPYC 9554 360 W / 64
= 5.6, Xeon 8480+ 350 W / 56 = 6.3, Xeon 8380 270 W / 40 = 6.8. Laptops and desktops reach 15."""
_VARIABLE = "CWMP_WATTS_PER_CORE"
_RAILS = (Rail("cpu", "cpu"),)


class ModelledMeter:
    """CPU seconds of this process and its waited-for children, times watts per core.

    Args:
        watts_per_core: the power of one busy core.
        chosen: where that number is from, for the readers of a trace.
        rails: ``None`` or ``["cpu"]``.
        remarks: further sentences for the readers of a trace.
    """

    def __init__(
        self,
        watts_per_core: float = WATTS_PER_CORE,
        *,
        chosen: str = "given by the caller",
        rails: Sequence[str] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        if not (math.isfinite(watts_per_core) and watts_per_core > 0):
            raise InputError(f"watts per core must be a positive number, got {watts_per_core}")
        self._watts_per_core = watts_per_core
        self._closed = False
        self._info = MeterInfo(
            name="modelled",
            device=cpu_model(),
            origin="modelled",
            rails=_RAILS,
            selected=choose_rails(_RAILS, rails),
            assumptions=(
                f"energy is CPU time x {watts_per_core:g} W per busy core ({chosen})",
                "sleeping and waiting cost 0 J in this model; a core costs the same whatever it "
                "computes; memory and other devices are not in it",
                *remarks,
            ),
        )
        self._start_s = _cpu_s()

    @property
    def info(self) -> MeterInfo:
        return self._info

    def read(self) -> Reading:
        """Modelled joules since opening."""
        if self._closed:
            raise MeterReadError("the modelled meter is closed; open it again")
        energy_j = self._watts_per_core * (_cpu_s() - self._start_s)
        return Reading(time.perf_counter(), {"cpu": energy_j})

    def close(self) -> None:
        """Nothing to let go of; later reads are refused all the same."""
        self._closed = True


class ModelledSource:
    """Always there, on a CPU."""

    name = "modelled"

    def discover(self) -> Sequence[SourceReport]:
        """One report; unusable only where the environment asks for an impossible power."""
        cause = remedy = None
        try:
            _watts("")
        except InputError as error:
            cause, remedy = str(error), f"unset {_VARIABLE}"
        return [
            SourceReport(
                self.name,
                usable=cause is None,
                path="CPU time of this process",
                device=cpu_model(),
                rails=_RAILS,
                unit="CPU seconds x W",
                cause=cause,
                remedy=remedy,
            )
        ]

    def open(
        self,
        argument: str = "",
        *,
        device: str = "cpu",
        rails: Sequence[str] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> ModelledMeter:
        """Open the model; *argument* is the watts per core, as in ``modelled:4.5``.

        Raises:
            InputError: a device other than the CPU, or watts that are no positive number.
        """
        if device != "cpu":
            raise InputError(f"modelled knows CPU time only, not {device}; use --meter nvml")
        watts_per_core, chosen = _watts(argument)
        return ModelledMeter(watts_per_core, chosen=chosen, rails=rails, remarks=remarks)


SOURCE = ModelledSource()


def _watts(argument: str) -> tuple[float, str]:
    """Watts per core and where they are from: the argument, the environment, the default."""
    variable = os.environ.get(_VARIABLE, "")
    if not argument and not variable:
        return WATTS_PER_CORE, "assumed: a server core's share of its TDP, 4 to 7 W"
    text, chosen = (argument, "given with --meter") if argument else (variable, f"from {_VARIABLE}")
    try:
        watts = float(text)
    except ValueError:
        watts = math.nan
    if not (math.isfinite(watts) and watts > 0):
        raise InputError(f"{text!r}, {chosen}, is not a positive number of watts per core")
    return watts, chosen


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
