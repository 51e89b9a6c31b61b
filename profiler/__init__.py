"""Measure the energy of operations on hardware counters, into traces.

``import profiler`` costs nothing: what needs torch or pandas is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Eager, because the function shares its module's name and must win.
from profiler.probe import probe as probe

if TYPE_CHECKING:
    from profiler.checks.finding import Finding
    from profiler.compare import Comparison, compare_traces
    from profiler.doctor import Diagnosis, diagnose
    from profiler.errors import (
        BudgetError,
        CounterFaultError,
        CwmpError,
        FileFormatError,
        InputError,
        InputFileError,
        LayerMismatchError,
        MeterError,
        MeterNotFoundError,
        MeterPermissionError,
        MeterReadError,
        MissingExtraError,
        OutputError,
        OutputExistsError,
        PayloadError,
        RoundError,
        UpdateError,
    )
    from profiler.from_journal import trace_of_journal
    from profiler.layers import LayerInfo, layers_of
    from profiler.meters import discover, find_meter
    from profiler.meters.base import EnergyMeter, MeterInfo, Rail, Reading
    from profiler.monitor import EnergyMonitor
    from profiler.probe import ProbeResult
    from profiler.session import profile_model
    from profiler.trace import Trace
    from profiler.window import WindowResult, meter_window
    from profiler.windows.summary import WindowSummary

_HOMES = {
    "profiler.checks.finding": "Finding",
    "profiler.compare": "Comparison compare_traces",
    "profiler.doctor": "Diagnosis diagnose",
    "profiler.errors": (
        "BudgetError CounterFaultError CwmpError FileFormatError InputError InputFileError "
        "LayerMismatchError MeterError MeterNotFoundError MeterPermissionError MeterReadError "
        "MissingExtraError OutputError OutputExistsError PayloadError RoundError UpdateError"
    ),
    "profiler.from_journal": "trace_of_journal",
    "profiler.layers": "LayerInfo layers_of",
    "profiler.meters": "discover find_meter",
    "profiler.meters.base": "EnergyMeter MeterInfo Rail Reading",
    "profiler.monitor": "EnergyMonitor",
    "profiler.probe": "ProbeResult",
    "profiler.session": "profile_model",
    "profiler.trace": "Trace",
    "profiler.window": "WindowResult meter_window",
    "profiler.windows.summary": "WindowSummary",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "BudgetError",
    "Comparison",
    "CounterFaultError",
    "CwmpError",
    "Diagnosis",
    "EnergyMeter",
    "EnergyMonitor",
    "FileFormatError",
    "Finding",
    "InputError",
    "InputFileError",
    "LayerInfo",
    "LayerMismatchError",
    "MeterError",
    "MeterInfo",
    "MeterNotFoundError",
    "MeterPermissionError",
    "MeterReadError",
    "MissingExtraError",
    "OutputError",
    "OutputExistsError",
    "PayloadError",
    "ProbeResult",
    "Rail",
    "Reading",
    "RoundError",
    "Trace",
    "UpdateError",
    "WindowResult",
    "WindowSummary",
    "compare_traces",
    "diagnose",
    "discover",
    "find_meter",
    "layers_of",
    "meter_window",
    "probe",
    "profile_model",
    "trace_of_journal",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'profiler' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
