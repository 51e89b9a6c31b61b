"""Five ways to meter a window, behind one small interface. Runs under the peers' Python too.

A tool is opened on a host, brackets a window, and says what joules it found, in the unit that it
documents: `Answer`. A peer's modules are its own to the letter but for one thing: the path
``/sys/.../powercap`` in them leads to the host's tree.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import metadata
from typing import Any, Protocol

UJ_J, KWH_J = 1e-6, 3.6e6
PROBED_EVERY = 16  # windows
AT_REST_S = 0.3  # before a probe: no step of a counter then shows the work before it
_POWERCAP = re.compile(rb"(?<=[\"'])/sys(?=/(?:class|devices/virtual)/powercap)")
_READS_POWERCAP = (
    "zeus.device.cpu.rapl",
    "pyJoules.device.rapl_device",
    "codecarbon.core.cpu",
    "codecarbon.external.hardware",
)


class Answer(dict[str, Any]):
    """What a tool says of a window.

    ``energy_j``, or ``limit_j`` where it only bounds it; where the tool states them,
    ``half_width_j`` of the 95 % interval, ``systematic_j`` beside it, and its ``duration_s``.
    """


class Tool(Protocol):
    """A tool that is open.

    Attributes:
        domains: what it says its sum holds: packages, memory, GPUs.
    """

    domains: Sequence[str]

    def begin(self) -> None: ...
    def end(self) -> Answer: ...


class Zeus:
    """zeus: `ZeusMonitor`, every CPU and GPU that it finds."""

    package = "zeus"

    def __init__(self, gpu: bool) -> None:
        from zeus.monitor import ZeusMonitor

        # The stand-in's work is not CUDA's: there is no torch here to synchronise with.
        self._monitor = ZeusMonitor()
        self._gpu = gpu
        self.domains = ("gpu",) if gpu else ("package", "dram")

    def begin(self) -> None:
        self._monitor.begin_window("window", sync_execution=False, restart=True)

    def end(self) -> Answer:
        found = self._monitor.end_window("window", sync_execution=False)
        if self._gpu:
            rails = {f"gpu {i}": j for i, j in found.gpu_energy.items()}
        else:
            rails = {f"cpu {i}": j for i, j in (found.cpu_energy or {}).items()}
            rails |= {f"dram {i}": j for i, j in (found.dram_energy or {}).items()}
        return _sum(rails)


class PyJoules:
    """pyJoules: an `EnergyMeter` over every device; packages and memory are added up."""

    package = "pyJoules"

    def __init__(self, gpu: bool) -> None:
        from pyJoules.device import DeviceFactory
        from pyJoules.energy_meter import EnergyMeter

        self._meter = EnergyMeter(DeviceFactory.create_devices())
        self.domains = ("gpu",) if gpu else ("package", "dram")
        self._rails = ("nvidia_gpu",) if gpu else ("package", "dram")

    def begin(self) -> None:
        self._meter.start("window")

    def end(self) -> Answer:
        self._meter.stop()
        found = self._meter.get_trace()[0].energy
        wanted = {name: uj for name, uj in found.items() if name.startswith(self._rails)}
        return _sum({name: uj * UJ_J for name, uj in wanted.items()})


class CodeCarbon:
    """codecarbon: a task of an `OfflineEmissionsTracker`; its memory is a model and left out."""

    package = "codecarbon"

    def __init__(self, gpu: bool) -> None:
        from codecarbon import OfflineEmissionsTracker

        self._tracker = OfflineEmissionsTracker(
            country_iso_code="FRA",
            save_to_file=False,
            save_to_api=False,
            log_level="critical",
            allow_multiple_runs=True,
        )
        self._gpu = gpu
        self.domains = ("gpu",) if gpu else ("package",)

    def begin(self) -> None:
        self._tracker.start_task()

    def end(self) -> Answer:
        found = self._tracker.stop_task()
        kwh = found.gpu_energy if self._gpu else found.cpu_energy
        return _sum({"gpu" if self._gpu else "cpu": kwh * KWH_J})


class Window:
    """This project: `meter_window` with the meter's probe, quiet around each window.

    Probed anew every few windows, as programs that are run again would: what a probe got wrong
    about the power at rest is then not the same in every window.
    """

    package = "cwmp"

    def __init__(self, gpu: bool) -> None:
        from profiler import find_meter

        self._meter = find_meter("nvml" if gpu else "rapl")
        self._windows = 0
        self._stack = ExitStack()
        self.domains = ("gpu",) if gpu else ("package", "dram")
        self.prepare()

    def prepare(self) -> None:
        from profiler.probe import probe

        if self._windows % PROBED_EVERY == 0:
            time.sleep(AT_REST_S)
            self._probe = probe(self._meter)
        self._windows += 1

    def begin(self) -> None:
        from profiler.window import meter_window

        self._stack = ExitStack()
        block = meter_window(self._meter, "window", probe=self._probe)
        self._window = self._stack.enter_context(block)

    def end(self) -> Answer:
        self._stack.close()
        result = self._window.result
        return Answer(
            _sum(result.rail_energy_j),
            half_width_j=1.959964 * (result.standard_error_j or 0.0),
            systematic_j=result.systematic_j or 0.0,
            duration_s=result.duration_s,
        )


class Monitor:
    """This project: an `EnergyMonitor`, two reads a window and no quiet."""

    package = "cwmp"

    def __init__(self, gpu: bool) -> None:
        self._source = "nvml" if gpu else "rapl"
        self._windows = 0
        self._monitor: Any = None
        self.domains = ("gpu",) if gpu else ("package", "dram")
        self.prepare()

    def prepare(self) -> None:
        from profiler.monitor import EnergyMonitor

        if self._windows % PROBED_EVERY == 0:
            if self._monitor is not None:
                self._monitor.close()
            time.sleep(AT_REST_S)
            self._monitor = EnergyMonitor(self._source)
        self._windows += 1

    def begin(self) -> None:
        self._monitor.begin("window")

    def end(self) -> Answer:
        result = self._monitor.end("window").result
        found = {"duration_s": result.duration_s, "systematic_j": result.systematic_j or 0.0}
        if result.energy.mean_j is None:
            return Answer(found, limit_j=result.energy.upper_limit_j)
        half_width_j = result.energy.half_width_j
        return Answer(found, energy_j=result.energy.mean_j, half_width_j=half_width_j)


TOOLS: Mapping[str, Any] = {
    "cwmp": Window,
    "cwmp, no quiet": Monitor,
    "zeus": Zeus,
    "pyJoules": PyJoules,
    "codecarbon": CodeCarbon,
}


def open_tool(name: str, sysfs: str, gpu: bool) -> Tool:
    """Open the tool called *name* on the tree at *sysfs*, or on the GPUs of the driver."""
    if TOOLS[name].package != "cwmp":
        sys.meta_path.insert(0, _Redirect(sysfs))
        os.environ["CODECARBON_LOG_LEVEL"] = "critical"
    tool: Tool = TOOLS[name](gpu)
    return tool


def version_of(name: str) -> str:
    """The version of the package behind a tool."""
    return metadata.version(TOOLS[name].package)


def _sum(rails: Mapping[str, float]) -> Answer:
    return Answer(energy_j=sum(rails.values()), rails_j=dict(rails))


class _Redirect(importlib.machinery.PathFinder):
    """Finds the peers' modules that name the powercap tree, and lets them name another."""

    def __init__(self, root: str) -> None:
        self.root = root.encode()

    def find_spec(  # type: ignore[override]
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _READS_POWERCAP:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _Loader(name, spec.origin, self.root)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, root: bytes) -> None:
        super().__init__(name, path)
        self.root = root

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        source, replaced = _POWERCAP.subn(self.root, self.get_data(path))
        if not replaced:
            raise ImportError(f"{path} names no powercap tree: this version is not known here")
        return self.source_to_code(source, path)
