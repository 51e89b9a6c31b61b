"""The energy sources, and how one is found by name.

``name`` or ``name:argument``: a built-in source (one file each in this package), or one that
an installed package offers under the entry point group ``cwmp.meters`` as
``name = "module:SOURCE"``, an instance of `MeterSource`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

from profiler.errors import InputError, MeterNotFoundError
from profiler.meters.base import EnergyMeter, MeterSource, SourceReport

BUILT_IN = {
    "rapl": "profiler.meters.rapl:SOURCE",
    "perf": "profiler.meters.perf:SOURCE",
    "nvml": "profiler.meters.nvml:SOURCE",
    "amd": "profiler.meters.amd:SOURCE",
    "ina3221": "profiler.meters.ina3221:SOURCE",
    "pmic": "profiler.meters.pmic:SOURCE",
    "hwmon": "profiler.meters.hwmon:SOURCE",
    "battery": "profiler.meters.battery:SOURCE",
    "external": "profiler.meters.external.meter:SOURCE",
    "pyjoules": "profiler.meters.pyjoules:SOURCE",
    "modelled": "profiler.meters.modelled:SOURCE",
    "replay": "profiler.meters.replay:SOURCE",
    "fake": "profiler.meters.fake:SOURCE",
}
ENTRY_POINT_GROUP = "cwmp.meters"
AUTO_CPU = ("rapl", "perf", "ina3221", "pmic", "hwmon")
"""Sources that ``auto`` tries for a CPU, best first; ``modelled`` is what is left.

Of hwmon only a processor's own rails are taken; a battery never, as it feeds everything else too.
"""


def meter_names() -> list[str]:
    """Every name that ``--meter`` takes beside ``auto``, built-in sources first."""
    return [*BUILT_IN, *(name for name in _installed() if name not in BUILT_IN)]


def meter_source(name: str) -> MeterSource:
    """The source called *name*.

    Raises:
        InputError: no source has that name.
        MeterNotFoundError: an installed package offers it but cannot be imported.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        source: MeterSource = getattr(importlib.import_module(module), attribute)
        return source
    offered = _installed().get(name)
    if offered is None:
        raise InputError(f"unknown meter {name!r}; choose from auto, {', '.join(meter_names())}")
    try:
        source = offered.load()
    except Exception as error:  # whatever a foreign package does when it is imported
        raise MeterNotFoundError(
            f"meter {name!r} ({offered.value}) cannot be imported: {error}"
        ) from error
    return source


def find_meter(
    spec: str = "auto", *, device: str = "cpu", rails: Sequence[str] | None = None
) -> EnergyMeter:
    """Open an energy meter.

    Args:
        spec: ``auto``, a source's name, or ``name:argument`` as in ``replay:FILE``. ``auto``
            takes the best counter of the device's kind; a CPU without one is modelled, and
            the meter says so; a GPU without one is an error, but for a Jetson's, which the rails
            of its module hold.
        device: the torch device that does the work, ``cpu`` or ``cuda:N``.
        rails: the rails that make up "this device"; ``None`` takes the source's own choice.

    Raises:
        InputError: an unknown source or rail, or an argument the source cannot use.
        MeterNotFoundError: there is no such counter here; the message says why, and what to do.
        MeterPermissionError: there is one, but it may not be read.
    """
    name, _, argument = spec.partition(":")
    if name == "auto" and not argument:
        return _best(device, rails)
    return meter_source(name).open(argument, device=device, rails=rails)


def discover() -> list[SourceReport]:
    """Look for every source; absent hardware is a report with a cause, never an exception."""
    reports: list[SourceReport] = []
    for name in meter_names():
        try:
            reports.extend(meter_source(name).discover())
        except Exception as error:  # a foreign source must not hide the others
            if name in BUILT_IN:
                raise
            reports.append(
                SourceReport(name, False, name, cause=str(error), remedy=f"mend or remove {name}")
            )
    return reports


def _best(device: str, rails: Sequence[str] | None) -> EnergyMeter:
    kind = device.partition(":")[0]
    if kind == "cuda":
        return _of_gpu(device, rails)
    if kind != "cpu":
        raise InputError(f"no meter knows the device {device!r}; name one with --meter")
    causes = []
    for name in AUTO_CPU:
        source = meter_source(name)
        reports = source.discover()
        if any(report.usable and _of_processor(report) for report in reports):
            return source.open(device=device, rails=rails)
        causes += [
            f"{name} was not usable: {report.cause}; {_one_line(report.remedy)}"
            for report in reports
            if not report.usable and (name == AUTO_CPU[0] or report.device is not None)
        ]
    from profiler.meters.modelled import SOURCE

    return SOURCE.open(device=device, rails=rails, remarks=tuple(causes))


def _of_gpu(device: str, rails: Sequence[str] | None) -> EnergyMeter:
    """A GPU's own counter; on a Jetson, whose GPU has none, the rails of the module it is part of.

    Raises:
        MeterNotFoundError: neither can be read.
    """
    name = _gpu_source()
    try:
        return meter_source(name).open(device=device, rails=rails)
    except MeterNotFoundError as error:
        board = meter_source("ina3221")
        (report,) = board.discover()
        jetson = "Jetson" in (report.device or "")
        if name != "nvml" or not (jetson or report.usable):
            raise
        if report.usable or rails is not None:
            return board.open(device=device, rails=rails)
        raise MeterNotFoundError(
            f"this {report.device} shows its GPU's energy by ina3221 alone: {report.cause}; "
            f"{_one_line(report.remedy)}"
        ) from error


def _one_line(remedy: str | None) -> str:
    """A remedy for a message; one that takes several lines stays in the listing."""
    return remedy if remedy and "\n" not in remedy else "'cwmp devices' says what to do"


def _of_processor(report: SourceReport) -> bool:
    """Whether a CPU's work is what the report's counted rails are for."""
    if report.source != "hwmon":
        return True
    from profiler.meters.hwmon_chips import CPU_DOMAINS

    return all(rail.domain in CPU_DOMAINS for rail in report.rails if rail.counted)


def _gpu_source() -> str:
    """``amd`` where torch is built for ROCm, which calls its devices cuda, too; else ``nvml``."""
    version = getattr(sys.modules.get("torch"), "version", None)
    return "amd" if getattr(version, "hip", None) else "nvml"


def _installed() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
