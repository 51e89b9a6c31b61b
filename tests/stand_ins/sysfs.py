"""A powercap tree whose counters run on known power, and every way such a tree can fail.

Time is either told (``advance``) or real (``ticking``). A counter is rewritten in place by
one write of fixed width, so that a reader never meets half a number, and each state that was
ever shown is kept with the time it was written. Folders lie as in the kernel's: zones within
their control type under ``devices/virtual/powercap``, a flat list of links in ``class/powercap``.
"""

from __future__ import annotations

import heapq
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stand_ins.kernel_files import MortalFile
from stand_ins.steps import Steps

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
    now_s: float = 0.0
    stopped: bool = False
    mortal: MortalFile | None = None

    def show(self) -> None:
        """Write the counter's state; remember when that began and ended, and the microjoules."""
        if self.stopped:
            return
        total_uj = int(self.energy_j * 1e6)
        value = (self.start_uj + total_uj) % self.range_uj
        before_s = time.perf_counter()
        self.say(b"%0*d\n" % (WIDTH, value))
        self.shown.append((before_s, time.perf_counter(), total_uj))

    def say(self, text: bytes) -> None:
        """Show *text* instead of a count until the next step (of at least the usual width)."""
        if self.mortal is not None:
            self.mortal.write(text)
        else:
            os.pwrite(self.handle, text, 0)

    def run_until(self, now_s: float) -> None:
        """Count what is drawn until then, and show it."""
        elapsed_s = now_s - self.now_s
        self.energy_j += self.power_w(self.now_s + elapsed_s / 2) * elapsed_s
        self.now_s = now_s
        self.show()

    def reset(self) -> None:
        """Count from 0 again."""
        self.start_uj, self.energy_j = 0, 0.0
        self.show()

    def bounds_j(self, before_s: float, after_s: float) -> tuple[float, float]:
        """The least and the most that a read between these times can have seen."""
        least = max(uj for _, written_s, uj in self.shown if written_s <= before_s)
        most = max(uj for begun_s, _, uj in self.shown if begun_s <= after_s)
        return least * 1e-6, most * 1e-6

    def close(self) -> None:
        """Let go of its file."""
        if self.mortal is not None:
            self.mortal.close()
        elif self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


class SysfsTree:
    """A tree to point ``CWMP_SYSFS`` at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.powercap = root / "class" / "powercap"
        self.powercap.mkdir(parents=True)
        self.counters: dict[str, Counter] = {}
        self._devices = root / "devices" / "virtual" / "powercap"
        self._now_s = 0.0
        self._lock = threading.Lock()

    def add(
        self,
        zone: str,
        name: str,
        power_w: float | Callable[[float], float] = 10.0,
        *,
        start_uj: int = 0,
        range_uj: int = RANGE_UJ,
        mortal: bool = False,
    ) -> Counter:
        """Add the zone ``intel-rapl:0`` or ``intel-rapl:0:1`` called *name*.

        A *mortal* counter's file fails those who hold it open once `vanish` took it away.
        """
        path = self._add_folder(zone, name, range_uj) / "energy_uj"
        power = power_w if callable(power_w) else lambda _, constant=power_w: constant
        counter = Counter(path, power, start_uj, range_uj, now_s=self._now_s)
        if mortal:
            counter.mortal = MortalFile()
            path.symlink_to(counter.mortal.path)
        else:
            path.touch()
            counter.handle = os.open(path, os.O_WRONLY)
        counter.show()
        self.counters[zone] = counter
        return counter

    def add_mirror(self, zone: str, name: str, of: str) -> None:
        """Add a zone that shows the counter of another: a twin, a die without its own."""
        path = self._add_folder(zone, name, self.counters[of].range_uj) / "energy_uj"
        path.symlink_to(self.counters[of].path)

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

    def vanish(self, zone: str) -> None:
        """Take a zone away, and those below it."""
        gone = {each for each in self.counters if each == zone or each.startswith(f"{zone}:")}
        folder = (self.powercap / zone).resolve()
        with self._lock:
            for each in gone:
                self.counters.pop(each).close()
                (self.powercap / each).unlink()
        shutil.rmtree(folder)

    def break_reading(self, zone: str) -> None:
        """Let the zone's counter open, and every read of it fail with an input/output error."""
        path = self.powercap / zone / "energy_uj"
        path.unlink()
        path.symlink_to("/proc/self/mem")

    def forbid(self, zone: str) -> None:
        """Let nobody open the zone's counter; see `kernel_files.without_privilege`."""
        (self.powercap / zone / "energy_uj").chmod(0)

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self._now_s += seconds
        for counter in tuple(self.counters.values()):
            counter.run_until(self._now_s)

    @contextmanager
    def ticking(
        self,
        period_s: float = 1e-3,
        jitter: float = 0.4,
        seed: int = 0,
        steps: Mapping[str, Steps] | None = None,
    ) -> Iterator[None]:
        """Advance with the real clock, about every *period_s*.

        Args:
            period_s: mean period of the zones that step together.
            jitter: theirs, uniform, as a share of the period.
            seed: of every draw.
            steps: zones that step by themselves, and how.
        """
        stop, draw = threading.Event(), random.Random(seed)
        alone = dict(steps or {})
        begun_s, before_s = time.perf_counter(), self._now_s

        def next_s(zone: str) -> float:
            if zone:
                return alone[zone].draw(draw)
            return period_s * draw.uniform(1 - jitter, 1 + jitter)

        def tick() -> None:
            due = [(begun_s + next_s(zone), zone) for zone in ("", *alone)]
            heapq.heapify(due)
            while not stop.wait(max(due[0][0] - time.perf_counter(), 0.0)):
                zone, now_s = due[0][1], time.perf_counter()
                self._now_s = before_s + now_s - begun_s
                with self._lock:
                    for name in (zone,) if zone else self.counters.keys() - alone.keys():
                        if name in self.counters:
                            self.counters[name].run_until(self._now_s)
                heapq.heapreplace(due, (now_s + next_s(zone), zone))

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
            counter.close()

    def _add_folder(self, zone: str, name: str, range_uj: int) -> Path:
        control, *numbers = zone.split(":")
        top = self._devices / control
        if not top.is_dir():
            top.mkdir(parents=True)
            (self.powercap / control).symlink_to(top)
        folder = top
        for last in range(len(numbers)):
            folder = folder / ":".join([control, *numbers[: last + 1]])
        folder.mkdir(parents=True)
        (self.powercap / zone).symlink_to(folder)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        return self.powercap / zone
