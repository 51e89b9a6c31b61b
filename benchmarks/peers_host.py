"""Hosts whose energy is known: sysfs trees and a GPU driver over counters that `ticker.c` steps.

The counters are stepped by a process of its own. Their power is a function of time: idle with a
ripple, and more while a window of the control file is on. So the energy of any stretch has a
closed form, `Power.energy_j`, which is the truth that every tool is held against.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

from peers_layout import CONTROL_BYTES

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from stand_ins.nvml import SOURCE as NVML_SOURCE  # noqa: E402
from stand_ins.nvml import FakeGpu  # noqa: E402

RIPPLE, RIPPLE_S = 0.02, 7.0
UNIT_NJ, RANGE_UNITS = 61_035, 2**32  # 2^-14 J, as the kernel cuts it
WIDTH = 15
Stretch = tuple[float, float]


@dataclass(frozen=True)
class Power:
    """Idle watts, which ripple by 2 % every 7 s, and the watts that work adds."""

    idle_w: float
    work_w: float

    def energy_j(self, stretch: Stretch, work: Stretch) -> float:
        """Joules from one instant to another, work lasting from ``work[0]`` to ``work[1]``.

        The integral of idle_w (1 + r sin(k t)) + work_w [t in work], k = 2 pi / 7 s.
        """
        begin_s, end_s = stretch
        k = 2 * pi / RIPPLE_S
        idle_s = (end_s - begin_s) + RIPPLE / k * (cos(k * begin_s) - cos(k * end_s))
        worked_s = max(min(end_s, work[1]) - max(begin_s, work[0]), 0.0)
        return self.idle_w * idle_s + self.work_w * worked_s


@dataclass(frozen=True)
class Counter:
    """One counter: a powercap zone or a GPU.

    Attributes:
        zone: its folder, ``intel-rapl:0:1``; empty for a GPU.
        name: what its ``name`` file says.
        domain: ``package``, ``dram`` or ``gpu`` where it is part of the truth; else empty.
        period_s, sigma: median and log-normal spread of its steps. 1 ms and 0.19 have a p1 of
            0.64 ms and a p99 of 1.56 ms; memory's 0.86 ms and 0.55 have a mean of 1 ms and a
            p99 of 3.1 ms (see `steps` in the figures for those that were seen).
        start: raw units shown at first.
        mirrors: the zone whose file this one's leads to.
    """

    zone: str
    name: str
    power: Power
    domain: str = ""
    period_s: float = 1e-3
    sigma: float = 0.19
    start: int = 1_000_000
    mirrors: str = ""


@dataclass(frozen=True)
class Case:
    """A host, and what happens on it.

    Attributes:
        wrap: before each window the first counter is moved to where it will wrap within.
        fails: each window's last read meets empty counter files; a sound window follows.
    """

    name: str
    counters: tuple[Counter, ...]
    lengths_s: tuple[float, ...]
    wrap: bool = False
    fails: bool = False

    @property
    def gpu(self) -> bool:
        return self.counters[0].domain == "gpu"

    def truth_j(self, domains: Sequence[str], stretch: Stretch, work: Stretch) -> float:
        """Joules of the counters in *domains*, each counted once."""
        counted = (c for c in self.counters if c.domain in domains and not c.mirrors)
        return sum(counter.power.energy_j(stretch, work) for counter in counted)


def package(zone: str, name: str, idle_w: float, work_w: float, **other: Any) -> Counter:
    """A package's counter."""
    return Counter(zone, name, Power(idle_w, work_w), "package", **other)


def memory(zone: str, idle_w: float, work_w: float, **other: Any) -> Counter:
    """A memory's counter: steps of 1 ms in the mean, some three times as long."""
    power = Power(idle_w, work_w)
    return Counter(zone, "dram", power, "dram", period_s=0.86e-3, sigma=0.55, **other)


def part(zone: str, name: str, idle_w: float, work_w: float, **other: Any) -> Counter:
    """A counter that repeats or contains others, and must not be added to them."""
    return Counter(zone, name, Power(idle_w, work_w), **other)


PACKAGE = package("intel-rapl:0", "package-0", 25.0, 60.0)
CORE = part("intel-rapl:0:0", "core", 15.0, 50.0, start=77)
DRAM = memory("intel-rapl:0:1", 4.0, 6.0, start=9_000_000)
SHORT, LONG = (0.02, 0.1, 1.0), (0.02, 0.1, 1.0, 10.0)


def gpu(period_s: float, sigma: float = 0.03) -> Counter:
    """A GPU whose counter steps every *period_s*."""
    return Counter("", "GPU", Power(60.0, 240.0), "gpu", period_s, sigma, start=5_000_000)


CASES = (
    Case("one socket", (PACKAGE, CORE, DRAM), LONG),
    Case("a wrap in each window", (PACKAGE, CORE, DRAM), SHORT, wrap=True),
    Case(
        "two sockets, numbered crosswise",
        (
            package("intel-rapl:0", "package-1", 30.0, 40.0),
            memory("intel-rapl:0:0", 5.0, 4.0, start=123),
            package("intel-rapl:1", "package-0", 22.0, 70.0, start=4_000_000_000),
            memory("intel-rapl:1:0", 3.0, 8.0, start=9_000_000),
        ),
        SHORT,
    ),
    Case(
        "psys beside the package",
        (PACKAGE, CORE, DRAM, part("intel-rapl:1", "psys", 45.0, 70.0, start=31_000_000)),
        SHORT,
    ),
    Case(
        "two dies",
        (
            package("intel-rapl:0", "package-0-die-0", 25.0, 60.0),
            memory("intel-rapl:0:0", 4.0, 6.0),
            package("intel-rapl:1", "package-0-die-1", 20.0, 35.0, start=800_000_000),
            memory("intel-rapl:1:0", 3.0, 5.0, start=9_000_000),
        ),
        SHORT,
    ),
    Case(
        "two dies that show one counter",
        (
            package("intel-rapl:0", "package-0-die-0", 25.0, 60.0),
            package("intel-rapl:1", "package-0-die-1", 25.0, 60.0, mirrors="intel-rapl:0"),
        ),
        SHORT,
    ),
    Case(
        "an mmio twin",
        (PACKAGE, CORE, DRAM, part("intel-rapl-mmio:0", "package-0", 25.0, 60.0, start=1_000_003)),
        SHORT,
    ),
    Case("a read that fails", (PACKAGE, CORE, DRAM), (0.1, 1.0), fails=True),
    Case("a GPU, steps of 100 ms", (gpu(0.1),), (0.02, 0.2, 1.0, 10.0)),
    Case("a GPU, steps of 20 ms", (gpu(0.02),), (0.02, 0.2, 1.0)),
)


@dataclass(frozen=True)
class Host:
    """A running host: where tools look, and the files that steer it."""

    sysfs: Path
    control: Path
    environment: dict[str, str]


def compile_all(compiler: str, folder: Path) -> None:
    """Build the ticker, and a GPU driver from the tests' stand-in and what peers ask beside."""
    driver = [str(NVML_SOURCE), str(HERE / "peers_nvml.c"), "-lm"]
    commands = (
        ["-O2", "-o", "ticker", str(HERE / "ticker.c"), "-lm"],
        ["-O1", "-shared", "-fPIC", "-o", "libnvidia-ml.so.1", *driver],
    )
    for arguments in commands:
        subprocess.run([compiler, *arguments], check=True, cwd=folder)


@contextmanager
def running(case: Case, built: Path, folder: Path, seed: int, steps: list[Any]) -> Iterator[Host]:
    """A host for *case* in the empty *folder*; appends the steps that its counters took."""
    control = folder / "control"
    control.write_bytes(bytes(CONTROL_BYTES))
    environment = {**os.environ, "CWMP_SYSFS": str(folder / "sys")}
    lines = _gpu_lines(case, folder) if case.gpu else _tree_lines(case, folder / "sys")
    if case.gpu:
        (folder / "sys/class").mkdir(parents=True)
        command = folder / "nvidia-smi"  # codecarbon asks whether it runs
        command.write_text("#!/bin/sh\nexit 0\n")
        command.chmod(0o755)
        environment["PATH"] = f"{folder}:{environment['PATH']}"
        environment |= {"LD_LIBRARY_PATH": str(built), "FAKE_NVML": str(folder / "gpus")}
    process = subprocess.Popen(
        [built / "ticker", control, str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("".join(lines))
    process.stdin.close()
    with control.open("r+b") as file, mmap.mmap(file.fileno(), CONTROL_BYTES) as view:
        while not view[0] and process.poll() is None:
            time.sleep(0.01)
        try:
            yield Host(folder / "sys", control, environment)
        finally:
            view[8:16] = struct.pack("<q", 1)
            assert process.stdout is not None
            text = process.stdout.read()
            if process.wait() == 0:
                steps.append({"case": case.name} | json.loads(text))


def _tree_lines(case: Case, root: Path) -> list[str]:
    """Lay out a tree as the kernel does, and say what the ticker is to write where."""
    devices, shown = root / "devices/virtual/powercap", root / "class/powercap"
    shown.mkdir(parents=True)
    energy_paths, lines = {}, []
    for counter in case.counters:
        kind, _, numbers = counter.zone.partition(":")
        top = devices / kind / f"{kind}:{numbers.split(':')[0]}"
        folder = top if ":" not in numbers else top / counter.zone
        folder.mkdir(parents=True)
        for path in (devices / kind, folder):
            if not (shown / path.name).exists():
                (shown / path.name).symlink_to(path)
                (path / "subsystem").symlink_to(shown)
        (folder / "name").write_text(f"{counter.name}\n")
        largest_uj = (RANGE_UNITS - 1) * UNIT_NJ // 1000
        (folder / "max_energy_range_uj").write_text(f"{largest_uj}\n")
        energy_paths[counter.zone] = path = folder / "energy_uj"
        if counter.mirrors:
            path.symlink_to(energy_paths[counter.mirrors])
        else:
            path.write_text("0" * WIDTH + "\n")
            lines.append(_line(counter, UNIT_NJ, RANGE_UNITS, "u", 0, path))
    return lines


def _gpu_lines(case: Case, folder: Path) -> list[str]:
    """Script the driver, the ticker rewriting each GPU's millijoules in place."""
    script, text, lines = folder / "gpus", "", []
    marker = "9" * WIDTH
    for number, counter in enumerate(case.counters):
        gpu = FakeGpu(uuid=f"GPU-{number}", name=counter.name, energy_mj=int(marker))
        at = len(text) + gpu.line.index(marker)
        text += gpu.line
        lines.append(_line(counter, 1_000_000, 2**62, "m", at, script))
    script.write_text(text)
    return lines


def _line(counter: Counter, unit_nj: int, units: int, kind: str, at: int, path: Path) -> str:
    power = counter.power
    return (
        f"{power.idle_w} {power.work_w} {counter.period_s} {counter.sigma} {unit_nj} "
        f"{counter.start} {units} {kind} {at} {WIDTH} {path}\n"
    )
