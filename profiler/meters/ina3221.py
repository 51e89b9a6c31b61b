"""Jetson boards: the INA3221 power monitors of the module, sampled and summed.

They show power alone, so joules are integrated (see `sampled`). The input of the whole module is
counted where there is one; see `ina3221_rails` for the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from profiler.errors import (
    InputError,
    MeterError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.meters.base import MeterInfo, Reading, SourceReport, Systematic, choose_rails
from profiler.meters.ina3221_rails import Channel, scan
from profiler.meters.sampled import SampledMeter
from profiler.meters.sysfs_files import FilesSensor, board_model
from profiler.sysfs import sysfs_root

SHORTEST_PERIOD_S, RAIL_PERIOD_S = 0.010, 0.005
"""A sample reads two registers a rail over I2C, some 0.5 ms each: never more than a fifth of it."""
SYSTEMATIC = (
    Systematic(0.005, "INA3221 gain: 0.25 % of shunt and 0.25 % of bus voltage (TI SBOS576)"),
    Systematic(
        0.01,
        "1 % of the shunt resistor: as AGX Xavier's design guide says (NVIDIA DG-09840-001), "
        "assumed for the other boards",
    ),
)
SCOPE = (
    "the carrier board is outside these rails",
    "the monitor's steps are 40 uV of shunt voltage, 8 mA on 5 mOhm",
)
_OFFSET = (
    "offset: 80 uV over each shunt at its rail's voltage (TI SBOS576), 5 mOhm and 20 V assumed "
    "where the driver shows none; cancels in differences, not in totals"
)
_UNIT = "mW, sampled"


class Ina3221Meter(SampledMeter):
    """The channels of a Jetson's monitors; waits for the GPU before a read of its work.

    Args:
        found: every channel found.
        rails: the rails to read; ``None`` takes the counted ones.
        device: where the work runs; the module's rails hold its processor's and its GPU's.
        synchronise: waits until the GPU's work is done; called before each read on ``cuda:N``.
        background: sample by a thread; without it the owner calls ``sample``.
    """

    def __init__(
        self,
        found: Sequence[Channel],
        rails: Sequence[str] | None = None,
        *,
        device: str = "cpu",
        synchronise: Callable[[], None] | None = None,
        clock: Callable[[], float] | None = None,
        background: bool = True,
    ) -> None:
        available = tuple(each.rail for each in found)
        selected = choose_rails(available, rails)
        chosen = [each for each in found if each.rail.name in selected]
        refresh_s = max(each.refresh_s or 0.0 for each in chosen)
        offset_w = sum(each.offset_w() for each in chosen)
        on_gpu = device.partition(":")[0] == "cuda"
        self._synchronise = (synchronise or _synchronise_torch) if on_gpu else None
        info = MeterInfo(
            name="ina3221",
            device=board_model() or "INA3221",
            origin="measured",
            rails=available,
            selected=selected,
            covers="gpu" if on_gpu else "cpu",
            lag_s=refresh_s,
            scope=SCOPE,
            systematic=(*SYSTEMATIC, Systematic(0.0, _OFFSET, offset_w)),
        )
        period_s = max(refresh_s, SHORTEST_PERIOD_S, RAIL_PERIOD_S * len(chosen))
        sensor = FilesSensor({each.rail.name: each.power for each in chosen})
        timing = {} if clock is None else {"clock": clock}
        super().__init__(info, sensor, period_s, background=background, **timing)

    def read(self) -> Reading:
        """Joules up to the last sample, after the GPU has finished what it was given."""
        if self._synchronise is not None:
            self._synchronise()
        return super().read()


class Ina3221Source:
    """Finds and opens the monitors, in the layouts of old and new drivers."""

    name = "ina3221"

    def discover(self) -> Sequence[SourceReport]:
        """One report: the rails found, or why there is nothing to read."""
        root = sysfs_root()
        found = scan(root)
        cause = remedy = None
        if not found:
            cause, remedy = _absence()
        elif not any(each.rail.counted for each in found):
            cause, remedy = _undecided(found)
        else:
            try:
                Ina3221Meter(found, background=False).close()
            except MeterPermissionError as error:
                cause, _, remedy = str(error).partition("; ")
            except MeterError as error:
                cause, remedy = str(error), "choose other rails with --rails"
        return [
            SourceReport(
                self.name,
                usable=cause is None,
                path=_path(root),
                device=(board_model() or "INA3221") if found else None,
                rails=tuple(each.rail for each in found),
                unit=_UNIT,
                cause=cause,
                remedy=remedy,
            )
        ]

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> Ina3221Meter:
        """Open *rails*, or those that make up the module; see `MeterSource.open`.

        Args:
            argument: none is taken.
            device: ``cpu`` or ``cuda:N``: the module's rails hold both.
            rails: other rails than the counted ones, by name.

        Raises:
            InputError: an argument, an unknown rail, or a board whose rails must be chosen.
            MeterNotFoundError: there is no monitor.
            MeterPermissionError: it may not be read.
        """
        if argument:
            raise InputError(f"ina3221 takes no argument, got {argument!r}; choose rails instead")
        if device.partition(":")[0] not in ("cpu", "cuda"):
            raise InputError(f"ina3221 meters cpu and cuda:N devices, not {device!r}")
        found = scan(sysfs_root())
        if not found:
            raise MeterNotFoundError("; ".join(_absence()))
        if rails is None and not any(each.rail.counted for each in found):
            raise InputError("ina3221: " + "; ".join(_undecided(found)))
        return Ina3221Meter(found, rails, device=device)


SOURCE = Ina3221Source()


def _path(root: Path) -> str:
    old = root / "bus/i2c/drivers/ina3221x"
    return str(old if old.is_dir() else root / "class/hwmon")


def _absence() -> tuple[str, str]:
    model = board_model()
    if model is not None and "Jetson" in model:
        return f"the driver shows no INA3221 channel of this {model}", "sudo modprobe ina3221"
    return "no INA3221 monitor: this is no Jetson", "use another meter"


def _undecided(found: Sequence[Channel]) -> tuple[str, str]:
    names = ", ".join(each.rail.name for each in found)
    return "nothing says which of this board's rails add up", f"choose with --rails from {names}"


def _synchronise_torch() -> None:
    """Wait for the GPU, if this process has used torch on it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError as error:
            raise MeterReadError(f"waiting for the GPU failed: {error}") from error
