"""Every reading a monitor took, one row each: windows are pairs of rows, worked out when asked."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from profiler.meters.base import Reading


class EdgeLog:
    """Readings in the order of time, as plain numbers: 8 bytes a value.

    Args:
        rails: what is kept of each reading.
    """

    def __init__(self, rails: Sequence[str]) -> None:
        self.rails = tuple(rails)
        self.times_s = array("d")
        self._energies_j = {rail: array("d") for rail in rails}
        self._variances_j2 = {rail: array("d") for rail in rails}
        self._losses = array("q")

    def __len__(self) -> int:
        return len(self.times_s)

    def append(self, reading: Reading) -> int:
        """Keep *reading*; its row."""
        for rail in self.rails:
            self._energies_j[rail].append(reading.energy_j[rail])
            self._variances_j2[rail].append(reading.variance_j2.get(rail, 0.0))
        self._losses.append(reading.losses)
        self.times_s.append(reading.time_s)
        return len(self.times_s) - 1

    def seconds(self, start: int, end: int) -> float:
        """From row *start* to row *end*."""
        return self.times_s[end] - self.times_s[start]

    def shown_j(self, rail: str, start: int, end: int) -> float:
        """What the counter showed in between."""
        return self._energies_j[rail][end] - self._energies_j[rail][start]

    def sampling_variance_j2(self, rail: str, start: int, end: int) -> float:
        """See `profiler.meters.base.sampling_variance_between`."""
        return max(self._variances_j2[rail][end] - self._variances_j2[rail][start], 0.0)

    def lost(self, start: int, end: int) -> bool:
        """Whether a counter lost joules in between."""
        return self._losses[start] != self._losses[end]

    def span_before(self, row: int, least_s: float) -> int | None:
        """The last row at least *least_s* before *row* with no loss in between."""
        found = bisect_right(self.times_s, self.times_s[row] - least_s, 0, row) - 1
        return None if found < 0 or self.lost(found, row) else found

    def row_from(self, time_s: float) -> int | None:
        """The first row at *time_s* or later."""
        found = bisect_left(self.times_s, time_s)
        return found if found < len(self) else None

    def power_range_w(self, rail: str, least_s: float) -> tuple[float, float] | None:
        """The lowest and the highest mean power over spans of rows at least *least_s* apart."""
        times = np.array(self.times_s)
        ends = np.searchsorted(times, times + max(least_s, 1e-9))
        starts = np.flatnonzero(ends < times.size)
        ends = ends[starts]
        losses = np.array(self._losses)
        kept = losses[starts] == losses[ends]
        starts, ends = starts[kept], ends[kept]
        if starts.size == 0:
            return None
        energies = np.array(self._energies_j[rail])
        powers = (energies[ends] - energies[starts]) / (times[ends] - times[starts])
        return float(powers.min()), float(powers.max())
