"""A powercap tree whose counters run on known power.

Time is either told (``advance``) or real (``ticking``). A counter is rewritten in place by
one write of fixed width, so that a reader never meets half a number, and each state that was
ever shown is kept with the time it was written.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RANGE_UJ = 262_143_328_850
WIDTH = 15


@dataclass
class Counter:
    """One zone: what it draws, and what its file has shown."""

    path: Path
    power_w: Callable[[float], float]
    start_uj: int
    range_uj: int
    energy_j: float = 0.0
    shown: list[tuple[float, float, int]] = field(default_factory=list)
    handle: int = -1

    def show(self) -> None:
        """Write the counter's state; remember when that began and ended, and the microjoules."""
        total_uj = int(self.energy_j * 1e6)
        value = (self.start_uj + total_uj) % self.range_uj
        before_s = time.perf_counter()
        os.pwrite(self.handle, b"%0*d\n" % (WIDTH, value), 0)
        self.shown.append((before_s, time.perf_counter(), total_uj))

    def bounds_j(self, before_s: float, after_s: float) -> tuple[float, float]:
        """The least and the most that a read between these times can have seen."""
        least = max(uj for _, written_s, uj in self.shown if written_s <= before_s)
        most = max(uj for begun_s, _, uj in self.shown if begun_s <= after_s)
        return least * 1e-6, most * 1e-6


class SysfsTree:
    """A tree to point ``CWMP_SYSFS`` at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.powercap = root / "class" / "powercap"
        self.powercap.mkdir(parents=True)
        self.counters: dict[str, Counter] = {}
        self._now_s = 0.0

    def add(
        self,
        zone: str,
        name: str,
        power_w: float | Callable[[float], float] = 10.0,
        *,
        start_uj: int = 0,
        range_uj: int = RANGE_UJ,
    ) -> Counter:
        """Add the zone ``intel-rapl:0`` or ``intel-rapl:0:1`` called *name*."""
        folder = self.powercap / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        path = folder / "energy_uj"
        path.touch()
        power = power_w if callable(power_w) else lambda _, constant=power_w: constant
        counter = Counter(path, power, start_uj, range_uj, handle=os.open(path, os.O_WRONLY))
        counter.show()
        self.counters[zone] = counter
        return counter

    def add_server(self) -> None:
        """Two sockets that differ, with cores and memory, and the platform around them.

        As on real machines, socket 1 is not zone 1, and each package is shown twice.
        """
        self.add("intel-rapl:0", "psys", 150.0, start_uj=77_000_000)
        self.add("intel-rapl:1", "package-1", 30.0, start_uj=1_000_000)
        self.add("intel-rapl:1:0", "core", 20.0, start_uj=5)
        self.add("intel-rapl:1:1", "dram", 5.0, start_uj=123_456)
        self.add("intel-rapl:2", "package-0", 50.0, start_uj=262_143_000_000)
        self.add("intel-rapl:2:0", "core", 35.0, start_uj=12_000_000)
        self.add("intel-rapl:2:1", "uncore", 6.0, start_uj=13_000_000)
        self.add("intel-rapl:2:2", "dram", 8.0, start_uj=99_000_000)
        self.add("intel-rapl-mmio:0", "package-0", 50.0, start_uj=262_143_000_100)

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        for counter in self.counters.values():
            counter.energy_j += counter.power_w(self._now_s + seconds / 2) * seconds
            counter.show()
        self._now_s += seconds

    @contextmanager
    def ticking(self, period_s: float = 1e-3, jitter: float = 0.4, seed: int = 0) -> Iterator[None]:
        """Advance with the real clock, about every *period_s*."""
        stop, draw = threading.Event(), random.Random(seed)

        def tick() -> None:
            last_s = time.perf_counter()
            while not stop.wait(period_s * draw.uniform(1 - jitter, 1 + jitter)):
                now_s = time.perf_counter()
                self.advance(now_s - last_s)
                last_s = now_s

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def close(self) -> None:
        """Let go of the counters' files."""
        for counter in self.counters.values():
            os.close(counter.handle)
