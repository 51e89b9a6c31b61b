"""Whether the intervals that `EnergyMonitor` states hold, on a counter whose truth is known.

    python benchmarks/window_intervals.py [--quick] [--runs N] [--json FILE]

Simulated time: a machine of 60 W at rest and 600 W at work, a counter that steps every 1, 20 or
100 ms, each step varying uniformly by +- 40 %, probed by `profiler.probe` itself. Ten windows of
20 ms to 10 s each, apart by 2.5 to 9 steps or one right after the other, without quiet and with it.
For each case: the share of nominal 95 % intervals that hold, of the first window alone, of the mean
of ten and of their sum; the bias of the mean; and for windows that the counter cannot resolve, how
often the limit stated in place of joules holds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from stand_ins.jittered import JitteredDevice

from profiler import EnergyMonitor

REST_W, WORK_W, OCCURRENCES = 60.0, 600.0, 10
PERIODS_S, LENGTHS_S = (0.001, 0.020, 0.100), (0.02, 0.05, 0.2, 1.0, 10.0)
MODES = ("apart", "quiet", "in a row")
TARGET = "93 to 97 %"


@dataclass
class Case:
    """One setting, and what its runs said: 1 where an interval held, 0 where not."""

    mode: str
    period_s: float
    length_s: float
    single: list[int] = field(default_factory=list)
    mean: list[int] = field(default_factory=list)
    total: list[int] = field(default_factory=list)
    limit: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    def line(self) -> str:
        shares = [f"{_percent(each):>7}" for each in (self.single, self.mean, self.total)]
        bias = "-"
        if len(self.errors) > 1:
            error = stdev(self.errors) / len(self.errors) ** 0.5
            bias = f"{100 * fmean(self.errors):6.2f} +- {100 * error:.2f}"
        what = f"{self.mode:<9}{1e3 * self.period_s:6g} ms{1e3 * self.length_s:9g} ms"
        return f"{what}  {' '.join(shares)} {_percent(self.limit):>7}   {bias}"


def main() -> None:
    """Simulate, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of windows.")
    parser.add_argument("--runs", type=int, default=800, help="a case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="40 runs a case")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    print(
        f"{'':<9}{'step':>9}{'window':>12}   "
        f"{'one':>6} {'mean':>7} {'sum':>7} {'limit':>7}   bias, %"
    )
    cases = []
    for case in simulate(generator, 40 if arguments.quick else arguments.runs):
        print(case.line(), flush=True)
        cases.append(case)
    for mode in MODES:
        pooled = [each for each in cases if each.mode == mode]
        parts = {
            name: [held for each in pooled for held in getattr(each, name)]
            for name in ("single", "mean", "total")
        }
        said = ", ".join(f"{name} {_percent(held)} %" for name, held in parts.items())
        print(f"pooled, {mode}: {said} (target {TARGET})")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(case) for case in cases]) + "\n")


def simulate(generator: np.random.Generator, runs: int) -> Iterator[Case]:
    """Every case, *runs* times."""
    for mode in MODES:
        for period_s in PERIODS_S:
            for length_s in LENGTHS_S:
                case = Case(mode, period_s, length_s)
                for _ in range(runs):
                    run(case, generator)
                yield case


def run(case: Case, generator: np.random.Generator) -> None:
    """Ten windows on a device of their own."""
    device = JitteredDevice(REST_W, case.period_s, generator)
    truth_j = WORK_W * case.length_s
    with EnergyMonitor(
        device,
        probe=device.probed(),
        sleep=device.sleep,
        draw=generator.random,
        quiet=case.mode == "quiet",
    ) as monitor:
        device.sleep(generator.uniform(3, 9) * case.period_s)
        windows = []
        for _ in range(OCCURRENCES):
            with monitor.window("work") as window:
                device.spend(case.length_s, WORK_W)
            windows.append(window)
            if case.mode != "in a row":
                device.sleep(generator.uniform(2.5, 9) * case.period_s)
        found, one = monitor.summary("work"), windows[0].result.energy
    if one is not None and one.mean_j is not None and one.half_width_j is not None:
        case.single.append(abs(one.mean_j - truth_j) <= one.half_width_j)
    elif one is not None and one.upper_limit_j is not None:
        case.limit.append(one.upper_limit_j >= truth_j)
    mean = found.energy
    if mean is None or mean.mean_j is None or mean.half_width_j is None:
        return
    case.mean.append(abs(mean.mean_j - truth_j) <= mean.half_width_j)
    case.errors.append(mean.mean_j / truth_j - 1)
    if found.total_j is not None and found.total_half_width_j is not None:
        off_j = abs(found.total_j - OCCURRENCES * truth_j)
        case.total.append(off_j <= found.total_half_width_j)


def _percent(held: list[int]) -> str:
    return f"{100 * fmean(held):.1f}" if held else "-"


if __name__ == "__main__":
    main()
