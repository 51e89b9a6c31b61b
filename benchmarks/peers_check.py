"""Checks of the stand-in itself: the truth's formula, and counters that hold to it."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from peers_adapter import Control
from peers_host import CASES, RIPPLE, RIPPLE_S, Power, running
from peers_results import Coverage, Row, cells


def self_check(built: Path) -> str:
    """Compare the closed form with a sum, then the counters with the closed form.

    Raises:
        ArithmeticError: they differ.
    """
    if _words() != _EXPECTED or abs(Coverage(0, 10).bounds[1] - 0.30850) > 1e-5:
        raise ArithmeticError(f"cells read {_words()}")
    formula = _formula()
    off_j, allowed_j = _counters(built)
    if not (formula < 1e-6 and off_j < allowed_j):
        raise ArithmeticError(f"formula off by {formula:.2g}, counter by {off_j:.3g} J")
    return (
        f"the integral differs from a sum over 1e6 steps by {formula:.1g} of it; a counter from "
        f"the integral by {off_j:.3g} J at most, {allowed_j:.3g} J allowed"
    )


_EXPECTED = [
    "negative in 1 of 2, -262,000 J; +10.0 %, at worst +10.0 %",
    "0 J",
    "lost in 1 of 1 (E)",
]


def _words() -> list[str]:
    """What cells say of a wrong number, of none at all, and of a refusal."""
    row = Row("case", "tool", 1.0, truth_j=10.0, energy_j=11.0, half_width_j=None)
    cases = (
        [replace(row, energy_j=-262_000.0), row],
        [replace(row, energy_j=0.0)],
        [replace(row, energy_j=None, error="E: why")],
    )
    return [cells(rows)[0].text for rows in cases]


def _formula() -> float:
    power, stretch, work = Power(25.0, 60.0), (3.0, 9.0), (4.2, 7.9)
    t = np.linspace(*stretch, 1_000_001)[:-1] + 3e-6
    watts = power.idle_w * (1 + RIPPLE * np.sin(2 * math.pi * t / RIPPLE_S))
    watts += power.work_w * ((t > work[0]) & (t < work[1]))
    total_j = float(watts.sum()) * 6e-6
    return abs(power.energy_j(stretch, work) / total_j - 1)


def _counters(built: Path) -> tuple[float, float]:
    """The largest error of a counter at rest on both sides of work, and what a late step allows."""
    case = CASES[0]
    counter, worst_j = case.counters[0], 0.0
    with (
        tempfile.TemporaryDirectory() as name,
        running(case, built, Path(name), 1, []) as host,
    ):
        control = Control(str(host.control))
        path = host.sysfs / "class/powercap" / counter.zone / "energy_uj"
        for length_s in (0.005, 0.02, 0.1, 0.3):
            first_j, begin_s = int(path.read_text()) * 1e-6, time.perf_counter()
            work = (begin_s + 0.01, begin_s + 0.01 + length_s)
            control.work(*work)
            time.sleep(length_s + 0.05)
            last_j, end_s = int(path.read_text()) * 1e-6, time.perf_counter()
            truth_j = counter.power.energy_j((begin_s, end_s), work)
            worst_j = max(worst_j, abs(last_j - first_j - truth_j))
    return worst_j, counter.power.idle_w * 20e-3
