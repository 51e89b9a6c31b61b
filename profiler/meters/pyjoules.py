"""pyJoules' devices as a meter: for people who have it, and to check other sources against."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from profiler.errors import InputError, MeterError, MeterNotFoundError
from profiler.host import cpu_model, cpu_vendor, virtualisation
from profiler.meters.base import MeterInfo, SourceReport, choose_rails
from profiler.meters.counted import CountedMeter, longest_read_gap_s, started
from profiler.meters.counter import UnwrappedCounter
from profiler.meters.gpu_wait import waiting
from profiler.meters.gpus import GUARD_POWER_W, list_gpus, session
from profiler.meters.nvml import SLACK_S, STALL_S, NvmlSource, synchronise_torch
from profiler.meters.powercap import absence, scan
from profiler.meters.processor import gain, processor_counter, scope
from profiler.meters.pyjoules_devices import GPUS, PROCESSORS, gpu_device, processor_devices
from profiler.meters.rapl import range_of
from profiler.sysfs import sysfs_root

_UJ, _MJ = 1e-6, 1e-3


class PyJoulesSource:
    """Finds what pyJoules sees, and opens it."""

    name = "pyjoules"

    def discover(self) -> Sequence[SourceReport]:
        """One report for the processor, and one a GPU that pyJoules can read."""
        reports = [self._processor()]
        for gpu in NvmlSource().discover():
            index = gpu.rails[0].name.removeprefix("gpu-") if gpu.usable else None
            if index is not None and gpu.unit == "mJ" and _sees_gpu(int(index)):
                reports.append(replace(gpu, source=self.name, path=f"{GPUS}, {gpu.path}"))
        return reports

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> CountedMeter:
        """Open what pyJoules sees of *device*; of the GPUs too where *rails* names only them.

        Raises:
            InputError: an argument, or an unknown rail or device.
            MeterNotFoundError: pyJoules is not installed, or sees no such device; or sees of the
                processor no package, and no rail was chosen.
            MeterPermissionError, MeterReadError, CounterFaultError: as for rapl.
        """
        if argument:
            raise InputError(f"pyjoules takes no argument, got {argument!r}; choose rails instead")
        if device == "cpu" and not (rails and all(rail.startswith("gpu-") for rail in rails)):
            return _open_processor(rails)
        return _open_gpus(device, rails)

    def _processor(self) -> SourceReport:
        powercap = _powercap()
        meter, cause, remedy = None, None, None
        try:
            meter = _open_processor(None)
            meter.close()
        except (MeterError, InputError) as error:
            cause, _, remedy = str(error).partition("; ")
        return SourceReport(
            self.name,
            usable=meter is not None,
            path=f"{PROCESSORS}, {powercap / 'intel-rapl'}",
            device=cpu_model() if meter else None,
            rails=meter.info.rails if meter else (),
            unit="uJ" if meter else None,
            cause=cause,
            remedy=None if meter else remedy or "use --meter rapl",
        )


SOURCE = PyJoulesSource()


def _open_processor(rails: Sequence[str] | None) -> CountedMeter:
    powercap = _powercap()
    zones = scan(powercap)
    if not zones:
        cause, remedy = absence(powercap, virtualisation())
        raise MeterNotFoundError(f"{cause}; {remedy}")
    seen = processor_devices(powercap, zones)
    available = tuple(zone.rail for zone in zones if zone.rail.name in seen)
    missing = [z.rail.name for z in zones if z.rail.counted and z.rail.name not in seen]
    if rails is None and not any(rail.counted and rail.domain == "package" for rail in available):
        raise MeterNotFoundError(
            f"pyJoules does not see {', '.join(missing) or 'any package'} under {powercap}; use "
            "--meter rapl"
        )
    selected = choose_rails(available, rails)
    channels = []
    for name in selected:
        zone, read_uj = seen[name]
        counter = processor_counter(str(zone.energy_path), _UJ, zone.rail.domain, range_of(zone))
        channels.append(started(name, counter, read_uj))
    read = [seen[name][0].rail for name in selected]
    unseen = (f"pyJoules does not see {', '.join(missing)}: their joules are missing",)
    info = MeterInfo(
        name="pyjoules",
        device=cpu_model(),
        origin="measured",
        rails=available,
        selected=selected,
        max_read_gap_s=longest_read_gap_s(channels),
        scope=(*scope(read), *(unseen if missing else ())),
        systematic=gain(cpu_vendor(), read),
    )
    return CountedMeter(info, channels, lambda: None)


def _open_gpus(device: str, rails: Sequence[str] | None) -> CountedMeter:
    """The GPUs that `NvmlSource` would choose, read by pyJoules."""
    like = NvmlSource().open(device=device, rails=rails)
    like.close()
    info = replace(like.info, name="pyjoules")
    with session() as nvml:
        chosen = [gpu for gpu in list_gpus(nvml) if gpu.rail in info.selected]
    with ExitStack() as stack:
        channels = []
        for gpu in chosen:
            read_mj = gpu_device(gpu.index)
            stack.callback(nvml.nvmlShutdown)
            counter = UnwrappedCounter(
                f"pyJoules' energy of {gpu.rail}", _MJ, GUARD_POWER_W, SLACK_S, stall_s=STALL_S
            )
            channels.append(started(gpu.rail, counter, read_mj))
        release = stack.pop_all().close
    wait = waiting(partial(synchronise_torch, chosen))
    return CountedMeter(info, channels, release, before_read=wait)


def _sees_gpu(index: int) -> bool:
    with session() as nvml:
        try:
            gpu_device(index)
        except MeterNotFoundError:
            return False
        nvml.nvmlShutdown()
        return True


def _powercap() -> Path:
    return sysfs_root() / "class" / "powercap"
