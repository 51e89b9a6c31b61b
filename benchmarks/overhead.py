"""What metering costs the program that is metered.

    python benchmarks/overhead.py [--quick] [--json FILE]

On a powercap tree of nine zones in a temporary folder, read as ``/sys`` would be:

- one read of all nine rails, microseconds;
- what a window adds to a block of one second: the time of both edges (of a window around nothing),
  the CPU time of edges and of the thread that keeps wraps from passing unseen (around a block that
  sleeps), and, as a check that nothing else is added, the difference in CPU time of the same work
  with and without a window, in turns, which other load makes noisy and which has no target;
- how long a quiet window takes besides its block, asleep;
- the CPU share of a thread that samples a power sensor every 10 ms.

Each figure stands beside its target and their ratio; below 1 is met. Files in memory answer faster
than a driver that asks the hardware, so on a machine with RAPL its own read is shown as well.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from stand_ins.sysfs import SysfsTree

from profiler import EnergyMonitor, find_meter, probe
from profiler.errors import MeterError
from profiler.meters.base import EnergyMeter, MeterInfo, Rail
from profiler.meters.sampled import SampledMeter

READ_TARGET_US, WINDOW_TARGET = 50.0, 0.001
BLOCK_S, PERIOD_S = 1.0, 0.010


@dataclass(frozen=True)
class Figure:
    """One figure beside its target."""

    what: str
    value: float
    unit: str
    target: float | None

    @property
    def ratio(self) -> float | None:
        """Of the target; below 1 is met."""
        return None if self.target is None else self.value / self.target

    def line(self) -> str:
        value = f"{self.what:<58}{self.value:10.4g} {self.unit}"
        if self.target is None:
            return value
        return f"{value:<74}target {self.target:g}, ratio {self.ratio:.2f}"


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description="What metering costs the metered program.")
    parser.add_argument("--quick", action="store_true", help="few reads, short blocks")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for figure in measure(Path(folder), quick=arguments.quick):
            print(figure.line(), flush=True)
            figures.append(asdict(figure) | {"ratio": figure.ratio})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Every figure, the tree's first."""
    yield from own_counters(quick)
    tree = SysfsTree(folder / "sys")
    tree.add_server()
    os.environ["CWMP_SYSFS"] = str(tree.root)
    everything = [rail.name for rail in find_meter("rapl").info.rails]
    with ticked(tree):
        meter = find_meter("rapl", rails=everything)
        reads = 2_000 if quick else 20_000
        micro = read_us(meter, reads)
        yield Figure(f"read of {len(everything)} rails, median", micro, "us", READ_TARGET_US)
        yield from windows(meter, quick)
        meter.close()
    tree.close()
    share = sampling_share(1.0 if quick else 5.0)
    yield Figure(f"sampling a sensor every {PERIOD_S * 1e3:g} ms: CPU", 100 * share, "%", None)


def own_counters(quick: bool) -> Iterator[Figure]:
    """A read of this machine's RAPL, where it may be read."""
    try:
        meter = find_meter("rapl")
    except MeterError as error:
        print(f"no RAPL of this machine's own: {error}", file=sys.stderr)
        return
    rails = len(meter.info.selected)
    micro = read_us(meter, 200 if quick else 2_000)
    yield Figure(f"read of {rails} rails of this machine, median", micro, "us", READ_TARGET_US)
    meter.close()


def read_us(meter: EnergyMeter, reads: int) -> float:
    """Microseconds of one read, the median."""
    clock, taken = time.perf_counter, []
    for _ in range(reads):
        begun_s = clock()
        meter.read()
        taken.append(clock() - begun_s)
    return 1e6 * statistics.median(taken)


def windows(meter: EnergyMeter, quick: bool) -> Iterator[Figure]:
    """What windows add, as a share of a block of one second."""
    target = 100 * WINDOW_TARGET
    probed = probe(meter, max_time_s=0.5)
    with EnergyMonitor(meter, probe=probed) as monitor:
        edges_s = statistics.median(empty_s(monitor) for _ in range(200 if quick else 2_000))
        yield Figure("window: time of both edges, of 1 s", 100 * edges_s, "%", target)
        asleep_s = 0.1 if quick else BLOCK_S
        cpu_s = statistics.median(added_cpu_s(monitor, asleep_s) for _ in range(3 if quick else 9))
        yield Figure("window: CPU of edges and keep-alive, of 1 s", 100 * cpu_s, "%", target)
        turns = calibrated(asleep_s)
        shares = [100 * added_share(monitor, turns, bool(n % 2)) for n in range(4 if quick else 16)]
        spread = statistics.stdev(shares) / len(shares) ** 0.5
        what = f"window: CPU of whole blocks, difference (standard error {spread:.2g})"
        yield Figure(what, statistics.fmean(shares), "%", None)
        quiet_s = statistics.median(empty_s(monitor, quiet=True) for _ in range(20))
        yield Figure("quiet window: time besides its block", 1e3 * quiet_s, "ms", None)


def empty_s(monitor: EnergyMonitor, quiet: bool = False) -> float:
    """Seconds of a window around nothing."""
    begun_s = time.perf_counter()
    with monitor.window("empty", quiet=quiet):
        pass
    return time.perf_counter() - begun_s


def added_cpu_s(monitor: EnergyMonitor, seconds: float) -> float:
    """CPU seconds of this process, every thread, that a window around a sleep adds to it."""
    before_s = time.process_time()
    with monitor.window("asleep"):
        time.sleep(seconds)
    between_s = time.process_time()
    time.sleep(seconds)
    return (between_s - before_s) - (time.process_time() - between_s)


def added_share(monitor: EnergyMonitor, turns: int, metered_first: bool) -> float:
    """CPU time that a window adds to the same work, as a share of it."""
    taken_s = {}
    for metered in (metered_first, not metered_first):
        begun_s = time.process_time()
        with monitor.window("block") if metered else nullcontext():
            spin(turns)
        taken_s[metered] = time.process_time() - begun_s
    return taken_s[True] / taken_s[False] - 1


@contextmanager
def ticked(tree: SysfsTree) -> Iterator[None]:
    """Counters that move, by another process: its time is not this one's."""
    child = os.fork()
    if child == 0:
        with tree.ticking(0.02):
            while os.getppid() != 1:
                time.sleep(0.5)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


def calibrated(seconds: float) -> int:
    """Turns of `spin` that take about so long."""
    begun_s = time.perf_counter()
    spin(200_000)
    return max(1, round(200_000 * seconds / (time.perf_counter() - begun_s)))


def spin(turns: int) -> int:
    """Work of known length."""
    total = 0
    for number in range(turns):
        total += number
    return total


class Sensor:
    """Watts from a file in memory, as a board's driver would show them."""

    def __init__(self, path: Path) -> None:
        path.write_text("12000000\n")
        self._handle = os.open(path, os.O_RDONLY)

    def watts(self) -> dict[str, float]:
        return {"board": int(os.pread(self._handle, 32, 0)) * 1e-6}

    def close(self) -> None:
        os.close(self._handle)


def sampling_share(seconds: float) -> float:
    """CPU seconds a second of a `SampledMeter`'s thread."""
    info = MeterInfo("sensor", "a file", "assumed", (Rail("board", "board"),), ("board",))
    with tempfile.TemporaryDirectory() as folder:
        before_s = time.process_time()
        meter = SampledMeter(info, Sensor(Path(folder) / "power1_input"), PERIOD_S)
        time.sleep(seconds)
        spent_s = time.process_time() - before_s
        meter.close()
    return spent_s / seconds


if __name__ == "__main__":
    main()
