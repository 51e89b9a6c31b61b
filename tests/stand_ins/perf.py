"""A kernel that offers energy by perf events: files in a tree, and a C library; see ``perf.c``."""

from __future__ import annotations

import ctypes
import math
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

SOURCE = Path(__file__).with_name("perf.c")
COUNTS_A_JOULE = 2**32
KIND = 21
SCALE = "2.3283064365386962890625e-10"
CONFIGS = {"cores": 1, "pkg": 2, "ram": 3, "gpu": 4, "psys": 5}


@dataclass(frozen=True)
class FakeEvent:
    """One line of the script: an event on one CPU, and what its counter shows."""

    name: str
    cpu: int = 0
    power_w: float = 0.0
    swing_w: float = 0.0
    period_ms: float = 0.0
    energy_j: float = 0.0
    open_error: int = 0
    read_error: int = 0

    @property
    def line(self) -> str:
        """As the library reads it."""
        return (
            f"{KIND} {CONFIGS[self.name]} {self.cpu} {self.open_error} {self.read_error} "
            f"{round((self.energy_j + 1000) * COUNTS_A_JOULE)} {self.power_w} {self.swing_w} "
            f"{self.period_ms}\n"
        )

    def energy_between_j(self, start_s: float, end_s: float) -> float:
        """The integral of its power from one time since loading to another."""

        def until(t: float) -> float:
            return self.power_w * t + self.swing_w * (1 - math.cos(math.tau * t)) / math.tau

        return until(end_s) - until(start_s)


def compile_library(compiler: str, folder: Path) -> Path:
    """Build the library in *folder*."""
    library = folder / "libperf-stand-in.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", str(library)]
    subprocess.run([*command, str(SOURCE), "-lm"], check=True, capture_output=True, text=True)
    return library


class PerfKernel:
    """The library in this process, its script, and the files that go with it.

    Args:
        library: the compiled library.
        script: the file ``FAKE_PERF`` names.
        root: stands for ``/sys``.
    """

    def __init__(self, library: Path, script: Path, root: Path) -> None:
        self.shared_library = ctypes.CDLL(str(library), use_errno=True)
        self.script = script
        self.pmu = root / "bus" / "event_source" / "devices" / "power"
        self.cpus = root / "devices" / "system" / "cpu"
        self.events: tuple[FakeEvent, ...] = ()

    @property
    def open_counters(self) -> int:
        """How many counters are open in this process."""
        return int(self.shared_library.open_counters())

    def offer(self, *names: str, cpus: dict[int, tuple[int, int]] | None = None) -> None:
        """Write the files of these events; *cpus* are ``{cpu: (package, die)}``."""
        places = cpus or {0: (0, 0)}
        (self.pmu / "events").mkdir(parents=True, exist_ok=True)
        (self.pmu / "type").write_text(f"{KIND}\n")
        (self.pmu / "cpumask").write_text(",".join(map(str, places)) + "\n")
        for name in names:
            event = self.pmu / "events" / f"energy-{name}"
            event.write_text(f"event=0x{CONFIGS.get(name, 9):02x}\n")
            event.with_name(f"energy-{name}.scale").write_text(f"{SCALE}\n")
            event.with_name(f"energy-{name}.unit").write_text("Joules\n")
        for cpu, (package, die) in places.items():
            topology = self.cpus / f"cpu{cpu}" / "topology"
            topology.mkdir(parents=True, exist_ok=True)
            (topology / "physical_package_id").write_text(f"{package}\n")
            (topology / "die_id").write_text(f"{die}\n")

    def show(self, *events: FakeEvent) -> None:
        """Make the library show *events* from its next call on."""
        self.events = events
        whole = self.script.with_suffix(".new")
        whole.write_text("".join(event.line for event in events))
        whole.replace(self.script)

    def spend(self, joules: float) -> None:
        """Let every event count that much at once."""
        self.show(*(replace(each, energy_j=each.energy_j + joules) for each in self.events))
