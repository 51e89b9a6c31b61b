"""How long a session takes, known before it is measured: from the counter and the cells.

A block's windows hold the operation for w seconds and, for the gross cost, as much sleep; the
matched loop is next to nothing. Each window costs its edges as well: falling quiet, a random
phase of the counter's step, the quiet tail and its random extra part. Sizing a cell takes a
calibration and a block without its sleep. What is left out, the preparation of inputs and calls
that outlast a window, only adds, so this is the least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from profiler.blocks import calibration_s
from profiler.design import FEWEST_PILOT_BLOCKS
from profiler.errors import InputError
from profiler.gauge import SETTLE_S, Gauge

SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 0.010, 2.0
PERIODS_A_WINDOW, FEWEST_PERIODS = 20, 4
_PILOT_SHARE = 0.5
_SHORT_SLEEP = 0.25
"""Of a window: how long to sleep where the meter has no steps to average over."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that blocks take on one meter.

    Attributes:
        period_s: the counter's update period; 0 where it has no steps.
        edge_s: of each window, around what it measures.
        sleep_share: of a window, asleep.
    """

    period_s: float
    edge_s: float
    sleep_share: float

    @classmethod
    def of(cls, gauge: Gauge) -> Pace:
        """The pace of *gauge*'s meter."""
        period_s = (gauge.period_s or 0.0) if gauge.stepped else 0.0
        share = 1.0 if gauge.stepped else _SHORT_SLEEP
        random_s = period_s  # half a step for the phase and half for the tail, on average
        return cls(period_s, SETTLE_S + random_s + gauge.tail_s, share)

    def block_s(self, window_s: float) -> float:
        """One block: the operation, its loop and the sleep."""
        return (1 + self.sleep_share) * window_s + 3 * self.edge_s

    def sizing_s(self, window_s: float) -> float:
        """The sizing of one cell: calibration, the operation and its loop."""
        return calibration_s(window_s) + window_s + 2 * self.edge_s

    def session_s(self, cells: int, window_s: float, blocks: int) -> float:
        """Sizing *cells* and *blocks* in all."""
        return cells * self.sizing_s(window_s) + blocks * self.block_s(window_s)

    def window_s(self, pilot: Sequence[int], max_time_s: float | None) -> float:
        """Seconds a window lasts, fixed before anything is measured.

        `PERIODS_A_WINDOW` counter periods between 10 ms and 2 s, and never below
        `shortest_window_s`; where sizing and the whole pilot (*pilot* blocks a cell) would take
        more than half of *max_time_s*, shorter, down to that.
        """
        wanted_s = min(max(SHORTEST_WINDOW_S, PERIODS_A_WINDOW * self.period_s), LONGEST_WINDOW_S)
        wanted_s = max(wanted_s, self.shortest_window_s)
        if max_time_s is None:
            return wanted_s
        low_s, high_s = self.shortest_window_s, wanted_s
        for _ in range(30):
            middle_s = (low_s + high_s) / 2
            whole_s = self.session_s(len(pilot), middle_s, sum(pilot))
            fits = whole_s <= _PILOT_SHARE * max_time_s
            low_s, high_s = (middle_s, high_s) if fits else (low_s, middle_s)
        return high_s if wanted_s - high_s < 1e-6 else low_s

    @property
    def shortest_window_s(self) -> float:
        """`FEWEST_PERIODS` counter periods, at least 10 ms."""
        return max(SHORTEST_WINDOW_S, FEWEST_PERIODS * self.period_s)

    def refuse_hopeless(self, cells: int, max_time_s: float, spent_s: float, meter: str) -> None:
        """Raise unless *max_time_s* is enough for an interval in each cell.

        Args:
            cells: how many.
            max_time_s: the limit.
            spent_s: how much of it has passed.
            meter: the meter's name, for the message.

        Raises:
            InputError: sizing and two pilot blocks a cell, at the shortest window, take longer.
        """
        least_s = spent_s + self.session_s(
            cells, self.shortest_window_s, cells * FEWEST_PILOT_BLOCKS
        )
        if least_s > max_time_s:
            steps = f", whose counter steps every {self.period_s:.3g} s" if self.period_s else ""
            raise InputError(
                f"--max-time is {max_time_s:g} s, but {cells} cells take at least "
                f"{ceil(least_s)} s for sizing and {FEWEST_PILOT_BLOCKS} blocks each on "
                f"{meter}{steps}: {how_to_fit(least_s)}"
            )


def how_to_fit(least_s: float) -> str:
    """What to do about a limit below *least_s*."""
    return (
        f"give --max-time {ceil(1.2 * least_s)}s or longer, fewer --densities or "
        "--batch-sizes, or fewer --operations"
    )
